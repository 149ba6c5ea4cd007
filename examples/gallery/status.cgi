#!/bin/sh
# A status page, as CGI programs made them: it says what it is told by POST, and what time it is.

said=$GALLERY_STATE/notice
if [ "$REQUEST_METHOD" = POST ]; then
    head -c "${CONTENT_LENGTH:-0}" | sed 's/^notice=//; s/+/ /g' | tr -cd 'A-Za-z0-9 .' | head -c 100 > "$said.$$"
    mv "$said.$$" "$said"
    printf 'Status: 302 Found\nLocation: /cgi-bin/status\n\n'
    exit
fi
printf 'Content-Type: text/html\nRefresh: 4\n\n'
cat <<PAGE
<html><head><title>Status</title></head><body bgcolor="#ffffff">
<table border="1" cellpadding="3" cellspacing="0">
<tr><td>Notice</td><td id="notice">$(cat "$said" 2>/dev/null || echo none)</td></tr>
<tr><td>Time</td><td id="clock">$(date +%H:%M:%S)</td></tr>
<tr><td>Server</td><td>$SERVER_SOFTWARE, $GATEWAY_INTERFACE</td></tr>
</table>
<form action="/cgi-bin/status" method="post"><input name="notice" title="Notice"> <input type="submit" value="Post"></form>
</body></html>
PAGE
