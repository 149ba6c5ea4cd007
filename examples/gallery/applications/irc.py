"""A gateway to IRC (RFC 2812), as CGI:IRC was one: a connection to the server for each user, whose page polls what was said."""

import secrets
import socket
import threading

from web import Shared, as_json, done, get, page, post, text

page("/irc/", "irc.html")

CHANNEL = "#soup"
MOST_LINES = 100
MOST_USERS = 20
COOKIE = "irc"

gateway = Shared(server=None, users={})


class User:
    """A user's connection to the server, and the lines that the page shows."""

    def __init__(self, nick):
        self.nick = nick
        self.lines = []
        self.lock = threading.Lock()
        self.socket = socket.create_connection(gateway.server, timeout=10)
        self.socket.settimeout(None)
        self.send("NICK " + nick, "USER %s 0 * :%s" % (nick, nick))
        threading.Thread(target=self.listen, daemon=True).start()

    def send(self, *lines):
        self.socket.sendall("".join(line + "\r\n" for line in lines).encode("utf-8"))

    def show(self, line):
        with self.lock:
            self.lines.append(line)
            del self.lines[:-MOST_LINES]

    def listen(self):
        try:
            with self.socket.makefile("r", encoding="utf-8", errors="replace", newline="\r\n") as lines:
                for line in lines:
                    self.take(line.rstrip("\r\n"))
        except OSError:
            pass
        self.show("* The connection has ended.")

    def take(self, line):
        source, _, rest = line[1:].partition(" ") if line.startswith(":") else ("", "", line)
        words, _, said = rest.partition(" :")
        command, nick = words.split(" ")[0], source.partition("!")[0]
        if command == "PING":
            self.send("PONG :" + said)
        elif command == "001":
            self.send("JOIN " + CHANNEL)
        elif command == "433":
            self.show("* Somebody is called %s already." % self.nick)
        elif command == "JOIN":
            self.show("* %s has come." % nick)
        elif command == "PRIVMSG":
            self.show("<%s> %s" % (nick, said))


def user_of(request):
    with gateway:
        return gateway.users.get(request.cookie(COOKIE))


@post("/irc/enter")
def enter(request):
    nick = "".join(letter for letter in request.field("nick") if letter.isascii() and letter.isalnum())[:9]
    if not nick or nick[0].isdigit():
        return text("a nick has letters and digits, and begins with a letter\n", status=400)
    with gateway:
        if len(gateway.users) >= MOST_USERS:
            return text("there are too many here\n", status=503)
    try:
        user = User(nick)
    except OSError:
        return text("the IRC server does not answer\n", status=503)
    session = secrets.token_hex(8)
    with gateway:
        gateway.users[session] = user
    return done()._replace(headers={"Set-Cookie": "%s=%s; HttpOnly; Path=/" % (COOKIE, session)})


@get("/irc/lines")
def lines(request):
    """What this user has been told, all of it: who asks does not use anything up."""
    user = user_of(request)
    if not user:
        return text("enter first\n", status=403)
    with user.lock:
        return as_json(user.lines)


@post("/irc/say")
def say(request):
    user, said = user_of(request), request.field("text")
    if not user:
        return text("enter first\n", status=403)
    user.send("PRIVMSG %s :%s" % (CHANNEL, said))
    # A server does not tell who said something that he has.
    user.show("<%s> %s" % (user.nick, said))
    return done()


def prepare(options):
    host, _, port = options.irc.rpartition(":")
    gateway.server = (host, int(port))
