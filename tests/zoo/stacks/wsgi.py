"""The application as WSGI; served by wsgiref, or by gunicorn, waitress and CherryPy's cheroot."""

import sys
import time
from http import HTTPStatus
from wsgiref.simple_server import WSGIRequestHandler, make_server

import core


def events():
    for event in core.EVENTS:
        yield event
        time.sleep(core.EVENT_INTERVAL)


def application(environ, start_response):
    method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    if path == "/events":
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return events()
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)) if method == "POST" else b""
    status, headers, content = core.answer(method, path, body, environ.get("HTTP_IF_NONE_MATCH"))
    if status != 304:
        headers = [*headers, ("Content-Length", str(len(content)))]
    start_response(f"{status} {HTTPStatus(status).phrase}", headers)
    return [b"" if method == "HEAD" else content]


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


if __name__ == "__main__":
    port = int(sys.argv[1])
    server = sys.argv[2] if len(sys.argv) > 2 else "wsgiref"
    if server == "waitress":
        import waitress

        waitress.serve(application, host="127.0.0.1", port=port, _quiet=True)
    elif server == "cheroot":
        from cheroot.wsgi import Server

        Server(("127.0.0.1", port), application).start()
    else:
        make_server("127.0.0.1", port, application, handler_class=Quiet).serve_forever()
