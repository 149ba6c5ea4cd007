"""Headlines, asked for in four ways: a polling loop, a forever frame, and XMLHttpRequest in readyState 3, twice."""

from web import Shared, as_json, done, get, page, post, text

page("/streams/loop", "loop.html")
page("/streams/frame", "frame.html")
page("/streams/sse", "sse.html")
page("/streams/ndjson", "ndjson.html")
page("/streams/headline.js", "headline.js")

news = Shared(headline="Nothing has happened yet.", number=0)


@get("/streams/news.json")
def as_object(request):
    with news:
        return as_json({"number": news.number, "headline": news.headline})


@get("/streams/news.txt")
def as_text(request):
    with news:
        return text("%d: %s" % (news.number, news.headline))


@post("/streams/news")
def write(request):
    with news:
        news.number += 1
        news.headline = request.field("headline", "Nothing")
    return done()
