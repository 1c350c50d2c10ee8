"""An idempotent producer and a consumer of librdkafka, until SIGTERM.

  librdkafka.py BROKERS PARTITIONS

Prints what each of its operations came to, a line of JSON each. Sends are
printed in the order in which they were made, when all of them have ended.
"""
import json
import signal
import sys
import threading
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

TOPIC = "foreign"
COMMON = {
    "bootstrap.servers": sys.argv[1],
    "reconnect.backoff.ms": 50,
    "reconnect.backoff.max.ms": 500,
    "socket.timeout.ms": 5000,
    "topic.metadata.refresh.interval.ms": 5000,
}
ended = threading.Event()
printing = threading.Lock()


def say(**what):
    with printing:
        print(json.dumps(what), flush=True)


def note(error):
    now = time.time()
    say(op="note", begin=now, end=now, text=str(error))


def produce(partitions):
    producer = Producer(COMMON | {"enable.idempotence": True, "acks": "all", "delivery.timeout.ms": 300_000, "linger.ms": 5, "error_cb": note})
    sends = []

    def done(send):
        def report(error, message):
            send["end"] = time.time()
            if error is None:
                send["ok"], send["offset"] = True, message.offset()
            else:
                note(error)
        return report

    while not ended.is_set():
        send = {"op": "send", "partition": len(sends) % partitions, "value": f"librdkafka/{len(sends)}", "begin": time.time(), "end": 0, "ok": False, "offset": -1}
        sends.append(send)
        producer.produce(TOPIC, send["value"].encode(), partition=send["partition"], on_delivery=done(send))
        producer.poll(0)
        ended.wait(0.015)
    producer.flush(60)
    for send in sends:
        say(**send)


def consume(partitions):
    consumer = Consumer(COMMON | {"group.id": "librdkafka", "enable.auto.commit": False, "auto.offset.reset": "earliest", "isolation.level": "read_committed", "error_cb": note})
    consumer.assign([TopicPartition(TOPIC, p, 0) for p in range(partitions)])
    while not ended.is_set():
        begin = time.time()
        got = {}
        try:
            for m in consumer.consume(500, timeout=0.2):
                if m.error():
                    note(m.error())
                    continue
                got.setdefault(m.partition(), []).append([m.offset(), m.leader_epoch(), m.value().decode(), (m.key() or b"").decode()])
        except KafkaException as error:
            note(error)
        for partition, reads in got.items():
            say(op="poll", consumer="librdkafka", partition=partition, begin=begin, end=time.time(), high=-1, reads=reads)
    consumer.close()


def main():
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    partitions = int(sys.argv[2])
    consumer = threading.Thread(target=consume, args=(partitions,))
    consumer.start()
    produce(partitions)
    consumer.join()


main()
