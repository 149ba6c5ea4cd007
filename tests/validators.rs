//! Conditions: what clients ask on, and what of that reaches the application.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::backend::{Backend, Page, Seen};
use crate::support::client::{Connection, Events, Response};
use crate::support::follower::Follower;
use crate::support::sidecar::Sidecar;
use crate::support::{eventually, within};

const ROUTE: &str = "[[route]]\npath = \"/a\"\nevery = \"100ms\"\nevery_max = \"100ms\"\n";
const HELD: &str = "[[route]]\npath = \"/a\"\nevery = \"50ms\"\nevery_max = \"50ms\"\nhold = \"400ms\"\n";

/// A document that is written on the condition that nobody has written it since, with tags such as `revision` makes.
struct Document {
    backend: Backend,
    revision: Arc<AtomicUsize>,
}

impl Document {
    async fn start(tag: fn(usize) -> Option<String>) -> Self {
        let (backend, revision) = (Backend::start().await, Arc::<AtomicUsize>::default());
        let known = Arc::clone(&revision);
        backend.handle("/a", move |seen| {
            let current = tag(known.load(Ordering::SeqCst));
            let names = |asked: &str| Some(asked) == current.as_deref() || asked == "*";
            if seen.method == "PUT" {
                if seen.header("if-match").is_some_and(|asked| !names(asked)) {
                    return Page::text("somebody was faster").status(412);
                }
                known.fetch_add(1, Ordering::SeqCst);
                return Page::text("written");
            }
            let page = match seen.header("if-none-match") {
                // Who gives the same tag to all that there is does not go by it.
                Some(asked) if names(asked) && tag(0) != tag(1) => Page::text("").status(304),
                // As some servers answer a tag that they did not give.
                Some(_) if current.is_none() => return Page::text("what is that?").status(412),
                _ => Page::json(&format!("{{\"revision\":{}}}", known.load(Ordering::SeqCst))),
            };
            current.into_iter().fold(page, |page, tag| page.header("ETag", &tag))
        });
        Self { backend, revision }
    }

    /// Headers by these names that reached the application, all of them.
    fn conditions(&self) -> Vec<String> {
        let all = |seen: &Seen| -> Vec<String> {
            ["if-match", "if-none-match", "if-range", "if", "last-event-id"]
                .iter()
                .flat_map(|name| seen.all(name).into_iter().map(str::to_owned).collect::<Vec<_>>())
                .collect()
        };
        self.backend.seen("/a").iter().flat_map(all).collect()
    }
}

fn strong(revision: usize) -> Option<String> {
    Some(format!("\"rev,{revision}\""))
}

fn weak(revision: usize) -> Option<String> {
    Some(format!("W/\"rev {revision}\""))
}

fn constant(_: usize) -> Option<String> {
    Some("\"always\"".to_owned())
}

fn none(_: usize) -> Option<String> {
    None
}

async fn put(sidecar: &Sidecar, headers: &[(&str, &str)]) -> u16 {
    Connection::open(sidecar.address).await.request("PUT", "/a", headers, b"new").await.status
}

/// An answer from memory.
async fn remembered(sidecar: &Sidecar, headers: &[(&str, &str)]) -> Response {
    within("an answer from memory", async {
        loop {
            let response = sidecar.get("/a", headers).await;
            if response.is_from_memory() {
                return response;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_conditional_on_what_the_application_says() {
    for tag in [strong as fn(usize) -> Option<String>, weak, constant] {
        let document = Document::start(tag).await;
        let sidecar = Sidecar::start(&document.backend, ROUTE);
        let mut events = sidecar.events("/a").await;
        events.snapshot().await;
        let first = remembered(&sidecar, &[]).await.header("etag").unwrap().to_owned();
        assert_eq!(Some(first.as_str()), tag(0).as_deref());
        assert_eq!(put(&sidecar, &[("If-Match", &first)]).await, 200, "{first}");
        events.snapshot().await;
        let other = if tag(0) == tag(1) { 200 } else { 412 };
        assert_eq!(put(&sidecar, &[("If-Match", &first)]).await, other, "{first} again");
        let second = remembered(&sidecar, &[]).await.header("etag").unwrap().to_owned();
        assert_eq!(put(&sidecar, &[("If-Match", &second)]).await, 200, "{second}");
        assert_eq!(put(&sidecar, &[("If-Match", "\"another\"")]).await, 412);
        assert_eq!(put(&sidecar, &[("If-Match", "*")]).await, 200);
        assert!(document.conditions().iter().all(|sent| !sent.contains('~')), "{:?}", document.conditions());
    }
}

/// Without us there would be no tag to ask with.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_on_a_tag_of_ours_is_decided_as_without() {
    let document = Document::start(none).await;
    let sidecar = Sidecar::start(&document.backend, ROUTE);
    let mut events = sidecar.events("/a").await;
    let id = events.snapshot().await.id.unwrap();
    let tag = remembered(&sidecar, &[]).await.header("etag").unwrap().to_owned();
    assert_eq!(tag, format!("\"{id}\""));
    assert_eq!(put(&sidecar, &[("If-Match", &tag)]).await, 200);
    assert_eq!(document.revision.load(Ordering::SeqCst), 1);
    // What else is asked with it is answered as if it had not been.
    for (method, headers) in [
        ("GET", vec![("If-None-Match", tag.as_str()), ("Cookie", "sid=1")]),
        ("HEAD", vec![("If-None-Match", tag.as_str())]),
        ("GET", vec![("If-Range", tag.as_str()), ("Range", "bytes=3-")]),
        ("GET", vec![("If-None-Match", tag.as_str()), ("Connection", "close"), ("Cookie", "sid=2")]),
        ("GET", vec![("If-None-Match", tag.as_str()), ("Prefer", "handling=strict")]),
        ("GET", vec![("If", "([TAG])")]),
    ] {
        let lists = format!("([{tag}])");
        let headers: Vec<_> =
            headers.into_iter().map(|(name, value)| (name, if value == "([TAG])" { &lists } else { value })).collect();
        let answer = Connection::open(sidecar.address).await.request(method, "/a", &headers, b"").await;
        assert_eq!(answer.status, 200, "{method} {headers:?}");
        assert!(!answer.is_from_memory());
    }
    assert_eq!(document.conditions(), Vec::<String>::new());
    assert!(document.backend.seen("/a").iter().all(|seen| seen.header("range").is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_tag_of_ours_gets_out_by_a_socket_a_stream_or_a_tunnel() {
    let document = Document::start(none).await;
    document.backend.set("/own", Page::new("text/event-stream", "").piece(Duration::ZERO, "data: 1\n\n").linger());
    let route = format!("{ROUTE}[[route]]\npath = \"/own\"\n");
    let sidecar = Sidecar::start(&document.backend, &route);
    let mut events = sidecar.events("/a").await;
    let id = events.snapshot().await.id.unwrap();
    let tag = format!("\"{id}\"");
    let own = Events::try_open(sidecar.address, "/own", &[("Last-Event-ID", &id), ("If-None-Match", &tag)]).await;
    assert_eq!(own.head.header("content-type"), Some("text/event-stream"));
    for seen in document.backend.seen("/own") {
        assert!(seen.header("if-none-match").is_none() && seen.header("last-event-id").is_none(), "{seen:?}");
    }
    let mut socket = Follower::socket(sidecar.address, "/.sungrazer/ws", &[]).await;
    for (id, method, name) in [(1, "PUT", "If-Match"), (2, "GET", "If-None-Match")] {
        socket.say(&json!({"request": {"id": id, "method": method, "url": "/a", "headers": {name: tag}}})).await;
        let message = within("a response", socket.message()).await.unwrap();
        assert_eq!(message["response"]["status"], 200, "{message}");
    }
    assert_eq!(document.conditions(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_are_held_on_the_applications_own_tag() {
    for tag in [strong as fn(usize) -> Option<String>, weak, constant, none] {
        let document = Document::start(tag).await;
        let sidecar = Sidecar::start(&document.backend, HELD);
        let mut events = sidecar.events("/a").await;
        events.snapshot().await;
        let mut client = Connection::open(sidecar.address).await;
        for revision in 0..3 {
            let known = remembered(&sidecar, &[]).await;
            let known = known.header("etag").unwrap().to_owned();
            if revision == 0 {
                let marked = ["\"", "-gzip\"", "--gzip\"", ";br\""].map(|mark| {
                    let front = known.trim_start_matches("W/").trim_end_matches('"');
                    format!("\"other, tag\", W/{front}{mark}")
                });
                let polls = marked.iter().chain([&known]).map(|asked| {
                    let (sidecar, known) = (&sidecar, &known);
                    async move {
                        let began = Instant::now();
                        let held = sidecar.get("/a", &[("Prefer", "wait=1"), ("If-None-Match", asked)]).await;
                        assert_eq!(held.status, 304, "{asked}");
                        assert!(began.elapsed() >= Duration::from_millis(900), "{asked}: {:?}", began.elapsed());
                        assert_eq!(held.header("etag"), Some(known.as_str()));
                    }
                });
                futures_util::future::join_all(polls).await;
            }
            let writing = async {
                eventually("the poll to be held", || sidecar.held() == 2).await;
                document.revision.fetch_add(1, Ordering::SeqCst);
            };
            let asked = [("Prefer", "wait=20"), ("If-None-Match", known.as_str())];
            let (news, ()) = tokio::join!(client.get("/a", &asked), writing);
            assert_eq!((news.status, news.text()), (200, format!("{{\"revision\":{}}}", revision + 1).as_str()));
            events.snapshot().await;
        }
    }
}

/// What one tag was given for twice is told apart, and the application still gets its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_names_two_states_hides_neither() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1").header("ETag", "\"of this second\""));
    let sidecar = Sidecar::start(&backend, ROUTE);
    let mut events = sidecar.events("/a").await;
    events.snapshot().await;
    let first = remembered(&sidecar, &[]).await;
    assert_eq!(first.header("etag"), Some("\"of this second\""));
    backend.set("/a", Page::json("2").header("ETag", "\"of this second\""));
    events.snapshot().await;
    let second = remembered(&sidecar, &[("If-None-Match", "\"of this second\"")]).await;
    assert_eq!((second.status, second.text()), (200, "2"));
    let tag = second.header("etag").unwrap().to_owned();
    assert_eq!(remembered(&sidecar, &[("If-None-Match", &tag)]).await.status, 304);
    backend.set("/a", Page::json("3").header("ETag", "\"of this second\""));
    events.snapshot().await;
    assert_eq!(remembered(&sidecar, &[("If-None-Match", &tag)]).await.text(), "3");
    put(&sidecar, &[("If-Match", &tag)]).await;
    let asked: Vec<Option<String>> = backend
        .seen("/a")
        .iter()
        .filter(|seen| seen.method == "PUT")
        .map(|seen| seen.header("if-match").map(str::to_owned))
        .collect();
    assert_eq!(asked, [Some("\"of this second\"".to_owned())]);
}

fn date(ago: Duration) -> String {
    httpdate::fmt_http_date(std::time::SystemTime::now() - ago)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_date_that_two_states_share_hides_neither() {
    let backend = Backend::start().await;
    let modified = date(Duration::ZERO);
    let state = |body: &str| {
        let modified = modified.clone();
        Page::json(body).header("Last-Modified", &modified).header("Date", &date(Duration::ZERO))
    };
    backend.set("/a", state("1"));
    let sidecar = Sidecar::start(&backend, ROUTE);
    let mut events = sidecar.events("/a").await;
    events.snapshot().await;
    backend.set("/a", state("2"));
    events.snapshot().await;
    // Now it is old enough to have settled, and still it may mean either.
    let settled = date(Duration::ZERO);
    let later = httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(10));
    backend.set("/a", Page::json("2").header("Last-Modified", &modified).header("Date", &later));
    let fetches = backend.hits("/a");
    eventually("two more fetches", || backend.hits("/a") >= fetches + 2).await;
    for since in [&modified, &settled, &later] {
        let answer = remembered(&sidecar, &[("If-Modified-Since", since)]).await;
        assert_eq!((answer.status, answer.text()), (200, "2"), "{since}");
    }
    // What was put back is older than what somebody may have seen.
    let old = date(Duration::from_secs(86_400));
    backend.set("/a", Page::json("old").header("Last-Modified", &old).header("Date", &later));
    events.snapshot().await;
    assert_eq!(remembered(&sidecar, &[("If-Modified-Since", &modified)]).await.text(), "old");
    assert_eq!(remembered(&sidecar, &[("If-Modified-Since", &old)]).await.status, 304);
}

/// An application that goes by the date alone answers so whoever asks.
#[tokio::test(flavor = "multi_thread")]
async fn a_date_that_the_application_goes_by_holds() {
    let backend = Backend::start().await;
    let modified = date(Duration::ZERO);
    let (known, sent) =
        (modified.clone(), httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(5)));
    backend.set("/a", Page::json("1").header("Last-Modified", &modified).header("Date", &modified));
    let sidecar = Sidecar::start(&backend, ROUTE);
    let mut events = sidecar.events("/a").await;
    events.snapshot().await;
    assert_eq!(remembered(&sidecar, &[("If-Modified-Since", &modified)]).await.status, 200);
    backend.handle("/a", move |seen| {
        let page = Page::json("1").header("Last-Modified", &known).header("Date", &sent);
        if seen.header("if-modified-since") == Some(&known) { page.status(304) } else { page }
    });
    eventually("a conditional fetch", || {
        backend.seen("/a").iter().filter(|seen| seen.header("if-modified-since").is_some()).count() > 2
    })
    .await;
    assert_eq!(remembered(&sidecar, &[("If-Modified-Since", &modified)]).await.status, 304);
}

fn unpacked(body: &[u8]) -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(body).read_to_string(&mut text).unwrap();
    text
}

fn packed(body: &str) -> Vec<u8> {
    let mut packed = Vec::new();
    flate2::read::GzEncoder::new(body.as_bytes(), flate2::Compression::new(6)).read_to_end(&mut packed).unwrap();
    packed
}

/// An application that compresses for those who take it.
fn compressing(body: &'static str, tag: Option<&'static str>) -> impl Fn(&Seen) -> Page + Send + Sync + 'static {
    move |seen| {
        let page = if seen.header("accept-encoding").is_some_and(|codings| codings.contains("gzip")) {
            Page::new("application/json", packed(body)).header("Content-Encoding", "gzip")
        } else {
            Page::json(body)
        };
        tag.into_iter().fold(page, |page, tag| page.header("ETag", tag))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_application_compresses_stays_compressed() {
    let body = Box::leak(format!("[{}]", "\"the same again\",".repeat(4000)).into_boxed_str());
    for tag in [None, Some("\"own\""), Some("W/\"own\"")] {
        let backend = Backend::start().await;
        backend.handle("/a", compressing(body, tag));
        let sidecar = Sidecar::start(&backend, ROUTE);
        let mut events = sidecar.events("/a").await;
        events.snapshot().await;
        let mut tags = Vec::new();
        for (codings, is_packed) in [
            (Some("gzip, deflate, br"), true),
            (Some("x-gzip"), true),
            (Some("*"), true),
            (Some("identity;q=0, gzip;q=0.1"), true),
            (None, false),
            (Some(""), false),
            (Some("br"), false),
            (Some("gzip;q=0"), false),
            (Some("gzip;q=0.5, identity"), false),
        ] {
            let headers: Vec<_> = codings.map(|codings| ("Accept-Encoding", codings)).into_iter().collect();
            let answer = remembered(&sidecar, &headers).await;
            assert_eq!(answer.header("content-encoding"), is_packed.then_some("gzip"), "{codings:?}");
            assert!(answer.all("vary").join(",").to_lowercase().contains("accept-encoding"), "{answer:?}");
            assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
            let text = if is_packed { unpacked(&answer.body) } else { answer.text().to_owned() };
            assert!(text == *body, "{codings:?}");
            assert!(!is_packed || answer.body.len() < body.len() / 20);
            let tag = answer.header("etag").unwrap().to_owned();
            let again = remembered(&sidecar, &[&headers[..], &[("If-None-Match", &tag)]].concat()).await;
            assert_eq!((again.status, again.header("content-encoding")), (304, None), "{tag}");
            tags.push((is_packed, tag));
        }
        for (is_packed, one) in &tags {
            let own = tag.filter(|tag| *is_packed || tag.starts_with("W/"));
            assert!(own.is_none_or(|own| own == one), "{one}");
            let differs = tags.iter().all(|(other, tag)| other == is_packed || tag != one || one.starts_with("W/"));
            assert!(differs, "two codings, one strong tag: {one}");
        }
        let nothing = sidecar.get("/a", &[("Accept-Encoding", "identity;q=0, br")]).await;
        assert!(!nothing.is_from_memory(), "in a form that the client does not take");
        // Whatever the coding was, the application gets its own tag.
        for (_, one) in &tags {
            put(&sidecar, &[("If-Match", one)]).await;
        }
        let asked: Vec<_> = backend.seen("/a").into_iter().filter(|seen| seen.method == "PUT").collect();
        assert!(asked.iter().all(|seen| seen.header("if-match") == tag), "{asked:?}");
        assert_eq!(asked.len(), tags.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn held_polls_and_lone_codings_are_compressed_and_nothing_else_is() {
    let backend = Backend::start().await;
    backend.handle("/a", compressing("[\"one\"]", None));
    let sidecar = Sidecar::start(&backend, HELD);
    let mut events = sidecar.events("/a").await;
    events.snapshot().await;
    let mut client = Connection::open(sidecar.address).await;
    let gzip = ("Accept-Encoding", "gzip");
    let tag = remembered(&sidecar, &[gzip]).await.header("etag").unwrap().to_owned();
    let change = async {
        eventually("the poll to be held", || sidecar.held() == 2).await;
        backend.handle("/a", compressing("[\"two\"]", None));
    };
    let asked = [gzip, ("Prefer", "wait=20"), ("If-None-Match", tag.as_str())];
    let (news, ()) = tokio::join!(client.get("/a", &asked), change);
    assert_eq!((news.header("content-encoding"), unpacked(&news.body).as_str()), (Some("gzip"), "[\"two\"]"));
    assert_eq!(events.snapshot().await.data, "[\"two\"]");
    // One that knows nothing but another coding is recoded for those who do not.
    let mut brotli = Vec::new();
    brotli::CompressorReader::new(&b"[\"three\"]"[..], 4096, 5, 22).read_to_end(&mut brotli).unwrap();
    let coded = brotli.clone();
    backend.set("/a", Page::new("application/json", brotli).header("Content-Encoding", "br"));
    events.snapshot().await;
    let answer = remembered(&sidecar, &[gzip]).await;
    assert_eq!((answer.header("content-encoding"), unpacked(&answer.body).as_str()), (Some("gzip"), "[\"three\"]"));
    let answer = remembered(&sidecar, &[("Accept-Encoding", "gzip, br")]).await;
    assert_eq!((answer.header("content-encoding"), &answer.body), (Some("br"), &coded));
    backend.set("/a", Page::json("[\"plain\"]"));
    events.snapshot().await;
    let answer = remembered(&sidecar, &[gzip]).await;
    assert_eq!((answer.header("content-encoding"), answer.text()), (None, "[\"plain\"]"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_varies_by_everything_is_nobody_elses() {
    for vary in [&["*"][..], &["Accept-Encoding, *"], &["Cookie", "Accept ,*"]] {
        for audience in ["", "audience = \"public\"\n"] {
            let backend = Backend::start().await;
            backend.handle("/a", move |seen| {
                let text = format!(
                    "{} by {}",
                    seen.header("x-forwarded-for").unwrap_or("nobody"),
                    seen.header("user-agent").unwrap_or("-")
                );
                vary.iter().fold(Page::json(&format!("{text:?}")), |page, line| page.header("Vary", line))
            });
            let sidecar = Sidecar::with(&format!(
                "[server]\ntrusted_proxies = [\"127.0.0.1\"]\n[upstream]\nurl = \"{}\"\n{ROUTE}{audience}",
                backend.url()
            ));
            for (address, agent) in [("10.0.0.1", "one"), ("10.0.0.2", "one"), ("10.0.0.2", "two")] {
                let who = [("X-Forwarded-For", address), ("User-Agent", agent)];
                let mut events = Events::open(sidecar.address, "/a", &who).await;
                let told = events.snapshot().await.data;
                assert!(
                    told.starts_with(&format!("\"{address}")) && told.ends_with(&format!("by {agent}\"")),
                    "{told}"
                );
                for _ in 0..3 {
                    let answer = sidecar.get("/a", &who).await;
                    assert!(!answer.is_from_memory(), "{answer:?}");
                    assert!(answer.text().ends_with(&format!("by {agent}\"")) && answer.text().contains(address));
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_stream_is_sent_to_is_made_for_each() {
    let backend = Backend::start().await;
    let count = AtomicUsize::default();
    backend.handle("/a", move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        Page::text("")
            .status(302)
            .header("Location", &format!("/login;sid={number}"))
            .header("Set-Cookie", &format!("sid={number}"))
    });
    let sidecar = Sidecar::start(&backend, ROUTE);
    let mut asked = Vec::new();
    for _ in 0..4 {
        asked.push(tokio::spawn(Events::try_open(sidecar.address, "/a", &[])));
    }
    let mut locations = Vec::new();
    for asked in asked {
        let head = asked.await.unwrap().head;
        assert_eq!(head.status, 302);
        let location = head.header("location").unwrap().to_owned();
        assert_eq!(head.header("set-cookie").map(|cookie| format!("/login;{cookie}")), Some(location.clone()));
        assert!(!locations.contains(&location), "{location} was given twice");
        locations.push(location);
    }
}
