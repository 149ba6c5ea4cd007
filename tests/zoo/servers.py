"""The server stacks of the zoo: how each is started, and under which paths it offers the application."""

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

STACKS = Path(__file__).parent / "stacks"

# What is asked for, and where most stacks offer it. A stack that lacks a path answers 404, which is compared as well.
PATHS = {
    name: f"/{name}" for name in ("data", "tagged", "save", "upload", "file.bin", "wait", "moved", "cookie", "events", "early", "missing")
} | {"page": "/"}

CGI = {name: f"/cgi-bin/poll.cgi/{name}" for name in ("data", "save", "upload", "wait", "events")} | {
    "tagged": "/data.json",
    "moved": "/folder",
}


@dataclass(frozen=True)
class Stack:
    """A server and how to start it. `command` and `files` know {port}, {site}, {stacks}, {scratch} and {venv}."""

    name: str
    command: list
    needs: tuple = ()
    files: dict = field(default_factory=dict)
    prepare: tuple = ()
    paths: dict = field(default_factory=dict)
    # Among those that every change is tested with: quick to install and to start.
    in_ci: bool = False

    def path(self, name):
        return self.paths.get(name, PATHS[name])

    def missing(self):
        return [need for need in self.needs if not shutil.which(need)]

    def start(self, port, site, scratch, venv):
        names = dict(port=port, site=site, stacks=STACKS, scratch=scratch, venv=venv)
        environment = os.environ | {
            "ZOO_SITE": str(site),
            "PYTHONPATH": str(STACKS),
            "PYTHONDONTWRITEBYTECODE": "1",
            "XDG_CONFIG_HOME": str(scratch),
            "XDG_DATA_HOME": str(scratch),
            "NODE_PATH": str(venv / "node_modules"),
        }
        for name, text in self.files.items():
            for key, value in names.items():
                text = text.replace("{" + key + "}", str(value))
            (scratch / name).write_text(text)
        for step in self.prepare:
            subprocess.run([part.format(**names) for part in step], check=True, cwd=scratch, env=environment)
        log = (scratch / "log").open("wb")
        command = [part.format(**names) for part in self.command]
        return subprocess.Popen(command, cwd=scratch, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def python(name, *command, in_ci=False):
    return Stack(name, ["{venv}/bin/python", *command], in_ci=in_ci)


def node(name, script, in_ci=False):
    # Modules are found beside the script, so it is started from a copy beside the packages.
    return Stack(name, ["node", "{venv}/" + script, "{port}"], ("node",), prepare=(("cp", "-r", "{stacks}/.", "{venv}"),), in_ci=in_ci)


NGINX = """
daemon off; pid {scratch}/nginx.pid; error_log {scratch}/error.log; user root; worker_processes 1;
events { worker_connections 256; }
http {
    include /etc/nginx/mime.types;
    access_log off; client_body_temp_path {scratch}; fastcgi_temp_path {scratch}; proxy_temp_path {scratch};
    uwsgi_temp_path {scratch}; scgi_temp_path {scratch}; gzip on; gzip_types application/json;
    server {
        listen 127.0.0.1:{port};
        root {site};
        LOCATIONS
    }
}
"""

FPM = """
[global]
error_log = {scratch}/fpm.log
daemonize = no
[www]
user = root
group = root
listen = {scratch}/fpm.sock
pm = static
pm.max_children = 4
clear_env = no
"""

# Both programs in one process group; the one in front starts when the other listens.
WITH_FPM = "php-fpm8.2 -R -y {scratch}/fpm.conf & until [ -S {scratch}/fpm.sock ]; do sleep 0.05; done; exec "

NGINX_FPM = """
        location = /file.bin { }
        location / {
            include /etc/nginx/fastcgi_params;
            fastcgi_param SCRIPT_FILENAME {stacks}/index.php;
            fastcgi_pass unix:{scratch}/fpm.sock;
            fastcgi_buffering off;
        }
"""

NGINX_STATIC = "location = / { try_files /index.html =404; } location /tagged { try_files /data.json =404; } location /moved { return 302 /data; }"

APACHE_BASE = """
ServerRoot {scratch}
ServerName localhost
PidFile {scratch}/apache.pid
ErrorLog {scratch}/error.log
Listen 127.0.0.1:{port}
User www-data
Group www-data
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule dir_module /usr/lib/apache2/modules/mod_dir.so
LoadModule mime_module /usr/lib/apache2/modules/mod_mime.so
LoadModule alias_module /usr/lib/apache2/modules/mod_alias.so
LoadModule env_module /usr/lib/apache2/modules/mod_env.so
LoadModule deflate_module /usr/lib/apache2/modules/mod_deflate.so
LoadModule filter_module /usr/lib/apache2/modules/mod_filter.so
TypesConfig /etc/mime.types
DocumentRoot {site}
AddOutputFilterByType DEFLATE text/html application/json
<Directory />
    Require all granted
</Directory>
"""

APACHE_CGI = APACHE_BASE + """
LoadModule cgid_module /usr/lib/apache2/modules/mod_cgid.so
ScriptSock {scratch}/cgi.sock
SetEnv ZOO_SITE {site}
ScriptAlias /cgi-bin/ {site}/cgi-bin/
"""

APACHE_FPM = APACHE_BASE + """
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_fcgi_module /usr/lib/apache2/modules/mod_proxy_fcgi.so
LoadModule rewrite_module /usr/lib/apache2/modules/mod_rewrite.so
RewriteEngine on
RewriteRule ^/file\\.bin$ - [END]
RewriteRule ^.*$ {stacks}/index.php [END,H=proxy:unix:{scratch}/fpm.sock|fcgi://localhost]
"""

LIGHTTPD = """
server.document-root = "{site}"
server.bind = "127.0.0.1"
server.port = {port}
server.modules = ("mod_indexfile", "mod_cgi", "mod_setenv", "mod_staticfile")
server.errorlog = "{scratch}/error.log"
index-file.names = ("index.html")
mimetype.assign = (".html" => "text/html", ".json" => "application/json", "" => "application/octet-stream")
setenv.add-environment = ("ZOO_SITE" => "{site}")
$HTTP["url"] =~ "^/cgi-bin/" { cgi.assign = (".cgi" => "") }
"""

YAWS = """
logdir = {scratch}
ebin_dir = {scratch}
include_dir = {scratch}
<server localhost>
    port = {port}
    listen = 127.0.0.1
    docroot = {site}
</server>
"""

FILES = {"tagged": "/data.json", "moved": "/folder"}

ALL = [
    python("http.server (HTTP/1.0)", "{stacks}/http_server.py", "{port}", in_ci=True),
    python("http.server (HTTP/1.1)", "{stacks}/http_server.py", "{port}", "HTTP/1.1"),
    python("wsgiref", "{stacks}/wsgi.py", "{port}", in_ci=True),
    python("gunicorn", "-m", "gunicorn", "--no-control-socket", "--threads", "4", "--bind", "127.0.0.1:{port}", "wsgi:application", in_ci=True),
    python("waitress", "{stacks}/wsgi.py", "{port}", "waitress"),
    python("cheroot", "{stacks}/wsgi.py", "{port}", "cheroot"),
    python("CherryPy", "{stacks}/cherrypy_app.py", "{port}"),
    python("uvicorn", "-m", "uvicorn", "--port", "{port}", "--log-level", "critical", "asgi:application", in_ci=True),
    python("hypercorn", "-m", "hypercorn", "--bind", "127.0.0.1:{port}", "asgi:application"),
    python("aiohttp", "{stacks}/aiohttp_app.py", "{port}", in_ci=True),
    python("Tornado", "{stacks}/tornado_app.py", "{port}"),
    python("Twisted", "{stacks}/twisted_app.py", "{port}"),
    node("Node.js http", "node_http.mjs", in_ci=True),
    node("Express", "express_app.mjs", in_ci=True),
    node("Fastify", "fastify_app.mjs"),
    Stack("PHP, built-in server", ["php", "-S", "127.0.0.1:{port}", "{stacks}/index.php"], ("php",)),
    Stack(
        "PHP-FPM, nginx",
        ["sh", "-c", WITH_FPM + "nginx -p {scratch} -c {scratch}/nginx.conf"],
        ("php-fpm8.2", "nginx"),
        files={"nginx.conf": NGINX.replace("LOCATIONS", NGINX_FPM), "fpm.conf": FPM},
    ),
    Stack(
        "PHP-FPM, Apache httpd",
        ["sh", "-c", WITH_FPM + "apache2 -X -f {scratch}/apache.conf"],
        ("php-fpm8.2", "apache2"),
        files={"apache.conf": APACHE_FPM, "fpm.conf": FPM + "listen.mode = 0666\n"},
    ),
    Stack("Perl, HTTP::Daemon", ["perl", "{stacks}/http_daemon.pl", "{port}"], ("perl",)),
    Stack("Perl, Starman", ["starman", "--workers", "4", "--listen", "127.0.0.1:{port}", "{stacks}/app.psgi"], ("starman",)),
    Stack("Ruby, WEBrick", ["ruby", "{stacks}/webrick.rb", "{port}"], ("ruby",)),
    Stack("Ruby, Puma", ["puma", "--quiet", "--bind", "tcp://127.0.0.1:{port}", "{stacks}/config.ru"], ("puma",)),
    Stack("Go, net/http", ["{scratch}/zoo", "{port}"], ("go",), prepare=(("go", "build", "-o", "{scratch}/zoo", "{stacks}/main.go"),)),
    Stack("Java, com.sun.net.httpserver", ["java", "{stacks}/Zoo.java", "{port}"], ("java",)),
    Stack("Yaws", ["yaws", "-i", "--erlarg", "-noinput", "--conf", "{scratch}/yaws.conf", "--id", "zoo{port}"], ("yaws",), files={"yaws.conf": YAWS}, paths=FILES),
    Stack("Apache httpd, CGI", ["apache2", "-X", "-f", "{scratch}/apache.conf"], ("apache2",), files={"apache.conf": APACHE_CGI}, paths=CGI),
    Stack("lighttpd, CGI", ["lighttpd", "-D", "-f", "{scratch}/lighttpd.conf"], ("lighttpd",), files={"lighttpd.conf": LIGHTTPD}, paths=CGI),
    Stack("nginx, static", ["nginx", "-p", "{scratch}", "-c", "{scratch}/nginx.conf"], ("nginx",), files={"nginx.conf": NGINX.replace("LOCATIONS", NGINX_STATIC)}, paths={"tagged": "/data.json"}, in_ci=True),
    Stack("mini-httpd, CGI", ["mini_httpd", "-D", "-h", "127.0.0.1", "-p", "{port}", "-d", "{site}", "-c", "cgi-bin/*.cgi"], ("mini_httpd",), paths=CGI | {"page": "/index.html"}),
    Stack("webfs", ["webfsd", "-F", "-i", "127.0.0.1", "-p", "{port}", "-r", "{site}", "-f", "index.html"], ("webfsd",), paths=FILES),
    Stack("BusyBox httpd, CGI", ["busybox", "httpd", "-f", "-p", "127.0.0.1:{port}", "-h", "{site}"], ("busybox",), paths=CGI, in_ci=True),
]
