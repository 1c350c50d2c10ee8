"""Uses a broker with kafka-python as applications do.

Usage: kafkapython.py BOOTSTRAP COUNT
COUNT is the number of records that the checks move.
"""
import sys
import uuid

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import NewTopic
from kafka.structs import OffsetAndMetadata, TopicPartition

from tap import check, equal

bootstrap, count = sys.argv[1], int(sys.argv[2])
run = uuid.uuid4().hex[:8]
admin = KafkaAdminClient(bootstrap_servers=bootstrap)


def topic(name):
    name = f"kafka-python-{run}-{name}"
    admin.create_topics([NewTopic(name, 3, 1)])
    return name


def produce(name, values, **config):
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", linger_ms=5, **config)
    futures = [producer.send(name, key=b"k%d" % (i % 17), value=v, headers=[("n", b"%d" % i)]) for i, v in enumerate(values)]
    producer.flush(60)
    for f in futures:
        f.get(timeout=60)
    producer.close()


def take(c, want):
    got = []
    for m in c:
        got.append(m)
        if len(got) == want:
            break
    equal(len(got), want, "records")
    return got


def consumer(*topics, **config):
    return KafkaConsumer(*topics, bootstrap_servers=bootstrap, auto_offset_reset="earliest", enable_auto_commit=False,
                         consumer_timeout_ms=20000, **config)


def commit(c, got):
    ends = {}
    for m in got:
        ends[TopicPartition(m.topic, m.partition)] = OffsetAndMetadata(m.offset + 1, "", -1)
    c.commit(ends)


@check("produce and read all back")
def _():
    name = topic("plain")
    for codec in (None, "gzip"):
        produce(name, [b"%s-%d" % (str(codec).encode(), i) for i in range(count // 2)], compression_type=codec)
    c = consumer(name)
    values = {m.value for m in take(c, count // 2 * 2)}
    c.close()
    equal(len(values), count // 2 * 2, "distinct values")


@check("an idempotent producer")
def _():
    name = topic("idempotent")
    produce(name, [b"v%d" % i for i in range(count)], enable_idempotence=True)
    c = consumer(name)
    equal(len({m.value for m in take(c, count)}), count, "distinct values")
    c.close()


@check("a group: the second consumer goes on where the first committed")
def _():
    name = topic("group")
    produce(name, [b"v%d" % i for i in range(count)])
    values = []
    for want in (count // 2, count - count // 2):
        c = consumer(name, group_id=f"{name}-g")
        got = take(c, want)
        commit(c, got)
        c.close()
        values += [m.value for m in got]
    equal((len(values), len(set(values))), (count, count), "values, and distinct ones")


@check("transactions: aborted records are not read by read_committed")
def _():
    name = topic("transactions")
    producer = KafkaProducer(bootstrap_servers=bootstrap, transactional_id=f"{name}-t")
    producer.init_transactions()
    for good in (True, False, True):
        producer.begin_transaction()
        for f in [producer.send(name, b"%s-%d" % (str(good).encode(), i)) for i in range(100)]:
            f.get(timeout=30)
        if good:
            producer.commit_transaction()
        else:
            producer.abort_transaction()
    producer.close()
    c = consumer(name, isolation_level="read_committed")
    values = {m.value for m in take(c, 200)}
    c.close()
    equal({v.split(b"-")[0] for v in values}, {b"True"})
    c = consumer(name)
    equal(len(take(c, 300)), 300)
    c.close()


@check("offsets by time, seek")
def _():
    name = topic("offsets")
    produce(name, [b"v%d" % i for i in range(300)])
    c = consumer()
    tps = [TopicPartition(name, p) for p in range(3)]
    c.assign(tps)
    equal(sum(c.end_offsets(tps).values()), 300)
    equal({o.offset for o in c.offsets_for_times({tp: 1 for tp in tps}).values()}, {0})
    c.seek(tps[0], 5)
    c.seek_to_end(tps[1], tps[2])
    equal(next(c).offset, 5)
    c.close()


@check("admin: topics and groups come and go")
def _():
    name = topic("admin")
    group = f"{name}-g"
    equal(name in admin.list_topics(), True, "listed")
    produce(name, [b"v"] * 10)
    c = consumer(name, group_id=group)
    commit(c, take(c, 10))
    c.close()
    equal(sum(o.offset for o in admin.list_group_offsets(group)[group].values()), 10, "committed")
    admin.delete_topics([name])
    equal(name in admin.list_topics(), False, "still listed")
