"""A small web server in the manner of 2006: a table of paths, a thread for each connection.

Answers are HTTP/1.1 with a Content-Length, or, where an application is CGI style, HTTP/1.0 whose end is the end of the
connection. Nothing here knows of push.
"""

import html
import http.cookies
import json
import threading
import urllib.parse
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGES = HERE / "pages"
MOST_BYTES = 64 * 1024

Answer = namedtuple("Answer", "status type body headers")

#: What is served: (method, path) -> (function, options).
TABLE = {}


def serves(method, path, cgi=False, streams=False):
    """Has `function(request)` answer. `cgi`: by HTTP/1.0. `streams`: it reads the request's body itself."""

    def add(function):
        TABLE[method, path] = (function, cgi, streams)
        return function

    return add


def get(path, **options):
    return serves("GET", path, **options)


def post(path, **options):
    return serves("POST", path, **options)


def page(path, name, cgi=False):
    """Serves a file of `pages/`."""
    content = (PAGES / name).read_bytes()
    kind = {".css": "text/css", ".js": "text/javascript"}.get(Path(name).suffix, "text/html")
    get(path, cgi=cgi)(lambda request: Answer(200, kind + "; charset=utf-8", content, {"Cache-Control": "no-cache"}))


def text(body, type="text/plain; charset=utf-8", status=200, **headers):
    return Answer(status, type, body.encode("utf-8"), {"Cache-Control": "no-cache", **headers})


def markup(body, **headers):
    return text(body, "text/html; charset=utf-8", **headers)


def as_json(value, **headers):
    return text(json.dumps(value), "application/json", **headers)


def done():
    return Answer(204, None, b"", {})


def see(path, **headers):
    """What a form is answered: look at that page."""
    return Answer(302, "text/plain", b"", {"Location": path, **headers})


escape = html.escape


class Request:
    def __init__(self, handler):
        path, _, query = handler.path.partition("?")
        self.method = handler.command
        self.path = urllib.parse.unquote(path)
        self.query = dict(urllib.parse.parse_qsl(query))
        self.headers = handler.headers
        self.length = int(handler.headers.get("Content-Length") or 0)
        self.stream = handler.rfile
        self.body = b""
        self.here = handler.server.server_address[1]
        self.counters = handler.server.counters

    @property
    def form(self):
        return dict(urllib.parse.parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))

    def field(self, name, otherwise="", most=200):
        """A field of the form: one line, not too long."""
        return " ".join(self.form.get(name, "").split())[:most] or otherwise

    def cookie(self, name):
        found = http.cookies.SimpleCookie(self.headers.get("Cookie")).get(name)
        return found.value if found else None


class Handler(BaseHTTPRequestHandler):
    server_version = "Gallery/1.0"
    # Head and body leave together.
    wbufsize = -1
    timeout = 120

    def do_GET(self):
        self.serve()

    do_HEAD = do_POST = do_GET

    def serve(self):
        request = Request(self)
        self.server.counters.add(request.path)
        method = "GET" if self.command == "HEAD" else self.command
        function, cgi, streams = TABLE.get((method, request.path), (None, False, False))
        self.protocol_version = "HTTP/1.0" if cgi or self.request_version == "HTTP/1.0" else "HTTP/1.1"
        if function is None:
            self.refuse(404, "there is no such page\n")
        elif streams:
            self.answer(function(request))
        elif request.length > MOST_BYTES:
            self.refuse(413, "that is too much\n")
        else:
            request.body = self.rfile.read(request.length)
            self.answer(function(request))

    def refuse(self, status, reason):
        # The body was not read, so that nothing can follow on this connection.
        self.close_connection = True
        self.answer(text(reason, status=status))

    def answer(self, answer):
        body = answer.body
        headers = dict(answer.headers)
        if answer.status == 200 and headers.get("ETag") and self.headers.get("If-None-Match") == headers["ETag"]:
            answer = answer._replace(status=304)
        self.send_response(answer.status)
        if answer.type and answer.status != 304:
            self.send_header("Content-Type", answer.type)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if self.protocol_version == "HTTP/1.0":
            self.close_connection = True
        elif answer.status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD" and answer.status not in (204, 304):
            self.wfile.write(body)


class Counters:
    """What the server was asked so far, by path, and over how many connections."""

    def __init__(self):
        self.lock = threading.Lock()
        self.connections = 0
        self.requests = {}

    def add(self, path):
        with self.lock:
            # Any path may be asked for, and only those that are served are counted.
            if ("GET", path) in TABLE or ("POST", path) in TABLE:
                self.requests[path] = self.requests.get(path, 0) + 1


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *args):
        self.counters = Counters()
        super().__init__(*args)

    def process_request(self, request, client_address):
        # One thread accepts all of them.
        self.counters.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, request, client_address):
        # Who goes away in the middle of an answer is no error.
        pass


class Shared:
    """What the threads of an application have in common, and the lock for it."""

    def __init__(self, **values):
        self.lock = threading.Lock()
        self.__dict__.update(values)

    def __enter__(self):
        self.lock.acquire()
        return self

    def __exit__(self, *_):
        self.lock.release()
