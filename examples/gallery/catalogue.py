"""What the gallery shows, in the order of its index."""

from collections import namedtuple

Entry = namedtuple("Entry", "path title pattern how height")

CATALOGUE = [
    Entry("/chat/", "Chat with a cursor", "GMail's chat, Meebo", "XMLHttpRequest for what is new since a number, 3 s", 190),
    Entry("/board/", "Response board", "event planning: Renkoo", "no script: a form, and meta refresh, 5 s", 240),
    Entry("/market/", "Market", "financials", "XMLHttpRequest in readyState 3, again after 2 s", 260),
]
