"""librdkafka's performance tool: one measured run of each kind."""
import json
import math
import re
import subprocess
import time
from pathlib import Path

from servers import ENTREPOT

TOOL = Path(__file__).resolve().parents[2] / ".cache/compare/rdkafka_performance"

# Records go to random partitions, each by itself: by default librdkafka stays
# with one for 10 ms. 5 ms is its default linger; the tool's own is 1 s.
SPREAD = ["-X", "sticky.partitioning.linger.ms=0", "-X", "linger.ms=5"]


def tool(*args, timeout=180):
    run = subprocess.run([TOOL, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout)
    return run.stdout


def result(output, count):
    """Records a second, from the summary that the tool ends with."""
    found = re.findall(r"% (\d+) messages .*?(?:(\d+) delivered .*)?in (\d+)ms", output)
    if not found:
        raise RuntimeError("the client printed no summary:\n" + output)
    taken, delivered, ms = found[-1]
    if int(delivered or taken) < count:
        raise RuntimeError(f"{delivered or taken} of {count} records:\n{output}")
    return int(delivered or taken) * 1000 / max(int(ms), 1)


def produce(server, topic, size, count, acks, batch=0):
    """batch is the most records in one; 0: the library's default."""
    limit = ["-X", f"batch.num.messages={batch}"] if batch else []
    return result(tool("-P", "-q", "-b", server.addr, "-t", topic, "-s", size, "-c", count, "-a", acks, *SPREAD, *limit), count)


def newest(server, topic, each):
    """The offset from which every partition has so many records at least."""
    out = subprocess.run([ENTREPOT, "topic", "describe", topic, "--json", "--brokers", server.addr], check=True, stdout=subprocess.PIPE, timeout=60).stdout
    return max(0, min(p["high_watermark"] for p in json.loads(out)["partitions"]) - each)


def consume(server, topic, partitions, count, tail):
    """From the start of the topic, or its newest records. Offsets that are to be
    asked for first would be asked for half a second later by librdkafka, of those
    partitions whose leader it does not know yet when it is told of them: a matter
    of luck where there are many. The time runs from the first record on."""
    start = newest(server, topic, math.ceil(count / partitions * 1.1)) if tail else "beginning"
    chosen = [arg for p in range(partitions) for arg in ("-p", str(p))]
    return result(tool("-C", "-q", "-b", server.addr, "-t", topic, *chosen, "-o", start, "-c", count), count)


def latency(server, topic, partitions, size, rate, seconds, scratch):
    """Milliseconds from before produce until the consumer has it, sorted."""
    count, file = rate * seconds, Path(scratch) / "latency"
    chosen = [arg for p in range(partitions) for arg in ("-p", str(p))]
    consumer = subprocess.Popen([TOOL, "-C", "-q", "-b", server.addr, "-t", topic, *chosen, "-o", "end", "-l", "-A", file, "-c", str(count)],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(2)  # until it waits at the end of every partition
        tool("-P", "-q", "-b", server.addr, "-t", topic, "-s", size, "-c", count, "-a", -1, "-l", "-r", rate,
             "-X", "linger.ms=0", "-X", "sticky.partitioning.linger.ms=0")
        consumer.wait(30)
    finally:
        consumer.kill()
        consumer.wait()
    times = sorted(int(line) / 1000 for line in file.read_text().split())
    if len(times) < count:
        raise RuntimeError(f"{len(times)} of {count} records came")
    return times


def quantile(times, q):
    return times[min(math.ceil(q * len(times)), len(times)) - 1]
