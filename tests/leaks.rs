//! The leak hunt: hundreds of people, every way to be held, and an application that signs each answer with the one whom it
//! answered. One foreign signature is a failure.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::join_all;
use h2::client::SendRequest;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::support::backend::{Backend, Page, Seen};
use crate::support::client::{self, Connection};
use crate::support::sidecar::Sidecar;
use crate::support::within;

const ROUTES: &str = r#"
[server]
h2c = true
trusted_proxies = ["127.0.0.1"]
[upstream]
url = "BACKEND"
max_fetch_rate = 100000
[[route]]
path = "/own"
every = "100ms"
every_max = "300ms"
hold = "200ms"
[[route]]
path = "/public"
every = "100ms"
every_max = "300ms"
audience = "public"
[[route]]
path = "/login"
every = "100ms"
every_max = "300ms"
audience = "public"
[[route]]
path = "/selected"
every = "100ms"
every_max = "300ms"
audience = { cookies = ["sid"], headers = ["Authorization"] }
[[route]]
path = "/language"
every = "100ms"
every_max = "300ms"
audience = "public"
"#;

const PATHS: [&str; 5] = ["/own", "/public", "/login", "/selected", "/language"];

/// Ways to ask: `Accept`, or an endpoint of ours.
const WAYS: [&str; 9] = [
    "text/event-stream",
    "application/x-ndjson",
    "application/json-seq",
    "multipart/x-mixed-replace",
    "plain",
    "wait",
    "stream",
    "iframe",
    "ws",
];

/// How long somebody waits for a first answer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// The application's sessions: who is signed in by which cookie.
#[derive(Default)]
struct Sessions {
    owners: HashMap<String, usize>,
    next: usize,
    /// Fetches that carried of somebody what they should not.
    odd: Vec<String>,
}

/// What is wrong with a fetch that is for `person`: it speaks as that person's own browser does, or as nobody's.
fn odd(seen: &Seen, person: &str) -> Option<String> {
    let person = seen.header("x-person").unwrap_or(person);
    let address = person.parse().map(|number: usize| format!("{}, 127.0.0.1", address_of(number))).ok();
    // Routes that share fetch under somebody's own credentials now and then; they are known by the address that they name.
    let agent = seen.header("user-agent").unwrap_or_default();
    let is_own = seen.header("x-forwarded-for") == address.as_deref()
        && (agent.is_empty() || agent.starts_with(&format!("Mozilla/p{person}~")));
    let is_nobodys = seen.header("x-forwarded-for").is_none() && agent.starts_with("sungrazer/");
    // Where an application varies by everything, the page that asks is part of the key, also of a key of nobody's.
    let own_page = format!("http://site.example/p{person}~");
    let is_told = |page| page != "http://site.example/" && page != own_page;
    let tells_page = person != "nobody" && seen.header("referer").is_some_and(is_told);
    let selected = seen.path() == "/selected";
    let right = if person == "nobody" || selected { is_nobodys || (selected && is_own) } else { is_own };
    (!right || tells_page).then(|| format!("{person}: {seen:?}"))
}

fn address_of(number: usize) -> String {
    format!("10.1.{}.{}", number / 200, number % 200)
}

impl Sessions {
    fn sign_in(&mut self, person: usize) -> String {
        self.next += 1;
        let sid = format!("s{}", self.next);
        self.owners.insert(sid.clone(), person);
        sid
    }
}

fn cookie<'s>(seen: &'s Seen, name: &str) -> Option<&'s str> {
    seen.header("cookie")?.split(';').find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

/// The answer, signed with whom it is for: by cookie, by token, or by a header that only this application knows.
fn sign(seen: &Seen, sessions: &Mutex<Sessions>, rng: &Mutex<fastrand::Rng>) -> Page {
    let mut sessions = sessions.lock().unwrap();
    let mut rng = rng.lock().unwrap();
    let session = cookie(seen, "sid").map(|sid| sessions.owners.get(sid).copied());
    let person = match (session, seen.header("authorization"), seen.header("x-person")) {
        (Some(None), ..) => return Page::text("signed out").status(*rng.choice([401, 403].iter()).unwrap()),
        (Some(Some(person)), ..) => person.to_string(),
        (None, Some(token), _) => token.trim_start_matches("Bearer t").to_owned(),
        (None, None, Some(person)) if seen.path() == "/own" => person.to_owned(),
        _ if seen.path() == "/login" => return Page::text("").status(302).header("Location", "/sign-in"),
        _ => "nobody".to_owned(),
    };
    let language = seen.header("accept-language").unwrap_or("none");
    if seen.is_fetch() {
        sessions.odd.extend(odd(seen, &person));
    }
    let page = Page::text(&format!("<for {person}|{language}|{}>", rng.u32(..)));
    let page = if seen.path() == "/language" { page.header("Vary", "Accept-Language") } else { page };
    // Public answers to nobody bear no mark; whatever is somebody's may bear any.
    if person == "nobody" {
        return page;
    }
    match rng.u8(..12) {
        0 => page.header("Set-Cookie", "seen=1"),
        1 => page.header("Cache-Control", "private"),
        2 => page.header("Cache-Control", "no-store"),
        3 => page.header("Cache-Control", "public, max-age=60"),
        4 => page.header("Vary", "Cookie"),
        5 => page.header("Vary", "*"),
        _ => page,
    }
}

/// One person with one browser.
struct Person {
    number: usize,
    language: &'static str,
    sid: Option<String>,
    rng: fastrand::Rng,
    /// A connection that all people share, as those behind one proxy do.
    shared: SendRequest<Bytes>,
}

impl Person {
    /// What identifies this person in requests for `path`, and noise that must not matter.
    fn headers(&mut self) -> Vec<(&'static str, String)> {
        let mut headers = vec![
            ("Accept-Language", self.language.to_owned()),
            ("Referer", format!("http://site.example/p{}~", self.number)),
            ("X-Forwarded-For", address_of(self.number)),
        ];
        match &self.sid {
            Some(sid) => headers.push(("Cookie", format!("theme={}; sid={sid}", self.number % 3))),
            None if self.number % 5 == 3 => headers.push(("Authorization", format!("Bearer t{}", self.number))),
            None if self.number % 5 == 4 => headers.push(("X-Person", self.number.to_string())),
            None => {}
        }
        if self.rng.bool() {
            headers.push(("User-Agent", format!("Mozilla/p{}~{}", self.number, self.rng.u8(..3))));
        }
        headers
    }

    /// Asks in one way for a while. Returns all that came, and whether over HTTP/2.
    async fn ask(&mut self, address: SocketAddr, path: &str, way: &'static str, last: Option<&str>) -> (Vec<u8>, bool) {
        let mut headers = self.headers();
        let mut target = path.to_owned();
        match way {
            "plain" => {}
            "wait" => headers.push(("Prefer", "wait=1".to_owned())),
            "stream" => target = format!("/.sungrazer/stream?url={path}&url=/public"),
            "iframe" => target = format!("/.sungrazer/iframe?url={path}&callback=f"),
            "ws" => {
                target = "/.sungrazer/ws".to_owned();
                headers.extend([
                    ("Connection", "Upgrade".to_owned()),
                    ("Upgrade", "websocket".to_owned()),
                    ("Sec-WebSocket-Version", "13".to_owned()),
                    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==".to_owned()),
                    ("Sec-WebSocket-Protocol", "sungrazer.v1".to_owned()),
                ]);
            }
            accept => headers.push(("Accept", accept.to_owned())),
        }
        if let Some(last) = last {
            headers.push(("Last-Event-ID", last.to_owned()));
        }
        if self.rng.u8(..4) == 0 {
            headers.push(("Prefer", "delta=splice".to_owned()));
        }
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let over_h2 = way != "ws" && self.rng.bool();
        let mut answer = if over_h2 {
            Answering::over_h2(self.shared.clone(), &target, &headers).await
        } else {
            let mut connection = Connection::open(address).await;
            connection.send(client::head("GET", &target, &headers, b"")).await;
            if way == "ws" {
                for path in [path, "/public"] {
                    connection.send(text_frame(&format!("{{\"subscribe\":\"{path}\"}}"))).await;
                }
            }
            Answering::H1(connection)
        };
        let mut until = Instant::now() + PATIENCE;
        let mut heard = Vec::new();
        let mut told = false;
        while let Ok(Some(piece)) = timeout_at(until, answer.piece()).await {
            heard.extend_from_slice(&piece);
            let holds = |what: &str| heard.windows(what.len()).any(|window| window == what.as_bytes());
            if !told && ["<for ", "for nobody", "signed out", "302 ", "reason"].into_iter().any(holds) {
                told = true;
                until = Instant::now() + Duration::from_millis(self.rng.u64(..400));
            }
        }
        (heard, over_h2)
    }
}

/// An answer that comes.
enum Answering {
    H1(Connection),
    H2(Option<h2::client::ResponseFuture>, Option<h2::RecvStream>),
}

impl Answering {
    async fn over_h2(shared: SendRequest<Bytes>, target: &str, headers: &[(&str, &str)]) -> Self {
        let mut request = http::Request::builder().uri(format!("http://site.example{target}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut shared = within("a stream", shared.ready()).await.unwrap();
        Self::H2(Some(shared.send_request(request.body(()).unwrap(), true).unwrap().0), None)
    }

    /// What comes next of it; `None` when that was all.
    async fn piece(&mut self) -> Option<Bytes> {
        match self {
            Self::H1(connection) => {
                let mut piece = BytesMut::with_capacity(16 * 1024);
                connection.stream.read_buf(&mut piece).await.ok().filter(|read| *read > 0)?;
                Some(piece.freeze())
            }
            Self::H2(Some(head), _) => {
                let (head, incoming) = head.await.ok()?.into_parts();
                *self = Self::H2(None, Some(incoming));
                Some(Bytes::from(format!("{} {:?}\n", head.status.as_u16(), head.headers)))
            }
            Self::H2(None, body) => {
                let body = body.as_mut()?;
                let piece = body.data().await?.ok()?;
                body.flow_control().release_capacity(piece.len()).ok()?;
                Some(piece)
            }
        }
    }
}

/// A short text message as a client sends it, masked with zeros (RFC 6455 section 5.3).
fn text_frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81, 0x80 | u8::try_from(text.len()).unwrap(), 0, 0, 0, 0];
    frame.extend_from_slice(text.as_bytes());
    frame
}

/// Whom the answers in `heard` were signed for, and in which language.
fn signatures(heard: &[u8]) -> HashSet<(String, String)> {
    let text = String::from_utf8_lossy(heard).replace("\\u003c", "<");
    let signed = text.split("<for ").skip(1).filter_map(|rest| {
        let mut parts = rest.split('|');
        Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
    });
    signed.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_ever_gets_what_was_answered_to_another() {
    let people: usize = std::env::var("LEAK_HUNT_PEOPLE").map_or(150, |people| people.parse().unwrap());
    let rounds: usize = std::env::var("LEAK_HUNT_ROUNDS").map_or(8, |rounds| rounds.parse().unwrap());
    let seed = std::env::var("LEAK_HUNT_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("LEAK_HUNT_SEED={seed} LEAK_HUNT_PEOPLE={people} LEAK_HUNT_ROUNDS={rounds}");
    let backend = Backend::start().await;
    let sessions = Arc::<Mutex<Sessions>>::default();
    let rng = Arc::new(Mutex::new(fastrand::Rng::with_seed(seed)));
    for path in PATHS {
        let (sessions, rng) = (Arc::clone(&sessions), Arc::clone(&rng));
        backend.handle(path, move |seen| sign(seen, &sessions, &rng));
    }
    let rotating = Arc::clone(&sessions);
    backend.handle("/rotate", move |seen| {
        let mut sessions = rotating.lock().unwrap();
        let Some(person) = cookie(seen, "sid").and_then(|sid| sessions.owners.remove(sid)) else {
            return Page::text("signed out").status(401);
        };
        let sid = sessions.sign_in(person);
        Page::text("").header("Set-Cookie", &format!("sid={sid}; HttpOnly"))
    });
    let sidecar = Sidecar::with(&ROUTES.replace("BACKEND", &backend.url()));
    let address = sidecar.address;
    let (shared, connection) =
        h2::client::handshake(within("a connection", TcpStream::connect(address)).await.unwrap()).await.unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let lives = (0..people).map(|number| {
        let (sessions, shared) = (Arc::clone(&sessions), shared.clone());
        tokio::spawn(async move {
            let mut person = Person {
                number,
                language: ["de", "en", "fr"][number % 3],
                sid: (number % 5 < 3 && number % 7 != 0).then(|| sessions.lock().unwrap().sign_in(number)),
                rng: fastrand::Rng::with_seed(seed ^ number as u64),
                shared,
            };
            let mut last = None;
            let mut signed = [0; 2];
            for _ in 0..rounds {
                let (path, way) = (*person.rng.choice(PATHS.iter()).unwrap(), *person.rng.choice(WAYS.iter()).unwrap());
                let (heard, over_h2) = person.ask(address, path, way, last.as_deref()).await;
                for (whom, language) in signatures(&heard) {
                    signed[usize::from(over_h2)] += 1;
                    assert!(
                        whom == number.to_string() || whom == "nobody",
                        "seed {seed}: {number} asked for {path} by {way} and got what {whom} was answered: {}",
                        String::from_utf8_lossy(&heard)
                    );
                    let right = language == person.language || (language == "none" && path != "/language");
                    let alike = path != "/language" && whom == "nobody";
                    assert!(right || alike, "seed {seed}: {number} reads {} and got {language}", person.language);
                }
                let heard = String::from_utf8_lossy(&heard);
                last = heard.lines().rev().find_map(|line| line.strip_prefix("id: ")).map(str::to_owned).or(last);
                match person.rng.u8(..6) {
                    0 => {
                        let headers = person.headers();
                        let headers: Vec<(&str, &str)> =
                            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
                        let method = *person.rng.choice(["GET", "POST"].iter()).unwrap();
                        let answer = Connection::open(address).await.request(method, "/rotate", &headers, b"").await;
                        let given =
                            answer.header("set-cookie").and_then(|line| line.strip_prefix("sid=")?.split(';').next());
                        person.sid = given.map(str::to_owned).or(person.sid);
                    }
                    // Signed out elsewhere: this browser does not know yet.
                    1 => {
                        let mut sessions = sessions.lock().unwrap();
                        person.sid.as_ref().and_then(|sid| sessions.owners.remove(sid));
                    }
                    2 if number % 5 < 3 => person.sid = Some(sessions.lock().unwrap().sign_in(number)),
                    _ => {}
                }
            }
            signed
        })
    });
    let mut signed = [0; 2];
    for life in join_all(lives).await {
        let life = life.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()));
        signed = [signed[0] + life[0], signed[1] + life[1]];
    }
    let odd = std::mem::take(&mut sessions.lock().unwrap().odd);
    assert!(odd.is_empty(), "seed {seed}: {} fetches, such as {}", odd.len(), odd[0]);
    assert!(
        signed.iter().all(|signed| *signed > people * rounds / 8),
        "{signed:?} answers were signed: the hunt is blind"
    );
}
