//! Requests that read by their bodies: shared like GETs where that is certain, passed through byte for byte where it is not.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::backend::{Backend, Page, Seen};
use crate::support::client::{Connection, Events, Response, head};
use crate::support::sidecar::Sidecar;
use crate::support::{eventually, within};

const JSON: (&str, &str) = ("Content-Type", "application/json");
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");
const STREAM: (&str, &str) = ("Accept", "text/event-stream");

fn route(path: &str, post: &str) -> String {
    format!("[[route]]\npath = \"{path}\"\nevery = \"50ms\"\nevery_max = \"50ms\"\npost = {post}\n")
}

async fn post(sidecar: &Sidecar, target: &str, headers: &[(&str, &str)], body: &str) -> Response {
    Connection::open(sidecar.address).await.request("POST", target, headers, body.as_bytes()).await
}

/// A stream of what `body` asks for.
async fn stream(sidecar: &Sidecar, target: &str, headers: &[(&str, &str)], body: &str) -> Events {
    let mut connection = Connection::open(sidecar.address).await;
    let headers: Vec<_> = headers.iter().copied().chain([STREAM]).collect();
    connection.send(head("POST", target, &headers, body.as_bytes())).await;
    connection.send(body).await;
    let events = Events::on(connection).await;
    assert_eq!(events.head.header("content-type"), Some("text/event-stream"), "{:?}", events.head);
    events
}

/// An application that speaks JSON-RPC: `get` reads a number, `add` adds to it.
fn calculator(backend: &Backend, path: &str) -> Arc<AtomicUsize> {
    let number = Arc::new(AtomicUsize::new(0));
    let state = Arc::clone(&number);
    backend.handle(path, move |seen| {
        let answer = |call: &Value| {
            let result = match call["method"].as_str() {
                Some("get") => state.load(Ordering::SeqCst),
                Some("add") => state.fetch_add(1, Ordering::SeqCst) + 1,
                _ => return json!({ "id": call["id"], "error": { "message": "no such method" } }),
            };
            json!({ "id": call["id"], "result": result, "of": call["params"] })
        };
        match serde_json::from_slice(&seen.body) {
            Ok(Value::Array(calls)) => Page::json(&Value::Array(calls.iter().map(answer).collect()).to_string()),
            Ok(call) => Page::json(&answer(&call).to_string()),
            Err(_) => Page::text("not JSON").status(400),
        }
    });
    number
}

const CALCULATOR: &str = r#"{ kind = "json-rpc", reads = ["get"] }"#;

fn own(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap_or_else(|_| panic!("{response:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_ask_the_same_share_a_fetch_and_each_has_its_own_id() {
    let backend = Backend::start().await;
    let number = calculator(&backend, "/rpc");
    let sidecar = Sidecar::start(&backend, &route("/rpc", CALCULATOR));
    let mut events = stream(&sidecar, "/rpc", &[JSON], r#"{"method":"get","id":17}"#).await;
    assert!(events.snapshot().await.data.contains("\"result\":0"));
    for id in ["1", "200", "1.5", "-3e7"] {
        let answer = post(&sidecar, "/rpc", &[JSON], &format!("{{\"method\":\"get\",\"id\":{id}}}")).await;
        assert!(answer.is_from_memory(), "{answer:?}");
        assert!(answer.text().contains(&format!("\"id\":{id}")), "{answer:?}");
        assert_eq!((answer.header("etag"), answer.header("content-type")), (None, Some("application/json")));
    }
    // In another order, and with white space.
    let answer = post(&sidecar, "/rpc", &[JSON], " { \"id\" : 5 , \"method\" : \"get\" } ").await;
    assert!(answer.is_from_memory() && own(&answer)["id"] == 5, "{answer:?}");
    // All that was asked for others was asked with an id of ours. Whether the application streams this itself was asked for the client.
    let (fetches, own_way): (Vec<_>, Vec<_>) = backend.seen("/rpc").into_iter().partition(Seen::is_fetch);
    assert!(fetches.iter().all(|seen| seen.body == br#"{"method":"get","id":1}"#), "{fetches:?}");
    assert!(own_way.iter().all(|seen| seen.header("accept") == Some("text/event-stream")), "{own_way:?}");
    number.store(9, Ordering::SeqCst);
    assert!(events.snapshot().await.data.contains("\"result\":9"));
    let answer = post(&sidecar, "/rpc", &[JSON], r#"{"method":"get","id":5}"#).await;
    assert_eq!(own(&answer), json!({ "id": 5, "result": 9, "of": null }));
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_answered_with_the_ids_of_each_member() {
    let backend = Backend::start().await;
    calculator(&backend, "/rpc");
    let sidecar = Sidecar::start(&backend, &route("/rpc", CALCULATOR));
    let batch = |a: &str, b: &str| {
        format!("[{{\"method\":\"get\",\"id\":{a},\"params\":1}},{{\"method\":\"get\",\"id\":{b},\"params\":2}}]")
    };
    let mut events = stream(&sidecar, "/rpc", &[JSON], &batch("7", "8")).await;
    events.snapshot().await;
    let answer = post(&sidecar, "/rpc", &[JSON], &batch("100", "99")).await;
    assert!(answer.is_from_memory(), "{answer:?}");
    assert_eq!(own(&answer), json!([{ "id": 100, "result": 0, "of": 1 }, { "id": 99, "result": 0, "of": 2 }]));
    let mixed = r#"[{"method":"get","id":1,"params":1},{"method":"add","id":2,"params":2}]"#;
    let answer = post(&sidecar, "/rpc", &[JSON], mixed).await;
    assert!(!answer.is_from_memory() && own(&answer)[1]["result"] == 1, "{answer:?}");
    assert!(backend.seen("/rpc").iter().any(|seen| seen.body == mixed.as_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_is_no_write_and_a_write_is_one() {
    let backend = Backend::start().await;
    calculator(&backend, "/rpc");
    backend.set("/other", Page::json("1"));
    let slow = "[[route]]\npath = \"/rpc\"\nevery = \"1h\"\nevery_max = \"1h\"\npost = { kind = \"json-rpc\", reads = [\"get\"] }\n\
                [[route]]\npath = \"/other\"\nevery = \"1h\"\nevery_max = \"1h\"\n";
    let sidecar = Sidecar::start(&backend, slow);
    let mut events = stream(&sidecar, "/rpc", &[JSON], r#"{"method":"get"}"#).await;
    events.snapshot().await;
    let mut other = sidecar.events("/other").await;
    other.snapshot().await;
    let before = (backend.hits("/rpc"), backend.hits("/other"));
    // Others of these, which the application answers itself, change nothing.
    for params in 0..5 {
        let asked = format!("{{\"method\":\"get\",\"params\":{params}}}");
        assert_eq!(own(&post(&sidecar, "/rpc", &[JSON], &asked).await)["of"], params);
        let answer = post(&sidecar, "/rpc", &[JSON], r#"{"method":"get"}"#).await;
        assert!(answer.is_from_memory(), "{answer:?}");
    }
    assert_eq!((backend.hits("/rpc"), backend.hits("/other")), (before.0 + 5, before.1));
    // This one does.
    let answer = post(&sidecar, "/rpc", &[JSON], r#"{"method":"add","id":3}"#).await;
    assert_eq!(own(&answer)["result"], 1);
    assert!(events.snapshot().await.data.contains("\"result\":1"));
    eventually("the other to be fetched, too", || backend.hits("/other") > before.1).await;
    let answer = post(&sidecar, "/rpc", &[JSON], r#"{"method":"get"}"#).await;
    assert_eq!(own(&answer)["result"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_with_bodies_wait_for_news() {
    let backend = Backend::start().await;
    let number = calculator(&backend, "/rpc");
    let sidecar = Sidecar::start(&backend, &route("/rpc", CALCULATOR));
    let mut events = stream(&sidecar, "/rpc", &[JSON], r#"{"method":"get","id":1}"#).await;
    events.snapshot().await;
    // Nothing says what the client has, so it is given what there is.
    let wait = [JSON, ("Prefer", "wait=20")];
    let first = within("an answer", post(&sidecar, "/rpc", &wait, r#"{"method":"get","id":4}"#)).await;
    assert_eq!((own(&first)["id"].clone(), own(&first)["result"].clone()), (json!(4), json!(0)));
    number.store(5, Ordering::SeqCst);
    events.snapshot().await;
    let next = post(&sidecar, "/rpc", &wait, r#"{"method":"get","id":5}"#).await;
    assert_eq!((own(&next)["id"].clone(), own(&next)["result"].clone()), (json!(5), json!(5)));
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_of_one_page_with_bodies_are_held() {
    let backend = Backend::start().await;
    let number = calculator(&backend, "/rpc");
    let held = route("/rpc", r#"{ kind = "json-rpc", reads = ["get"] }"#) + "hold = \"1h\"\n";
    let sidecar = Sidecar::start(&backend, &held);
    let (address, last) = (sidecar.address, Arc::<Mutex<String>>::default());
    let polling = tokio::spawn({
        let last = Arc::clone(&last);
        async move {
            let mut connection = Connection::open(address).await;
            for id in 8.. {
                let asked = format!("{{\"method\":\"get\",\"id\":{id}}}");
                let answer = connection.request("POST", "/rpc", &[JSON], asked.as_bytes()).await;
                assert!(answer.text().contains(&format!("\"id\":{id}")), "{answer:?}");
                *last.lock().unwrap() = answer.text().to_owned();
                tokio::time::sleep(Duration::from_millis(400)).await;
            }
        }
    });
    tokio::time::timeout(Duration::from_secs(60), async {
        while sidecar.held() == 0 || backend.hits("/rpc") < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // Long enough to be more than a little delay.
        loop {
            let at = std::time::Instant::now();
            while sidecar.held() == 1 && at.elapsed() < Duration::from_millis(350) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            if at.elapsed() >= Duration::from_millis(350) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the page to be held");
    number.store(3, Ordering::SeqCst);
    eventually("news", || last.lock().unwrap().contains("\"result\":3")).await;
    polling.abort();
}

/// Headers and a body.
type Posted = (Vec<(&'static str, &'static str)>, Vec<u8>);

/// Bodies on a route for `kind` of which it is not certain that they only read.
fn uncertain(kind: &str) -> Vec<Posted> {
    let plain = vec![JSON];
    let mut bodies: Vec<Posted> = match kind {
        "json-rpc" => [
            "{\"method\":\"add\"}",
            "{\"method\":\"get\",\"method\":\"add\"}",
            "{\"method\":\"get\",\"METHOD\":\"add\"}",
            "{\"method\":\"get\"",
            "[{\"method\":\"get\"},{\"method\":\"add\"}]",
            "\u{feff}{\"method\":\"get\"}",
            "method=get",
        ]
        .map(|body| (plain.clone(), body.into()))
        .into(),
        "graphql" => [
            "{\"query\":\"mutation { a }\"}",
            "{\"query\":\"subscription { a }\"}",
            "{\"query\":\"{ a @defer { b } }\"}",
            "{\"query\":\"{ a\"}",
            "{\"query\":\"{ a } mutation B { b }\",\"operationName\":\"B\"}",
            "{\"query\":\"{ a }\",\"query\":\"mutation { a }\"}",
            "{\"extensions\":{\"persistedQuery\":{\"version\":1,\"sha256Hash\":\"abc\"}}}",
            "[{\"query\":\"{ a }\"}]",
        ]
        .map(|body| (plain.clone(), body.into()))
        .into(),
        _ => ["do=delete", "do=list&do=delete", "do=list;do=delete", "do=list&x=%", "{\"do\":\"list\"}"]
            .map(|body| (vec![FORM], body.into()))
            .into(),
    };
    let (read, content_type): (&[u8], _) = match kind {
        "json-rpc" => (br#"{"method":"get"}"#, JSON),
        "graphql" => (br#"{"query":"{ a }"}"#, JSON),
        _ => (b"do=list", FORM),
    };
    for more in [
        ("Content-Encoding", "identity"),
        ("X-HTTP-Method-Override", "DELETE"),
        ("Content-MD5", "x"),
        ("Range", "bytes=0-1"),
        ("If-None-Match", "\"x\""),
        ("Idempotency-Key", "1"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Origin", "https://other.example"),
    ] {
        bodies.push((vec![content_type, more], read.to_vec()));
    }
    bodies.push((vec![("Content-Type", "multipart/form-data; boundary=x")], read.to_vec()));
    bodies.push((vec![("Content-Type", "application/json; charset=utf-7")], read.to_vec()));
    let long = [read, &vec![b' '; 64 * 1024][..]].concat();
    bodies.push((vec![content_type], long));
    bodies.push((vec![content_type], (0..=255).collect()));
    bodies
}

fn kinds() -> [(&'static str, &'static str, &'static str, (&'static str, &'static str)); 3] {
    [
        ("json-rpc", r#"{ kind = "json-rpc", reads = ["get"] }"#, r#"{"method":"get"}"#, JSON),
        ("graphql", r#"{ kind = "graphql", reads = ["queries"] }"#, r#"{"query":"{ a }"}"#, JSON),
        ("form", r#"{ kind = "form", reads = ["do=list"] }"#, "do=list", FORM),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_certainly_a_read_passes_through_byte_for_byte() {
    for (kind, post, read, content_type) in kinds() {
        let backend = Backend::start().await;
        backend.handle("/a", |seen| Page::json(&json!({ "length": seen.body.len() }).to_string()));
        let sidecar = Sidecar::start(&backend, &route("/a", post));
        // What could be given away by mistake is there.
        let mut events = stream(&sidecar, "/a", &[content_type], read).await;
        events.snapshot().await;
        for (headers, body) in uncertain(kind) {
            let before = backend.seen("/a").iter().filter(|seen| !seen.is_fetch()).count();
            let mut connection = Connection::open(sidecar.address).await;
            let answer = connection.request("POST", "/a", &headers, &body).await;
            assert_eq!(answer.text(), format!("{{\"length\":{}}}", body.len()), "{kind} {headers:?}");
            assert!(!answer.is_from_memory());
            let passed: Vec<Seen> = backend.seen("/a").into_iter().filter(|seen| !seen.is_fetch()).collect();
            assert_eq!(passed.len(), before + 1, "{kind}: {}", body.escape_ascii());
            assert!(
                passed.last().is_some_and(|seen| seen.method == "POST" && seen.body == body),
                "{kind}: {}",
                body.escape_ascii()
            );
        }
        // In chunks.
        let mut connection = Connection::open(sidecar.address).await;
        connection.send("POST /a HTTP/1.1\r\nHost: site.example\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        connection.send(format!("{:x}\r\n{read}\r\n0\r\n\r\n", read.len())).await;
        assert!(!connection.response("POST").await.is_from_memory());
        // And what a URL says in its place.
        let target = ["/a?method=add", "/a?query=mutation{a}", "/a?do=delete"]
            [["json-rpc", "graphql", "form"].iter().position(|known| *known == kind).unwrap()];
        assert!(!self::post(&sidecar, target, &[content_type], read).await.is_from_memory());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_that_the_application_answers_itself_reach_it_whole() {
    let backend = Backend::start().await;
    backend
        .handle("/a", |seen| Page::json(&json!({ "id": 0, "got": String::from_utf8_lossy(&seen.body) }).to_string()));
    let sidecar = Sidecar::start(&backend, &route("/a", CALCULATOR));
    let mut connection = Connection::open(sidecar.address).await;
    for size in [0, 100, 20_000, 65_000] {
        let body = format!("{{\"method\":\"get\", \"id\":\"é\",\"params\":\"{}\"}}", "x".repeat(size));
        // In pieces, and with another request behind it.
        let text = head("POST", "/a", &[JSON], body.as_bytes());
        let (one, two) = body.as_bytes().split_at(5);
        connection.send(text).await;
        connection.send(one).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        connection.send(two).await;
        let answer = connection.response("POST").await;
        assert_eq!(own(&answer)["got"], body);
        assert_eq!(backend.seen("/a").last().map(|seen| seen.body.clone()), Some(body.into_bytes()));
    }
    assert!(backend.seen("/a").iter().all(|seen| !seen.is_fetch()), "nobody asked for more than once");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_for_one_client_are_given_to_no_other() {
    let backend = Backend::start().await;
    let answers = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&answers);
    backend.handle("/a", move |seen| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        let said: Value = serde_json::from_slice(&seen.body).unwrap_or_default();
        let page = Page::json(&json!({ "id": said["id"], "result": number }).to_string());
        match said["params"].as_str().unwrap_or_default() {
            "cookie" => page.header("Set-Cookie", "sid=1"),
            "location" => page.header("Location", "/x"),
            "created" => page.status(201),
            "accepted" => page.status(202),
            "conflict" => page.status(409).header("X-Session", &number.to_string()),
            "forbidden" => page.status(403),
            "gone" => page.status(404),
            "error" => Page::json(&json!({ "id": said["id"], "error": { "code": number } }).to_string()),
            "mute" => Page::json(&json!({ "id": 99, "result": number }).to_string()),
            _ => page,
        }
    });
    let sidecar = Sidecar::start(&backend, &route("/a", CALCULATOR));
    for what in ["cookie", "location", "created", "accepted", "conflict", "forbidden", "gone", "error", "mute"] {
        let asked = format!("{{\"method\":\"get\",\"id\":1,\"params\":\"{what}\"}}");
        let mut seen = Vec::new();
        let wait = [JSON, ("Prefer", "wait=1")];
        // At the same time, so that they could be given one answer, and one after the other.
        let many = (0..4).map(|at| post(&sidecar, "/a", if at % 2 == 0 { &wait } else { &wait[..1] }, &asked));
        let mut answers = futures_util::future::join_all(many).await;
        for _ in 0..3 {
            answers.push(post(&sidecar, "/a", &[JSON], &asked).await);
        }
        for answer in answers {
            assert!(!answer.is_from_memory(), "{what}: {answer:?}");
            assert!(!seen.contains(&answer.body), "{what}: given twice: {answer:?}");
            seen.push(answer.body);
        }
        // Who asks for a stream is answered by the application, or told that there is nothing to be told.
        let mut connection = Connection::open(sidecar.address).await;
        connection.send(head("POST", "/a", &[JSON, STREAM], asked.as_bytes())).await;
        connection.send(&asked).await;
        let opened = connection.head().await;
        if opened.header("content-type") == Some("text/event-stream") {
            let stale = Events::behind(opened, connection).next().await.unwrap();
            assert_eq!(stale.event.as_deref(), Some("stale"), "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_is_each_clients_own() {
    let backend = Backend::start().await;
    let sessions = Arc::new(Mutex::new(Vec::<String>::new()));
    let known = Arc::clone(&sessions);
    backend.handle("/transmission/rpc", move |seen| {
        let mut known = known.lock().unwrap();
        let session = seen.header("x-transmission-session-id").unwrap_or_default().to_owned();
        if !known.contains(&session) {
            let new = format!("s{}", known.len());
            known.push(new.clone());
            return Page::text("409: Conflict").status(409).header("X-Transmission-Session-Id", &new);
        }
        let said: Value = serde_json::from_slice(&seen.body).unwrap();
        Page::json(&json!({ "arguments": { "for": session }, "result": "success", "tag": said["tag"] }).to_string())
    });
    let rules = r#"{ kind = "json-rpc", reads = ["torrent-get", "session-*"], echo = ["/tag"] }"#;
    let sidecar = Sidecar::start(&backend, &route("/transmission/rpc", rules));
    let ask = |session: String, tag: usize| {
        let asked = format!("{{\"method\":\"torrent-get\",\"tag\":{tag}}}");
        let address = sidecar.address;
        async move {
            let headers = [JSON, ("X-Transmission-Session-Id", &*session)];
            Connection::open(address).await.request("POST", "/transmission/rpc", &headers, asked.as_bytes()).await
        }
    };
    let first = futures_util::future::join_all((0..10).map(|tag| ask(String::new(), tag))).await;
    let mut given: Vec<_> =
        first.iter().map(|answer| answer.header("x-transmission-session-id").unwrap().to_owned()).collect();
    assert!(first.iter().all(|answer| answer.status == 409));
    given.sort();
    given.dedup();
    assert_eq!(given.len(), 10, "each was given its own: {given:?}");
    // Ten clients with one session cost the application one.
    let session = given[0].clone();
    let mut events = stream(
        &sidecar,
        "/transmission/rpc",
        &[JSON, ("X-Transmission-Session-Id", &session)],
        r#"{"method":"torrent-get","tag":3}"#,
    )
    .await;
    events.snapshot().await;
    let all = futures_util::future::join_all((0..10).map(|tag| ask(session.clone(), tag + 50))).await;
    for (tag, answer) in all.iter().enumerate() {
        assert!(answer.is_from_memory(), "{answer:?}");
        assert_eq!(own(answer), json!({ "arguments": { "for": session }, "result": "success", "tag": tag + 50 }));
    }
    // Another session is another client.
    let other = ask(given[1].clone(), 1).await;
    assert_eq!(own(&other)["arguments"]["for"], *given[1]);
}

/// Many people, each with credentials of another kind, who ask the same.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_given_what_is_anothers() {
    let backend = Backend::start().await;
    let odd = Arc::new(Mutex::new(Vec::new()));
    let found = Arc::clone(&odd);
    backend.handle("/own", move |seen| {
        let names = ["cookie", "authorization", "x-csrftoken", "x-transmission-session-id", "x-tenant"];
        let who: Vec<_> = names.iter().filter_map(|name| seen.header(name)).collect();
        let who = who.join("|");
        let said = String::from_utf8_lossy(&seen.body).into_owned();
        // A body with a token of somebody's goes with the credentials of the same.
        let token = said.split("token=").nth(1).and_then(|rest| rest.split(['"', '&']).next()).unwrap_or_default();
        if seen.is_fetch() && !token.is_empty() && !who.contains(token) && token != "1" {
            found.lock().unwrap().push(format!("{who}: {said}"));
        }
        Page::json(&json!({ "result": who, "id": 1 }).to_string())
    });
    let routes = route("/own", r#"{ kind = "form", reads = ["do=list"], ignore = ["/token"] }"#);
    let sidecar = Sidecar::start(&backend, &routes);
    let people = (0..30).map(|number| {
        let address = sidecar.address;
        async move {
            let value = format!("p{}", number / 2);
            let header = match number % 10 / 2 {
                0 => ("Cookie", format!("sid={value}")),
                1 => ("Authorization", format!("Bearer {value}")),
                2 => ("X-CSRFToken", value.clone()),
                3 => ("X-Transmission-Session-Id", value.clone()),
                _ => ("X-Tenant", value.clone()),
            };
            let body = format!("do=list&token={value}");
            for round in 0..6 {
                let mut headers = vec![FORM, (header.0, &*header.1)];
                if round % 2 == 0 {
                    headers.push(("Prefer", "wait=1"));
                }
                let mut connection = Connection::open(address).await;
                let answer = connection.request("POST", "/own", &headers, body.as_bytes()).await;
                assert_eq!(own(&answer)["result"], header.1, "{answer:?}");
            }
        }
    });
    futures_util::future::join_all(people).await;
    assert!(odd.lock().unwrap().is_empty(), "{:?}", odd.lock().unwrap());
    assert!(backend.seen("/own").iter().any(Seen::is_fetch), "fetches were made");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ignored_of_an_anonymous_body_reaches_nobody_else() {
    let backend = Backend::start().await;
    backend.handle("/dash", |seen| {
        let said: Value = serde_json::from_slice(&seen.body).unwrap();
        Page::json(&json!({ "for": said["output"], "n": said["inputs"][0]["value"] }).to_string())
    });
    let rules = r#"{ kind = "whole", ignore = ["/inputs/*/value"] }"#;
    let sidecar = Sidecar::start(&backend, &route("/dash", rules));
    let body = |n: usize| format!("{{\"output\":\"o\",\"inputs\":[{{\"property\":\"n_intervals\",\"value\":{n}}}]}}");
    let mut events = stream(&sidecar, "/dash", &[JSON], &body(666)).await;
    assert_eq!(events.snapshot().await.data, r#"{"for":"o","n":1}"#);
    for n in 0..50 {
        let answer = post(&sidecar, "/dash", &[JSON], &body(n)).await;
        assert!(answer.is_from_memory(), "{answer:?}");
    }
    let own_way = backend.seen("/dash").into_iter().filter(|seen| !seen.is_fetch()).count();
    assert!(own_way <= 1, "fifty viewers cost what one costs");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_is_answered_through_as_it_is_directly() {
    for (kind, rules, read, content_type) in kinds() {
        let backend = Backend::start().await;
        backend.handle("/a", |seen| {
            let said = String::from_utf8_lossy(&seen.body).into_owned();
            Page::json(&json!({ "data": { "said": said } }).to_string()).header("X-App", "1").etag()
        });
        let sidecar = Sidecar::start(&backend, &route("/a", rules));
        let direct =
            Connection::open(backend.address).await.request("POST", "/a", &[content_type], read.as_bytes()).await;
        let first = post(&sidecar, "/a", &[content_type], read).await;
        let mut events = stream(&sidecar, "/a", &[content_type], read).await;
        assert_eq!(events.snapshot().await.data, direct.text(), "{kind}");
        let shared = post(&sidecar, "/a", &[content_type], read).await;
        assert!(shared.is_from_memory() && !first.is_from_memory(), "{kind}: {shared:?}");
        for answer in [&first, &shared] {
            assert_eq!((answer.status, answer.text()), (direct.status, direct.text()), "{kind}");
            for name in ["content-type", "x-app"] {
                assert_eq!(answer.header(name), direct.header(name), "{kind} {name}");
            }
        }
        let other = post(&sidecar, "/a", &[("Content-Type", content_type.1), ("Accept-Language", "de")], read).await;
        assert_eq!(other.text(), direct.text(), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_can_be_followed_on_streams_and_sockets() {
    let backend = Backend::start().await;
    let number = calculator(&backend, "/rpc");
    let sidecar = Sidecar::start(&backend, &route("/rpc", CALCULATOR));
    let long = |n: usize| json!({ "method": "get", "params": [n, "x".repeat(300)] }).to_string();
    let follow = json!({ "follow": [
        { "url": "/rpc#one", "method": "POST", "body": long(1), "delta": "json-patch" },
        { "url": "/rpc#two", "body": long(2) },
    ] });
    let mut events = Events::post(sidecar.address, "/.sungrazer/stream", &follow.to_string()).await;
    let mut found = Vec::new();
    for _ in 0..2 {
        let record: Value = serde_json::from_str(&events.next().await.unwrap().data).unwrap();
        found.push((record["url"].clone(), record["body"]["of"][0].clone()));
    }
    found.sort_by_key(|(url, _)| url.to_string());
    assert_eq!(found, [(json!("/rpc#one"), json!(1)), (json!("/rpc#two"), json!(2))]);
    number.store(4, Ordering::SeqCst);
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let record: Value = serde_json::from_str(&events.next().await.unwrap().data).unwrap();
        kinds.push((record["url"].as_str().unwrap().to_owned(), record["event"].as_str().unwrap().to_owned()));
    }
    kinds.sort();
    assert_eq!(kinds, [("/rpc#one".into(), "patch".into()), ("/rpc#two".into(), "snapshot".into())]);
    for (follow, why) in [
        (json!({ "url": "/rpc", "body": r#"{"method":"add"}"# }), "only reads"),
        (json!({ "url": "/rpc", "method": "DELETE", "body": "x" }), "POST or QUERY"),
        (json!({ "url": "/rpc", "method": "POST" }), "without a body"),
    ] {
        let body = json!({ "follow": [follow] }).to_string();
        let answer = post(&sidecar, "/.sungrazer/stream", &[], &body).await;
        assert!(answer.status == 400 && answer.text().contains(why), "{answer:?}");
    }
    assert!(backend.seen("/rpc").iter().all(|seen| !seen.body.windows(3).any(|word| word == b"add")));
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_by_which_method_and_what_is_asked() {
    let backend = Backend::start().await;
    calculator(&backend, "/rpc");
    let sidecar = Sidecar::start(&backend, &route("/rpc", CALCULATOR));
    let mut events = stream(&sidecar, "/rpc", &[JSON], r#"{"method":"get","params":"hunter2"}"#).await;
    events.snapshot().await;
    for url in ["/api/resources", "/api/why?url=/rpc"] {
        let answer = sidecar.admin(url).await;
        let found = &own(&answer)["resources"][0];
        assert_eq!(
            (found["method"].as_str(), found["asks"].as_str()),
            (Some("POST"), Some("get")),
            "{}",
            answer.text()
        );
        assert!(!answer.text().contains("hunter2"), "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_are_watched_with_their_bodies() {
    let backend = Backend::start().await;
    backend.handle("/q", |seen| {
        let said = format!("{} {}", seen.method, String::from_utf8_lossy(&seen.body));
        Page::json(&json!({ "said": said }).to_string()).header("Accept-Query", "application/sql")
    });
    let routes = "[[route]]\npath = \"/q\"\nmethods = [\"GET\", \"QUERY\"]\nevery = \"50ms\"\nevery_max = \"50ms\"\n\
                  [[route]]\npath = \"/other\"\nevery = \"1h\"\nevery_max = \"1h\"\n";
    let sidecar = Sidecar::start(&backend, routes);
    backend.set("/other", Page::json("1"));
    let mut other = sidecar.events("/other").await;
    other.snapshot().await;
    let before = backend.hits("/other");
    let sql = ("Content-Type", "application/sql");
    let query = async |body: &str, headers: &[(&str, &str)]| {
        Connection::open(sidecar.address).await.request("QUERY", "/q", headers, body.as_bytes()).await
    };
    let first = query("select 1", &[sql]).await;
    assert_eq!((first.text(), first.header("accept-query")), (r#"{"said":"QUERY select 1"}"#, Some("application/sql")));
    let mut connection = Connection::open(sidecar.address).await;
    connection.send(head("QUERY", "/q", &[sql, STREAM], b"select 1")).await;
    connection.send("select 1").await;
    let mut events = Events::on(connection).await;
    assert_eq!(events.snapshot().await.data, r#"{"said":"QUERY select 1"}"#);
    for _ in 0..3 {
        let answer = query("select 1", &[sql]).await;
        assert!(answer.is_from_memory() && answer.header("accept-query").is_some(), "{answer:?}");
    }
    for (body, headers) in [("select 2", [sql]), ("select 1", [("Content-Type", "text/plain")])] {
        let answer = query(body, &headers).await;
        assert!(!answer.is_from_memory(), "{answer:?}");
        assert_eq!(own(&answer)["said"], format!("QUERY {body}"));
    }
    assert_eq!(backend.hits("/other"), before, "no write");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_does_not_know_query_is_asked_by_post() {
    for status in [400, 404, 405, 501] {
        let backend = Backend::start().await;
        backend.handle("/q", move |seen| match seen.method.as_str() {
            "POST" => Page::json(&json!({ "data": String::from_utf8_lossy(&seen.body) }).to_string()),
            _ => Page::text("what?").status(status),
        });
        let routes = "[[route]]\npath = \"/q\"\nmethods = [\"GET\", \"QUERY\"]\nevery = \"50ms\"\nevery_max = \"50ms\"\n\
                      post = { kind = \"graphql\", reads = [\"queries\"] }\n";
        let sidecar = Sidecar::start(&backend, routes);
        let query = async |body: &str| {
            Connection::open(sidecar.address).await.request("QUERY", "/q", &[JSON], body.as_bytes()).await
        };
        let (read, write) = (r#"{"query":"{ a }"}"#, r#"{"query":"mutation { a }"}"#);
        assert_eq!(query(write).await.status, status, "what is not listed is not sent by POST");
        assert_eq!(own(&query(read).await)["data"], read, "{status}");
        assert_eq!(own(&query(read).await)["data"], read, "{status}");
        let methods: Vec<_> = backend.seen("/q").iter().map(|seen| seen.method.clone()).collect();
        assert_eq!(methods, ["QUERY", "QUERY", "POST", "POST"], "{status}");
        let mut connection = Connection::open(sidecar.address).await;
        connection.send(head("QUERY", "/q", &[JSON, STREAM], read.as_bytes())).await;
        connection.send(read).await;
        let mut events = Events::on(connection).await;
        assert_eq!(serde_json::from_str::<Value>(&events.snapshot().await.data).unwrap()["data"], read);
        assert!(query(read).await.is_from_memory());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_finds_out_that_query_is_not_known() {
    let backend = Backend::start().await;
    backend.handle("/q", |seen| match seen.method.as_str() {
        "POST" => Page::json("{\"data\":1}"),
        _ => Page::text("what?").status(405),
    });
    let routes = "[[route]]\npath = \"/q\"\nmethods = [\"QUERY\"]\nevery = \"50ms\"\nevery_max = \"50ms\"\n\
                  transports = [\"ndjson\"]\npost = { kind = \"graphql\", reads = [\"queries\"] }\n";
    let sidecar = Sidecar::start(&backend, routes);
    let read = r#"{"query":"{ a }"}"#;
    let mut connection = Connection::open(sidecar.address).await;
    connection.send(head("QUERY", "/q", &[JSON, ("Accept", "application/x-ndjson")], read.as_bytes())).await;
    connection.send(read).await;
    assert_eq!(connection.head().await.status, 200);
    let record = connection.chunk().await.unwrap();
    assert!(String::from_utf8_lossy(&record).contains("\"body\":{\"data\":1}"));
    let methods: Vec<_> = backend.seen("/q").iter().take(3).map(|seen| seen.method.clone()).collect();
    assert_eq!(methods[..2], ["QUERY", "POST"]);
}
