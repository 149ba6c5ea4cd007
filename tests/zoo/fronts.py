"""Proxies in front of Sungrazer: the same requests through each of them, with Sungrazer behind it and without.

    fronts.py [--only NAME]… [--table FILE]

Each proxy is set up as it is by default, as docs/guide/proxies.md recommends, and with a shared cache. Besides responses, a
stream has to arrive through each that is set up as recommended.
"""

import argparse
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from client import Broken, Connection
from run import CLIENTS, REQUESTS, Running, ask_either, differences, free_port, make_site, sungrazer, wait_for
from servers import ALL, APACHE_BASE, Stack

NGINX = """
daemon off; pid {scratch}/nginx.pid; error_log {scratch}/error.log; user root; worker_processes 1;
events { worker_connections 256; }
http {
    access_log off; client_body_temp_path {scratch}; fastcgi_temp_path {scratch}; proxy_temp_path {scratch};
    uwsgi_temp_path {scratch}; scgi_temp_path {scratch};
    proxy_cache_path {scratch}/cache keys_zone=shared:1m;
    client_max_body_size 8m;
    server {
        listen 127.0.0.1:{port};
        location / {
            proxy_pass http://127.0.0.1:{upstream};
            MORE
        }
    }
}
"""

NGINX_RECOMMENDED = """
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_read_timeout 90s;
"""

HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 90s
    timeout server 90s
    MORE
listen site
    bind 127.0.0.1:{port}
    server behind 127.0.0.1:{upstream}
"""

HAPROXY_CACHE = """
cache shared
    total-max-size 4
    max-age 10
defaults
    mode http
    timeout connect 5s
    timeout client 90s
    timeout server 90s
listen site
    bind 127.0.0.1:{port}
    http-request cache-use shared
    http-response cache-store shared
    server behind 127.0.0.1:{upstream}
"""

APACHE = APACHE_BASE.replace("AddOutputFilterByType DEFLATE text/html application/json\n", "") + """
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
LoadModule cache_module /usr/lib/apache2/modules/mod_cache.so
LoadModule cache_disk_module /usr/lib/apache2/modules/mod_cache_disk.so
CacheRoot {scratch}/cache
ProxyPreserveHost On
ProxyPass / http://127.0.0.1:{upstream}/ MORE
"""

SQUID = """
http_port 127.0.0.1:{port} accel defaultsite=127.0.0.1
cache_peer 127.0.0.1 parent {upstream} 0 no-query originserver
http_access allow all
pid_filename {scratch}/squid.pid
access_log none
cache_log {scratch}/squid.log
coredump_dir {scratch}
cache_mem 8 MB
cache_effective_user proxy
shutdown_lifetime 0 seconds
"""

CADDY = """
{
    admin off
    auto_https off
}
http://127.0.0.1:{port} {
    reverse_proxy 127.0.0.1:{upstream}
}
"""

VARNISH = 'vcl 4.1;\nbackend default { .host = "127.0.0.1"; .port = "{upstream}"; }\n'

# As docs/guide/proxies.md recommends: what is asked for as a stream is not cached and not collected.
VARNISH_STREAMS = VARNISH + 'sub vcl_recv { if (req.http.Accept ~ "text/event-stream") { return (pipe); } }\n'


@dataclass(frozen=True)
class Front:
    """A proxy; `streams` says whether an event has to arrive through it at once."""

    name: str
    command: list
    file: str
    text: str
    streams: bool

    def stack(self, upstream):
        return Stack(self.name, self.command, files={self.file: self.text.replace("{upstream}", str(upstream))})


def nginx(name, more, streams=True):
    command = ["nginx", "-p", "{scratch}", "-c", "{scratch}/nginx.conf"]
    return Front(f"nginx, {name}", command, "nginx.conf", NGINX.replace("MORE", more), streams)


def haproxy(name, text):
    return Front(f"HAProxy, {name}", ["haproxy", "-f", "{scratch}/haproxy.conf", "-db"], "haproxy.conf", text, True)


def apache(name, more):
    return Front(f"Apache httpd, {name}", ["apache2", "-X", "-f", "{scratch}/apache.conf"], "apache.conf", APACHE.replace("MORE", more), True)


def varnish(name, text, streams):
    command = ["varnishd", "-F", "-n", "{scratch}/varnish", "-a", "127.0.0.1:{port}", "-f", "{scratch}/site.vcl", "-s", "malloc,16m"]
    return Front(f"Varnish, {name}", command, "site.vcl", text, streams)


FRONTS = [
    nginx("default", ""),
    nginx("recommended", NGINX_RECOMMENDED),
    nginx("shared cache", NGINX_RECOMMENDED + "proxy_cache shared; proxy_cache_valid 200 0s; proxy_cache_revalidate on;"),
    haproxy("default", HAPROXY.replace("MORE", "")),
    haproxy("recommended", HAPROXY.replace("MORE", "option abortonclose")),
    haproxy("shared cache", HAPROXY_CACHE),
    apache("default", ""),
    apache("recommended", "flushpackets=on timeout=90"),
    apache("shared cache", "flushpackets=on timeout=90\nCacheEnable disk /"),
    varnish("default", VARNISH, streams=False),
    varnish("recommended", VARNISH_STREAMS, streams=True),
    Front("Squid, accelerator", ["squid", "-N", "-f", "{scratch}/squid.conf"], "squid.conf", SQUID, True),
    Front("Caddy, default", ["caddy", "run", "--adapter", "caddyfile", "--config", "{scratch}/Caddyfile"], "Caddyfile", CADDY, True),
]


def streams(port, path):
    """What is wrong with a stream of `path` at `port`, if anything."""
    with Connection(port) as connection:
        connection.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n".encode())
        began = time.monotonic()
        try:
            connection._until(b"data:")
        except (Broken, OSError) as error:
            return [f"a stream does not arrive: {error}"]
        took = time.monotonic() - began
        return [f"the first event of a stream took {took:.1f} s"] if took > 3 else []


def compare(front, venv, root):
    """What differs behind `front` with and without Sungrazer."""
    application = next(stack for stack in ALL if stack.name == "Node.js http")
    site, scratch = root / "site", root / "scratch"
    make_site(site)
    scratch.mkdir()
    scratch.chmod(0o777)
    port = free_port()
    with Running(application.start(port, site, scratch, venv)) as server:
        wait_for(port, server, scratch / "log")
        config = scratch / "sungrazer.toml"
        config.write_text(f'[upstream]\nurl = "http://127.0.0.1:{port}"\n[server]\ntrusted_proxies = ["127.0.0.1"]\n[[route]]\npath = "/data"\nevery = "1s"\n[[route]]\npath = "/**"\nshim = "learn"\n')
        proxy, behind = sungrazer(scratch, ["-c", str(config)])
        with Running(proxy):
            folders = []
            for name in ("direct", "through"):
                folder = root / name
                (folder / "cache").mkdir(parents=True)
                folder.chmod(0o777)
                (folder / "cache").chmod(0o777)
                folders.append(folder)
            ports = free_port(), free_port()
            with (
                Running(front.stack(port).start(ports[0], site, folders[0], venv)) as direct,
                Running(front.stack(behind).start(ports[1], site, folders[1], venv)) as through,
            ):
                wait_for(ports[0], direct, folders[0] / "log")
                wait_for(ports[1], through, folders[1] / "log")
                found, count = responses(application, ports)
                if front.streams:
                    found += streams(ports[1], "/data")
                return count, found


def responses(application, ports):
    found, count = {}, 0
    for client in [name for name, client in CLIENTS.items() if not client[2]]:
        for name, method, wanted, headers, body in REQUESTS:
            count += 1
            request = (name, method, application.path(wanted), headers, body)
            direct, through = ask_either((client, client), ports, request)
            if isinstance(direct, str):
                continue
            # Whether an event stream comes in pieces depends on the proxy; that ours does is checked apart.
            for what in [through] if isinstance(through, str) else differences(name, client, direct, through, ports):
                found.setdefault(f"{name}: {what}", []).append(client)
    return [f"{what} ({', '.join(by)})" for what, by in found.items()], count


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--table", type=Path)
    parser.add_argument("--venv", type=Path, default=Path(os.environ.get("ZOO_VENV", Path.home() / ".cache/sungrazer/zoo")))
    options = parser.parse_args()
    rows, failed = [], 0
    for front in FRONTS:
        if options.only and not any(part.lower() in front.name.lower() for part in options.only):
            continue
        with tempfile.TemporaryDirectory(prefix="zoo.") as folder:
            Path(folder).chmod(0o755)
            count, found = compare(front, options.venv, Path(folder))
        failed += bool(found)
        rows.append(f"| {front.name} | {count} | {len(found) or 'none'} |")
        print(f"{front.name}: {count} requests, {len(found)} differences", flush=True)
        for line in found:
            print(f"    {line}", flush=True)
    if options.table:
        options.table.write_text("| proxy in front | requests compared | differences |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n")
    print(f"{len(rows) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
