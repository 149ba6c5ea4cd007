"""The application as ASGI, for uvicorn and hypercorn."""

import asyncio

import core


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    if scope["path"] == "/events":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for event in core.EVENTS:
            await send({"type": "http.response.body", "body": event, "more_body": True})
            await asyncio.sleep(core.EVENT_INTERVAL)
        await send({"type": "http.response.body", "body": b""})
        return
    match = dict(scope["headers"]).get(b"if-none-match", b"").decode()
    status, headers, content = await asyncio.to_thread(core.answer, scope["method"], scope["path"], body, match)
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers]
    if status != 304:
        encoded.append((b"content-length", str(len(content)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else content})
