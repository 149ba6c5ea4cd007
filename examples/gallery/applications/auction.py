"""An auction: a countdown that goes on and on, and bids, which are news. Amounts are whole crowns."""

import time

from web import Shared, as_json, done, get, page, post, text

page("/auction/", "auction.html")

LASTS = 600
MOST_BIDS = 5

auction = Shared(ends=0, bids=[])


def going_on():
    """Begins anew when it is over."""
    if auction.ends < time.monotonic():
        auction.ends = time.monotonic() + LASTS
        auction.bids = [{"name": "the house", "amount": 10}]


@get("/auction/state")
def state(request):
    with auction:
        going_on()
        left = int(auction.ends - time.monotonic())
        return as_json({"item": "A tureen of 1906", "left": left, "bids": auction.bids[-MOST_BIDS:]})


@post("/auction/bid")
def bid(request):
    amount = request.field("amount")
    with auction:
        going_on()
        if not amount.isdecimal() or len(amount) > 9 or int(amount) <= auction.bids[-1]["amount"]:
            return text("There is a bid of %d already.\n" % auction.bids[-1]["amount"], status=409)
        auction.bids.append({"name": request.field("name", "somebody", 20), "amount": int(amount)})
    return done()
