"""Twisted's web server."""

import sys

import core
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site
from twisted.web.static import File


class Events(Resource):
    isLeaf = True

    def render_GET(self, request):
        request.setHeader("Content-Type", "text/event-stream")
        self.step(request, list(core.EVENTS))
        return NOT_DONE_YET

    def step(self, request, rest):
        if not rest:
            return request.finish()
        request.write(rest[0])
        return deferLater(reactor, core.EVENT_INTERVAL, self.step, request, rest[1:])


class Other(Resource):
    isLeaf = True

    def render(self, request):
        if request.path == b"/wait":
            deferLater(reactor, core.WAIT, self.finish, request)
            return NOT_DONE_YET
        self.finish(request)
        return NOT_DONE_YET

    def finish(self, request):
        match = request.getHeader("If-None-Match")
        path = request.path.decode()
        if path == "/wait":
            status, headers, content = 200, [("Content-Type", "text/plain")], b"waited"
        else:
            status, headers, content = core.answer(request.method.decode(), path, request.content.read(), match)
        request.setResponseCode(status)
        for name, value in headers:
            request.responseHeaders.addRawHeader(name, value)
        if status != 304:
            request.setHeader("Content-Length", str(len(content)))
            if request.method != b"HEAD":
                request.write(content)
        request.finish()


class Root(Resource):
    def getChild(self, name, request):
        return {b"events": Events(), b"file.bin": File(str(core.SITE / "file.bin"))}.get(name, Other())


reactor.listenTCP(int(sys.argv[1]), Site(Root()), interface="127.0.0.1")
reactor.run()
