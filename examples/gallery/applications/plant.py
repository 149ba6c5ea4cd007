"""A small plant: levers that people set, and gauges that follow them after a while."""

import threading
import time

from web import Shared, as_json, done, get, page, post, text

page("/plant/", "plant.html")

LEVERS = ("pump", "valve", "burner")

plant = Shared(
    levers={lever: {"at": 40, "by": "nobody"} for lever in LEVERS},
    gauges={"flow": 0, "pressure": 0, "heat": 0},
)


def settled():
    """Where the gauges are going."""
    pump, valve, burner = (plant.levers[lever]["at"] for lever in LEVERS)
    flow = pump * valve // 100
    return {"flow": flow, "pressure": pump - flow // 2, "heat": burner * (100 - flow // 2) // 100}


@get("/plant/state")
def state(request):
    with plant:
        return as_json({"levers": plant.levers, "gauges": plant.gauges})


@post("/plant/lever")
def pull(request):
    lever, to = request.field("lever"), request.field("to")
    if lever not in LEVERS or not to.isdecimal() or len(to) > 3 or int(to) > 100:
        return text("there is no such lever, or it does not go there\n", status=400)
    with plant:
        plant.levers[lever] = {"at": int(to), "by": request.field("name", "somebody", 20)}
    return done()


def work():
    while True:
        time.sleep(0.2)
        with plant:
            for gauge, to in settled().items():
                at = plant.gauges[gauge]
                plant.gauges[gauge] = max(at - 5, to) if at > to else min(at + 5, to)


def prepare(options):
    threading.Thread(target=work, daemon=True).start()
