"""What the tests of Python clients stand on: an application without push, Sungrazer in front of it, and waiting."""

import json
import logging
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

# How long anything that is expected may take before a test gives up.
PATIENCE = 20.0

# unittest lets asyncio report whatever takes a while.
logging.getLogger("asyncio").setLevel(logging.ERROR)


def eventually(what, condition):
    """Waits until `condition` gives something, and returns that."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.01)
    raise TimeoutError(f"gave up waiting for {what}")


class Backend:
    """Answers each path with what a test has set there; a POST changes what is said there."""

    def __init__(self):
        self.pages = {}
        self.asked = []
        backend = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                body = backend.pages.get(self.path.split("?")[0])
                backend.asked.append((self.command, self.path))
                self.reply(200 if body is not None else 404, body or "no such page")

            def do_POST(self):
                said = self.rfile.read(int(self.headers["Content-Length"])).decode()
                backend.asked.append((self.command, self.path))
                backend.pages[self.path] = said
                self.reply(201, f"{len(said)} characters")

            def reply(self, status, text):
                body = text.encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json" if text[:1] in "{[" else "text/plain; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_):
                """A connection that Sungrazer gave up is no news."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def say(self, path, value):
        self.pages[path] = value if isinstance(value, str) else json.dumps(value)

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Sidecar:
    """The program that $SUNGRAZER names, in front of a backend, with these routes in TOML."""

    def __init__(self, backend, routes):
        self.folder = tempfile.TemporaryDirectory(prefix="sungrazer-clients-")
        file = Path(self.folder.name) / "sungrazer.toml"
        file.write_text(f"[server]\nh2c = true\n[upstream]\nurl = {json.dumps(backend.url)}\n{routes}")
        command = [os.environ["SUNGRAZER"], "run", "-c", file, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
        self.program = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        ready = re.search(r"listen=(http://\S+) admin=(http://\S+)", self.program.stdout.readline())
        self.url, self.admin = ready.groups()
        self.ws = self.url.replace("http", "ws") + "/.sungrazer/ws"

    def held(self):
        """How many clients are held, by the operators' list."""
        with urllib.request.urlopen(f"{self.admin}/api/resources", timeout=PATIENCE) as answer:
            resources = json.load(answer)["resources"]
        return sum(sum(resource["subscribers"].values()) for resource in resources)

    def stop(self):
        self.program.send_signal(signal.SIGTERM)
        self.program.wait(PATIENCE)
        self.program.stdout.close()
        self.folder.cleanup()
