"""An Atom feed (RFC 4287), and a page that reads it and knows nothing of where it comes from."""

import hashlib
from datetime import datetime, timezone

from web import Shared, done, escape, get, page, post, text

page("/feed/", "feed.html")

MOST_ENTRIES = 20
FEED = """<?xml version="1.0" encoding="utf-8"?>
<feed xmlns="http://www.w3.org/2005/Atom">
<title>News of the soup kitchen</title><id>urn:example:soup</id><updated>%s</updated><author><name>The cook</name></author>
%s</feed>
"""
ENTRY = "<entry><title>%s</title><id>urn:example:soup:%d</id><updated>%s</updated></entry>\n"


def now():
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


feed = Shared(number=0, entries=[], updated=now())


@get("/feed/atom.xml")
def atom(request):
    """The feed, with a validator: who has it already is told so (304)."""
    with feed:
        body = FEED % (feed.updated, "".join(reversed(feed.entries)))
    tag = '"%s"' % hashlib.sha1(body.encode()).hexdigest()[:16]
    return text(body, "application/atom+xml", ETag=tag)


@post("/feed/publish")
def publish(request):
    with feed:
        feed.number += 1
        feed.updated = now()
        feed.entries.append(ENTRY % (escape(request.field("title", "Untitled")), feed.number, feed.updated))
        del feed.entries[:-MOST_ENTRIES]
    return done()
