//! Nobody waits for a fetch that is not made soon, or that takes longer than the application itself.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::support::backend::{Backend, Page, Seen};
use crate::support::client::{self, Connection, Events, head};
use crate::support::sidecar::{LOCAL, Sidecar};
use crate::support::{eventually, within};

/// Far less than anything here would have to be waited for; far more than a busy machine takes for an answer.
const SOON: Duration = Duration::from_secs(2);

fn is_fetch(seen: &Seen) -> bool {
    seen.is_fetch()
}

/// An application that is well, but whose answers to fetches have this status, if any, and `Retry-After`.
async fn unwell(retry_after: &'static str) -> (Backend, Arc<AtomicU16>) {
    let backend = Backend::start().await;
    let status = Arc::new(AtomicU16::new(0));
    let of_fetches = Arc::clone(&status);
    backend.handle("/a", move |seen| match of_fetches.load(Ordering::SeqCst) {
        status @ 1.. if is_fetch(seen) => Page::text("later").status(status).header("Retry-After", retry_after),
        _ => Page::json("1"),
    });
    (backend, status)
}

/// The stream's next event, which is to be `name`.
async fn named(events: &mut Events, name: &str) {
    let event = within(name, events.next()).await.expect("an event");
    assert_eq!(event.event.as_deref(), Some(name), "{event:?}");
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.unwrap_or_else(|_| panic!("waited too long for {what}"))
}

const ROUTES: [&str; 3] = [
    "[[route]]\npath = \"/**\"\nevery = \"50ms\"\n",
    "[[route]]\npath = \"/**\"\nevery = \"50ms\"\nhold = \"20s\"\n",
    "[[route]]\npath = \"/**\"\nevery = \"50ms\"\nshim = \"learn\"\ntransports = [\"sse\", \"long-poll\"]\n",
];

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_asks_to_be_left_alone_keeps_no_request_waiting() {
    for route in ROUTES {
        for (status, retry_after) in
            [(503, "600"), (429, "12"), (503, "99999999999999999999"), (503, "Fri, 31 Dec 9999 23:59:59 GMT")]
        {
            let (backend, of_fetches) = unwell(retry_after).await;
            let sidecar = Sidecar::start(&backend, route);
            of_fetches.store(status, Ordering::SeqCst);
            let mut first = soon("a first stream", sidecar.events("/a")).await;
            named(&mut first, "stale").await;
            let mut page = Connection::open(sidecar.address).await;
            for _ in 0..4 {
                let answer = soon("a poll", page.get("/a", &[])).await;
                assert_eq!((answer.status, answer.text()), (200, "1"), "{route} {status} {retry_after}");
            }
            let answer = soon("a long poll", page.get("/a", &[("Prefer", "wait=60")])).await;
            assert_eq!(answer.status, 200);
            let mut stream = soon("a stream", sidecar.events("/a")).await;
            soon("its first word", named(&mut stream, "stale")).await;
            let many = Events::open(sidecar.address, "/.sungrazer/stream?url=/a", &[]);
            let mut many = soon("a stream of many", many).await;
            let word = soon("its first word", many.next()).await.unwrap();
            assert!(word.data.contains("\"event\":\"stale\""), "{word:?}");
            // All that is over as soon as the application can be read.
            of_fetches.store(0, Ordering::SeqCst);
            page.get("/a", &[("Range", "bytes=0-")]).await;
            page.get("/a", &[]).await;
            for stream in [&mut first, &mut stream] {
                named(stream, "live").await;
                assert_eq!(stream.snapshot().await.data, "1");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rest_ends_when_the_application_is_seen_to_be_well() {
    let file = std::env::temp_dir().join(format!("sungrazer-waiting-{}", std::process::id()));
    std::fs::write(&file, "1").unwrap();
    for sign in ["poll", "poll of another", "write", "hook", "hook of a route", "file"] {
        let (backend, of_fetches) = unwell("600").await;
        backend.set("/w", Page::text("written"));
        let route = format!("[[route]]\npath = \"/a\"\nevery = \"50ms\"\nwatch_files = [{file:?}]\n");
        let sidecar = Sidecar::start(&backend, &route);
        let mut events = sidecar.events("/a").await;
        events.snapshot().await;
        of_fetches.store(503, Ordering::SeqCst);
        named(&mut events, "stale").await;
        of_fetches.store(0, Ordering::SeqCst);
        let fetches = backend.hits("/a");
        let mut connection = Connection::open(sidecar.address).await;
        match sign {
            "poll" => drop(connection.get("/a", &[]).await),
            "poll of another" => drop(connection.get("/a", &[("Cookie", "sid=2")]).await),
            "write" => drop(connection.request("POST", "/w", &[], b"x").await),
            "file" => std::fs::write(&file, format!("{:?}", Instant::now())).unwrap(),
            hook => {
                let what = if hook == "hook" { "url=/a" } else { "route=/a" };
                let mut admin = Connection::open(sidecar.server.admin().unwrap()).await;
                admin.request("POST", &format!("/api/refresh?{what}"), &[LOCAL], b"").await;
            }
        }
        within(sign, named(&mut events, "live")).await;
        assert!(backend.hits("/a") > fetches, "{sign}");
    }
    std::fs::remove_file(&file).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rest_does_not_end_for_what_says_nothing_of_it_and_signs_that_deceive_count_for_less_and_less() {
    let (backend, of_fetches) = unwell("600").await;
    backend.set("/w", Page::text("down").status(503));
    let sidecar = Sidecar::start(&backend, "[[route]]\npath = \"/a\"\nevery = \"50ms\"\n");
    let mut events = sidecar.events("/a").await;
    events.snapshot().await;
    of_fetches.store(429, Ordering::SeqCst);
    named(&mut events, "stale").await;
    let fetches = || backend.seen("/a").iter().filter(|seen| is_fetch(seen)).count();
    let before = fetches();
    let mut connection = Connection::open(sidecar.address).await;
    // Who asks too often is one client; and a write that fails says nothing good.
    for n in 0..5 {
        connection.get("/a", &[("Cookie", &format!("sid={n}"))]).await;
        connection.request("POST", "/w", &[], format!("{n}").as_bytes()).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(fetches(), before);
    // Fetches alone fail: they are not made for each poll that succeeds.
    for _ in 0..60 {
        connection.get("/a", &[]).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let made = fetches() - before;
    assert!((1..=8).contains(&made), "{made} fetches for 60 polls");
}

/// Has the budget spent for good: one fetch a second, and many who wait for one.
async fn flood(sidecar: &Sidecar) -> Vec<Events> {
    let mut streams = Vec::new();
    for stream in 0..3 {
        let urls: Vec<String> = (0..40).map(|n| format!("url=/flood/{stream}/{n}")).collect();
        let target = format!("/.sungrazer/stream?{}", urls.join("&"));
        streams.push(Events::open(sidecar.address, &target, &[("Cookie", "flood=1")]).await);
    }
    let application = sidecar.server.gateway().application("/");
    let budget = application.limiter();
    eventually("the queue to be full", || budget.stats().waiting > 50).await;
    streams
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_requests_do_not_queue_behind_the_fetches_of_others() {
    for route in ROUTES {
        let backend = Backend::start().await;
        backend.set("/a", Page::json("1"));
        let sidecar = Sidecar::with(&format!("[upstream]\nurl = \"{}\"\nmax_fetch_rate = 1\n{route}", backend.url()));
        let mut own = sidecar.events("/a").await;
        own.snapshot().await;
        let flood = flood(&sidecar).await;
        // Watched, and too old; of others, for the first time and again; and after a write.
        let mut page = Connection::open(sidecar.address).await;
        for headers in [&[][..], &[("Cookie", "sid=1")], &[("Cookie", "sid=1")], &[("User-Agent", "Mozilla/5.0")], &[]]
        {
            let answer = soon("a poll", page.get("/a", headers)).await;
            assert_eq!(answer.text(), "1", "{route} {headers:?}");
            soon("a write", page.request("POST", "/w", &[], b"x")).await;
            let answer = soon("a poll after a write", page.get("/a", headers)).await;
            assert_eq!(answer.text(), "1", "{route} {headers:?}");
        }
        // A stream is told that it has to wait, and then what it waited for.
        let mut late = soon("a stream", Events::open(sidecar.address, "/a", &[("Cookie", "sid=2")])).await;
        soon("its first word", named(&mut late, "stale")).await;
        drop(flood);
        named(&mut late, "live").await;
        assert_eq!(late.snapshot().await.data, "1");
    }
}

/// A demand ends with its client.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_waits_for_any_more_is_not_asked_for() {
    let backend = Backend::start().await;
    let sidecar = Sidecar::with(&format!(
        "[upstream]\nurl = \"{}\"\nmax_fetch_rate = 5\n[[route]]\npath = \"/flood/**\"\n",
        backend.url()
    ));
    let flood = flood(&sidecar).await;
    drop(flood);
    eventually("their leaving to be noticed", || sidecar.held() == 0).await;
    let asked = || {
        (0..3)
            .flat_map(|s| (0..40).map(move |n| format!("/flood/{s}/{n}")))
            .map(|path| backend.hits(&path))
            .sum::<usize>()
    };
    let application = sidecar.server.gateway().application("/");
    let budget = application.limiter();
    eventually("fetches under way to end", || budget.stats().running == 0).await;
    let before = asked();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(asked() <= before + 1, "{} fetches for nobody", asked() - before);
}

/// Polls of many users, each with a stream of his own, while somebody writes: they take what they take directly.
#[tokio::test(flavor = "multi_thread")]
async fn polls_are_not_slower_for_the_streams_of_many_and_the_writes_of_one() {
    let backend = Backend::start().await;
    backend.handle("/me", |seen| Page::text(seen.header("cookie").unwrap_or_default()));
    let sidecar = Sidecar::with(&format!(
        "[upstream]\nurl = \"{}\"\nmax_fetch_rate = 20\n[[route]]\npath = \"/me\"\n",
        backend.url()
    ));
    let cookies: Vec<String> = (0..80).map(|n| format!("sid={n}")).collect();
    let mut streams = Vec::new();
    for cookie in &cookies {
        let mut connection = Connection::open(sidecar.address).await;
        connection.send(head("GET", "/me", &[("Accept", "text/event-stream"), ("Cookie", cookie)], b"")).await;
        streams.push(connection);
    }
    eventually("the streams", || sidecar.watched() == 80).await;
    let mut times = Vec::new();
    for round in 0..4 {
        client::get(sidecar.address, "/", &[]).await;
        Connection::open(sidecar.address).await.request("POST", "/other", &[], &[b'a' + round]).await;
        for cookie in cookies.iter().skip(round as usize).step_by(16) {
            let began = Instant::now();
            let answer = client::get(sidecar.address, "/me", &[("Cookie", cookie)]).await;
            assert_eq!(answer.text(), cookie);
            times.push(began.elapsed());
        }
    }
    times.sort_unstable();
    assert!(times[times.len() / 2] < Duration::from_millis(250), "{times:?}");
    assert!(times[times.len() - 1] < SOON, "{times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_become_slow_is_not_slower_by_a_fetch_that_is_late() {
    for (every, hold) in [("100ms", ""), ("1h", ""), ("100ms", "hold = \"20s\"\n")] {
        let backend = Backend::start().await;
        let slow = Arc::new(AtomicBool::new(false));
        backend.handle("/a", {
            let slow = Arc::clone(&slow);
            move |seen| match slow.load(Ordering::SeqCst) {
                // Fetches take longer than anybody has patience for.
                true => Page::json("1").delay(Duration::from_millis(if is_fetch(seen) { 9000 } else { 300 })),
                false => Page::json("1"),
            }
        });
        let route = format!("[[route]]\npath = \"/a\"\nevery = \"{every}\"\nevery_max = \"{every}\"\n{hold}");
        let sidecar = Sidecar::start(&backend, &route);
        let mut events = sidecar.events("/a").await;
        events.snapshot().await;
        slow.store(true, Ordering::SeqCst);
        let mut page = Connection::open(sidecar.address).await;
        for _ in 0..4 {
            page.request("POST", "/w", &[], b"x").await;
            let began = Instant::now();
            assert_eq!(page.get("/a", &[]).await.text(), "1");
            assert!(began.elapsed() < SOON, "{every} {hold}: {:?}", began.elapsed());
        }
    }
}

/// A queue of messages that is asked by long polls, each message given once, to whoever asks first.
struct Queue {
    address: std::net::SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    messages: Mutex<VecDeque<u32>>,
    more: Notify,
    dropped: AtomicUsize,
    asked: AtomicUsize,
}

impl Queue {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shared) = (listener.local_addr().unwrap(), Arc::<Shared>::default());
        let serving = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Self::serve(stream, Arc::clone(&serving)));
            }
        });
        Self { address, shared }
    }

    async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
        let mut buffer = Vec::new();
        loop {
            while !buffer.windows(4).any(|end| end == b"\r\n\r\n") {
                if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                    return;
                }
            }
            buffer.clear();
            shared.asked.fetch_add(1, Ordering::SeqCst);
            let taken = loop {
                let more = shared.more.notified();
                if let Some(message) = shared.messages.lock().unwrap().pop_front() {
                    break message;
                }
                tokio::select! {
                    () = more => {}
                    _ = stream.read_buf(&mut buffer) => {
                        shared.dropped.fetch_add(1, Ordering::SeqCst);
                        return;
                    }
                }
            };
            let body = format!("[{taken}]");
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
            if stream.write_all((head + &body).as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn push(&self, message: u32) {
        self.shared.messages.lock().unwrap().push_back(message);
        self.shared.more.notify_waiters();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn long_polls_of_the_applications_own_lose_nothing() {
    for route in ROUTES {
        for pages in [1, 3] {
            let queue = Queue::start().await;
            let sidecar = Sidecar::with(&format!("[upstream]\nurl = \"http://{}\"\n{route}", queue.address));
            let got = Arc::<Mutex<Vec<u32>>>::default();
            let mut polling = Vec::new();
            for page in 0..pages {
                let (got, address) = (Arc::clone(&got), sidecar.address);
                polling.push(tokio::spawn(async move {
                    let agent = format!("page {page}");
                    let mut connection = Connection::open(address).await;
                    loop {
                        // Without the deadline that other requests have.
                        connection.send(head("GET", "/events?id=1", &[("User-Agent", &agent)], b"")).await;
                        while !connection.buffer.ends_with(b"]") {
                            connection.stream.read_buf(&mut connection.buffer).await.unwrap();
                        }
                        let text = String::from_utf8(std::mem::take(&mut connection.buffer)).unwrap();
                        let message = text.rsplit_once('[').unwrap().1.trim_end_matches(']').parse().unwrap();
                        got.lock().unwrap().push(message);
                    }
                }));
            }
            // Some that are there already, one by one, together, and after a while.
            let mut sent = 0;
            for (count, rest) in [(6, 50), (1, 15), (1, 600), (2, 15), (1, 700), (5, 0), (1, 30), (1, 0)] {
                for _ in 0..count {
                    sent += 1;
                    queue.push(sent);
                }
                tokio::time::sleep(Duration::from_millis(rest)).await;
            }
            eventually("all messages", || got.lock().unwrap().len() as u32 >= sent).await;
            let mut messages = got.lock().unwrap().clone();
            messages.sort_unstable();
            assert_eq!(messages, (1..=sent).collect::<Vec<_>>(), "{route}, {pages} pages");
            assert_eq!(queue.shared.dropped.load(Ordering::SeqCst), 0, "{route}, {pages} pages");
            polling.iter().for_each(tokio::task::JoinHandle::abort);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_streamed_begins_at_once_for_each_who_asks() {
    for route in ROUTES {
        let backend = Backend::start().await;
        let slow = || Page::text("first ").piece(Duration::from_secs(5), "second");
        backend.set("/stream", slow());
        backend.set("/other", Page::text("quick"));
        let sidecar = Sidecar::start(&backend, route);
        let ask = async || {
            let mut connection = Connection::open(sidecar.address).await;
            connection.send(head("GET", "/stream", &[], b"")).await;
            let began = Instant::now();
            connection.head().await;
            assert_eq!(connection.chunk().await.unwrap(), b"first ");
            assert!(began.elapsed() < SOON, "{route}: {:?}", began.elapsed());
            connection
        };
        // Two at once, one that gives up and asks again, and one that comes later.
        let (one, two) = tokio::join!(ask(), ask());
        drop(one);
        let again = ask().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let late = ask().await;
        drop((two, again, late));
    }
}
