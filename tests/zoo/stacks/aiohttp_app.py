"""aiohttp: chunked events, and files by sendfile with ranges."""

import asyncio
import sys

import core
from aiohttp import web


async def events(request):
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for event in core.EVENTS:
        await response.write(event)
        await asyncio.sleep(core.EVENT_INTERVAL)
    return response


async def other(request):
    body = await request.read()
    match = request.headers.get("If-None-Match")
    status, headers, content = await asyncio.to_thread(core.answer, request.method, request.path, body, match)
    response = web.Response(status=status, body=content)
    response.headers.popall("Content-Type", None)
    for name, value in headers:
        response.headers.add(name, value)
    return response


application = web.Application()
application.router.add_get("/events", events)
application.router.add_get("/file.bin", lambda _: web.FileResponse(core.SITE / "file.bin"))
application.router.add_route("*", "/{rest:.*}", other)
web.run_app(application, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
