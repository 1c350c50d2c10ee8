"""What the connectors are compared on: the hub and Kafka Connect, both with
the same REST API, and one PostgreSQL for the two of them."""
import json
import os
import pwd
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from servers import KAFKA, ROOT, Hub, Kafka, cpu_seconds

PLUGINS = ROOT / ".cache/compare/plugins"

# A standalone worker: no group of workers that would notice that this one is
# stopped now and then. Producer and consumer have the hub's compression and the
# largest sensible batches.
WORKER = """\
bootstrap.servers={kafka}
listeners=http://127.0.0.1:{port}
plugin.path={plugins}
plugin.discovery=service_load
key.converter=org.apache.kafka.connect.json.JsonConverter
key.converter.schemas.enable=false
value.converter=org.apache.kafka.connect.json.JsonConverter
value.converter.schemas.enable=false
offset.storage.file.filename={dir}/offsets
offset.flush.interval.ms=1000
producer.compression.type=snappy
producer.batch.size=262144
producer.linger.ms=5
consumer.max.poll.records=10000
consumer.fetch.min.bytes=1048576
consumer.fetch.max.wait.ms=100
consumer.max.partition.fetch.bytes=8388608
"""


class Connectors:
    """The part of the REST API that is the same on both sides."""

    def ask(self, method, path, body=None):
        request = urllib.request.Request(self.rest + path, method=method, headers={"Content-Type": "application/json"},
                                         data=None if body is None else json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.loads(answer.read() or "null")
        except urllib.error.HTTPError as e:
            raise RuntimeError(f"{self.name}: {method} {path}: {e.code} {e.read().decode(errors='replace')}") from None

    def make(self, name, config):
        self.ask("POST", "/connectors", {"name": name, "config": config})

    def drop(self, name):
        self.ask("DELETE", f"/connectors/{name}")

    def halt(self, name):
        self.ask("PUT", f"/connectors/{name}/stop")
        self.until(name, "STOPPED")

    def go_on(self, name):
        self.ask("PUT", f"/connectors/{name}/resume")

    def until(self, name, state):
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if self.state(name) == state:
                return
            time.sleep(0.05)
        raise RuntimeError(f"{self.name}: {name} is not {state} after a minute: {self.ask('GET', f'/connectors/{name}/status')}")

    def state(self, name):
        """FAILED if any task is."""
        answer = self.ask("GET", f"/connectors/{name}/status")
        failed = [t for t in answer["tasks"] if t["state"] == "FAILED"]
        return "FAILED" if failed else answer["connector"]["state"]

    def check(self, name):
        if self.state(name) == "FAILED":
            raise RuntimeError(f"{self.name}: {name}: {json.dumps(self.ask('GET', f'/connectors/{name}/status'))[:2000]}")


class HubConnectors(Connectors, Hub):
    def __init__(self, name, port, rest, directory):
        super().__init__(name, port, directory)
        self.connect, self.rest = f"127.0.0.1:{rest}", f"http://127.0.0.1:{rest}"


class Connect(Connectors, Kafka):
    """Apache Kafka and a worker of Kafka Connect beside it."""

    def __init__(self, name, port, rest, directory):
        super().__init__(name, port, directory)
        self.rest, self.worker = f"http://127.0.0.1:{rest}", None
        self.file = self.dir / "worker.properties"
        self.file.write_text(WORKER.format(kafka=self.addr, port=rest, plugins=PLUGINS, dir=self.dir))

    def start(self):
        super().start()
        with open(self.dir / "worker.log", "w") as log:
            self.worker = subprocess.Popen([KAFKA, "tool", "org.apache.kafka.connect.cli.ConnectStandalone", self.file],
                                           stdout=log, stderr=log, start_new_session=True,
                                           env={**os.environ, "KAFKA_HEAP_OPTS": "-Xms256M -Xmx2G"})  # those of its start script
        for _ in range(600):
            try:
                self.ask("GET", "/")
                return
            except (OSError, RuntimeError):  # the port is open a little earlier
                if self.worker.poll() is not None:
                    break
                time.sleep(0.2)
        raise SystemExit("compare: the worker does not serve:\n" + (self.dir / "worker.log").read_text()[-4000:])

    def pause(self):
        if not self.paused:
            os.kill(self.worker.pid, signal.SIGSTOP)
        super().pause()

    def resume(self):
        if self.paused:
            os.kill(self.worker.pid, signal.SIGCONT)
        super().resume()

    def cpu_seconds(self):
        return super().cpu_seconds() + cpu_seconds(self.worker.pid)

    def stop(self):
        self.resume()
        if self.worker:
            self.worker.terminate()
            try:
                self.worker.wait(30)
            except subprocess.TimeoutExpired:
                self.worker.kill()
                self.worker.wait()
        if self.pid:
            super().stop()

    def version(self):
        found = {p["class"].rsplit(".", 1)[1]: p["version"] for p in self.ask("GET", "/connector-plugins")}
        return f"{super().version()} with Connect, Debezium's PostgreSQL source {found['PostgresConnector']} and JDBC sink {found['JdbcSinkConnector']}"


class Postgres:
    """A private cluster as the tests start it: defaults, so with fsync, and logical decoding."""

    def __init__(self, port, directory):
        self.port, self.dir = port, Path(directory) / "postgres"
        self.bin = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name), default=None)
        if self.bin is None:
            raise SystemExit("compare: needs PostgreSQL (the package postgresql)")
        self.user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
        self.url = f"postgres://postgres@127.0.0.1:{port}/postgres?sslmode=disable"

    def start(self):
        self.dir.mkdir()
        if self.user:
            owner = pwd.getpwnam("postgres")
            os.chown(self.dir, owner.pw_uid, owner.pw_gid)
        subprocess.run([self.bin / "initdb", "-D", self.dir / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"],
                       check=True, stdout=subprocess.DEVNULL, cwd="/", **self.user)
        with open(self.dir.parent / "postgres.log", "w") as log:
            self.process = subprocess.Popen(
                [self.bin / "postgres", "-D", self.dir / "data", "-c", "listen_addresses=127.0.0.1", "-c", f"port={self.port}",
                 "-c", "unix_socket_directories=", "-c", "wal_level=logical"], stdout=log, stderr=log, cwd="/", **self.user)
        for _ in range(300):
            try:
                self.ask("SELECT 1")
                return
            except RuntimeError:
                time.sleep(0.1)
        raise SystemExit("compare: PostgreSQL does not answer")

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)

    def ask(self, text, *more):
        run = subprocess.run([self.bin / "psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-d", self.url, "-c", text, *more], capture_output=True, text=True)
        if run.returncode:
            raise RuntimeError(f"PostgreSQL: {run.stderr}")
        return run.stdout.strip()

    def cpu_seconds(self):
        """Of the server with all its processes, also those that have ended."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        total = cpu_seconds(self.process.pid, ended=True)
        for pid in children:
            try:
                total += cpu_seconds(pid)
            except OSError:
                pass  # it has ended just now
        return total

    def version(self):
        return "PostgreSQL " + re.sub(r" .*", "", self.ask("SHOW server_version"))
