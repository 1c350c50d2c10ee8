"""Produces, consumes and commits in a group with confluent-kafka (librdkafka).

Usage: confluent.py BOOTSTRAP TOPIC GROUP COUNT
Exits 0 when two consumers of the group, one after the other, read every record
exactly once between them.
"""
import sys
from confluent_kafka import Consumer, Producer, TopicPartition

bootstrap, topic, group, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])

failed = []
for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "compression.type": codec, "linger.ms": 5})
    for i in range(count // 5):
        producer.produce(topic, key=f"k{i % 17}", value=f"{codec}-{i}" + "x" * 100, headers=[("codec", codec.encode())],
                         on_delivery=lambda err, msg: failed.append(err) if err else None)
        producer.poll(0)
    if producer.flush(30):
        sys.exit(f"{codec}: records left in the producer's queue")
if failed:
    sys.exit(f"failed deliveries: {failed[:3]}")


def read(want):
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest",
                         "enable.auto.commit": False, "session.timeout.ms": 6000})
    consumer.subscribe([topic])
    got = []
    while len(got) < want:
        messages = consumer.consume(num_messages=min(500, want - len(got)), timeout=20)
        if not messages:
            sys.exit(f"only {len(got)} of {want} records came")
        for m in messages:
            if m.error():
                sys.exit(f"consume: {m.error()}")
            got.append((m.partition(), m.offset(), m.value()))
    ends = {}
    for partition, offset, _ in got:
        ends[partition] = max(ends.get(partition, 0), offset + 1)
    consumer.commit(offsets=[TopicPartition(topic, p, o) for p, o in ends.items()], asynchronous=False)
    consumer.close()
    return got


total = count // 5 * 5
first = read(total // 2)
second = read(total - total // 2)
values = {v for _, _, v in first + second}
places = {(p, o) for p, o, _ in first + second}
if len(values) != total or len(places) != total:
    sys.exit(f"{len(values)} distinct values at {len(places)} places, want {total}")
print(f"confluent-kafka: {total} produced with 5 codecs, {len(first)} + {len(second)} consumed over a commit")
