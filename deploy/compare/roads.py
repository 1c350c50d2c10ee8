"""The roads that are measured: for each the job of the hub, the connector of
Kafka Connect, and how rows are counted at the destination.

A rate is that of the rows between the first that is seen at the destination and
the last: what a job needs to begin is not in it, on either side."""
import json
import os
import re
import subprocess
import time
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

from servers import ENTREPOT, ROOT

ROWS, CHANGES, FILE_COPIES, PARTITIONS = 400_000, 200_000, 5, 4
PRIME = 400_009  # ids are i * 7919 % PRIME: each once, in no order

TABLE = """(id bigint PRIMARY KEY, ts timestamptz, method text, path text, status integer, bytes bigint, ratio double precision)"""
FIELDS = [("id", "int64", None), ("ts", "string", "io.debezium.time.ZonedTimestamp"), ("method", "string", None), ("path", "string", None),
          ("status", "int32", None), ("bytes", "int64", None), ("ratio", "double", None)]
SCHEMA = {"type": "struct", "optional": False, "name": "row", "fields": [
    {"field": f, "type": t, "optional": f != "id", **({"name": n} if n else {})} for f, t, n in FIELDS]}
COLUMNS = [{"name": f, "type": {"int64": "bigint", "int32": "integer", "double": "double precision"}.get(t, "timestamptz" if n else "text")} for f, t, n in FIELDS]


def row(i):
    n = i * 7919 % PRIME
    return n, f'{{"id":{n},"ts":"2015-05-17T10:05:03Z","method":"GET","path":"/images/{n % 1000}.png","status":200,"bytes":{i % 100000},"ratio":0.{n % 10000 + 1}}}\n'


class Rows:
    """The rows as files of lines, one for each partition, and one of all."""

    def __init__(self, directory):
        self.parts = [Path(directory) / f"rows.{p}" for p in range(PARTITIONS)]
        self.all = Path(directory) / "rows.txt"
        self.first, self.last = [row(p)[0] for p in range(PARTITIONS)], [row(ROWS - 1 - p)[0] for p in range(PARTITIONS)]
        self.bytes = sum(i % 100000 for i in range(ROWS))
        files = [open(p, "w") for p in self.parts]
        for i in range(ROWS):
            files[i % PARTITIONS].write(row(i)[1])
        for f in files:
            f.close()
        with open(self.all, "wb") as f:
            for _ in range(FILE_COPIES):
                for p in self.parts:
                    f.write(p.read_bytes())

    def fill(self, server, topic):
        server.topic("create", topic, "--partitions", str(PARTITIONS))
        for p, path in enumerate(self.parts):
            subprocess.run(["kcat", "-P", "-b", server.addr, "-t", topic, "-p", str(p), "-l", path, "-z", "snappy"], check=True)


class Topic:
    """How much is in a topic, and which of it counts for who reads committed records."""

    def __init__(self, server, name):
        self.name, self.client = name, Consumer({"bootstrap.servers": server.addr, "group.id": "compare", "isolation.level": "read_committed",
                                                 "enable.auto.commit": False, "enable.partition.eof": True, "check.crcs": False})
        self.parts = [TopicPartition(name, p, 0) for p in range(PARTITIONS)]

    def end(self):
        """The sum of the ends: the records, and markers of transactions."""
        return sum(self.client.get_watermark_offsets(p, timeout=20)[1] for p in self.parts)

    def count(self):
        self.client.assign(self.parts)
        found = ended = 0
        while ended < PARTITIONS:
            for m in self.client.consume(50_000, 5):
                if m.error() is None:
                    found += 1
                else:
                    ended += 1
        return found


class Table:
    """What is in a table, over one session of psql."""

    def __init__(self, postgres):
        self.psql = subprocess.Popen([postgres.bin / "psql", "-X", "-A", "-t", "-q", "-d", postgres.url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def number(self, query):
        self.psql.stdin.write(query + ";\n")
        self.psql.stdin.flush()
        return int(self.psql.stdout.readline())

    def close(self):
        self.psql.stdin.close()
        self.psql.wait(20)


class Roads:
    def __init__(self, postgres, scratch, limit=150):
        self.pg, self.scratch, self.limit, self.runs = postgres, Path(scratch), limit, 0
        self.rows = Rows(scratch)

    def prepare(self, servers):
        values = "SELECT n, '2015-05-17T10:05:03Z'::timestamptz, 'GET', '/images/' || n % 1000 || '.png', 200, n % 100000, (n % 10000 + 1) / 10000.0"
        self.pg.ask(f"CREATE TABLE rows {TABLE}")
        self.pg.ask(f"CREATE TABLE live {TABLE}")
        self.pg.ask(f"CREATE TABLE source {TABLE}; INSERT INTO source {values} FROM generate_series(0, {ROWS - 1}) AS n")
        self.pg.ask(f"""CREATE PROCEDURE change() LANGUAGE plpgsql AS $$ BEGIN
            FOR k IN 0..{CHANGES // 100 - 1} LOOP
                INSERT INTO live {values} FROM generate_series(k * 100, k * 100 + 99) AS n;
                COMMIT;
            END LOOP; END $$""")
        self.pg.ask("VACUUM ANALYZE")
        for s in servers:
            self.rows.fill(s, "rows")

    def name(self, what):
        self.runs += 1
        return f"{what}_{self.runs}"

    def wait(self, server, name, look):
        """Polls until look is true; its results come from before the clock is read."""
        checked = time.monotonic()
        end = checked + self.limit
        while time.monotonic() < end:
            at = time.monotonic()
            found = look()
            if found:
                return at, found
            time.sleep(0.05)
            if at > checked + 3:
                server.check(name)
                checked = at
        raise RuntimeError(f"{server.name}: {name} is not done after {self.limit} s")

    # From a topic into a table.

    def into_table(self, server, mode, config):
        self.pg.ask("TRUNCATE rows")
        if mode == "upsert":  # one of two records meets a row
            self.pg.ask(f"INSERT INTO rows SELECT n, now(), 'PUT', '', 0, -1, 0 FROM generate_series(0, {PRIME - 1}, 2) AS n")
        self.pg.ask("CHECKPOINT")
        name, table = self.name("sink"), Table(self.pg)
        lies_in = "SELECT count(*) FROM rows WHERE bytes >= 0 AND id IN ({})"
        first, last = (lies_in.format(", ".join(map(str, ids))) for ids in (self.rows.first, self.rows.last))
        server.make(name, config(server, name))
        try:
            self.wait(server, name, lambda: table.number(first))
            began, before = time.monotonic(), table.number("SELECT count(*) FROM rows WHERE bytes >= 0")
            ended, _ = self.wait(server, name, lambda: table.number(last) == PARTITIONS)
        finally:
            server.drop(name)
            table.close()
        found = self.pg.ask("SELECT count(*), sum(bytes) FROM rows WHERE bytes >= 0")
        if found != f"{ROWS}|{self.rows.bytes}":
            raise RuntimeError(f"{server.name}: the table has {found}, want {ROWS}|{self.rows.bytes}")
        return (ROWS - before) / (ended - began)

    def table_sink(self, mode):
        def config(server, name):
            if server.name == "hub":
                key = {"sink.key": "id"} if mode == "upsert" else {}
                return {"connector.class": "postgres-sink", "topic": "rows", "start": "earliest", "sink.dsn": self.pg.url, "sink.table": "rows",
                        "sink.mode": mode, "sink.columns": json.dumps(COLUMNS), **key}
            return {"connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector", "topics": "rows", "tasks.max": "2",
                    "connection.url": f"jdbc:postgresql://127.0.0.1:{self.pg.port}/postgres?reWriteBatchedInserts=true",
                    "connection.username": "postgres", "connection.password": "-",
                    "connection.provider": "org.hibernate.hikaricp.internal.HikariCPConnectionProvider",
                    "insert.mode": mode, "primary.key.mode": "record_value", "primary.key.fields": "id", "collection.name.format": "rows",
                    "schema.evolution": "none", "batch.size": "10000", "dialect.postgres.unnest.insert.enabled": "true",
                    "use.reduction.buffer": "true" if mode == "upsert" else "false",
                    "value.converter": "org.apache.kafka.connect.json.JsonConverter", "value.converter.schemas.enable": "true",
                    "value.converter.schema.content": json.dumps(SCHEMA)}
        return config

    # From a table or a file into a topic.

    def into_topic(self, server, name, topic, count, go):
        watch = Topic(server, topic)
        go()
        try:
            _, before = self.wait(server, name, watch.end)
            began = time.monotonic()
            seen = [began, before]

            def still():
                end = watch.end()
                if end > seen[1]:
                    seen[:] = [time.monotonic(), end]
                return end >= count and time.monotonic() - seen[0] > 1
            self.wait(server, name, still)
            found = watch.count()
        finally:
            server.drop(name)
            watch.client.close()
        if found != count:
            raise RuntimeError(f"{server.name}: {found} committed records, want {count}")
        return (count - before) / (seen[0] - began)

    def debezium(self, table, name, mode):
        return {"connector.class": "io.debezium.connector.postgresql.PostgresConnector", "tasks.max": "1", "database.hostname": "127.0.0.1",
                "database.port": str(self.pg.port), "database.user": "postgres", "database.password": "-", "database.dbname": "postgres",
                "plugin.name": "pgoutput", "topic.prefix": name, "table.include.list": f"public.{table}", "snapshot.mode": mode, "slot.name": name,
                "publication.name": name, "publication.autocreate.mode": "filtered", "snapshot.fetch.size": "10000", "max.batch.size": "8192",
                "max.queue.size": "32768", "poll.interval.ms": "10",
                "transforms": "route", "transforms.route.type": "org.apache.kafka.connect.transforms.RegexRouter",
                "transforms.route.regex": ".*", "transforms.route.replacement": name}

    def cdc(self, server, table, name, mode):
        if server.name != "hub":
            return self.debezium(table, name, {"only": "initial_only"}.get(mode, mode))
        return {"connector.class": "postgres-cdc-source", "topic": name, "source.dsn": self.pg.url, "source.tables": f"public.{table}",
                "source.snapshot": mode, "source.envelope": "debezium", "source.slot": name, "source.publication": name}

    def snapshot(self, server):
        name = self.name("snapshot")
        server.topic("create", name, "--partitions", str(PARTITIONS))
        try:
            return self.into_topic(server, name, name, ROWS, lambda: server.make(name, self.cdc(server, "source", name, "only")))
        finally:
            server.topic("delete", name)

    def changes(self, server):
        """Catches up with what was committed while it was stopped."""
        name = self.name("live")
        self.pg.ask("TRUNCATE live")
        server.topic("create", name, "--partitions", str(PARTITIONS))
        try:
            server.make(name, self.cdc(server, "live", name, "initial"))
            active = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}' AND active"
            self.wait(server, name, lambda: self.pg.ask(active.format(name)) == "1")
            time.sleep(2)  # until it has read the rows, of which there are none
            server.halt(name)
            self.pg.ask("CALL change()")
            self.pg.ask("CHECKPOINT")
            return self.into_topic(server, name, name, CHANGES, lambda: server.go_on(name))
        finally:
            self.forget(name)
            server.topic("delete", name)

    def forget(self, slot):
        for _ in range(100):
            try:
                self.pg.ask(f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{slot}'")
                break
            except RuntimeError:
                time.sleep(0.1)  # its connection ends
        self.pg.ask(f'DROP PUBLICATION IF EXISTS "{slot}"')

    def file(self, server):
        name = self.name("file")
        server.topic("create", name, "--partitions", str(PARTITIONS))
        config = {"connector.class": "file-source", "topic": name, "source.path": str(self.rows.all)}
        if server.name != "hub":
            text = "org.apache.kafka.connect.storage.StringConverter"
            config = {"connector.class": "FileStreamSource", "tasks.max": "1", "topic": name, "file": str(self.rows.all), "batch.size": "10000",
                      "key.converter": text, "value.converter": text}
        try:
            return self.into_topic(server, name, name, ROWS * FILE_COPIES, lambda: server.make(name, config))
        finally:
            server.topic("delete", name)

    # The hub alone: for these there is no peer at hand.

    def parquet(self, server):
        from pyarrow import parquet
        name = self.name("lake")
        lake = self.scratch / name
        server.make(name, {"connector.class": "files-sink", "topic": "rows", "start": "earliest", "sink.url": f"file://{lake}", "sink.format": "parquet",
                           "sink.roll.rows": "25000", "sink.roll.every": "10s"})

        def files():
            found = [f for f in lake.rglob("*.parquet") if "_tmp" not in f.parts]  # those that are published
            return found if len(found) >= ROWS // 25_000 else None
        try:
            _, found = self.wait(server, name, files)
        finally:
            server.drop(name)
        count = {f: parquet.ParquetFile(f).metadata.num_rows for f in found}
        if sum(count.values()) != ROWS:
            raise RuntimeError(f"the files have {sum(count.values())} rows, want {ROWS}")
        made = {f: f.stat().st_mtime for f in found}
        first = min(made, key=made.get)
        return (ROWS - count[first]) / (max(made.values()) - made[first])


def collector():
    """Events that HTTP clients are told to be committed: what the test prints
    that measures it, as (load, events a second, CPU seconds of the hub)."""
    run = subprocess.run(["go", "test", "-count=1", "-v", "-run", "TestCollectorThroughput", "./hub/hubtest"], cwd=ROOT, capture_output=True, text=True,
                         env={**os.environ, "ENTREPOT_BIN": str(ENTREPOT), "ENTREPOT_MEASURE": "5s"})
    if run.returncode:
        raise RuntimeError("the collector: " + run.stdout[-2000:])
    found = re.findall(r"(\d+ clients, \d+ events in a request): (\d+) events/s.*CPU of the hub ([\d.]+) s", run.stdout)
    return [(load, float(rate), float(cpu)) for load, rate, cpu in found]
