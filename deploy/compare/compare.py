#!/usr/bin/env -S python3 -B
"""Compares the hub with Apache Kafka on this machine: one node each, or three
with every record on all of them, the same client, alternating runs; the server
that is not measured is stopped. Writes medians and ratios into
docs/benchmarks.md unless --dry is given.

  make compare                      all loads, 2 rounds
  make compare ROUNDS=1             one round
  make compare ONLY='produce 1 KiB' the loads whose names match
  make compare NODES=3              three nodes of each, every topic with three replicas;
                                    loads and table of their own
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile

import client
import loads
import report
from servers import Hub, Kafka, ROOT
from sites import PORTS, HubSite, KafkaSite

CACHE = ROOT / ".cache/compare"
BEGIN, END = "<!-- compare-3: written by make compare NODES=3 -->", "<!-- compare-3: end -->"


def log(line):
    print(line, flush=True)


def warm(bench):
    """The Java machine compiles what is hot while it runs; both get the same."""
    def run(server):
        server.topic("create", "warm", "--partitions", "10")
        for size in loads.RECORDS:
            for acks in (-1, 1):
                bench.attempt("warming up", client.produce, server, "warm", size, loads.RECORDS[size], acks)
            bench.attempt("warming up", client.consume, server, "warm", 10, loads.RECORDS[size], True)
        server.topic("delete", "warm")
    bench.for_both(run)


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--rounds", type=int, default=2)
    args.add_argument("--only", default="", help="regular expression that the names of loads match")
    args.add_argument("--dry", action="store_true", help="print the table instead of writing it into docs/benchmarks.md")
    args.add_argument("--nodes", type=int, default=1, choices=sorted(loads.PLANS), help="nodes of each server")
    args.add_argument("--port", type=int, default=19192, help=f"the first of {2 * PORTS} free ports")
    o = args.parse_args()
    before = os.getloadavg()[0]
    scratch = tempfile.mkdtemp(prefix="entrepot-bench.", dir=os.environ.get("BENCH_DIR", ROOT))
    if o.nodes == 1:
        hub, kafka = Hub("hub", o.port, scratch), Kafka("kafka", o.port + 2, scratch)
    else:
        hub, kafka = HubSite("hub", o.port, scratch), KafkaSite("kafka", o.port + PORTS, scratch)
    bench = loads.Bench([hub, kafka], loads.PLANS[o.nodes], scratch, o.only, log)
    try:
        started = []
        for s in (hub, kafka):
            s.start()
            started.append(s)
        log("warming up")
        bench.memory.fill()
        warm(bench)
        for r in range(o.rounds):
            log(f"round {r + 1} of {o.rounds}")
            bench.round(r)
    finally:
        for s in started:
            s.stop()
        shutil.rmtree(scratch, ignore_errors=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    (CACHE / f"samples-{o.nodes}.json").write_text(json.dumps(bench.samples, indent=1))
    command = "make compare" + (f" NODES={o.nodes}" if o.nodes > 1 else "") + f" ROUNDS={o.rounds}" + (f" ONLY='{o.only}'" if o.only else "")
    versions = [hub.version(), kafka.version(), "client librdkafka " + librdkafka()]
    body = report.text(bench.samples, ["hub", "kafka"], versions, command, before, bench.cold)
    if o.dry:
        log(body)
    else:
        report.write(ROOT / "docs/benchmarks.md", body, *([BEGIN, END] if o.nodes > 1 else []))
        log("docs/benchmarks.md has the table")


def librdkafka():
    out = subprocess.run([client.TOOL], capture_output=True, text=True)
    return next((line.split()[2] for line in (out.stdout + out.stderr).splitlines() if line.startswith("librdkafka version")), "unknown")


if __name__ == "__main__":
    sys.exit(main())
