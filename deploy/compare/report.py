"""The table of docs/benchmarks.md from the samples."""
import datetime
import os
import platform
import statistics
from pathlib import Path

from servers import meminfo

BEGIN, END = "<!-- compare: written by make compare -->", "<!-- compare: end -->"


def spread(values, form):
    return f"{form(statistics.median(values))} ({form(min(values))}–{form(max(values))})"


def number(unit):
    return (lambda v: f"{v:,.2f}") if unit == "ms" else (lambda v: f"{v:,.0f}")


def ratio_form(v):
    return f"{v:.2f}"


def rows(samples, servers):
    """One row a load: medians, and ratios in which above 1 is good for the hub."""
    hub, kafka = servers
    for load in dict.fromkeys(s["load"] for s in samples):
        own = [s for s in samples if s["load"] == load]
        unit = own[0]["unit"]
        by = {n: {(s["round"], s["slot"]): s["value"] for s in own if s["server"] == n} for n in servers}
        rounds = sorted({r for r, _ in by[hub]})
        invert = unit == "ms"
        # Neighbours in time: slot 0 with 1, slot 3 with 2.
        ratios = [by[hub][r, h] / by[kafka][r, k] for r in rounds for h, k in ((0, 1), (3, 2))]
        control = [by[hub][r, 3] / by[hub][r, 0] for r in rounds], [by[kafka][r, 2] / by[kafka][r, 1] for r in rounds]
        if invert:
            ratios = [1 / x for x in ratios]
        used = [statistics.median(s["cpu"] for s in own if s["server"] == n) for n in servers]
        yield load, unit, list(by[hub].values()), list(by[kafka].values()), ratios, used[1] / max(used[0], 0.01), control


def table(samples, servers):
    lines = ["| load | unit | hub | Kafka | ratio | CPU ratio | hub ÷ itself | Kafka ÷ itself |", "|---|---|---|---|---|---|---|---|"]
    for load, unit, hub, kafka, ratios, cpu, (ch, ck) in rows(samples, servers):
        form = number(unit)
        lines.append(f"| {load} | {unit} | {spread(hub, form)} | {spread(kafka, form)} | {spread(ratios, ratio_form)} | {cpu:.2f} | {spread(ch, ratio_form)} | {spread(ck, ratio_form)} |")
    return "\n".join(lines)


def machine():
    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), platform.machine())
    memory = meminfo("MemTotal") >> 30
    return f"{os.cpu_count()} cores of an {cpu}, {memory} GiB of memory, Linux {platform.release()}"


def head(versions, command, load):
    return (f"`{command}` on {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}: {machine()}; {', '.join(versions)}. "
            f"Load of the machine before the start: {load:.2f}.")


def text(samples, servers, versions, command, load, cold):
    return "\n".join([
        head(versions, command, load) + ("" if cold else " Caches could not be dropped: no cold figures."),
        "",
        table(samples, servers),
    ])


def write(page, body, begin=BEGIN, end=END):
    """Puts body between the markers of the page."""
    old = Path(page).read_text()
    before, rest = old.split(begin, 1)
    _, after = rest.split(end, 1)
    Path(page).write_text(f"{before}{begin}\n{body}\n{end}{after}")
