"""The server zoo: the same requests to real servers, directly and through Sungrazer, and what differs.

    run.py [--ci] [--only NAME]… [--jobs N] [--table FILE]

Each server stack is started, with Sungrazer in front of it twice: by `--upstream` alone, and with routes. Each is asked the
same list of requests by HTTP/1.0, HTTP/1.1 (keep-alive and close) and HTTP/2 clients. Status, headers, bodies, the
order of events and the fate of the connection have to be equal, but for the differences that `DIFFERENCES` and
`EXPECTED` list with their reasons.
"""

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from client import Broken, Connection, ask_http2, decoded
from servers import ALL

HERE = Path(__file__).parent

# Headers that may differ, and why. docs/internals/zoo.md repeats this list.
DIFFERENCES = {
    "connection": "belongs to one connection (RFC 9110 section 7.6.1)",
    "keep-alive": "belongs to one connection",
    "transfer-encoding": "belongs to one connection; the body is compared instead",
    "content-length": "compared with the body; a response whose length Sungrazer knows may be given one",
    "date": "the moment of the response",
    "via": "Sungrazer names itself, as a proxy must (RFC 9110 section 7.6.3)",
    "age": "responses from memory",
    "cache-status": "responses from memory (RFC 9211)",
    "expires": "relative to the moment of the response",
    "x-varnish": "a number of Varnish's for each request",
    "x-cache": "Squid's and others' own: whether their cache had it",
    "x-cache-lookup": "Squid's own",
}

# Differences in responses to some clients, and why. docs/internals/zoo.md repeats this list, too.
EXPECTED = {
    "HTTP/1.1": "Sungrazer asks in HTTP/1.1, in which some servers offer ranges, or compress for clients that ask for it, and in HTTP/1.0 not",
    "scheme": "the application learns from X-Forwarded-Proto that the site is reached by TLS, and redirects there",
    "validators of a page": "a page that the browser script was put into is not the one that the application tagged",
    "tag from memory": "a response from memory has a tag, although the application gave none",
    "event stream": "the connection on which an event stream was asked for is closed after the response",
    "refused upload": "a response that comes before the body of its request was sent ends the connection",
    "HTTP/1.0": "HTTP/1.0 has no chunked coding: a page that is rewritten on its way, and a response from memory, end with the connection",
}

UPLOAD = bytes(range(256)) * 4096  # 1 MiB
FORM = [("Content-Type", "application/x-www-form-urlencoded")]
NAVIGATION = [("Sec-Fetch-Dest", "document"), ("Sec-Fetch-Mode", "navigate"), ("Sec-Fetch-Site", "none"), ("Accept", "text/html,*/*")]
GZIP = [("Accept-Encoding", "gzip, deflate, br")]

# Name, method, what is asked for, headers, body.
REQUESTS = [
    ("page", "GET", "page", [], b""),
    ("page, compressed", "GET", "page", GZIP, b""),
    ("page, navigated to", "GET", "page", NAVIGATION, b""),
    ("page, HEAD", "HEAD", "page", [], b""),
    ("data", "GET", "data", [], b""),
    ("data, again", "GET", "data", [], b""),
    ("data, compressed", "GET", "data", GZIP, b""),
    ("data, HEAD", "HEAD", "data", [], b""),
    ("tagged", "GET", "tagged", [], b""),
    ("tagged, compressed", "GET", "tagged", GZIP, b""),
    ("tagged, HEAD", "HEAD", "tagged", [], b""),
    ("form", "POST", "save", FORM, b"value=saved"),
    ("data, after the form", "GET", "data", [], b""),
    ("upload", "POST", "upload", [("Content-Type", "application/octet-stream")], UPLOAD),
    ("upload, empty", "POST", "upload", [("Content-Type", "application/octet-stream")], b""),
    ("file", "GET", "file.bin", [], b""),
    ("file, a range", "GET", "file.bin", [("Range", "bytes=100-299")], b""),
    ("file, the last bytes", "GET", "file.bin", [("Range", "bytes=-10")], b""),
    ("file, a range that is none", "GET", "file.bin", [("Range", "bytes=999999999-")], b""),
    ("wait", "GET", "wait", [], b""),
    ("moved", "GET", "moved", [], b""),
    ("cookie", "GET", "cookie", [], b""),
    ("early hints", "GET", "early", [], b""),
    ("events", "GET", "events", [("Accept", "text/event-stream")], b""),
    ("missing", "GET", "missing", [], b""),
    ("data, other method", "DELETE", "data", [], b""),
    ("options", "OPTIONS", "data", [], b""),
]

# Version, whether the connection is to be kept, and whether this is HTTP/2.
CLIENTS = {
    "HTTP/1.0": ("HTTP/1.0", [], False),
    "HTTP/1.0 keep-alive": ("HTTP/1.0", [("Connection", "keep-alive")], False),
    "HTTP/1.1": ("HTTP/1.1", [], False),
    "HTTP/1.1 close": ("HTTP/1.1", [("Connection", "close")], False),
    "HTTP/2": ("HTTP/1.1", [], True),
}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port, process, log):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.05)
    sys.exit(f"does not listen: {Path(log).read_text(errors='replace')[-2000:]}")


class Running:
    """A process group that is ended with the block."""

    def __init__(self, process):
        self.process = process

    def __enter__(self):
        return self.process

    def __exit__(self, *_):
        for sign in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, sign)
            except ProcessLookupError:
                pass
            try:
                self.process.wait(5)
                if sign == signal.SIGKILL:
                    return
            except subprocess.TimeoutExpired:
                pass


def make_site(folder):
    (folder / "cgi-bin").mkdir(parents=True)
    (folder / "folder").mkdir()
    (folder / "folder" / "index.html").write_text("<p>A folder.</p>")
    (folder / "index.html").write_bytes((HERE / "site" / "index.html").read_bytes())
    (folder / "file.bin").write_bytes(bytes((n * 7 + n // 256) % 256 for n in range(100_000)))
    (folder / "data.json").write_text('{"value":"static"}')
    script = folder / "cgi-bin" / "poll.cgi"
    script.write_bytes((HERE / "stacks" / "poll.cgi").read_bytes())
    (folder / "value.txt").write_text("first")
    for path in [folder, folder / "cgi-bin", folder / "folder"]:
        path.chmod(0o777)
    script.chmod(0o755)
    (folder / "value.txt").chmod(0o666)


def sungrazer(scratch, arguments):
    log = (scratch / "sungrazer.log").open("wb")
    command = [os.environ["SUNGRAZER"], "run", "--admin", "127.0.0.1:0", "--listen", "127.0.0.1:0", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    line = process.stdout.readline().decode()
    if "sungrazer ready" not in line:
        sys.exit(f"Sungrazer does not start: {(scratch / 'sungrazer.log').read_text()}")
    return process, int(line.split("listen=")[1].split()[0].rsplit(":", 1)[1])


def certificate(scratch):
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-keyout", scratch / "key.pem", "-out", scratch / "cert.pem"]
    subprocess.run(command, check=True, capture_output=True)


def configuration(scratch, port, stack, tls):
    text = f'[upstream]\nurl = "http://127.0.0.1:{port}"\n'
    if tls:
        text += f'[server]\ntls = {{ cert = "{scratch}/cert.pem", key = "{scratch}/key.pem" }}\n'
    for name in ("data", "tagged"):
        text += f'[[route]]\npath = "{stack.path(name)}"\nevery = "1s"\n'
    path = scratch / ("tls.toml" if tls else "routes.toml")
    path.write_text(text + '[[route]]\npath = "/**"\nshim = true\n')
    return path


def ask(port, client, name, method, path, headers, body):
    version, more, http2 = CLIENTS[client]
    if http2:
        return ask_http2(port, method, path, headers, body)
    with Connection(port) as connection:
        response = connection.ask(method, path, version, [("Host", f"127.0.0.1:{port}"), *more, *headers], body)
        if response.reusable and name != "upload":
            # A connection that is said to be kept is kept, and nothing is left on it.
            again = connection.ask("GET", path if method == "GET" else "/", version, [("Host", "x"), *more, *headers])
            if again.status >= 500 and response.status < 500:
                raise Broken(f"the second request on the connection was answered {again.status}")
        return response


def comparable(response, port):
    fields = sorted((name, value.replace(f":{port}", ":PORT")) for name, value in response.headers if name not in DIFFERENCES)
    return fields


def without_script(body):
    """A page without the tag and the comment that Sungrazer put in."""
    body = re.sub(rb"<!--sungrazer .*?-->\n?", b"", body)
    start = body.find(b"<script")
    while start >= 0:
        end = body.find(b"</script>", start)
        if b"/.sungrazer/shim.js" in body[start:end]:
            return body[:start] + body[end + len(b"</script>") :]
        start = body.find(b"<script", start + 1)
    return body


def differences(name, client, direct, through, ports):
    """What differs between two responses, in words."""
    found = []
    version = CLIENTS[client][0]
    if version == "HTTP/1.0" and name.startswith("file") and (direct.status, through.status) in ((200, 206), (200, 416)):
        return []  # EXPECTED["HTTP/1.1"]
    if through.status != direct.status:
        return [f"status {direct.status} became {through.status}"]
    # EXPECTED["HTTP/1.1"]
    compresses = version == "HTTP/1.0" and through.values("content-encoding") == ["gzip"] and not direct.values("content-encoding")
    wanted, got = comparable(direct, ports[0]), comparable(through, ports[1])
    is_navigation = name == "page, navigated to"
    for field in sorted({field for field, _ in wanted + got}):
        before, after = ([value for key, value in fields if key == field] for fields in (wanted, got))
        if before == after:
            continue
        if field == "accept-ranges" and not before and version == "HTTP/1.0":
            continue  # EXPECTED["HTTP/1.1"]
        if field == "location" and CLIENTS[client][2] and [value.replace("http:", "https:") for value in before] == after:
            continue  # EXPECTED["scheme"]
        if field == "vary" and set(tokens(before)) <= set(tokens(after)):
            continue
        if field in ("etag", "accept-ranges", "cache-control", "content-encoding", "content-md5") and (is_navigation or compresses):
            continue  # EXPECTED["validators of a page"]
        if field == "etag" and not before and through.values("cache-status"):
            continue  # EXPECTED["tag from memory"]
        found.append(f"{field}: {before} became {after}")
    before, after = decoded(direct), decoded(through)
    if is_navigation:
        after = without_script(after)
    if b"<" in before[:200]:
        # Generated pages often name the site, and some the port that their server listens on itself.
        before, after = (re.sub(rb"https?://127.0.0.1:\d+|\b(%d|%d)\b" % ports, b"SITE", page) for page in (before, after))
    # An error page of a server in front may carry a number of its own.
    if before != after and direct.status < 500:
        found.append(f"a body of {len(before)} bytes became one of {len(after)}: {after[:60]!r}")
    if not CLIENTS[client][2]:
        if version == "HTTP/1.0" and through.framing == "chunked":
            found.append("chunked coding to an HTTP/1.0 client")
        if version == "HTTP/1.0" and through.interim:
            found.append(f"interim responses to an HTTP/1.0 client: {through.interim}")
        if version == "HTTP/1.1" and through.version != "HTTP/1.1":
            found.append(f"version {through.version}")
        if direct.reusable and not through.reusable and not compresses and not may_close(name, client, through):
            found.append("the connection is not kept")
    return found


def may_close(name, client, through):
    """Whether the connection may end with this response, although the server itself would keep it."""
    if name == "events":
        return True  # EXPECTED["event stream"]
    if name == "upload" and through.status >= 400:
        return True  # EXPECTED["refused upload"]
    cached = bool(through.values("cache-status"))
    return CLIENTS[client][0] == "HTTP/1.0" and (name == "page, navigated to" or cached)  # EXPECTED["HTTP/1.0"]


def came_together(direct, through):
    """Whether the events of a stream came together, although they come apart from the server itself."""
    return len(direct.pieces) >= 3 and through.pieces[-1] - through.pieces[0] < 0.04


def ask_either(by, ports, request):
    """The responses of the server and of Sungrazer; what went wrong, where there is none."""
    responses = []
    for port, client in zip(ports, by, strict=True):
        try:
            responses.append(ask(port, client, *request))
        except (Broken, OSError, ValueError) as error:
            responses.append(f"{type(error).__name__}: {error}")
    return responses


def judge(name, client, by, ports, request):
    """What differs between the two responses to one request."""
    # A busy machine, too, makes events come together: not each time.
    for _ in range(5):
        direct, through = ask_either(by, ports, request)
        # Where the server itself gives no response, Sungrazer need not give one either.
        if isinstance(direct, str):
            return []
        if isinstance(through, str):
            return [through]
        if name != "events" or CLIENTS[client][2] or direct.status != 200 or not came_together(direct, through):
            return differences(name, client, direct, through, ports)
    return [f"events came together: {[round(at, 3) for at in through.pieces]}"]


def compare(stack, direct, through, clients):
    """What differs for one stack, by request and client; and how many requests were compared."""
    found, count = {}, 0
    for client in clients:
        plain = "HTTP/1.1" if CLIENTS[client][2] else client
        for name, method, wanted, headers, body in REQUESTS:
            ports = (direct, through[CLIENTS[client][2]])
            request = (name, method, stack.path(wanted), headers, body)
            count += 1
            for what in judge(name, client, (plain, client), ports, request):
                found.setdefault(f"{name}: {what}", []).append(client)
    for what in validators(stack, direct, through[False]):
        found[what] = ["HTTP/1.1"]
    return [f"{what} ({', '.join(by)})" for what, by in found.items()], count


def validators(stack, direct, through):
    """Conditional requests with the tag and the date that the stack itself, and the proxy, has given."""
    found = []
    path = stack.path("tagged")
    for field, condition in (("etag", "If-None-Match"), ("last-modified", "If-Modified-Since")):
        statuses = []
        for port in (direct, through):
            with Connection(port) as connection:
                first = connection.ask("GET", path, headers=[("Host", "x"), ("Connection", "close")])
            given = first.values(field)
            if not given:
                statuses.append(None)
                continue
            with Connection(port) as connection:
                second = connection.ask("GET", path, headers=[("Host", "x"), ("Connection", "close"), (condition, given[0])])
            statuses.append(second.status)
        if statuses[0] is not None and statuses[0] != statuses[1]:
            found.append(f"{condition}: {statuses[0]} became {statuses[1]}")
    return found


def tokens(values):
    return [token.strip().lower() for value in values for token in value.split(",")]


def visit(stack, venv):
    """Compares one stack. Returns how many requests were compared, what differs, and how long it took."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="zoo.") as folder:
        root = Path(folder)
        root.chmod(0o755)
        site, scratch = root / "site", root / "scratch"
        make_site(site)
        scratch.mkdir(mode=0o777)
        scratch.chmod(0o777)
        port = free_port()
        with Running(stack.start(port, site, scratch, venv)) as server:
            wait_for(port, server, scratch / "log")
            found, count = [], 0
            certificate(scratch)
            learning, at = sungrazer(scratch, ["--upstream", f"http://127.0.0.1:{port}"])
            with Running(learning):
                said, asked = compare(stack, port, {False: at, True: at}, [name for name, client in CLIENTS.items() if not client[2]])
                found, count = found + [f"--upstream: {what}" for what in said], count + asked
            plain, at = sungrazer(scratch, ["-c", str(configuration(scratch, port, stack, tls=False))])
            tls, secure = sungrazer(scratch, ["-c", str(configuration(scratch, port, stack, tls=True))])
            with Running(plain), Running(tls):
                said, asked = compare(stack, port, {False: at, True: secure}, CLIENTS)
                found, count = found + [f"routes: {what}" for what in said], count + asked
                # With a stream open, polls are answered from memory.
                with Connection(at) as stream:
                    stream.socket.sendall(f"GET {stack.path('data')} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n".encode())
                    stream._until(b"\r\n\r\n")
                    said, asked = compare(stack, port, {False: at, True: secure}, ["HTTP/1.1", "HTTP/1.0"])
                found, count = found + [f"memory: {what}" for what in said], count + asked
        return count, found, time.monotonic() - began


def undocumented():
    """What of the differences docs/internals/zoo.md does not tell."""
    text = (HERE.parent.parent / "docs" / "internals" / "zoo.md").read_text()
    return [reason for reason in {**DIFFERENCES, **EXPECTED}.values() if reason not in text]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--ci", action="store_true", help="only the stacks that every change is tested with")
    parser.add_argument("--only", action="append", default=[], help="only stacks whose names contain this")
    parser.add_argument("--jobs", type=int, default=6, help="how many stacks are compared at the same time")
    parser.add_argument("--table", type=Path, help="where to write the table")
    parser.add_argument("--venv", type=Path, default=Path(os.environ.get("ZOO_VENV", Path.home() / ".cache/sungrazer/zoo")))
    options = parser.parse_args()
    if missing := undocumented():
        sys.exit(f"docs/internals/zoo.md does not tell: {missing}")
    stacks = [stack for stack in ALL if stack.in_ci or not options.ci]
    if options.only:
        stacks = [stack for stack in stacks if any(part.lower() in stack.name.lower() for part in options.only)]
    for stack in stacks:
        if missing := stack.missing():
            sys.exit(f"{stack.name} needs {', '.join(missing)}")
    rows, failed = [], 0
    # They mostly wait, so that more of them can run than there are processors.
    with ThreadPoolExecutor(options.jobs) as pool:
        for stack, (count, found, took) in zip(stacks, pool.map(lambda stack: visit(stack, options.venv), stacks), strict=True):
            failed += bool(found)
            rows.append(f"| {stack.name} | {count} | {len(found) or 'none'} |")
            print(f"{stack.name}: {count} requests in {took:.1f} s, {len(found)} differences", flush=True)
            for line in found:
                print(f"    {line}", flush=True)
    if options.table:
        options.table.write_text("| stack | requests compared | differences |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n")
    print(f"{len(stacks) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
