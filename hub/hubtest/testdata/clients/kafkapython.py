"""Produces, consumes and commits in a group with kafka-python.

Usage: kafkapython.py BOOTSTRAP TOPIC GROUP COUNT
Exits 0 when two consumers of the group, one after the other, read every record
exactly once between them.
"""
import sys
from kafka import KafkaConsumer, KafkaProducer
from kafka.structs import OffsetAndMetadata, TopicPartition

bootstrap, topic, group, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])

producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", compression_type="gzip", linger_ms=5)
futures = [producer.send(topic, key=b"k%d" % (i % 17), value=b"v%d" % i, headers=[("n", b"%d" % i)]) for i in range(count)]
producer.flush(30)
for f in futures:
    f.get(timeout=30)
producer.close()


def read(want):
    consumer = KafkaConsumer(topic, bootstrap_servers=bootstrap, group_id=group, auto_offset_reset="earliest",
                             enable_auto_commit=False, consumer_timeout_ms=20000)
    got, ends = [], {}
    for m in consumer:
        got.append((m.partition, m.offset, m.value))
        ends[m.partition] = m.offset + 1
        if len(got) == want:
            break
    if len(got) < want:
        sys.exit(f"only {len(got)} of {want} records came")
    consumer.commit({TopicPartition(topic, p): OffsetAndMetadata(o, "", -1) for p, o in ends.items()})
    consumer.close()
    return got


first = read(count // 2)
second = read(count - count // 2)
values = {v for _, _, v in first + second}
if len(values) != count:
    sys.exit(f"{len(values)} distinct values, want {count}")
print(f"kafka-python: {count} produced, {len(first)} + {len(second)} consumed over a commit")
