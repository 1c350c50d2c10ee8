# ClickHouse's present engine (chdb) behind the part of its HTTP interface that
# clickhouse-go uses: queries, and INSERTs whose block is the body. One query
# runs at a time, and queries have no IDs.
#
# usage: clickhouse_engine.py FOLDER PORT
import http.server, struct, sys, threading
from urllib.parse import parse_qsl, urlsplit

from chdb import session

engine = session.Session(sys.argv[1])
block = sys.argv[1] + ".block"
one = threading.Lock()
# What the interface takes for itself; all other parameters are settings.
own = {"database", "default_format", "query", "query_id", "client_protocol_version", "compress", "decompress", "wait_end_of_query"}


def text(s):
    b = s.encode()
    assert len(b) < 128
    return bytes([len(b)]) + b


def hello():
    """Answers the driver's first question with the protocol revision 0, in
    which all other blocks are: the engine writes no other."""
    zone = engine.query("SELECT timezone()", "TSV").bytes().decode().strip()
    version = engine.query("SELECT version()", "TSV").bytes().decode().strip()
    out = b"\x01\x00\x02\xff\xff\xff\xff\x00" + bytes([4, 1])  # of a newer revision itself
    for name, kind, value in [("displayName()", "String", text("chdb")), ("version()", "String", text(version)),
                              ("revision()", "UInt32", struct.pack("<I", 0)), ("timezone()", "String", text(zone))]:
        out += text(name) + text(kind) + b"\x00" + value
    return out


def settings(params):
    given = ["%s = '%s'" % (k, v.replace("\\", "\\\\").replace("'", "\\'")) for k, v in params.items() if k not in own]
    return " SETTINGS " + ", ".join(given) if given else ""


def answer(params, body):
    query = params.get("query") or body.decode()
    if query.startswith("SELECT displayName()"):
        return hello()
    engine.query("USE `%s`" % params.get("database", "default"))
    if "query" in params:
        head = query.strip()
        assert head.upper().endswith("FORMAT NATIVE"), head
        with open(block, "wb") as file:  # chdb's send_insert does not tell what went wrong
            file.write(body)
        engine.query(head[: -len("FORMAT NATIVE")] + "FROM INFILE '" + block + "'" + settings(params) + " FORMAT Native")
        return b""
    if query.lstrip().upper().startswith(("SELECT", "WITH")) and " SETTINGS " not in query:
        query += settings(params)
    return engine.query(query, params.get("default_format", "TabSeparated")).bytes() or b""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer is one write: two would wait for the client's acknowledgement

    def do_GET(self):
        self.reply(200, b"Ok.\n")

    def do_POST(self):
        body, params = self.body(), dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        try:
            with one:
                status, out = 200, answer(params, body)
        except Exception as e:
            status, out = 500, str(e).encode()
        self.reply(status, out)

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        all = b""
        while n := int(self.rfile.readline().split(b";")[0], 16):
            all += self.rfile.read(n)
            self.rfile.readline()
        self.rfile.readline()
        return all

    def reply(self, status, out):
        self.send_response(status)
        if status != 200 and out.startswith(b"Code: "):
            self.send_header("X-ClickHouse-Exception-Code", out[6:].split(b".")[0].decode())
        self.send_header("Content-Length", str(len(out)))
        self.end_headers()
        self.wfile.write(out)
        self.wfile.flush()

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
