"""A score page that loads itself again, and the desk at which goals are written down."""

from web import Shared, escape, get, markup, page, post, see, text

page("/scores/desk", "desk.html")

TEAMS = ("Onions", "Leeks", "Turnips", "Carrots")

scores = Shared(goals={team: 0 for team in TEAMS}, last="Nobody has scored yet.")

PAGE = """<html>
<head><title>Scores</title><meta http-equiv="refresh" content="3"></head>
<body bgcolor="#ffffff" text="#222222">
<table border="1" cellpadding="4" cellspacing="0" id="scores">
<tr><th colspan="2" bgcolor="#3a5f85"><font color="#ffffff">Soup cup</font></th></tr>
%s</table>
<p id="last">%s</p>
<script language="JavaScript">
document.write('<font size="1">Shown at ' + new Date().toLocaleTimeString() + '</font>');
</script>
</body></html>
"""


@get("/scores/", cgi=True)
def show(request):
    with scores:
        goals, last = dict(scores.goals), scores.last
    rows = "".join("<tr><td>%s</td><td align=right>%d</td></tr>\n" % goal for goal in goals.items())
    return markup(PAGE % (rows, escape(last)))


@post("/scores/goal", cgi=True)
def goal(request):
    team = request.field("team")
    if team not in TEAMS:
        return text("there is no such team\n", status=404)
    with scores:
        scores.goals[team] += 1
        scores.last = "%s scored for %s." % (request.field("name", "Somebody", 30), team)
    return see("/scores/desk")
