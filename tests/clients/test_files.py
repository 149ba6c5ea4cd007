"""A database in a file that both the application and Sungrazer see: sqlite with a write-ahead log."""

import json
import sqlite3
import tempfile
import unittest
import urllib.request
from pathlib import Path

import httpx
from httpx_sse import connect_sse

from support import PATIENCE, Backend, Sidecar, eventually


class Files(unittest.TestCase):
    def test_what_sqlite_writes_into_its_log_is_seen_at_once(self):
        folder = tempfile.TemporaryDirectory(prefix="sungrazer-sqlite-")
        self.addCleanup(folder.cleanup)
        database = Path(folder.name) / "app.db"
        writer = sqlite3.connect(database, isolation_level=None)
        self.addCleanup(writer.close)
        self.assertEqual(writer.execute("pragma journal_mode = wal").fetchone(), ("wal",))
        writer.execute("create table items (name text)")
        backend = Backend()
        self.addCleanup(backend.stop)

        def insert(name):
            writer.execute("insert into items values (?)", (name,))
            backend.say("/items", {"names": [name for (name,) in writer.execute("select name from items")]})

        backend.say("/items", {"names": []})
        watch = f'watch_files = [{json.dumps(str(database))}]\n'
        sidecar = Sidecar(backend, f'[[route]]\npath = "/items"\nevery = "1h"\nevery_max = "1h"\n{watch}')
        self.addCleanup(sidecar.stop)

        def looked(trigger):
            with urllib.request.urlopen(f"{sidecar.admin}/api/why?url=/items", timeout=PATIENCE) as answer:
                looks = json.load(answer)["resources"][0]["looks"]
            return any(look["trigger"] == trigger for look in looks)

        with httpx.Client(timeout=PATIENCE) as client, connect_sse(client, "GET", f"{sidecar.url}/items") as source:
            events = source.iter_sse()
            self.assertEqual(next(events).json(), {"names": []})
            # Until the watch is in place nothing is announced.
            eventually("the watch to be in place", lambda: writer.execute("pragma user_version = 1") and looked("file"))
            size = database.stat().st_size
            for name in ["one", "two", "three"]:
                insert(name)
                self.assertEqual(next(events).json()["names"][-1], name)
            self.assertEqual(database.stat().st_size, size, "it went into the log, and not into the file itself")
