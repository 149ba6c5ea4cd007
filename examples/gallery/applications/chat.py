"""Three chats: one polls with a cursor, one polls the whole log, one is a set of frames without a script."""

import time

from web import Shared, done, escape, get, markup, page, post, see, text

MOST_LINES = 200

page("/chat/", "chat.html")
page("/log/", "log.html")

chat = Shared(lines=[], last=0)
log = Shared(lines=[])
frames = Shared(lines=[])


@get("/chat/messages")
def messages(request):
    """What was said after the line that the page has seen last, each line with its number."""
    try:
        since = int(request.query.get("since", "0"))
    except ValueError:
        return text("since is a number\n", status=400)
    with chat:
        new = [line for line in chat.lines if line[0] > since]
    return text("".join("%d\t%s\t%s\n" % line for line in new))


@post("/chat/say")
def say(request):
    with chat:
        chat.last += 1
        chat.lines.append((chat.last, request.field("name", "somebody", 20), request.field("text")))
        del chat.lines[:-MOST_LINES]
    return done()


def line_of(request):
    """A line of markup, with its time."""
    name, said = escape(request.field("name", "somebody", 20)), escape(request.field("text"))
    return "<div>[%s] <b>%s</b> %s</div>\n" % (time.strftime("%H:%M"), name, said)


@get("/log/all")
def whole_log(request):
    with log:
        return markup("".join(log.lines))


@post("/log/say")
def say_to_log(request):
    with log:
        log.lines.append(line_of(request))
        del log.lines[:-MOST_LINES]
    return done()


FRAMESET = """<html><head><title>Chat in frames</title></head>
<frameset rows="*,70"><frame name="log" src="/frames/log"><frame name="say" src="/frames/say"></frameset></html>
"""
FRAME = """<html><head><title>Chat in frames</title>%s</head><body bgcolor="#fffff0">%s</body></html>
"""
FORM = """<form action="/frames/say" method="post">
<input name="name" size="8" value="%s" title="Your name"> <input name="text" size="30" title="What you say">
<input type="submit" value="Say"></form>"""


@get("/frames/", cgi=True)
def frameset(request):
    return markup(FRAMESET)


@get("/frames/log", cgi=True)
def frame_of_lines(request):
    with frames:
        lines = "".join(frames.lines) or "<i>Nothing has been said yet.</i>"
    return markup(FRAME % ('<meta http-equiv="refresh" content="4">', lines))


@get("/frames/say", cgi=True)
def frame_of_form(request):
    return markup(FRAME % ("", FORM % escape(request.query.get("name", "guest"))))


@post("/frames/say", cgi=True)
def say_in_frames(request):
    with frames:
        frames.lines.append(line_of(request))
        del frames.lines[:-MOST_LINES]
    return frame_of_form(request)
