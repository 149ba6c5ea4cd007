"""Python's http.server: HTTP/1.0 by default, as in many small tools."""

import sys
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import core


class Handler(SimpleHTTPRequestHandler):
    def __init__(self, *args):
        super().__init__(*args, directory=core.SITE)

    def do_GET(self):
        if self.path == "/file.bin":
            return super().do_GET()
        if self.path == "/events":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            # What has neither a length nor chunks ends with the connection.
            self.send_header("Connection", "close")
            self.end_headers()
            for event in core.EVENTS:
                self.wfile.write(event)
                self.wfile.flush()
                time.sleep(core.EVENT_INTERVAL)
            return None
        return self.reply()

    def do_HEAD(self):
        return super().do_HEAD() if self.path == "/file.bin" else self.reply()

    def do_POST(self):
        return self.reply(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def reply(self, body=b""):
        status, headers, content = core.answer(self.command, self.path, body, self.headers.get("If-None-Match"))
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    if len(sys.argv) > 2:
        Handler.protocol_version = sys.argv[2]
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
