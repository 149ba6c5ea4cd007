"""Who comes to the party? A response board without any script: a form, and a page that refreshes itself."""

from web import Shared, escape, get, markup, post, see

board = Shared(responses={})
MOST_GUESTS = 100
ANSWERS = ("yes", "no", "maybe")

PAGE = """<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 4.01 Transitional//EN">
<html>
<head><title>Who comes to the soup evening?</title><meta http-equiv="refresh" content="4"></head>
<body bgcolor="#f6f3e9">
<h3><font face="Georgia" color="#3a5f85">Soup evening, Friday at eight. Who comes?</font></h3>
<table border="1" cellpadding="3" cellspacing="0" id="board">
<tr><th>Name</th><th>Comes</th><th>Says</th></tr>
%s</table>
<p>%d come, %d may come.</p>
<form action="/board/respond" method="post">
<input name="name" size="10" title="Your name">
<select name="answer" title="Do you come?"><option>yes<option>no<option>maybe</select>
<input name="says" size="20" title="What you say to it">
<input type="submit" value="Respond">
</form>
</body>
</html>
"""
ROW = '<tr><td>%s</td><td align="center">%s</td><td>%s</td></tr>\n'


@get("/board/", cgi=True)
def show(request):
    with board:
        responses = list(board.responses.items())
    rows = "".join(ROW % tuple(map(escape, (name, answer, says))) for name, (answer, says) in responses)
    answers = [answer for _, (answer, _) in responses]
    return markup(PAGE % (rows, answers.count("yes"), answers.count("maybe")))


@post("/board/respond", cgi=True)
def respond(request):
    answer = request.field("answer")
    with board:
        name = request.field("name", "somebody", 30)
        if answer in ANSWERS and (name in board.responses or len(board.responses) < MOST_GUESTS):
            board.responses[name] = (answer, request.field("says", " "))
    return see("/board/")
