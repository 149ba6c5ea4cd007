"""A status page by a CGI program (RFC 3875): a process for each request, which writes head and body."""

import os
import subprocess
import tempfile
from email.parser import HeaderParser
from pathlib import Path

from web import Answer, get, post, text

PROGRAM = Path(__file__).resolve().parents[1] / "status.cgi"
PATIENCE = 10

state = tempfile.TemporaryDirectory(prefix="sungrazer-gallery-")


def run(request):
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "GATEWAY_INTERFACE": "CGI/1.1",
        "SERVER_SOFTWARE": "Gallery/1.0",
        "REQUEST_METHOD": request.method,
        "CONTENT_LENGTH": str(len(request.body)),
        "GALLERY_STATE": state.name,
    }
    try:
        said = subprocess.run([PROGRAM], input=request.body, env=environment, stdout=subprocess.PIPE, timeout=PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        return text("the program failed\n", status=500)
    head, _, body = said.stdout.partition(b"\n\n")
    headers = dict(HeaderParser().parsestr(head.decode("ascii", "replace")).items())
    status = int(headers.pop("Status", "200").split()[0])
    return Answer(status, headers.pop("Content-Type", "text/plain"), body, headers)


get("/cgi-bin/status", cgi=True)(run)
post("/cgi-bin/status", cgi=True)(run)
