"""Uploads: a form, and a list that shows how far each has come. What is uploaded is counted, and thrown away."""

from web import Shared, escape, get, markup, page, post, text

page("/upload/", "upload.html")

MOST_UPLOAD = 64 * 1024 * 1024
MOST_UPLOADS = 10
PIECE = 64 * 1024

uploads = Shared(list=[])


@get("/upload/list")
def progress(request):
    with uploads:
        rows = ["<tr><td>%s</td><td class=number>%d%%</td></tr>" % (escape(name), 100 * done // whole) for name, done, whole in uploads.list]
    return markup("<tbody>%s</tbody>" % ("".join(rows) or "<tr><td>Nothing yet.</td></tr>"))


@post("/upload/send", streams=True)
def receive(request):
    if not 0 < request.length <= MOST_UPLOAD:
        # It is not read, so that the connection has to end.
        return text("too large\n", status=413, Connection="close")
    upload = [request.query.get("name", "a file")[:40], 0, request.length]
    with uploads:
        uploads.list = [*uploads.list[1 - MOST_UPLOADS :], upload]
    while upload[1] < request.length:
        piece = request.stream.read(min(PIECE, request.length - upload[1]))
        if not piece:
            break
        upload[1] += len(piece)
    return markup("Received: %d bytes." % upload[1])
