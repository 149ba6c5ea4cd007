"""Three widgets that know nothing of each other, and one stream for all of them."""

from web import Shared, as_json, done, get, page, post, text

page("/bus/", "bus.html")

bus = Shared(weather="fair", visitors=0, shouts=[])


@get("/bus/weather")
def weather(request):
    with bus:
        return text(bus.weather)


@get("/bus/visitors")
def visitors(request):
    with bus:
        return as_json(bus.visitors)


@get("/bus/shouts")
def shouts(request):
    with bus:
        return as_json(bus.shouts)


@post("/bus/shout")
def shout(request):
    """Somebody shouts, which makes a visitor more, and is said to change the weather."""
    said = request.field("text")
    with bus:
        bus.shouts = [*bus.shouts[-4:], said]
        bus.visitors += 1
        bus.weather = ("fair", "cloudy", "rain")[bus.visitors % 3]
    return done()
