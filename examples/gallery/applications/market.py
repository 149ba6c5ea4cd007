"""A market of a hundred symbols; ten prices a second change, while the market is open."""

import itertools
import random
import threading
import time

from web import Shared, as_json, done, page, post, get, text

SYMBOLS = ["".join(letters) for letters in itertools.product("ABCDE", "KLMNO", "STUV")]
CHANGES_A_SECOND = 10

page("/market/", "market.html")
page("/market/market.js", "market.js")

market = Shared(open=True, deal="none", quotes=[{"id": symbol, "price": 10000, "volume": 0} for symbol in SYMBOLS])


@get("/market/quotes")
def quotes(request):
    with market:
        return as_json({"open": market.open, "deal": market.deal, "quotes": market.quotes})


@post("/market/buy")
def buy(request):
    """Buys something, which is dearer then."""
    symbol = request.field("symbol")
    if symbol not in SYMBOLS:
        return text("there is no such symbol\n", status=404)
    with market:
        quote = market.quotes[SYMBOLS.index(symbol)]
        quote["volume"] += 1
        quote["price"] += 1
        market.deal = "%s buys %s" % (request.field("name", "somebody", 20), symbol)
    return done()


@post("/market/bell")
def bell(request):
    """Opens the market, or closes it: then nothing changes by itself."""
    with market:
        market.open = request.field("open") == "yes"
    return done()


def trade():
    while True:
        time.sleep(1 / CHANGES_A_SECOND)
        with market:
            if market.open:
                quote = random.choice(market.quotes)
                quote["price"] = max(100, quote["price"] + random.choice((-25, -5, 5, 25)))


def prepare(options):
    threading.Thread(target=trade, daemon=True).start()
