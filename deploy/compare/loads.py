"""What is measured, in order. Every load is run four times a round: A B B A,
so that a drift of the machine hits both alike and each server is also
compared with itself."""
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import client
from servers import meminfo

RECORDS = {1024: 600_000, 100: 2_500_000}
SMALL, SMALL_RECORDS = 10, 100_000  # records in a batch, records
RATE, RATE_SECONDS = 1_000, 10
NAMES = {1024: "1 KiB", 100: "100 B"}
NOT_SYNCED = "produce 1 KiB, 10 partitions, acks=all, durability=replicated"


def drop_caches():
    """Writes out and forgets what the system caches; False: not permitted."""
    subprocess.run(["sync"], check=True)
    try:
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("3")
        return True
    except OSError:
        return False


class Filler:
    """Fills the memory that is free with a file, as on a machine that has been up
    for a while, so that what is written takes the place of that. A virtual machine
    gives free memory back to its host, and pays for each page that it gets again:
    a run could take twice the processor time of the same run before it. So it was
    for a client that reads: it had new memory for what it takes, or used."""
    SPARE = 150 << 20  # bytes that stay free: about what Linux keeps free itself

    def __init__(self, scratch):
        self.size, self.at = meminfo("MemTotal"), 0
        self.file = Path(scratch) / "memory"
        with open(self.file, "wb") as f:
            f.truncate(self.size)  # a hole: nothing of it is on the disk

    def fill(self):
        """Reads on where the last time ended: what was read first is the first to go."""
        piece, left = bytearray(1 << 20), meminfo("MemFree") - self.SPARE
        with open(self.file, "rb", buffering=0) as f:
            while left > 0:
                f.seek(self.at)
                n = f.readinto(piece)
                left, self.at = left - n, (self.at + n) % self.size


@dataclass
class Plan:
    """What is measured of one node each, or of three."""
    partitions: tuple
    acks: tuple
    cold: bool        # reads that the disk serves
    not_synced: bool  # with what the hub offers instead of syncing


PLANS = {
    1: Plan(partitions=(1, 10, 1000), acks=("all", 1), cold=True, not_synced=False),
    3: Plan(partitions=(1, 10, 100), acks=("all",), cold=False, not_synced=True),
}


class Bench:
    def __init__(self, servers, plan, scratch, only, log):
        self.servers, self.plan, self.scratch, self.only, self.log = servers, plan, scratch, re.compile(only), log
        self.memory = Filler(scratch)
        self.samples = []  # dicts: load, unit, server, round, slot, value, cpu
        self.cold = os.access("/proc/sys/vm/drop_caches", os.W_OK)

    def alone(self, server):
        for s in self.servers:
            if s is not server:
                s.pause()
        server.resume()

    def measure(self, load, unit, round_, run, before=lambda: None):
        if not self.only.search(load):
            return
        mark = len(self.samples)
        try:
            self.four(load, unit, round_, run, before)
        except (RuntimeError, subprocess.SubprocessError) as e:
            del self.samples[mark:]  # half a round compares nothing
            self.log(f"{load}: left out of round {round_ + 1}: {e}")

    def four(self, load, unit, round_, run, before):
        a, b = self.servers
        for slot, server in enumerate([a, b, b, a]):
            self.alone(server)
            subprocess.run(["sync"], check=True)  # what another run left to write is not this one's
            before()
            self.memory.fill()
            cpu = server.cpu_seconds()
            value = run(server)
            cpu = server.cpu_seconds() - cpu
            values = value if isinstance(value, dict) else {"": value}
            for part, v in values.items():
                self.samples.append({"load": load + part, "unit": unit, "server": server.name, "round": round_, "slot": slot, "value": v, "cpu": cpu})
            self.log(f"{load:45} {server.name:6} " + "  ".join(f"{p.strip(', ')} {v:,.1f}".strip() for p, v in values.items()) + f"  {unit}  cpu {cpu:.2f} s")

    def for_both(self, do):
        for s in self.servers:
            self.alone(s)
            do(s)

    def wanted(self, *loads):
        return any(self.only.search(load) for load in loads)

    def throughput(self, round_, size, partitions):
        count, topic = RECORDS[size], f"t{size}-{partitions}-{round_}"
        what = f"{NAMES[size]}, {partitions:,} partition" + ("s" if partitions > 1 else "")
        loads = {acks: f"produce {what}, acks={acks}" for acks in self.plan.acks}
        small = f"produce {what}, acks=all, batches of {SMALL}"
        tail, cold = f"consume {what}, newest", f"consume {what}, cold"
        if not self.wanted(*loads.values(), small, tail, cold):
            return

        def prepare(server):
            server.topic("create", topic, "--partitions", str(partitions))
            for _ in range(1 if self.wanted(*loads.values()) else 3):  # every partition has a leader and a file
                client.produce(server, topic, size, count // 2, "all")

        self.for_both(prepare)
        for acks, load in loads.items():
            self.measure(load, "records/s", round_, lambda s: client.produce(s, topic, size, count, -1 if acks == "all" else acks))
        if size == 1024 and partitions > 1:
            self.measure(small, "records/s", round_, lambda s: client.produce(s, topic, size, SMALL_RECORDS, -1, SMALL))
        self.measure(tail, "records/s", round_, lambda s: client.consume(s, topic, partitions, count, True))
        if self.plan.cold and self.cold and partitions == 10:
            self.measure(cold, "records/s", round_, lambda s: client.consume(s, topic, partitions, count, False), drop_caches)
        self.for_both(lambda s: s.topic("delete", topic))

    def not_synced(self, round_):
        topic = f"r-{round_}"
        if not self.wanted(NOT_SYNCED):
            return

        def prepare(server):
            server.topic("create", topic, "--partitions", "10", *server.RELAXED)
            client.produce(server, topic, 1024, RECORDS[1024] // 2, "all")

        self.for_both(prepare)
        self.measure(NOT_SYNCED, "records/s", round_, lambda s: client.produce(s, topic, 1024, RECORDS[1024], -1))
        self.for_both(lambda s: s.topic("delete", topic))

    def end_to_end(self, round_):
        topic = f"e2e-{round_}"
        load = f"end to end, 1 KiB, 10 partitions, {RATE:,} records/s, acks=all"
        if not self.wanted(load):
            return

        def run(server):
            times = client.latency(server, topic, 10, 1024, RATE, RATE_SECONDS, self.scratch)
            return {f", p{q * 100:g}": client.quantile(times, q) for q in (0.5, 0.99, 0.999)}

        self.for_both(lambda s: (s.topic("create", topic, "--partitions", "10"), client.produce(s, topic, 1024, 20_000, -1)))
        self.measure(load, "ms", round_, run)
        self.for_both(lambda s: s.topic("delete", topic))

    def attempt(self, what, do, *args):
        """A client that fails while nothing is measured costs what was to come of it, and not the whole run."""
        try:
            do(*args)
        except (RuntimeError, subprocess.SubprocessError) as e:
            self.log(f"{what}: left out: {e}")

    def round(self, round_):
        for size in RECORDS:
            for partitions in self.plan.partitions:
                self.attempt(f"{NAMES[size]}, {partitions:,} partitions", self.throughput, round_, size, partitions)
        if self.plan.not_synced:
            self.attempt(NOT_SYNCED, self.not_synced, round_)
        self.attempt("end to end", self.end_to_end, round_)
