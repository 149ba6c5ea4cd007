//! What is a change, and what is said of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::support::backend::{Backend, Page};
use crate::support::client::Events;
use crate::support::sidecar::Sidecar;
use crate::support::{eventually, within};

fn route(rules: &str) -> String {
    format!("[[route]]\npath = \"/a\"\nevery = \"50ms\"\nevery_max = \"50ms\"\n{rules}\n")
}

/// Waits for a few more fetches, and then for nothing to have come of them.
async fn is_silent(backend: &Backend, events: &mut Events) -> bool {
    let fetches = backend.hits("/a");
    eventually("more fetches", || backend.hits("/a") > fetches + 4).await;
    tokio::time::timeout(Duration::from_millis(100), events.next()).await.is_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ignored_is_silent_and_comes_with_the_next_change() {
    for (rules, content_type, body) in [
        ("ignore.json = [\"/now\", \"/items/*/age\"]", "application/json", r#"{"items":[{"age":N,"v":V}],"now":N}"#),
        ("ignore.json = [\"/now\"]", "text/html", r#"{"now":N,"v":"V"}"#),
        ("ignore.css = [\"#clock\", \"form@data-token\"]", "text/html", "<form data-token=N><b id=clock>N</b>V</form>"),
        ("ignore.css = [\"updated\"]", "application/atom+xml", "<feed><updated>N</updated><title>V</title></feed>"),
        ("ignore.regex = ['took \\d+ ms']", "text/plain", "V\ntook N ms\n"),
        ("ignore.regex = ['took \\d+ ms']", "text/html", "<p>V</p><!-- took N ms -->"),
    ] {
        let backend = Backend::start().await;
        let (noise, value) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(100_000)));
        backend.handle("/a", {
            let (noise, value) = (Arc::clone(&noise), Arc::clone(&value));
            move |_| {
                let noise = noise.fetch_add(1, Ordering::SeqCst).to_string();
                let value = value.load(Ordering::SeqCst).to_string();
                Page::new(content_type, body.replace('N', &noise).replace('V', &value))
            }
        });
        let sidecar = Sidecar::start(&backend, &route(rules));
        let mut events = sidecar.events("/a").await;
        let first = events.snapshot().await;
        assert!(is_silent(&backend, &mut events).await, "{rules} {body}");
        value.store(200_000, Ordering::SeqCst);
        let second = within("the change", events.snapshot()).await;
        assert!(second.data.contains("200000"), "{rules}: {second:?}");
        // What was ignored came along: the body is one that the backend sent, and not with the noise of the first.
        let before = first.data.replace("100000", "200000");
        assert_ne!(second.data, before, "{rules}");
        assert!(is_silent(&backend, &mut events).await, "{rules}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_spelling_of_the_same_json_is_no_change() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json(r#"{"a":1,"b":[1,2]}"#));
    let sidecar = Sidecar::start(&backend, &route(""));
    let mut events = sidecar.events("/a").await;
    events.snapshot().await;
    backend.set("/a", Page::json("{\n  \"b\": [1, 2],\n  \"\\u0061\": 1\n}\n"));
    assert!(is_silent(&backend, &mut events).await);
    backend.set("/a", Page::json(r#"{"a":1,"b":[1,2.0]}"#));
    assert_eq!(within("the change", events.snapshot()).await.data, r#"{"a":1,"b":[1,2.0]}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_arrive_digit_for_digit() {
    let backend = Backend::start().await;
    let body = r#"{"id":12345678901234567890123,"d":0.1000000000000000055511151231257827,"z":-0,"e":1E400}"#;
    backend.set("/a", Page::json(body));
    let sidecar = Sidecar::start(&backend, &route(""));
    let mut events = sidecar.events("/a").await;
    assert_eq!(events.snapshot().await.data, body);
    let body = body.replace("90123", "90124");
    backend.set("/a", Page::json(&body));
    assert_eq!(within("the change", events.snapshot()).await.data, body);
}

/// The fetches `/a` on record, the newest first.
async fn fetches(sidecar: &Sidecar) -> Vec<serde_json::Value> {
    let why = sidecar.admin("/api/why?url=/a").await;
    let why: serde_json::Value = serde_json::from_slice(&why.body).unwrap();
    why["resources"][0]["looks"].as_array().unwrap().clone()
}

async fn reason(sidecar: &Sidecar, result: &str, part: &str) -> String {
    within(&format!("a fetch that is {result} because of {part}"), async {
        loop {
            let found = fetches(sidecar).await.into_iter().find(|fetch| {
                fetch["result"] == result && fetch["because"].as_str().is_some_and(|reason| reason.contains(part))
            });
            match found {
                Some(fetch) => return fetch["because"].as_str().unwrap().to_owned(),
                None => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn why_names_the_places_and_never_the_values() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json(r#"{"now":1,"user":{"token":"hunter2"},"items":[{"id":1,"v":1}]}"#));
    let sidecar = Sidecar::start(&backend, &route("ignore.json = [\"/now\"]"));
    let mut events = sidecar.events("/a").await;
    events.snapshot().await;
    assert_eq!(reason(&sidecar, "changed", "first").await, "the first fetch");
    reason(&sidecar, "unchanged", "byte for byte the same").await;
    backend.set("/a", Page::json(r#"{"now":2,"user":{"token":"hunter2"},"items":[{"id":1,"v":1}]}"#));
    assert_eq!(reason(&sidecar, "unchanged", "now").await, "nothing that counts (ignored: /now)");
    backend.set("/a", Page::json(r#"{"now":3,"user":{"token":"hunter3"},"items":[{"id":2,"v":1},{"id":1,"v":2}]}"#));
    events.snapshot().await;
    assert_eq!(reason(&sidecar, "changed", "token").await, "/user/token, /items/* added, /items/*/v; ignored: /now");
    backend.set("/a", Page::json("{\"user\":\"hunter4\""));
    events.snapshot().await;
    let text = reason(&sidecar, "changed", "not valid JSON").await;
    assert!(text.ends_with("it is not valid JSON (at byte 17): compared as text"), "{text}");
    let all = sidecar.admin("/api/why?url=/a").await;
    assert!(!all.text().contains("hunter"), "a value was told: {}", all.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_always_changes_is_reported_once_with_what_would_calm_it() {
    let backend = Backend::start().await;
    let count = AtomicU64::new(0);
    backend.handle("/a", move |_| {
        let count = count.fetch_add(1, Ordering::SeqCst);
        Page::json(&format!(r#"{{"uptime":{count},"load":[{}],"jobs":[1,2]}}"#, count * 7))
    });
    let sidecar = Sidecar::start(&backend, &route(""));
    let mut events = sidecar.events("/a").await;
    let advice = within("advice", async {
        loop {
            events.snapshot().await;
            let why = sidecar.admin("/api/why?url=/a").await;
            let why: serde_json::Value = serde_json::from_slice(&why.body).unwrap();
            if let Some(advice) = why["resources"][0]["advice"].as_str() {
                return advice.to_owned();
            }
        }
    })
    .await;
    let (_, ignore) = advice.split_once("the route needs ").unwrap();
    assert_eq!(ignore, r#"ignore = { json = ["/uptime", "/load/*"] }"#, "{advice}");
    // Nothing is masked because of it.
    events.snapshot().await;
    // What it says is what calms the route.
    let calm = Sidecar::start(&backend, &route(ignore));
    let mut events = calm.events("/a").await;
    events.snapshot().await;
    assert!(is_silent(&backend, &mut events).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_cannot_be_read_as_they_should_are_compared_as_bytes_and_said_to_be() {
    let backend = Backend::start().await;
    for (content_type, one, other, said) in [
        (
            "text/plain; charset=klingon",
            &b"one 1"[..],
            &b"one 2"[..],
            "the body (5 bytes before, 5 now); its charset, \"klingon\", is not known: compared as bytes",
        ),
        (
            "text/html; charset=utf-8",
            b"a \xff 1",
            b"a \xff 2",
            "the body (5 bytes before, 5 now); it is not valid UTF-8: compared as bytes",
        ),
        ("application/json", b"[1,x", b"[2,y", "line 1 (2 times); it is not valid JSON (at byte 3): compared as text"),
    ] {
        backend.set("/a", Page::new(content_type, one));
        let sidecar = Sidecar::start(&backend, &route("ignore = { json = [\"/0\"], regex = ['\\d$'] }"));
        let mut events = sidecar.events("/a").await;
        events.snapshot().await;
        assert!(is_silent(&backend, &mut events).await, "{content_type}");
        backend.set("/a", Page::new(content_type, other));
        within("the change", events.snapshot()).await;
        let text = reason(&sidecar, "changed", said).await;
        assert!(!text.starts_with("the first fetch"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_that_goes_back_and_forth_is_reported_with_what_would_calm_it() {
    let backend = Backend::start().await;
    let count = AtomicU64::new(0);
    backend.handle("/a", move |_| {
        // Two servers behind one name, each with its own idea.
        let node = (count.fetch_add(1, Ordering::SeqCst) / 3) % 2;
        Page::new("text/html", format!("<p>fine</p><p id=node>node {node}</p>"))
    });
    let sidecar = Sidecar::start(&backend, &route(""));
    let mut events = sidecar.events("/a").await;
    let advice = within("advice", async {
        loop {
            events.snapshot().await;
            if let Some(advice) = sidecar.server.gateway().hub.resources()[0].state().advice.as_deref() {
                return advice.to_owned();
            }
        }
    })
    .await;
    assert!(advice.contains("led back to a state that was there before"), "{advice}");
    let (_, ignore) = advice.split_once("the route needs ").unwrap();
    assert_eq!(ignore, "ignore = { css = [\"#node\"] }");
    let why = sidecar.admin("/api/why?url=/a").await;
    assert!(why.text().contains("led back to a state"), "{}", why.text());
    let calm = Sidecar::start(&backend, &route(ignore));
    let mut events = calm.events("/a").await;
    events.snapshot().await;
    assert!(is_silent(&backend, &mut events).await);
    assert_eq!(reason(&calm, "unchanged", "ignored").await, "nothing that counts (ignored: #node)");
}
