"""A camera that can be turned, whose picture is polled."""

from jpeg import encode
from web import Answer, Shared, done, get, page, post, text

page("/camera/", "camera.html")

WIDTH, HEIGHT = 40, 12

camera = Shared(at=0)


@get("/camera/snapshot.jpg")
def snapshot(request):
    """A grey wall, and a bright post where the camera is turned to."""
    with camera:
        at = camera.at
    wall = [64 + 2 * column for column in range(WIDTH)]
    wall[at] = 250
    sky = [30] * WIDTH
    picture = encode([sky] * 3 + [wall] * (HEIGHT - 3))
    return Answer(200, "image/jpeg", picture, {"Cache-Control": "no-cache"})


@post("/camera/turn")
def turn(request):
    to = request.field("to")
    if not to.isdecimal() or len(to) > 3 or int(to) >= WIDTH:
        return text("it does not turn so far\n", status=400)
    with camera:
        camera.at = int(to)
    return done()
