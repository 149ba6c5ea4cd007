"""Requests written as bytes, and responses with all that can be seen of them on the connection."""

import re
import socket
import subprocess
import tempfile
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path

# How long a response may take.
TIMEOUT = 5.0


@dataclass
class Response:
    """A response as it came. `pieces` are the moments, in seconds since the request, at which body bytes arrived."""

    version: str
    status: int
    headers: list
    body: bytes
    framing: str
    interim: list = field(default_factory=list)
    pieces: list = field(default_factory=list)
    reusable: bool = False

    def values(self, name):
        return [value for key, value in self.headers if key == name]


class Broken(Exception):
    """What came was no response."""


class Connection:
    """A connection for one request after the other."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        self.buffer = b""
        self.pieces = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def _more(self):
        piece = self.socket.recv(65536)
        self.pieces.append(time.monotonic())
        self.buffer += piece
        return bool(piece)

    def _until(self, mark):
        while mark not in self.buffer:
            if not self._more():
                raise Broken(f"the connection ended in a head: {self.buffer[:80]!r}")
        head, self.buffer = self.buffer.split(mark, 1)
        return head

    def _exactly(self, count):
        while len(self.buffer) < count:
            if not self._more():
                raise Broken(f"the connection ended {count - len(self.buffer)} bytes before the body")
        body, self.buffer = self.buffer[:count], self.buffer[count:]
        return body

    def _rest(self):
        while self._more():
            pass
        body, self.buffer = self.buffer, b""
        return body

    def _chunks(self):
        body = b""
        while True:
            size = int(self._until(b"\r\n").split(b";")[0], 16)
            body += self._exactly(size)
            if size == 0:
                while self._until(b"\r\n"):
                    pass
                return body
            if self._exactly(2) != b"\r\n":
                raise Broken("a chunk without an end")

    def ask(self, method, target, version="HTTP/1.1", headers=(), body=b""):
        lines = [f"{method} {target} {version}", *(f"{name}: {value}" for name, value in headers)]
        if body or method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        self.pieces = []
        began = time.monotonic()
        self.socket.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        interim = []
        while True:
            start, *rest = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
            match = re.fullmatch(r"(HTTP/\d\.\d) (\d{3})(?: .*)?", start)
            if not match:
                raise Broken(f"not a status line: {start[:80]!r}")
            fields = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(":") for line in rest)]
            if not match[2].startswith("1"):
                break
            interim.append(int(match[2]))
        response = Response(match[1], int(match[2]), fields, b"", "none", interim)
        coding = ", ".join(response.values("transfer-encoding")).lower()
        length = response.values("content-length")
        if method != "HEAD" and response.status not in (204, 304):
            if coding:
                response.framing, response.body = "chunked", self._chunks()
            elif length:
                response.framing, response.body = "length", self._exactly(int(length[0]))
            else:
                response.framing, response.body = "close", self._rest()
        response.pieces = [at - began for at in self.pieces]
        asks_close = any(name.lower() == "connection" and value.lower() == "close" for name, value in headers)
        says_close = asks_close or "close" in ", ".join(response.values("connection")).lower()
        says_keep = "keep-alive" in ", ".join(response.values("connection")).lower()
        persists = not says_close if match[1] == "HTTP/1.1" and version == "HTTP/1.1" else says_keep
        response.reusable = persists and response.framing != "close"
        return response


def ask_http2(port, method, path, headers=(), body=b""):
    """The response to a request over HTTP/2 and TLS, by curl."""
    with tempfile.TemporaryDirectory() as folder:
        head, content = Path(folder, "head"), Path(folder, "body")
        command = ["curl", "--silent", "--insecure", "--http2", "--max-time", str(TIMEOUT), "--path-as-is"]
        command += ["--dump-header", head, "--output", content, "--request", method]
        if method == "HEAD":
            command[-2:] = ["--head"]
        for name, value in headers:
            command += ["--header", f"{name}: {value}"]
        if method == "POST":
            Path(folder, "upload").write_bytes(body)
            command += ["--data-binary", f"@{folder}/upload"]
        done = subprocess.run([*command, f"https://127.0.0.1:{port}{path}"], capture_output=True, text=True)
        if done.returncode:
            raise Broken(f"curl ended with {done.returncode}: {done.stderr.strip()}")
        *earlier, last = head.read_bytes().decode("latin-1").strip().split("\r\n\r\n")
        start, *rest = last.split("\r\n")
        fields = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(":") for line in rest)]
        interim = [int(part.split()[1]) for part in earlier]
        found = content.read_bytes() if content.exists() and method != "HEAD" else b""
        return Response("HTTP/2", int(start.split()[1]), fields, found, "frames", interim, reusable=True)


def decoded(response):
    """The body, its content coding undone."""
    if response.values("content-encoding") == ["gzip"] and response.body:
        return zlib.decompress(response.body, 31)
    return response.body
