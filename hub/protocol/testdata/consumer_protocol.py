"""Consumers of librdkafka with group.protocol=consumer.

Usage: consumer_protocol.py ADDRESS RECORDS. Prints one line for each step; the
topic "work" has six partitions and RECORDS records.
"""
import sys
import time

from confluent_kafka import Consumer

address, records = sys.argv[1], int(sys.argv[2])
seen, again, failures = set(), 0, []


def consumer(name, **more):
    config = {
        "bootstrap.servers": address, "group.id": "g", "group.protocol": "consumer",
        "client.id": name, "auto.offset.reset": "earliest", **more,
    }
    return Consumer(config)


def poll(consumers):
    global again
    for c in consumers:
        m = c.poll(0.05)
        if m is None:
            continue
        if m.error():
            failures.append(str(m.error()))
            continue
        again += m.key() in seen
        seen.add(m.key())


def until(what, consumers, done):
    end = time.time() + 60
    while not done():
        if time.time() > end:
            print("never:", what, [len(c.assignment()) for c in consumers], len(seen))
            sys.exit(1)
        poll(consumers)


def shares(consumers):
    owned = [p.partition for c in consumers for p in c.assignment()]
    return sorted(owned), sorted(len(c.assignment()) for c in consumers)


group = [consumer("a"), consumer("b"), consumer("c", **{"group.remote.assignor": "uniform"})]
for c in group:
    c.subscribe(["work"])
until("three share", group, lambda: shares(group) == (list(range(6)), [2, 2, 2]))
until("all seen", group, lambda: len(seen) == records)
print("three share, all seen, again:", again)

group[0].close()
group = group[1:]
until("two share", group, lambda: shares(group) == (list(range(6)), [3, 3]))
print("two share")

static = consumer("d", **{"group.instance.id": "one"})
static.subscribe(["^wor.*"])
group.append(static)
until("a regular expression", group, lambda: shares(group) == (list(range(6)), [2, 2, 2]))
before = sorted(p.partition for p in static.assignment())
static.close()
static = group[2] = consumer("d", **{"group.instance.id": "one"})
static.subscribe(["^wor.*"])
until("the static member is back", group, lambda: shares(group) == (list(range(6)), [2, 2, 2]))
print("static member is back with the same:", before == sorted(p.partition for p in static.assignment()))

for c in group:
    c.close()
print("failures:", failures)
