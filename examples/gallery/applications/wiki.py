"""The wiki of examples/wiki, and its twin: the same page, but for the line that begins to poll."""

from pathlib import Path

from web import Shared, done, get, markup, post, text

WIKI = Path(__file__).resolve().parents[2] / "wiki"
PAGE = (WIKI / "page.html").read_text("utf-8")
POLLS = "\npoll();\n</script>"
# A server that knows of no events is polled, as before.
FOLLOWS = """
var source = new EventSource('/wiki/text');
source.onmessage = function (event) { show(event.data); };
source.onerror = function () { if (source.readyState == EventSource.CLOSED) { poll(); } };
</script>"""

wiki = Shared(text=(WIKI / "start.txt").read_text("utf-8"))


@get("/wiki/")
def polled(request):
    return markup(PAGE)


@get("/wiki/live")
def live(request):
    return markup(PAGE.replace(POLLS, FOLLOWS))


@get("/wiki/text")
def read(request):
    with wiki:
        return text(wiki.text)


@post("/wiki/text")
def save(request):
    with wiki:
        wiki.text = request.body.decode("utf-8", "replace")
    return done()
