#!/usr/bin/env bash
# A CGI program as written for decades: Apache, lighttpd, BusyBox, mini-httpd.
site=${ZOO_SITE:-$(cd "$(dirname "$0")/.." && pwd)}
case "$REQUEST_METHOD ${PATH_INFO:-/$QUERY_STRING}" in
*' /data')
    printf 'Content-Type: application/json\r\n\r\n{"value":"%s"}' "$(cat "$site/value.txt")"
    ;;
'POST /save')
    read -rn "$CONTENT_LENGTH" form
    printf %s "${form#value=}" >"$site/value.txt"
    printf 'Status: 303 See Other\r\nLocation: /\r\nContent-Type: text/plain\r\n\r\n'
    ;;
'POST /upload')
    sum=$(head -c "$CONTENT_LENGTH" | sha1sum)
    printf 'Content-Type: application/json\r\n\r\n{"bytes":%d,"sha1":"%s"}' "$CONTENT_LENGTH" "${sum%% *}"
    ;;
*' /wait')
    sleep 0.3
    printf 'Content-Type: text/plain\r\n\r\nwaited'
    ;;
*' /events')
    printf 'Content-Type: text/event-stream\r\n\r\n'
    for event in one two three; do
        printf 'data: %s\n\n' "$event"
        sleep 0.05
    done
    ;;
*)
    printf 'Status: 404 Not Found\r\nContent-Type: text/plain\r\n\r\nno such page'
    ;;
esac
