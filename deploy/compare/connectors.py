#!/usr/bin/env -S python3 -B
"""Compares the hub's connectors with Kafka Connect's on this machine: the same
rows, the same PostgreSQL, alternating runs (A B B A); the side that is not
measured is stopped. Writes medians and ratios into docs/benchmarks.md unless
--dry is given.

  make compare-connectors                    all roads, 1 round
  make compare-connectors ROUNDS=2           two
  make compare-connectors ONLY='upsert'      the roads whose names match
  make compare-connectors HUB=1              the hub alone, quick
"""
import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import report
from compare import log
from peers import Connect, HubConnectors, Postgres
from roads import CHANGES, FILE_COPIES, ROWS, Roads, collector
from servers import ROOT

CACHE = ROOT / ".cache/compare"
COLLECTOR = "HTTP to topic"
BEGIN, END = "<!-- compare-connectors: written by make compare-connectors -->", "<!-- compare-connectors: end -->"


class Bench:
    def __init__(self, servers, postgres, only):
        self.servers, self.pg, self.only, self.samples = servers, postgres, re.compile(only), []

    def alone(self, server):
        for s in self.servers:
            if s is not server:
                s.pause()
        server.resume()

    def run(self, road, server, go, slot, keep=True):
        self.alone(server)
        subprocess.run(["sync"], check=True)  # what another run left to write is not this one's
        cpu, pg = server.cpu_seconds(), self.pg.cpu_seconds()
        value = go(server)
        cpu, pg = server.cpu_seconds() - cpu, self.pg.cpu_seconds() - pg
        log(f"{road:45} {server.name:7} {value:11,.0f} rows/s  cpu {cpu:.2f} s, PostgreSQL {pg:.2f} s" + ("" if keep else "  (warm-up)"))
        if keep:
            self.samples.append({"road": road, "server": server.name, "slot": slot, "value": value, "cpu": cpu, "pg": pg})

    def round(self, roads):
        hub, *peers = self.servers
        for road, (go, compared) in roads.items():
            if not self.only.search(road):
                continue
            turns = [hub, *peers, *peers, hub] if compared else [hub, hub]
            for slot, server in enumerate(turns):
                try:
                    self.run(road, server, go, slot)
                except (RuntimeError, subprocess.SubprocessError) as e:
                    log(f"{road}: {server.name}: {e}")

    def collector(self):
        if not self.only.search(COLLECTOR):
            return
        for s in self.servers:
            s.pause()
        for load, rate, cpu in collector():
            log(f"{COLLECTOR}, {load}: {rate:,.0f} events/s  cpu {cpu:.2f} s")
            self.samples.append({"road": f"{COLLECTOR}, {load}", "server": "hub", "slot": 0, "value": rate, "cpu": cpu, "pg": 0})

    def warm(self, roads):
        """The Java machine compiles what is hot while it runs."""
        for road, (go, compared) in roads.items():
            for peer in self.servers[1:]:
                if compared and self.only.search(road):
                    self.run(road, peer, go, 0, keep=False)


def table(samples):
    """Medians. The times are those of all processes of a side for the whole road, its beginning included."""
    lines = ["| road | hub, rows/s | Kafka Connect, rows/s | ratio | CPU, s: hub | Kafka and Connect | PostgreSQL for the hub | PostgreSQL for Connect |", "|---|---|---|---|---|---|---|---|"]
    whole = "{:,.0f}".format
    for road in dict.fromkeys(s["road"] for s in samples):
        by = {n: [s for s in samples if s["road"] == road and s["server"] == n] for n in ("hub", "connect")}
        rate = {n: report.spread([s["value"] for s in own], whole) if own else "–" for n, own in by.items()}
        cpu = [f"{statistics.median(s[k] for s in by[n]):.2f}" if by[n] else "–" for k in ("cpu", "pg") for n in ("hub", "connect")]
        ratio = f"{statistics.median(s['value'] for s in by['hub']) / statistics.median(s['value'] for s in by['connect']):.2f}" if all(by.values()) else "–"
        lines.append(f"| {' | '.join([road, rate['hub'], rate['connect'], ratio, *cpu])} |")
    return "\n".join(lines)


def todo(roads):
    """Every road with what runs it, and whether there is a peer."""
    return {
        f"topic to PostgreSQL, insert, {ROWS:,} rows": (lambda s: roads.into_table(s, "insert", roads.table_sink("insert")), True),
        f"topic to PostgreSQL, upsert, {ROWS:,} rows": (lambda s: roads.into_table(s, "upsert", roads.table_sink("upsert")), True),
        f"PostgreSQL to topic, {ROWS:,} rows that are there": (roads.snapshot, True),
        f"PostgreSQL to topic, {CHANGES:,} changes": (roads.changes, True),
        f"file to topic, {ROWS * FILE_COPIES:,} lines": (roads.file, True),
        f"topic to Parquet, {ROWS:,} rows": (roads.parquet, False),
    }


def measure(o, scratch):
    """All samples, and the versions of what was measured."""
    pg = Postgres(o.port + 6, scratch)
    servers = [HubConnectors("hub", o.port, o.port + 2, scratch)]
    if not o.hub:
        servers.append(Connect("connect", o.port + 3, o.port + 5, scratch))
    bench, started = Bench(servers, pg, o.only), []
    try:
        for s in (pg, *servers):
            started.append(s)
            s.start()
        roads = Roads(pg, scratch)
        roads.prepare(servers)
        bench.warm(todo(roads))
        for r in range(o.rounds):
            log(f"round {r + 1} of {o.rounds}")
            bench.round(todo(roads))
            bench.collector()
        for s in servers:
            s.resume()  # to be asked
        return bench.samples, [*(s.version() for s in servers), pg.version()]
    finally:
        for s in reversed(started):
            try:
                s.stop()
            except (OSError, subprocess.SubprocessError) as e:
                log(f"could not stop {s.__class__.__name__}: {e}")


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--rounds", type=int, default=1)
    args.add_argument("--only", default="", help="regular expression that the names of roads match")
    args.add_argument("--hub", action="store_true", help="leave Kafka Connect out")
    args.add_argument("--dry", action="store_true", help="print the table instead of writing it into docs/benchmarks.md")
    args.add_argument("--port", type=int, default=19292, help="the first of eight free ports")
    o = args.parse_args()
    before = os.getloadavg()[0]
    scratch = tempfile.mkdtemp(prefix="entrepot-bench.", dir=os.environ.get("BENCH_DIR", ROOT))
    os.chmod(scratch, 0o755)  # PostgreSQL runs as another user
    try:
        samples, versions = measure(o, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    (CACHE / "connectors.json").write_text(json.dumps(samples, indent=1))
    command = f"make compare-connectors ROUNDS={o.rounds}" + (f" ONLY='{o.only}'" if o.only else "") + (" HUB=1" if o.hub else "")
    body = report.head(versions, command, before) + "\n\n" + table(samples)
    if o.dry:
        log(body)
    else:
        report.write(ROOT / "docs/benchmarks.md", body, BEGIN, END)
        log("docs/benchmarks.md has the table")


if __name__ == "__main__":
    sys.exit(main())
