"""What the gallery shows, in the order of its index."""

from collections import namedtuple

#: Where it is; what it is; what of 2006 it is like; how its page asks; how high its frames are.
Entry = namedtuple("Entry", "path title pattern how height")

CATALOGUE = [
    Entry("/chat/", "Chat with a cursor", "GMail's chat, Meebo", "XMLHttpRequest for what is new since a number, 3 s", 190),
    Entry("/log/", "Chat, the whole log", "chat", "XMLHttpRequest for everything, code in setInterval, 4 s", 190),
    Entry("/frames/", "Chat in frames", "chat", "a frame with meta refresh, 4 s, and one with a form", 190),
    Entry("/irc/", "IRC", "CGI:IRC", "XMLHttpRequest, a session by cookie, 3 s", 220),
    Entry("/page/", "Page of several people", "JotLive", "XMLHttpRequest for the whole page, 3 s; says every 10 s who is here", 190),
    Entry("/board/", "Response board", "event planning: Renkoo", "no script: a form, and meta refresh, 4 s", 240),
    Entry("/wiki/", "Wiki", "wiki, by periodic refresh", "XMLHttpRequest, 5 s", 330),
    Entry("/wiki/live", "Wiki, its twin", "wiki, by Comet", "EventSource, or else as its twin", 330),
    Entry("/feed/", "Feed reader", "news", "XMLHttpRequest for an Atom feed with an ETag, setInterval, 4 s", 190),
    Entry("/scores/", "Scores", "sport", "meta refresh, 3 s; document.write", 210),
    Entry("/market/", "Market", "financials", "XMLHttpRequest in readyState 3, again after 3 s", 260),
    Entry("/auction/", "Auction", "auctions", "XMLHttpRequest, a countdown in each answer, 3 s", 230),
    Entry("/plant/", "Plant", "real-time control", "WebSocket both ways, or else XMLHttpRequest, 3 s", 260),
    Entry("/camera/", "Camera", "logistics, control", "multipart/x-mixed-replace, or else an image anew, 3 s", 200),
    Entry("/upload/", "Uploads", "file transfer", "a form into a frame; XMLHttpRequest for a list of progress, 3 s", 230),
    Entry("/folder/", "Shared folder", "file transfer", "XMLHttpRequest for a list, setInterval, 4 s", 190),
    Entry("/streams/loop", "Headlines, polled", "Periodic Refresh", "XMLHttpRequest, 3 s", 150),
    Entry("/streams/frame", "Headlines, forever frame", "HTTP Streaming, page", "a hidden frame, or else XMLHttpRequest, 3 s", 150),
    Entry("/streams/sse", "Headlines, events", "HTTP Streaming, service", "XMLHttpRequest in readyState 3, again after 3 s", 150),
    Entry("/streams/ndjson", "Headlines, lines of JSON", "HTTP Streaming, service", "XMLHttpRequest in readyState 3, again after 3 s", 150),
    Entry("/bus/", "Three widgets", "Distributed Events", "one EventSource, or else three XMLHttpRequests, 3 s", 180),
    Entry("/jobs/", "Jobs", "any other genre", "one XMLHttpRequest again and again, 3 s", 230),
    Entry("/cgi-bin/status", "Status", "any other genre", "no script: a Refresh header, 4 s", 180),
    Entry("/top/", "top", "any other genre", "XMLHttpRequest for a text, setInterval, 3 s", 210),
]
