"""A queue of jobs: the newest waits, the one before is worked on, and those before are done."""

from web import Shared, done, escape, get, markup, page, post

page("/jobs/", "jobs.html")

MOST_JOBS = 10
STATES = ("waits", "runs")

queue = Shared(jobs=[], number=0)


@get("/jobs/table")
def table(request):
    rows = "<tr><th>Job</th><th>What</th><th>State</th></tr>"
    with queue:
        for age, (number, name) in enumerate(reversed(queue.jobs)):
            state = STATES[age] if age < len(STATES) else "done"
            rows += "<tr><td>%d</td><td>%s</td><td>%s</td></tr>" % (number, escape(name), state)
    return markup(rows)


@post("/jobs/add")
def add(request):
    with queue:
        queue.number += 1
        queue.jobs = [*queue.jobs[1 - MOST_JOBS :], (queue.number, request.field("name", "something", 30))]
    return done()
