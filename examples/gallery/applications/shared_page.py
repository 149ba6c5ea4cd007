"""A page that several people write, paragraph by paragraph, and who is there."""

import time

from web import Shared, as_json, done, get, page, post, text

page("/page/", "page.html")

#: Who has said nothing for so many seconds has left.
AWAY = 30
MOST_PARAGRAPHS = 50

doc = Shared(paragraphs=[{"id": 1, "text": "Soup needs an onion.", "by": "cook"}], seen={})


@get("/page/all")
def everything(request):
    now = time.monotonic()
    with doc:
        here = sorted(name for name, at in doc.seen.items() if now - at < AWAY)
        return as_json({"here": here, "paragraphs": doc.paragraphs})


@post("/page/here")
def here(request):
    with doc:
        doc.seen[request.field("name", "somebody", 20)] = time.monotonic()
    return done()


@post("/page/write")
def write(request):
    """Another text for a paragraph; or a paragraph more, for one that is not there."""
    wanted, said, by = request.field("id"), request.field("text", most=1000), request.field("name", "somebody", 20)
    with doc:
        for paragraph in doc.paragraphs:
            if str(paragraph["id"]) == wanted:
                paragraph.update(text=said, by=by)
                return done()
        if len(doc.paragraphs) >= MOST_PARAGRAPHS:
            return text("the page is full\n", status=409)
        doc.paragraphs.append({"id": doc.paragraphs[-1]["id"] + 1, "text": said, "by": by})
    return done()
