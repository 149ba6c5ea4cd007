"""A folder that several programs write into, shown as a list."""

import time
from pathlib import Path

from web import Shared, escape, get, markup, page

page("/folder/", "folder.html")

MOST_FILES = 200

folder = Shared(path=None)


@get("/folder/list")
def listing(request):
    rows = []
    for file in sorted(folder.path.iterdir())[:MOST_FILES]:
        try:
            status = file.stat()
        except OSError:
            # It has gone meanwhile.
            continue
        at = time.strftime("%H:%M:%S", time.localtime(status.st_mtime))
        rows.append("<tr><td>%s</td><td class=number>%d</td><td>%s</td></tr>" % (escape(file.name), status.st_size, at))
    return markup("<tbody>%s</tbody>" % ("".join(rows) or "<tr><td>It is empty.</td></tr>"))


def prepare(options):
    folder.path = Path(options.folder)
    folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
