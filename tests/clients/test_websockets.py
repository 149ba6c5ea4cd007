"""The library websockets: subscriptions, patches, requests, control frames, closing, and coming back."""

import asyncio
import json
import unittest

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from support import PATIENCE, Backend, Sidecar, eventually

ROUTES = '[[route]]\npath = "/news"\nevery = "50ms"\nevery_max = "100ms"\nheartbeat = "300ms"\n'
FILLER = "x" * 200


def protocol(sidecar, **options):
    return connect(sidecar.ws, subprotocols=["sungrazer.v1"], **options)


async def hear(socket):
    return json.loads(await asyncio.wait_for(socket.recv(), PATIENCE))


async def say(socket, message):
    await socket.send(json.dumps(message))


class Websockets(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        self.backend = Backend()
        self.addCleanup(self.backend.stop)
        self.backend.say("/news", {"filler": FILLER, "n": 1})

    def sidecar(self, more=""):
        sidecar = Sidecar(self.backend, ROUTES + more)
        self.addCleanup(sidecar.stop)
        return sidecar

    async def test_it_follows_is_patched_and_writes(self):
        sidecar = self.sidecar()
        async with protocol(sidecar) as socket:
            self.assertEqual(socket.subprotocol, "sungrazer.v1")
            await say(socket, {"subscribe": "/news", "delta": "merge-patch"})
            first = await hear(socket)
            self.assertEqual((first["event"], first["body"]["n"]), ("snapshot", 1))
            # In fragments, as a library sends what it is given piece by piece.
            written = json.dumps({"filler": FILLER, "n": 2})
            request = json.dumps({"request": {"id": "w", "method": "POST", "url": "/news", "body": written}})
            await socket.send(request[at : at + 7] for at in range(0, len(request), 7))
            heard = [await hear(socket), await hear(socket)]
            answer = next(message["response"] for message in heard if "response" in message)
            patch = next(message for message in heard if "event" in message)
            self.assertEqual((answer["id"], answer["status"]), ("w", 201))
            self.assertEqual((patch["event"], patch["base"], patch["patch"]), ("patch", first["version"], {"n": 2}))
            # Pings both ways: ours is answered, and those of the server keep the socket open in silence.
            await asyncio.wait_for(await socket.ping(), PATIENCE)
            await asyncio.sleep(1)
            self.assertEqual(sidecar.held(), 1)
        self.assertEqual((socket.close_code, socket.close_reason), (1000, ""))
        eventually("its leaving to be noticed", lambda: sidecar.held() == 0)

    async def test_it_comes_back_where_it_left(self):
        sidecar = self.sidecar('max_age = "400ms"\n')
        held, seen, closed = None, [], []
        async for socket in protocol(sidecar):
            try:
                await say(socket, {"subscribe": "/news", **({"since": held} if held else {})})
                self.backend.say("/news", {"n": len(seen) + 2})
                while (record := await hear(socket))["event"] == "snapshot":
                    seen.append(record["body"]["n"])
                    held = record["version"]
                self.assertEqual((record["event"], record["reason"]), ("end", "max-age"))
                await hear(socket)
            except ConnectionClosed as error:
                closed.append(error.rcvd.code)
            if len(closed) == 3:
                break
        self.assertEqual(closed, [1001] * 3)
        self.assertEqual(seen, sorted(set(seen)), "something was told twice")

    async def test_what_is_too_large_or_no_text_ends_it_with_a_reason(self):
        sidecar = self.sidecar()
        for message, code in [("x" * (2 << 20), 1009), (b"\x00\x01", 1003)]:
            async with protocol(sidecar) as socket:
                # It may be refused before all of it is sent.
                with self.assertRaises(ConnectionClosed):
                    await socket.send(message)
                    await hear(socket)
                self.assertEqual(socket.close_code, code)

    async def test_it_is_told_why_it_may_not_come_in(self):
        sidecar = self.sidecar()
        with self.assertRaises(InvalidStatus) as refused:
            async with protocol(sidecar, origin="http://other.example"):
                pass
        self.assertEqual(refused.exception.response.status_code, 403)

    async def test_a_server_that_stops_says_so(self):
        sidecar = Sidecar(self.backend, ROUTES)
        try:
            async with protocol(sidecar) as socket:
                await say(socket, {"subscribe": "/news"})
                await hear(socket)
                sidecar.program.terminate()
                end = await hear(socket)
                self.assertEqual((end["event"], end["reason"]), ("end", "drain"))
                with self.assertRaises(ConnectionClosed):
                    await hear(socket)
                self.assertEqual(socket.close_code, 1012)
        finally:
            sidecar.stop()
