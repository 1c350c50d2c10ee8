"""Connectors for entrepot in Python: a plugin's side of plugins/wire/plugin.proto.

A plugin is a program that the hub starts. Write a class with the methods of
Source or Sink, make an object of it, and have the program end with

    serve("name", "1.0.0", sinks=[MySink()])

docs/plugins.md tells the whole of it; plugins/samples/ndjson is a sink. What a
connector has to keep is the same as for one in Go: connectors/README.md.

Times are seconds as floats here, positions and keys bytes. Standard output
belongs to the hub; what is printed goes to standard error and so into the
hub's log. The hub ends the process by closing its standard input.
"""

import base64
import datetime
import logging
import os
import queue
import sys
import tempfile
import threading
import time
from concurrent import futures
from dataclasses import dataclass, field

import grpc

import entrepot_plugin_pb as pb

PROTOCOL = 1
WINDOW = 4 << 20        # bytes of messages that may be under way
CHUNK = 256 << 10       # bytes of a part of a batch
MAX_MESSAGE = 64 << 20  # bytes of one message on the wire
COST = 64               # what a message counts beside its bytes
STREAMS = 4096          # readers and writers at the same time, each with a thread
IDLE = 0.01             # seconds that a reader without messages takes at least

TEXT, WHOLE, NUMBER, TRUTH, DURATION, SIZE, SECRET, TEXTS, TEXT_MAP, OBJECT, OBJECTS, SECRET_MAP = range(1, 13)


# ---- errors: what the hub does with each is its own matter ----

class Retry(Exception):
    """Nothing happened, the same call may succeed later. Any other exception
    counts as one of these."""

    class_, fenced = 1, False

    def __init__(self, message, after=0.0):
        super().__init__(message)
        self.after = after


class Poison(Exception):
    """This record can never succeed, others may."""

    class_, fenced, after = 2, False, 0.0


class Fatal(Exception):
    """Config or rights have to change. The job stops with the message."""

    class_, fenced, after = 3, False, 0.0


class Fenced(Fatal):
    """A later owner holds the work now."""

    fenced = True


class Unknown(Exception):
    """It may or may not have happened: the hub writes the same plan again."""

    class_, fenced, after = 4, False, 0.0


class Cancelled(Exception):
    """The hub no longer waits for the call."""

    class_, fenced, after = 5, False, 0.0


class End(Exception):
    """Raised by Reader.read: the split is finished for good."""


def _text(x):
    """A text that the wire can carry: UTF-8, so without half characters, as
    Python makes of file names that are not UTF-8."""
    return str(x).encode("utf-8", "replace").decode()


def _error(e):
    if e is None:
        return None
    text = _text(e) or type(e).__name__
    if not hasattr(e, "class_"):
        logging.getLogger("entrepot_plugin").error("an exception of no class counts as Retry", exc_info=e)
        return pb.Error(**{"class": 1}, message=f"{type(e).__name__}: {text}")
    return pb.Error(**{"class": e.class_}, message=text, retry_after=int(e.after * 1e9), fenced=e.fenced)


# ---- what a connector says about itself ----

@dataclass
class Field:
    name: str
    kind: int
    description: str
    example: str = ""
    required: bool = False
    default: object = None
    options: list = field(default_factory=list)
    min: int = 0  # of WHOLE, SIZE (bytes) and DURATION (nanoseconds)
    max: int = 0
    fields: list = field(default_factory=list)  # of OBJECT and OBJECTS


@dataclass
class Spec:
    type: str       # what `type:` says in a jobs file
    summary: str    # a sentence
    guarantee: str  # with its mechanism: "exactly-once (named file)"
    since: str      # version of the plugin
    fields: list = field(default_factory=list)


@dataclass
class Finding:
    message: str
    field: str = ""
    hint: str = ""
    warning: bool = False


@dataclass
class Limits:
    records: int = 0  # 0 does not bound
    bytes: int = 0
    wait: float = 0.0


@dataclass
class Split:
    id: str
    weight: int = 0
    config: dict = field(default_factory=dict)


@dataclass
class Task:
    job: str
    task: str
    site: str
    config: dict  # the connector's fields, with their defaults


@dataclass
class Plan:
    topic: str
    partition: int
    start: int  # first offset
    end: int    # offset after the last
    epoch: int  # of the task's lease; a later owner has a higher one
    id: str     # the same when the plan is written again
    made: int = 0  # when it was decided, milliseconds since the Unix epoch; 0 is unknown
    cancelled: threading.Event = None  # set when the hub no longer waits
    _note: object = None

    def note(self, trouble=None):
        """Tells the hub of a write that takes long: nothing, that a part of it is
        done; a text, why it waits or tries again. Either gives it more time."""
        self._note(trouble)


@dataclass
class Message:
    value: bytes = None         # None is a tombstone
    key: bytes = None
    headers: list = field(default_factory=list)  # of (name, bytes or None)
    timestamp: int = -1         # milliseconds since the Unix epoch, -1 is unknown
    position: bytes = None      # of a source: required, growing by the order of bytes
    place: bytes = None
    id: bytes = None            # of a queue's message
    original: bytes = None      # what was read, for dead letters; None: the value
    origin: str = ""            # a file, table or queue, for people
    line: int = 0
    poison: str = ""            # of a source: why no record can be made of it
    mark: bool = False
    topic: str = ""
    partition: int = 0
    offset: int = 0
    pinned: bool = False


class Source:
    """What reads. spec is a Spec; queue says that it cannot be read again from
    a position (then spec has a field dedup_window), pace how soon it wants its
    messages committed."""

    spec = None
    queue = False

    def validate(self, config, live):
        """Returns Findings. Without live it does no I/O."""
        return []

    def pace(self, config):
        """Returns Limits, or None for the hub's own."""
        return None

    def splits(self, config):
        """Yields the whole list of Splits, again whenever it changes."""
        raise NotImplementedError

    def open(self, task, split, position):
        """Returns an object with read(limits) -> list of Messages, committed(position)
        and close(). position is where the last message stood, or None."""
        raise NotImplementedError


class Sink:
    """What writes. spec is a Spec."""

    spec = None

    def validate(self, config, live):
        """Returns Findings. Without live it does no I/O."""
        return []

    def batching(self, config):
        """Returns the Limits at which a plan is cut."""
        return Limits(records=10_000, bytes=8 << 20, wait=1.0)

    def open(self, task, partitions):
        """Returns an object with resume(topic, partition) -> offset or None,
        write(plan, messages) -> list of (index, why) that cannot be written, and
        close(). partitions is a list of (topic, number)."""
        raise NotImplementedError


# ---- to the wire and back ----

def _value(kind, v):
    if v is None:
        return None
    if kind in (TEXT, SECRET):
        return pb.Value(text=v)
    if kind in (WHOLE, SIZE):
        return pb.Value(whole=v)
    if kind == DURATION:
        return pb.Value(whole=int(v * 1e9))
    if kind == NUMBER:
        return pb.Value(number=v)
    if kind == TRUTH:
        return pb.Value(truth=v)
    if kind == TEXTS:
        return pb.Value(texts=pb.Texts(texts=v))
    if kind == TEXT_MAP:
        return pb.Value(text_map=pb.TextMap(texts=v))
    return None


def _fields(fields):
    return [pb.Field(name=f.name, value_kind=f.kind, description=f.description, example=f.example, required=f.required,
                     default=_value(f.kind, f.default), options=f.options, min=f.min, max=f.max, fields=_fields(f.fields)) for f in fields]


def _config(fields, given):
    """The fields as a dict: what was given, else the default, else None."""
    out = {}
    for f in fields:
        if f.name not in given.fields:
            out[f.name] = _config(f.fields, pb.Object()) if f.kind == OBJECT else [] if f.kind == OBJECTS else f.default
            continue
        v = given.fields[f.name]
        which = v.WhichOneof("of")
        if which == "hidden":
            out[f.name] = None  # a secret that a check may not see
        elif which == "hidden_map":
            out[f.name] = {name: None for name in v.hidden_map.texts}
        elif f.kind == DURATION:
            out[f.name] = v.whole / 1e9
        elif which == "texts":
            out[f.name] = list(v.texts.texts)
        elif which == "text_map":
            out[f.name] = dict(v.text_map.texts)
        elif which == "object":
            out[f.name] = _config(f.fields, v.object)
        elif which == "objects":
            out[f.name] = [_config(f.fields, o) for o in v.objects.objects]
        else:
            out[f.name] = getattr(v, which)
    return out


def _limits(l):
    return Limits(l.records, l.bytes, l.wait / 1e9)


def _from_limits(l):
    return pb.Limits(records=l.records, bytes=l.bytes, wait=int(l.wait * 1e9))


def _message(x):
    def maybe(name):
        return getattr(x, name) if x.HasField(name) else None
    return Message(
        value=maybe("value"), key=maybe("key"), headers=[(h.key, h.value if h.HasField("value") else None) for h in x.headers],
        timestamp=x.timestamp, position=maybe("position"), place=maybe("place"), id=maybe("id"),
        original=x.value if x.original_is_value else maybe("original"), origin=x.origin_name, line=x.origin_line, poison=x.poison,
        mark=x.mark, topic=x.topic, partition=x.partition, offset=x.offset, pinned=x.pinned)


def _from_message(m):
    same = m.original is None or m.original == m.value
    return pb.Message(
        key=m.key, value=m.value, headers=[pb.Header(key=k, value=v) for k, v in m.headers], timestamp=m.timestamp,
        original=None if same else m.original, original_is_value=same and m.value is not None, position=m.position, place=m.place, id=m.id,
        origin_name=_text(m.origin or ""), origin_line=m.line, poison=_text(m.poison or ""), mark=m.mark, topic=m.topic, partition=m.partition, offset=m.offset, pinned=m.pinned)


def _cost(x):
    return COST + len(x.key) + len(x.value) + len(x.original) + sum(len(h.key) + len(h.value) for h in x.headers)


# ---- the calls ----

class _Service:
    def __init__(self, name, version, sources, sinks):
        self.name, self.version = name, version
        self.sources = {s.spec.type: s for s in sources}
        self.sinks = {s.spec.type: s for s in sinks}

    def describe(self, request, context):
        out = pb.DescribeResponse(protocol=PROTOCOL, name=self.name, version=self.version)
        for kind, all_ in ((1, self.sources), (2, self.sinks)):
            for c in all_.values():
                s = c.spec
                out.connectors.add(
                    kind=kind, queue=kind == 1 and c.queue, paced=kind == 1 and type(c).pace is not Source.pace,
                    spec=pb.Spec(type=s.type, summary=s.summary, guarantee=s.guarantee, since=s.since, fields=_fields(s.fields)))
        return out

    def _use(self, use):
        connector = (self.sinks if use.kind == 2 else self.sources).get(use.type)
        if connector is None:
            raise Fatal(f"this plugin has no {'sink' if use.kind == 2 else 'source'} {use.type!r}")
        return connector, _config(connector.spec.fields, use.config)

    def validate(self, request, context):
        try:
            connector, config = self._use(request.use)
            found = connector.validate(config, request.live)
        except Exception as e:
            found = [Finding(_text(e) or type(e).__name__)]
        return pb.ValidateResponse(findings=[pb.Finding(field=f.field, message=f.message, hint=f.hint, warning=f.warning) for f in found])

    def settings(self, request, context):
        connector, config = self._use(request.use)
        if request.use.kind == 2:
            return pb.SettingsResponse(batching=_from_limits(connector.batching(config)))
        pace = connector.pace(config)
        return pb.SettingsResponse(pace=_from_limits(pace) if pace else None)

    def splits(self, request, context):
        try:
            source, config = self._use(request.use)
            for all_ in source.splits(config):
                yield pb.SplitsResponse(splits=[pb.Split(id=s.id, weight=s.weight, config=s.config) for s in all_])
        except Exception as e:
            yield pb.SplitsResponse(error=_error(e))

    def read(self, requests, context):
        return _Reading(self, requests, context).run()

    def write(self, requests, context):
        return _Writing(self, requests, context).run()


def _receive(requests, into):
    """Hands on what comes, and None at the end of the stream."""
    def work():
        try:
            for r in requests:
                into.put(r)
        except Exception:
            pass  # the stream has ended, and how does not matter here
        into.put(None)
    threading.Thread(target=work, daemon=True).start()


class _Reading:
    """One reader. Its thread alone calls the reader."""

    def __init__(self, service, requests, context):
        self.service, self.events = service, queue.Queue()
        self.credit, self.limits, self.ended = 0, Limits(), False
        _receive(requests, self.events)

    def run(self):
        first = self.events.get()
        if first is None:
            return
        try:
            source, config = self.service._use(first.open.use)
            t = first.open.task
            split = Split(first.open.split.id, first.open.split.weight, dict(first.open.split.config))
            position = first.open.__getattribute__("from") if first.open.HasField("from") else None
            reader = source.open(Task(t.job, t.task, t.site, config), split, position)
        except Exception as e:
            yield pb.ReadResponse(error=_error(e))
            return
        closed = False
        try:
            yield pb.ReadResponse(opened=pb.Opened())
            while not closed:
                if self.ended or self.credit <= 0 or not self.events.empty():
                    request = self.events.get()
                    if request is None:
                        return
                    answer, closed = self.answer(reader, request)
                    if answer is not None:
                        yield answer
                else:
                    yield from self.read(reader)
        finally:
            if not closed:
                reader.close()

    def answer(self, reader, request):
        which = request.WhichOneof("of")
        failed = None
        if which == "credit":
            self.credit += request.credit.bytes
            if request.credit.HasField("limits"):
                self.limits = _limits(request.credit.limits)
            return None, False
        if which == "committed":
            try:
                reader.committed(request.committed.up_to)
            except Exception as e:
                failed = e
            return pb.ReadResponse(committed=pb.CommitDone(id=request.committed.id, error=_error(failed))), False
        try:
            reader.close()
        except Exception as e:
            failed = e
        return pb.ReadResponse(closed=pb.Closed(error=_error(failed))), True

    def read(self, reader):
        bound = self.limits.bytes if 0 < self.limits.bytes < self.credit else self.credit
        began = time.monotonic()
        try:
            messages = reader.read(Limits(self.limits.records, bound, self.limits.wait))
        except End:
            self.ended = True
            yield pb.ReadResponse(end=pb.End())
            return
        except Exception as e:
            self.ended = True
            yield pb.ReadResponse(error=_error(e))
            return
        if not messages:
            time.sleep(max(0.0, began + IDLE - time.monotonic()))
            yield pb.ReadResponse(idle=pb.Idle())
        part, cost = [], 0
        for m in messages:
            x = _from_message(m)
            c = _cost(x)
            if c > MAX_MESSAGE - (1 << 20):
                self.ended = True
                if part:
                    yield pb.ReadResponse(messages=pb.Messages(messages=part))
                yield pb.ReadResponse(error=_error(Fatal(f"the message at {m.origin}:{m.line} has {c} bytes; a plugin can hand on at most {MAX_MESSAGE - (1 << 20)}")))
                return
            if part and cost + c > CHUNK:
                self.credit -= cost
                yield pb.ReadResponse(messages=pb.Messages(messages=part))
                part, cost = [], 0
            part.append(x)
            cost += c
        if part:
            self.credit -= cost
            yield pb.ReadResponse(messages=pb.Messages(messages=part))


class _Writing:
    """One writer. A call runs in a thread of its own, so that it can be cancelled."""

    def __init__(self, service, requests, context):
        self.service, self.events = service, queue.Queue()
        self.plan, self.batch = None, []
        self.busy, self.cancelled, self.thread = 0, threading.Event(), None
        _receive(requests, self.events)

    def run(self):
        first = self.events.get()
        if first is None:
            return
        try:
            sink, config = self.service._use(first.open.use)
            t = first.open.task
            self.writer = sink.open(Task(t.job, t.task, t.site, config), [(p.topic, p.partition) for p in first.open.partitions])
        except Exception as e:
            yield pb.WriteResponse(error=_error(e))
            return
        closed = False
        try:
            yield pb.WriteResponse(opened=pb.Opened())
            yield pb.WriteResponse(credit=pb.Credit(bytes=WINDOW))
            while not closed:
                event = self.events.get()
                if event is None:
                    return
                if isinstance(event, pb.WriteResponse):  # of the call
                    if event.WhichOneof("of") != "noted":
                        self.busy = 0
                    yield event
                    continue
                which = event.WhichOneof("of")
                if which == "close":
                    closed = True
                    failed = None
                    try:
                        self.writer.close()
                    except Exception as e:
                        failed = e
                    yield pb.WriteResponse(closed=pb.Closed(error=_error(failed)))
                else:
                    answer = getattr(self, "on_" + which)(getattr(event, which))
                    if answer is not None:
                        yield answer
        finally:
            self.cancelled.set()
            if self.thread is not None:
                self.thread.join()
            if not closed:
                self.writer.close()

    def on_resume(self, r):
        def resume():
            try:
                offset = self.writer.resume(r.partition.topic, r.partition.partition)
                return pb.Resumed(id=r.id, next=offset or 0, known=offset is not None)
            except Exception as e:
                return pb.Resumed(id=r.id, error=_error(e))
        self.call(r.id, lambda: pb.WriteResponse(resumed=resume()))

    def on_plan(self, p):
        self.plan, self.batch = p, []
        self.begin()

    def on_messages(self, part):
        if self.plan is not None:  # otherwise it was cancelled meanwhile
            self.batch.extend(_message(x) for x in part.messages)
            self.begin()
        return pb.WriteResponse(credit=pb.Credit(bytes=sum(_cost(x) for x in part.messages)))

    def on_cancel(self, c):
        if self.busy == c.id:
            self.cancelled.set()
        elif self.plan is not None and self.plan.id == c.id:  # it is not complete and was not begun
            self.plan, self.batch = None, []
            return pb.WriteResponse(written=pb.Written(id=c.id, error=_error(Cancelled("cancelled"))))
        return None

    def begin(self):
        """Writes the plan once its messages are there."""
        p, batch = self.plan, self.batch
        if len(batch) < p.messages:
            return
        self.plan, self.batch = None, []

        def write():
            plan = Plan(p.partition.topic, p.partition.partition, p.__getattribute__("from"), p.to, p.epoch, p.plan, p.made, self.cancelled, self.note)
            try:
                refused = self.writer.write(plan, batch) or []
                return pb.Written(id=p.id, refused=[pb.RecordError(index=i, offset=batch[i].offset, message=_text(why)) for i, why in refused])
            except Exception as e:
                return pb.Written(id=p.id, error=_error(e))
        self.call(p.id, lambda: pb.WriteResponse(written=write()))

    def note(self, trouble):
        error = None if trouble is None else pb.Error(**{"class": 1}, message=_text(trouble))
        self.events.put(pb.WriteResponse(noted=pb.Noted(trouble=error)))

    def call(self, id_, do):
        self.busy, self.cancelled = id_, threading.Event()
        self.thread = threading.Thread(target=lambda: self.events.put(do()), daemon=True)
        self.thread.start()


# ---- the process ----

def _certificate():
    """A certificate for this process, as PEM, its key, and as the handshake wants it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    cert = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1)).not_valid_after(now + datetime.timedelta(days=365 * 30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(key, hashes.SHA256()))
    pem = cert.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    der = base64.b64encode(cert.public_bytes(serialization.Encoding.DER)).rstrip(b"=").decode()
    return pem, private, der


def _handlers(service, stop):
    def plain(fn, cls):
        return grpc.unary_unary_rpc_method_handler(fn, cls.FromString, lambda m: m.SerializeToString())

    def both(fn, cls):
        return grpc.stream_stream_rpc_method_handler(fn, cls.FromString, lambda m: m.SerializeToString())

    def raw(answer):
        return grpc.unary_unary_rpc_method_handler(answer, lambda b: b, lambda b: b)

    def shutdown(request, context):
        threading.Thread(target=stop, daemon=True).start()
        return b""

    return (
        grpc.method_handlers_generic_handler("entrepot.plugin.v1.Plugin", {
            "Describe": plain(service.describe, pb.DescribeRequest),
            "Validate": plain(service.validate, pb.ValidateRequest),
            "Settings": plain(service.settings, pb.SettingsRequest),
            "Splits": grpc.unary_stream_rpc_method_handler(service.splits, pb.SplitsRequest.FromString, lambda m: m.SerializeToString()),
            "Read": both(service.read, pb.ReadRequest),
            "Write": both(service.write, pb.WriteRequest),
        }),
        # What go-plugin asks for: health (1 is serving) and the kind end.
        grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": raw(lambda request, context: b"\x08\x01")}),
        grpc.method_handlers_generic_handler("plugin.GRPCController", {"Shutdown": raw(shutdown)}),
    )


def serve(name, version, sources=(), sinks=()):
    """Answers the hub that has started this process, until the hub ends it."""
    if os.environ.get("ENTREPOT_PLUGIN") != "entrepot-connector":
        sys.exit(f"{name} {version} is a plugin of entrepot, which starts it by itself.\n"
                 f"Name it in plugins: of the node's file, or try it with: entrepot plugin test {sys.argv[0]}")
    offered = os.environ.get("PLUGIN_PROTOCOL_VERSIONS", "1").split(",")
    if str(PROTOCOL) not in offered:
        print(f"the hub speaks protocol {', '.join(offered)}, this plugin {PROTOCOL}", file=sys.stderr)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")

    done = threading.Event()
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=STREAMS), options=[
        ("grpc.max_receive_message_length", MAX_MESSAGE), ("grpc.max_send_message_length", MAX_MESSAGE)])

    def stop():
        server.stop(5).wait()
        done.set()

    server.add_generic_rpc_handlers(_handlers(_Service(name, version, sources, sinks), stop))
    pem, private, der = _certificate()
    hub = os.environ["PLUGIN_CLIENT_CERT"].encode()
    credentials = grpc.ssl_server_credentials([(private, pem)], root_certificates=hub, require_client_auth=True)
    path = os.path.join(tempfile.mkdtemp(dir=os.environ.get("PLUGIN_UNIX_SOCKET_DIR")), "plugin.sock")
    server.add_secure_port("unix:" + path, credentials)
    server.start()
    print(f"1|{PROTOCOL}|unix|{path}|grpc|{der}", flush=True)
    sys.stdout = sys.stderr

    def orphan():
        while sys.stdin.buffer.read(4096):
            pass
        os._exit(0)  # the hub is gone, whatever it was killed by

    threading.Thread(target=orphan, daemon=True).start()
    done.wait()
    os._exit(0)
