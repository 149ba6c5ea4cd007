#!/usr/bin/env python3
"""Applications of 2006, each written as they were then: they poll, load themselves again, or fill frames.

    gallery.py [PORT] [--folder PATH] [--irc HOST:PORT]

--folder: what the shared folder shows. --irc: the server that the IRC gateway connects to.
"""

import argparse
import importlib
import signal
import sys

import web

APPLICATIONS = [path.stem for path in sorted((web.HERE / "applications").glob("[a-z]*.py"))]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("port", nargs="?", type=int, default=8000)
    parser.add_argument("--folder", default="/tmp/sungrazer-gallery")
    parser.add_argument("--irc", default="127.0.0.1:6667")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    for name in APPLICATIONS:
        module = importlib.import_module("applications." + name)
        if hasattr(module, "prepare"):
            module.prepare(options)
    server = web.Server(("127.0.0.1", options.port), web.Handler)
    print("gallery on http://127.0.0.1:%d/" % server.server_address[1], flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
