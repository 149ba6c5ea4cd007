"""The index: each application twice, as it polls, and as Sungrazer makes it live."""

from catalogue import CATALOGUE
from web import PAGES, as_json, escape, get, markup, page

page("/style.css", "style.css")
page("/streams.js", "streams.js")

INDEX = (PAGES / "index.html").read_text("utf-8")
ROW = """<tr id="{id}"><th scope="row"><a href="{path}">{title}</a><p>{pattern}</p><p>{how}</p></th>
<td><iframe title="{title}, polled" data-src="{polled}{path}" height="{height}"></iframe></td>
<td><iframe title="{title}, pushed" data-src="{path}" height="{height}"></iframe></td></tr>
"""


@get("/")
def index(request):
    # The page is asked for through Sungrazer, or else here itself. We know where we are, and it is not known who is in front.
    host = (request.headers.get("Host") or "127.0.0.1").rsplit(":", 1)[0]
    polled = "http://%s:%d" % (host, request.here)
    rows = ""
    for entry in CATALOGUE:
        values = {name: escape(str(value)) for name, value in entry._asdict().items()}
        rows += ROW.format(polled=escape(polled), id=entry.path.strip("/").replace("/", "-"), **values)
    return markup(INDEX.replace("<!-- rows -->", rows).replace("POLLED", escape(polled)))


@get("/server/counters")
def counters(request):
    with request.counters.lock:
        return as_json({"connections": request.counters.connections, "requests": request.counters.requests})


@get("/catalogue.json")
def catalogue(request):
    return as_json([entry._asdict() for entry in CATALOGUE])
