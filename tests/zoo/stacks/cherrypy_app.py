"""CherryPy with its own dispatcher, ETag tool and static files."""

import sys
import time

import cherrypy
import core


class Application:
    @cherrypy.expose
    def index(self):
        return core.page()

    @cherrypy.expose
    @cherrypy.tools.response_headers(headers=[("Content-Type", "application/json")])
    def data(self):
        return core.data()

    @cherrypy.expose
    @cherrypy.tools.etags(autotags=True)
    @cherrypy.tools.response_headers(headers=[("Content-Type", "application/json")])
    def tagged(self):
        return core.data()

    @cherrypy.expose
    def save(self, value):
        core.save(f"value={value}".encode())
        raise cherrypy.HTTPRedirect("/", 303)

    @cherrypy.expose
    @cherrypy.config(**{"request.process_request_body": False})
    def upload(self):
        length = int(cherrypy.request.headers.get("Content-Length") or 0)
        cherrypy.response.headers["Content-Type"] = "application/json"
        return core.summary(cherrypy.request.rfile.read(length))

    @cherrypy.expose
    def wait(self):
        time.sleep(core.WAIT)
        cherrypy.response.headers["Content-Type"] = "text/plain"
        return b"waited"

    @cherrypy.expose
    def moved(self):
        raise cherrypy.HTTPRedirect("/data", 302)

    @cherrypy.expose
    @cherrypy.config(**{"response.stream": True})
    def events(self):
        cherrypy.response.headers["Content-Type"] = "text/event-stream"

        def stream():
            for event in core.EVENTS:
                yield event
                time.sleep(core.EVENT_INTERVAL)

        return stream()


cherrypy.config.update({
    "server.socket_host": "127.0.0.1",
    "server.socket_port": int(sys.argv[1]),
    "environment": "production",
    "log.screen": False,
})
static = {"/file.bin": {"tools.staticfile.on": True, "tools.staticfile.filename": str(core.SITE / "file.bin")}}
cherrypy.quickstart(Application(), "/", static)
