"""Tornado: entity tags of its own on every answer."""

import asyncio
import sys

import core
from tornado.web import Application, RequestHandler, StaticFileHandler


class Events(RequestHandler):
    async def get(self):
        self.set_header("Content-Type", "text/event-stream")
        for event in core.EVENTS:
            self.write(event)
            await self.flush()
            await asyncio.sleep(core.EVENT_INTERVAL)


class Other(RequestHandler):
    async def respond(self):
        match = self.request.headers.get("If-None-Match")
        status, headers, content = await asyncio.to_thread(
            core.answer, self.request.method, self.request.path, self.request.body, match
        )
        self.set_status(status)
        for name, value in headers:
            (self.add_header if name == "Set-Cookie" else self.set_header)(name, value)
        if status != 304:
            self.write(content)

    get = head = post = respond


async def main():
    Application([
        ("/events", Events),
        ("/(file.bin)", StaticFileHandler, {"path": str(core.SITE)}),
        ("/.*", Other),
    ]).listen(int(sys.argv[1]), "127.0.0.1")
    await asyncio.Event().wait()


asyncio.run(main())
