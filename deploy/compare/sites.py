"""Three nodes of each server under comparison, every record on all of them."""
import base64
import json
import os
import subprocess
import time

import client
from servers import ENTREPOT, KAFKA, Hub, Kafka, Server, cpu_seconds, ready

NODES = 3
PORTS = 4 * NODES  # that a site takes at most

NODE = """\
node:      {{id: compare-{id}, site: compare, zone: "z{id}", data_dir: "{dir}/data{id}"}}
listeners: {{kafka: {{addr: "{kafka}", advertise: "{kafka}"}}, admin: {{addr: "{admin}"}}, peer: {{addr: "{peer}"}}, registry: {{addr: "off"}}, connect: {{addr: "off"}}}}
mesh:      {{profile: local, lan: {{addr: "{lan}", join: ["{join}"]}}, wan: {{addr: "127.0.0.1:0"}}}}
cluster:   {{bootstrap_expect: {nodes}}}
"""


class Site(Server):
    """Several processes that are paused and resumed as one. Each topic has a
    replica on every node."""

    def __init__(self, name, port, directory):
        super().__init__(name, port, directory)
        self.addr = ",".join(self.addrs(0))
        self.pids, self.topics = [], set()

    def addrs(self, kind):
        """One address a node of the kind-th kind."""
        return [f"127.0.0.1:{self.port + kind * NODES + i}" for i in range(NODES)]

    def topic(self, verb, name, *args):
        if verb == "create":
            self.topics.add(name)
            args = [*args, "--replicas", str(NODES)]
        if verb == "delete":
            self.topics.remove(name)
        super().topic(verb, name, *args)
        if verb == "create":
            self.settle()

    def signal(self, what):
        for pid in self.pids:
            os.kill(pid, what)

    def resume(self):
        was = self.paused
        super().resume()
        if was:
            self.settle()

    def settle(self):
        """Waits until all nodes have heard of each other again, and of every
        partition the first replica leads and the others follow: so the nodes
        lead as many each."""
        for _ in range(120):
            if all(map(self.settled, self.topics)):
                return
            time.sleep(0.5)
        raise SystemExit(f"compare: the nodes of {self.name} do not find each other again")

    def settled(self, topic):
        try:
            out = subprocess.run([ENTREPOT, "topic", "describe", topic, "--json", "--brokers", self.addr],
                                 check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60).stdout
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return False
        return all(p["leader"] == p["replicas"][0] and len(p["in_sync"]) == NODES for p in json.loads(out)["partitions"])

    def cpu_seconds(self):
        return sum(map(cpu_seconds, self.pids))


class HubSite(Site):
    RELAXED = Hub.RELAXED

    def start(self):
        kafka, admin, peer, lan = map(self.addrs, range(4))
        self.processes = []
        for i in range(NODES):
            config = self.dir / f"node{i}.yaml"
            config.write_text(NODE.format(id=i + 1, dir=self.dir, kafka=kafka[i], admin=admin[i], peer=peer[i], lan=lan[i], join='", "'.join(lan[:2]), nodes=NODES))
            with open(self.dir / f"log{i}", "w") as log:
                self.processes.append(subprocess.Popen([ENTREPOT, "serve", "-c", config], stdout=log, stderr=log))
        self.pids = [p.pid for p in self.processes]
        try:
            for i in range(NODES):
                ready(self.processes[i], admin[i], self.dir / f"log{i}")
        except BaseException:
            self.stop()
            raise

    def stop(self):
        super(Site, self).resume()
        for p in self.processes:
            p.terminate()
        for p in self.processes:
            p.wait(60)

    version = Hub.version


class KafkaSite(Site):
    # What is acknowledged is on two of three, as in the hub. The times, because
    # while the hub is measured the brokers are stopped: none must take another
    # for dead or slow afterwards.
    SETTINGS = [*Kafka.SETTINGS, "replica.lag.time.max.ms=3600000", "controller.quorum.fetch.timeout.ms=3600000",
                f"default.replication.factor={NODES}", "min.insync.replicas=2",
                f"offsets.topic.replication.factor={NODES}", f"transaction.state.log.replication.factor={NODES}", "transaction.state.log.min.isr=2"]

    def start(self):
        controllers = self.addrs(1)
        voters = ",".join(f"{i + 1}@{at}" for i, at in enumerate(controllers))
        env = os.environ | {"KAFKA_CLUSTER_ID": base64.urlsafe_b64encode(b"entrepot-compare").decode().rstrip("=")}
        starting = []
        for i in range(NODES):
            ports = [str(self.port + i), str(self.port + NODES + i)]
            settings = [f"node.id={i + 1}", f"controller.quorum.voters={voters}", "controller.quorum.bootstrap.servers=" + ",".join(controllers), *self.SETTINGS]
            starting.append(subprocess.Popen([KAFKA, "start", self.dir / str(i), *ports, *settings], env=env, stdout=subprocess.PIPE, text=True, start_new_session=True))
        outs = [s.communicate(timeout=300)[0] for s in starting]
        self.pids = [int(out) for out in outs if out]
        if len(self.pids) < NODES:
            self.stop()
            raise SystemExit("compare: a broker of Kafka does not serve")

    def stop(self):
        super(Site, self).resume()
        stopping = [subprocess.Popen([KAFKA, "stop", self.dir / str(i)]) for i in range(NODES)]
        for s in stopping:
            s.wait(90)

    version = Kafka.version
