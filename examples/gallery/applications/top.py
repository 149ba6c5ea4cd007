"""What runs on this machine, of what was started here: as `top` shows it, in a <pre>."""

import atexit
import os
import subprocess

from web import Shared, done, get, page, post, text

page("/top/", "top.html")

MOST_JOBS = 8
TICKS = os.sysconf("SC_CLK_TCK")
HEAD = "%d jobs, load average: %s\n\n%7s %-4s %9s %8s  %s\n"

jobs = Shared(list=[])


@get("/top/text")
def top(request):
    lines = []
    with jobs:
        for name, process in jobs.list:
            try:
                with open("/proc/%d/stat" % process.pid) as file:
                    # The name may hold anything, and ends at the last bracket.
                    fields = file.read().rpartition(")")[2].split()
            except OSError:
                continue
            seconds = (int(fields[11]) + int(fields[12])) / TICKS
            lines.append("%7d %-4s %9d %8.2f  %s" % (process.pid, fields[0], int(fields[20]) // 1024, seconds, name))
    load = " ".join("%.2f" % load for load in os.getloadavg())
    return text(HEAD % (len(lines), load, "PID", "S", "VIRT KiB", "TIME", "COMMAND") + "\n".join(lines) + "\n")


@post("/top/start")
def start(request):
    """Starts a job that sleeps; the oldest makes room."""
    process = subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL)
    with jobs:
        jobs.list.append((request.field("name", "job", 20), process))
        old = jobs.list[:-MOST_JOBS]
        del jobs.list[:-MOST_JOBS]
    stop(old)
    return done()


def stop(list):
    for _, process in list:
        process.kill()
        process.wait()


atexit.register(lambda: stop(jobs.list))
