"""httpx with httpx-sse, over HTTP/1.1 and HTTP/2; and httpx alone, as a script that polls."""

import time
import unittest

import httpx
from httpx_sse import aconnect_sse, connect_sse

from support import PATIENCE, Backend, Sidecar, eventually

ROUTES = '[[route]]\npath = "/**"\nevery = "50ms"\nevery_max = "100ms"\nheartbeat = "200ms"\n'


class Httpx(unittest.TestCase):
    def setUp(self):
        self.backend = Backend()
        self.addCleanup(self.backend.stop)
        self.sidecar = Sidecar(self.backend, ROUTES)
        self.addCleanup(self.sidecar.stop)

    def client(self, http2):
        # Over plain HTTP it speaks HTTP/2 with prior knowledge, if that is all it may speak.
        return httpx.Client(base_url=self.sidecar.url, timeout=PATIENCE, http1=not http2, http2=http2)

    def test_events_arrive_as_they_happen_and_resume(self):
        for number, http2 in enumerate([False, True]):
            path = f"/news/{number}"
            with self.subTest(http2=http2), self.client(http2) as client:
                self.backend.say(path, {"n": 1})
                with connect_sse(client, "GET", path) as source:
                    self.assertEqual(source.response.http_version, "HTTP/2" if http2 else "HTTP/1.1")
                    events = source.iter_sse()
                    first = next(events)
                    self.assertEqual((first.event, first.json()), ("message", {"n": 1}))
                    self.assertTrue(first.retry is None or first.retry >= 2000)
                    # Several heartbeats, none of which is an event.
                    time.sleep(0.5)
                    for n, text in [(2, "line\nline\n"), (3, "caf\u00e9 \u2028 \U0001f30d")]:
                        self.backend.say(path, {"n": n, "text": text})
                        event = next(events)
                        self.assertEqual(event.json(), {"n": n, "text": text})
                with connect_sse(client, "GET", path, headers={"Last-Event-ID": event.id}) as source:
                    self.backend.say(path, {"n": 4})
                    self.assertEqual(next(source.iter_sse()).json(), {"n": 4}, "told again what it holds")
            # Over HTTP/2 it only says that it leaves when it closes the connection.
            eventually("its leaving to be noticed", lambda: self.sidecar.held() == 0)

    def test_it_says_what_happens_to_the_application(self):
        self.backend.say("/news", {"n": 1})
        with self.client(False) as client, connect_sse(client, "GET", "/news") as source:
            events = source.iter_sse()
            next(events)
            del self.backend.pages["/news"]
            end = next(events)
            self.assertEqual((end.event, end.json()), ("end", {"reason": "gone"}))
            self.assertEqual(list(events), [])

    def test_a_script_that_polls_is_answered_when_there_is_news(self):
        self.backend.say("/news", {"n": 0})
        with self.client(False) as client:
            validator, seen = {}, []
            for n in range(1, 4):
                answer = client.get("/news", headers={"Prefer": "wait=1", **validator})
                seen.append(answer.json()["n"])
                validator = {"If-None-Match": answer.headers["etag"]}
                self.backend.say("/news", {"n": n})
            answer = client.get("/news", headers={"Prefer": "wait=1", **validator})
            validator = {"If-None-Match": answer.headers["etag"]}
            began = time.monotonic()
            still = client.get("/news", headers={"Prefer": "wait=1", **validator})
            self.assertEqual((still.status_code, still.headers["preference-applied"]), (304, "wait=1"))
            self.assertGreaterEqual(time.monotonic() - began, 0.99)
            self.assertEqual(seen, [0, 1, 2])


class HttpxAsync(unittest.IsolatedAsyncioTestCase):
    async def test_many_at_once_are_told_the_same(self):
        backend = Backend()
        self.addCleanup(backend.stop)
        sidecar = Sidecar(backend, ROUTES)
        self.addCleanup(sidecar.stop)
        backend.say("/news", {"n": 1})
        async with httpx.AsyncClient(base_url=sidecar.url, timeout=PATIENCE) as client:
            async with aconnect_sse(client, "GET", "/news") as one, aconnect_sse(client, "GET", "/news") as other:
                streams = [one.aiter_sse(), other.aiter_sse()]
                for n in [1, 2, 3]:
                    backend.say("/news", {"n": n})
                    events = [await anext(stream) for stream in streams]
                    self.assertEqual([event.json() for event in events], [{"n": n}] * 2)
                    self.assertEqual(events[0].id, events[1].id)
                # A body of another request on a connection of its own, while both are held.
                self.assertEqual((await client.get("/news")).json(), {"n": 3})
