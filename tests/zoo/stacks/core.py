"""The application that every Python stack serves: a value in a file, polled as JSON, changed by a form."""

import hashlib
import os
import time
from pathlib import Path
from urllib.parse import parse_qs

SITE = Path(os.environ["ZOO_SITE"])
VALUE = SITE / "value.txt"
EVENTS = [b"data: one\n\n", b"data: two\n\n", b"data: three\n\n"]
EVENT_INTERVAL = 0.05
WAIT = 0.3


def page():
    return (SITE / "index.html").read_bytes()


def data():
    value = VALUE.read_text()
    rows = ",".join(f'{{"id":{n},"name":"row {n}"}}' for n in range(20))
    return f'{{"value":"{value}","rows":[{rows}]}}'.encode()


def tag():
    return '"' + hashlib.md5(data()).hexdigest() + '"'


def save(form):
    VALUE.write_text(parse_qs(form.decode())["value"][0])


def summary(upload):
    return f'{{"bytes":{len(upload)},"sha1":"{hashlib.sha1(upload).hexdigest()}"}}'.encode()


def file():
    return (SITE / "file.bin").read_bytes()


def answer(method, path, body, if_none_match=None):
    """Status, header list and body, for the stacks whose idiom is a function from request to response."""
    if path == "/":
        return 200, [("Content-Type", "text/html; charset=utf-8")], page()
    if path == "/data":
        return 200, [("Content-Type", "application/json")], data()
    if path == "/tagged":
        headers = [("ETag", tag()), ("Cache-Control", "no-cache")]
        if if_none_match == tag():
            return 304, headers, b""
        return 200, [("Content-Type", "application/json"), *headers], data()
    if path == "/save" and method == "POST":
        save(body)
        return 303, [("Location", "/")], b""
    if path == "/upload" and method == "POST":
        return 200, [("Content-Type", "application/json")], summary(body)
    if path == "/file.bin":
        return 200, [("Content-Type", "application/octet-stream")], file()
    if path == "/wait":
        time.sleep(WAIT)
        return 200, [("Content-Type", "text/plain")], b"waited"
    if path == "/cookie":
        return 200, [("Content-Type", "text/plain"), ("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2; HttpOnly")], b"two cookies"
    if path == "/moved":
        return 302, [("Location", "/data")], b""
    return 404, [("Content-Type", "text/plain")], b"no such page"
