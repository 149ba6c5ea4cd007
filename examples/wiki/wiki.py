#!/usr/bin/env python3
"""A wiki of one page that refreshes itself by polling, as such things were written in 2005.

    wiki.py [PORT]

GET /           the page
GET /wiki/text  its text, which the page asks for every five seconds
POST /wiki/text a new text
"""

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

HERE = Path(__file__).resolve().parent
MOST_BYTES = 64 * 1024


class Wiki(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    lock = threading.Lock()
    page = (HERE / "page.html").read_bytes()
    text = (HERE / "start.txt").read_bytes()

    def do_GET(self):
        path = self.path.split("?")[0]
        if path == "/":
            self.answer(200, "text/html; charset=utf-8", Wiki.page)
        elif path == "/wiki/text":
            with Wiki.lock:
                text = Wiki.text
            self.answer(200, "text/plain; charset=utf-8", text)
        else:
            self.answer(404, "text/plain", b"no such page\n")

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        if length > MOST_BYTES:
            # The body is not read, so nothing else can follow on this connection.
            self.close_connection = True
            self.answer(413, "text/plain", b"too long\n")
            return
        body = self.rfile.read(length)
        if self.path != "/wiki/text":
            self.answer(404, "text/plain", b"no such page\n")
            return
        with Wiki.lock:
            Wiki.text = body
        self.answer(204, None, b"")

    def answer(self, status, content_type, body):
        self.send_response(status)
        if content_type:
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main():
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    server = ThreadingHTTPServer(("127.0.0.1", port), Wiki)
    server.daemon_threads = True
    print("wiki on http://127.0.0.1:%d/" % server.server_address[1], flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
