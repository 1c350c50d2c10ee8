"""Uses a broker with confluent-kafka (librdkafka) as applications do.

Usage: confluent.py BOOTSTRAP COUNT
COUNT is the number of records that the checks move.
"""
import itertools
import sys
import threading
import time
import uuid

from confluent_kafka import (Consumer, ConsumerGroupTopicPartitions, KafkaException, Producer, TopicPartition,
                             OFFSET_BEGINNING)
from confluent_kafka.admin import (AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic,
                                   OffsetSpec, ResourceType)

from tap import check, equal

bootstrap, count = sys.argv[1], int(sys.argv[2])
run = uuid.uuid4().hex[:8]
admin = AdminClient({"bootstrap.servers": bootstrap})
numbers = itertools.count(1)
PARTITIONS = 3


def done(futures):
    return {key: f.result(30) for key, f in futures.items()}


def topic(name, **config):
    name = f"confluent-{run}-{next(numbers)}-{name}"
    done(admin.create_topics([NewTopic(name, PARTITIONS, 1, config=config)]))
    return name


def produce(name, values, **config):
    failed = []
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5, **config})
    for i, value in enumerate(values):
        while True:
            try:
                producer.produce(name, key=f"k{i % 17}", value=value, headers=[("n", str(i).encode())],
                                 on_delivery=lambda err, _: failed.append(err) if err else None)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    equal(producer.flush(60), 0, "records left in the queue")
    equal(failed, [], "failed deliveries")


def consumer(group, **config):
    if config.get("group.protocol") != "consumer":
        config["session.timeout.ms"] = 10000
    return Consumer({"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest",
                     "enable.auto.commit": False, **config})


def take(c, want, timeout=60):
    """Reads want records; commits nothing."""
    got, deadline = [], time.monotonic() + timeout
    while len(got) < want and time.monotonic() < deadline:
        for m in c.consume(min(500, want - len(got)), 1):
            if m.error():
                raise KafkaException(m.error())
            got.append(m)
    equal(len(got), want, "records")
    return got


def read_all(name, isolation, want, settle=2):
    c = consumer(f"{name}-{uuid.uuid4().hex[:6]}", **{"isolation.level": isolation})
    c.assign([TopicPartition(name, p, OFFSET_BEGINNING) for p in range(PARTITIONS)])
    got = take(c, want)
    equal(len(c.consume(1, settle)), 0, "records beyond those expected")
    c.close()
    return [m.value() for m in got]


@check("produce with each codec, idempotent, and read all back")
def _():
    name = topic("codecs")
    codecs = ("none", "gzip", "snappy", "lz4", "zstd")
    each = count // len(codecs)
    for codec in codecs:
        produce(name, (f"{codec}-{i}-" + "x" * 100 for i in range(each)), **{"compression.type": codec})
    values = read_all(name, "read_committed", each * len(codecs))
    equal(len(set(values)), each * len(codecs), "distinct values")


@check("headers, null keys and values, an empty value, a record of 900 kB")
def _():
    name = topic("shapes")
    p = Producer({"bootstrap.servers": bootstrap})
    for value, key in ((None, "k"), (b"", None), (b"v", None), (b"z" * 900_000, "big")):
        p.produce(name, key=key, value=value, partition=0, headers={"a": b"1", "b": None})
    equal(p.flush(30), 0)
    c = consumer(f"{name}-g")
    c.assign([TopicPartition(name, 0, OFFSET_BEGINNING)])
    got = take(c, 4)
    equal([None if m.value() is None else len(m.value()) for m in got], [None, 0, 1, 900_000])
    equal([m.key() for m in got], [b"k", None, None, b"big"])
    equal(got[0].headers(), [("a", b"1"), ("b", None)])
    c.close()


def goes_on(**config):
    """Two consumers of a group, one after the other: the second goes on where the first committed."""
    name = topic("goes-on")
    produce(name, (f"v{i}" for i in range(count)))
    values = []
    for want in (count // 2, count - count // 2):
        c = consumer(f"{name}-g", **config)
        c.subscribe([name])
        got = take(c, want)
        ends = {}
        for m in got:
            ends[m.partition()] = max(ends.get(m.partition(), 0), m.offset() + 1)
        c.commit(offsets=[TopicPartition(name, p, o) for p, o in ends.items()], asynchronous=False)
        c.close()
        values += [m.value() for m in got]
    equal(len(values), len(set(values)), "values read once")
    equal(len(values), count)


MOVED_ON = ("ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID", "REBALANCE_IN_PROGRESS", "STALE_MEMBER_EPOCH",
            "FENCED_MEMBER_EPOCH", "_NO_OFFSET", "_ASSIGNMENT_LOST")


def shared(**config):
    """Three consumers at once, the third joining and leaving in the middle: nothing lost, work shared."""
    name, group = topic("shared"), f"shared-{run}-{uuid.uuid4().hex[:6]}"
    produce(name, (f"v{i}" for i in range(count)))
    seen, lock, stop, failures = set(), threading.Lock(), threading.Event(), []

    def work(leave_after=None):
        c = consumer(group, **config)
        c.subscribe([name])
        begin = time.monotonic()
        while not stop.is_set() and (leave_after is None or time.monotonic() - begin < leave_after):
            got = c.consume(100, 0.2)
            with lock:
                seen.update(m.value() for m in got if not m.error())
            try:
                c.commit(asynchronous=False)
            except KafkaException as e:  # the group has moved on, or there was nothing to commit
                equal(e.args[0].name() in MOVED_ON, True, f"commit: {e}")
        c.close()

    def watched(*args):
        try:
            work(*args)
        except BaseException as e:  # of a thread: told by the check
            failures.append(e)

    threads = [threading.Thread(target=watched, args=args) for args in ((), (), (6,))]
    for t in threads:
        t.start()
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and (len(seen) < count or threads[2].is_alive()):
        time.sleep(0.2)
    stop.set()
    for t in threads:
        t.join()
    equal(failures, [], "failures of members")
    equal(len(seen), count, "distinct values")


@check("a group, eager (range): the second consumer goes on where the first committed")
def _():
    goes_on(**{"partition.assignment.strategy": "range"})


@check("a group, cooperative-sticky: the second consumer goes on where the first committed")
def _():
    goes_on(**{"partition.assignment.strategy": "cooperative-sticky"})


@check("a group, eager (range): members come and go, nothing is lost")
def _():
    shared(**{"partition.assignment.strategy": "range"})


@check("a group, cooperative-sticky: members come and go, nothing is lost")
def _():
    shared(**{"partition.assignment.strategy": "cooperative-sticky"})


@check("a group of the consumer protocol (KIP-848): the second consumer goes on where the first committed")
def _():
    goes_on(**{"group.protocol": "consumer"})


@check("a group of the consumer protocol (KIP-848): members come and go, nothing is lost")
def _():
    shared(**{"group.protocol": "consumer"})


@check("transactions: aborted records are not read by read_committed")
def _():
    name = topic("transactions")
    p = Producer({"bootstrap.servers": bootstrap, "transactional.id": f"{name}-t"})
    p.init_transactions(30)
    for commit in (True, False, True, False):
        p.begin_transaction()
        for i in range(100):
            p.produce(name, f"{commit}-{i}", partition=i % PARTITIONS)
        if commit:
            p.commit_transaction(30)
        else:
            p.flush(30)  # or the records would not leave the producer
            p.abort_transaction(30)
    values = read_all(name, "read_committed", 200)
    equal({v.split(b"-")[0] for v in values}, {b"True"})
    equal(len(read_all(name, "read_uncommitted", 400)), 400)


@check("transactions: consume, transform, produce with offsets is exact across an abort")
def _():
    source, target, group = topic("ctp-in"), topic("ctp-out"), f"ctp-{run}"
    produce(source, (f"v{i}" for i in range(1000)))
    p = Producer({"bootstrap.servers": bootstrap, "transactional.id": f"{group}-t"})
    p.init_transactions(30)
    c = consumer(group, **{"isolation.level": "read_committed"})
    c.subscribe([source])
    moved, rounds = 0, 0
    while moved < 1000:
        got = c.consume(100, 5)
        p.begin_transaction()
        for m in got:
            p.produce(target, m.value().replace(b"v", b"w"))
        positions = c.position(c.assignment())
        p.send_offsets_to_transaction(positions, c.consumer_group_metadata(), 30)
        rounds += 1
        if rounds % 3 == 0:  # given up: read again from what was committed
            p.abort_transaction(30)
            for tp in c.committed(c.assignment(), 30):
                c.seek(TopicPartition(tp.topic, tp.partition, max(tp.offset, 0)))
        else:
            p.commit_transaction(30)
            moved += len(got)
    c.close()
    values = read_all(target, "read_committed", 1000)
    equal(len(set(values)), 1000, "distinct values")


@check("transactions: a second producer of the same id fences the first")
def _():
    name = topic("fenced")
    first, second = (Producer({"bootstrap.servers": bootstrap, "transactional.id": f"{name}-t"}) for _ in range(2))
    first.init_transactions(30)
    first.begin_transaction()
    first.produce(name, "one")
    first.flush(30)
    second.init_transactions(30)
    try:
        first.commit_transaction(30)
    except KafkaException as e:
        equal(e.args[0].fatal(), True, f"fatal: {e}")
    else:
        raise AssertionError("the fenced producer committed")
    second.begin_transaction()
    second.produce(name, "two")
    second.commit_transaction(30)
    equal(read_all(name, "read_committed", 1), [b"two"])


@check("admin: topics, settings, partitions")
def _():
    name = topic("admin", **{"retention.ms": "3600000"})
    resource = ConfigResource(ResourceType.TOPIC, name)
    config = done(admin.describe_configs([resource]))[resource]
    equal(config["retention.ms"].value, "3600000")
    change = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[
        ConfigEntry("cleanup.policy", "compact", incremental_operation=AlterConfigOpType.SET)])
    done(admin.incremental_alter_configs([change]))
    config = done(admin.describe_configs([resource]))[resource]
    equal((config["cleanup.policy"].value, config["retention.ms"].value), ("compact", "3600000"))
    done(admin.create_partitions([NewPartitions(name, 5)]))
    equal(len(admin.list_topics(name, 10).topics[name].partitions), 5)
    equal(len(admin.describe_cluster().result(10).nodes) >= 1, True)
    done(admin.delete_topics([name]))
    equal(name in admin.list_topics(timeout=10).topics, False, "still there")


@check("admin: offsets by time, records deleted")
def _():
    name = topic("offsets")
    produce(name, (f"v{i}" for i in range(300)))
    tps = [TopicPartition(name, p) for p in range(PARTITIONS)]
    latest = done(admin.list_offsets({tp: OffsetSpec.latest() for tp in tps}))
    equal(sum(r.offset for r in latest.values()), 300)
    first = done(admin.list_offsets({tp: OffsetSpec.for_timestamp(1) for tp in tps}))
    equal({r.offset for r in first.values()}, {0})
    done(admin.delete_records([TopicPartition(name, p, 10) for p in range(PARTITIONS)]))
    earliest = done(admin.list_offsets({tp: OffsetSpec.earliest() for tp in tps}))
    equal({r.offset for r in earliest.values()}, {10})


@check("admin: groups are listed, described, reset and deleted")
def _():
    name = topic("groups")
    group = f"{name}-g"
    produce(name, (f"v{i}" for i in range(30)))
    c = consumer(group)
    c.subscribe([name])
    take(c, 30)
    c.commit(asynchronous=False)
    listed = admin.list_consumer_groups().result(30)
    equal(group in {g.group_id for g in listed.valid}, True, "listed")
    described = done(admin.describe_consumer_groups([group]))[group]
    equal((described.state.name, len(described.members)), ("STABLE", 1))
    c.close()
    done(admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, [TopicPartition(name, p, 0) for p in range(PARTITIONS)])]))
    offsets = done(admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)]))[group]
    equal({tp.offset for tp in offsets.topic_partitions}, {0})
    done(admin.delete_consumer_groups([group]))
    listed = admin.list_consumer_groups().result(30)
    equal(group in {g.group_id for g in listed.valid}, False, "still listed")
