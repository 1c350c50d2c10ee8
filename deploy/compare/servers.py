"""The two servers under comparison: start, pause, resume, stop."""
import os
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENTREPOT = Path(os.environ.get("ENTREPOT_BIN", ROOT / "entrepot"))  # as the tests name another one
KAFKA = ROOT / "deploy/kafka/kafka.sh"

NODE = """\
node:      {{id: compare-1, site: compare, data_dir: "{dir}/data"}}
listeners: {{kafka: {{addr: "{addr}", advertise: "{addr}"}}, admin: {{addr: "127.0.0.1:{admin}"}}, peer: {{addr: "127.0.0.1:0"}}, registry: {{addr: "off"}}, connect: {{addr: "{connect}"}}}}
mesh:      {{lan: {{addr: "127.0.0.1:0"}}, wan: {{addr: "127.0.0.1:0"}}}}
"""


def cpu_seconds(pid, ended=False):
    """User and system time of a process, with that of children it has waited for if ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:15 if ended else 13])) / os.sysconf("SC_CLK_TCK")


def meminfo(name):
    """Bytes, by a line of /proc/meminfo."""
    return next(int(line.split()[1]) << 10 for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith(name + ":"))


class Server:
    """One server that listens on a port of its own. Topics are managed with the
    hub's command for both: it is a Kafka client like any other."""

    RELAXED = []  # settings of a topic that is not synced before the answer, where that is not so anyway

    def __init__(self, name, port, directory):
        self.name, self.addr, self.dir = name, f"127.0.0.1:{port}", Path(directory) / name
        self.port, self.pid, self.paused = port, 0, False
        self.dir.mkdir(parents=True)

    def topic(self, verb, name, *args):
        subprocess.run([ENTREPOT, "topic", verb, name, *args, "--brokers", self.addr],
                       check=True, stdout=subprocess.DEVNULL, timeout=300)

    def signal(self, what):
        os.kill(self.pid, what)

    def pause(self):
        if not self.paused:
            self.signal(signal.SIGSTOP)
            self.paused = True

    def resume(self):
        if self.paused:
            self.signal(signal.SIGCONT)
            self.paused = False

    def cpu_seconds(self):
        """User and system time that the process has used."""
        return cpu_seconds(self.pid)


def ready(process, admin, log):
    """Waits until the node with this admin address serves."""
    for _ in range(600):
        try:
            urllib.request.urlopen(f"http://{admin}/readyz", timeout=1)
            return
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.1)
    raise SystemExit("compare: the hub does not serve:\n" + log.read_text())


class Hub(Server):
    RELAXED = ["--config", "durability=replicated"]  # topics with it do not wait for the disk
    connect = "off"  # where it serves the REST API for connectors

    def start(self):
        config = self.dir / "node.yaml"
        config.write_text(NODE.format(dir=self.dir, addr=self.addr, admin=self.port + 1, connect=self.connect))
        with open(self.dir / "log", "w") as log:
            self.process = subprocess.Popen([ENTREPOT, "serve", "-c", config], stdout=log, stderr=log)
        self.pid = self.process.pid
        ready(self.process, f"127.0.0.1:{self.port + 1}", self.dir / "log")

    def stop(self):
        self.resume()
        self.process.terminate()
        self.process.wait(60)

    def version(self):
        return "Entrepot " + subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True).stdout.strip()


class Kafka(Server):
    # The one setting that is not Kafka's default: while the hub is measured,
    # the broker is stopped, and must not take itself for dead afterwards.
    SETTINGS = ["broker.session.timeout.ms=3600000"]

    def start(self):
        out = subprocess.run([KAFKA, "start", self.dir, str(self.port), str(self.port + 1), *self.SETTINGS],
                             check=True, stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.pid = int(out.stdout)

    def stop(self):
        self.resume()
        subprocess.run([KAFKA, "stop", self.dir], check=True)

    def version(self):
        kafka = subprocess.run([KAFKA, "version"], capture_output=True, text=True).stdout.strip()
        java = subprocess.run(["java", "-version"], capture_output=True, text=True).stderr.split('"')[1]
        return f"Apache Kafka {kafka} on Java {java}"
