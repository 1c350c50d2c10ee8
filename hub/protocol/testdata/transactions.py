"""Transactions of librdkafka.

Usage: transactions.py ADDRESS RECORDS. Prints one line for each step; the topics
"in", "out" and "copy" have three partitions, and "in" has RECORDS records with
different keys.
"""
import sys
import time

from confluent_kafka import Consumer, KafkaException, Producer

address, records = sys.argv[1], int(sys.argv[2])


def producer(name, **more):
    p = Producer({"bootstrap.servers": address, "transactional.id": name, "transaction.timeout.ms": 20000, **more})
    p.init_transactions(20)
    return p


def consumer(group, topic, **more):
    c = Consumer({
        "bootstrap.servers": address, "group.id": group, "auto.offset.reset": "earliest",
        "enable.auto.commit": False, "isolation.level": "read_committed", **more,
    })
    c.subscribe([topic])
    return c


def drain(c, n, seconds=30):
    got, end = [], time.time() + seconds
    while len(got) < n and time.time() < end:
        m = c.poll(0.2)
        if m is not None and not m.error():
            got.append(m.value().decode())
    return got


# Commits and aborts.
p = producer("plain")
for i in range(6):
    p.begin_transaction()
    for j in range(10):
        p.produce("out", value=f"{i}-{j}")
    if i % 2 == 0:
        p.commit_transaction(20)
    else:
        p.flush(20)
        p.abort_transaction(20)
c = consumer("plain", "out")
got = drain(c, 30)
rest = drain(c, 1, 1)
c.close()
print("committed:", len(set(got)), "aborted:", len([v for v in got + rest if int(v[0]) % 2]), "more:", len(rest))

# A second process fences the first.
first = producer("zombie")
first.begin_transaction()
first.produce("out", value="zombie")
first.flush(20)
second = producer("zombie")
try:
    first.produce("out", value="late")
    first.commit_transaction(20)
    print("fenced: no")
except KafkaException as e:
    print("fenced:", e.args[0].fatal() or e.args[0].txn_requires_abort(), e.args[0].name())
second.begin_transaction()
second.produce("out", value="second")
second.commit_transaction(20)

# Consume, transform, produce: with an abort, and another process in the middle.
copied, aborted = 0, False
while copied < records:
    p = producer("copier")
    c = consumer("copiers", "in")
    goal = copied + records / 2
    while copied < min(goal, records):
        batch = c.consume(50, 1.0)
        if not batch:
            continue
        p.begin_transaction()
        for m in batch:
            p.produce("copy", value=m.key())
        p.send_offsets_to_transaction(c.position(c.assignment()), c.consumer_group_metadata(), 20)
        if not aborted:
            p.abort_transaction(20)
            aborted = True
            break
        p.commit_transaction(20)
        copied += len(batch)
    c.close()
c = consumer("check", "copy")
got = drain(c, records)
rest = drain(c, 1, 1)
c.close()
print("copied:", len(got), "different:", len(set(got)), "more:", len(rest))
