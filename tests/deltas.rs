//! Deltas over server-sent events.

use std::fmt::Write as _;

use crate::support::backend::{Backend, Page};
use crate::support::client::{Event, Events};
use crate::support::oracle::{self, Json, Reader};
use crate::support::sidecar::Sidecar;
use crate::support::{eventually, within};

const ROUTE: &str = "[[route]]\npath = \"/a\"\nevery = \"50ms\"\nevery_max = \"50ms\"\n";

async fn open(sidecar: &Sidecar, delta: &str, more: &[(&str, &str)]) -> Events {
    let prefer = format!("delta={delta}");
    let headers: Vec<_> = std::iter::once(("Prefer", prefer.as_str())).chain(more.iter().copied()).collect();
    Events::open(sidecar.address, "/a", &headers).await
}

async fn next(events: &mut Events, name: &str) -> Event {
    let event = within("an event", events.next()).await.expect("an event");
    assert_eq!(event.event.as_deref(), Some(name), "{event:?}");
    event
}

fn list(range: std::ops::Range<usize>) -> String {
    let mut text = String::from("{ \"items\": [");
    for n in range {
        let comma = if text.ends_with('[') { "" } else { ",\n" };
        let _ = write!(text, "{comma}{{\"id\":{n},\"big\":1234567890123456789{n},\"text\":\"some text\"}}");
    }
    text + "] }"
}

fn read(text: &str) -> Json {
    Json::read(text, Reader::LastWins)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_for_patches_gets_a_snapshot_and_then_patches() {
    let backend = Backend::start().await;
    for (kind, expected) in [
        (
            "json-patch",
            r#"[{"op":"add","path":"/items/20","value":{"id":20,"big":123456789012345678920,"text":"some text"}}]"#,
        ),
        ("merge-patch", ""),
    ] {
        backend.set("/a", Page::json(&list(0..20)));
        let sidecar = Sidecar::start(&backend, ROUTE);
        let mut events = open(&sidecar, kind, &[]).await;
        assert_eq!(events.head.header("preference-applied"), Some(format!("delta={kind}").as_str()));
        assert_eq!(events.head.header("vary"), Some("Accept, Accept-Encoding, Prefer"));
        let first = next(&mut events, "snapshot").await;
        assert_eq!(first.data, list(0..20));
        backend.set("/a", Page::json(&list(0..21)));
        if kind == "merge-patch" {
            // The whole array would have to be said: no smaller than the snapshot, but for its white space.
            let second = within("the change", events.next()).await.unwrap();
            let held = match second.event.as_deref() {
                Some("patch") => oracle::merge_patch(read(&first.data), &read(&second.data)),
                _ => read(&second.data),
            };
            assert_eq!(held, read(&list(0..21)));
            continue;
        }
        let second = next(&mut events, "patch").await;
        assert_eq!(second.data, expected);
        assert_ne!(first.id, second.id);
        let held = oracle::json_patch(read(&first.data), &read(&second.data)).unwrap();
        assert_eq!(held, read(&list(0..21)));
        // All else is new: the snapshot is the smaller thing to say.
        backend.set("/a", Page::json("[1]"));
        assert_eq!(next(&mut events, "snapshot").await.data, "[1]");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn splices_count_in_what_the_events_said() {
    let backend = Backend::start().await;
    let page = |n: u32| {
        Page::new("text/html; charset=utf-8", format!("<p>😀</p>\r\n<b>{n}</b>\r\n{}", "<i>x</i>\r\n".repeat(9)))
    };
    backend.set("/a", page(1));
    let sidecar = Sidecar::start(&backend, ROUTE);
    let mut events = open(&sidecar, "splice", &[]).await;
    let held = next(&mut events, "snapshot").await.data;
    backend.set("/a", page(2));
    let patch = next(&mut events, "patch").await;
    assert_eq!(patch.data, r#"[[13,1,"2"]]"#);
    assert_eq!(oracle::splice(&held, &read(&patch.data)).unwrap(), held.replace("<b>1", "<b>2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_comes_back_is_patched_only_from_what_it_really_holds() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json(&list(0..20)));
    let sidecar = Sidecar::start(&backend, &format!("{ROUTE}ignore = {{ json = [\"/now\"] }}\n"));
    let mut first = open(&sidecar, "json-patch", &[]).await;
    let held = next(&mut first, "snapshot").await;
    let id = held.id.unwrap();
    for n in 21..24 {
        backend.set("/a", Page::json(&list(0..n)));
        next(&mut first, "patch").await;
    }
    // It missed three versions: one patch leads over all of them.
    let mut behind = open(&sidecar, "json-patch", &[("Last-Event-ID", &id)]).await;
    let patch = next(&mut behind, "patch").await;
    assert_eq!(oracle::json_patch(read(&held.data), &read(&patch.data)).unwrap(), read(&list(0..23)));
    // Current by what matters, but not by its bytes: what it holds cannot be patched.
    let changed = |now: u32, n| Page::json(&list(0..n).replacen('{', &format!("{{\"now\":{now},"), 1));
    backend.set("/a", changed(1, 30));
    let version = next(&mut first, "patch").await.id.unwrap();
    let (position, digests) = version.split_once('-').unwrap();
    let (_, meaning) = digests.split_once('~').unwrap();
    let elsewhere = format!("{position}-AAAAAAAAAAAAAAAAAAAAAA~{meaning}");
    let mut alike = open(&sidecar, "json-patch", &[("Last-Event-ID", &elsewhere)]).await;
    backend.set("/a", changed(2, 31));
    assert_eq!(
        read(&next(&mut alike, "snapshot").await.data),
        read(std::str::from_utf8(&changed(2, 31).body).unwrap())
    );
    backend.set("/a", changed(3, 32));
    next(&mut alike, "patch").await;
    // What nobody knows is nothing.
    let mut unknown = open(&sidecar, "json-patch", &[("Last-Event-ID", "3-BBBBBBBBBBBBBBBBBBBBBB")]).await;
    next(&mut unknown, "snapshot").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_who_did_not_ask_gets_a_patch() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json(&list(0..20)));
    let sidecar = Sidecar::start(&backend, ROUTE);
    for prefer in ["", "delta", "delta=nonsense", "wait=5", "x; delta=json-patch", "delta=nonsense, delta=splice"] {
        backend.set("/a", Page::json(&list(0..20)));
        let mut plain = Events::open(sidecar.address, "/a", &[("Prefer", prefer)]).await;
        assert_eq!(plain.head.header("preference-applied"), None, "{prefer}");
        eventually("the first version to be back", || {
            let resources = sidecar.server.gateway().hub.resources();
            resources[0].state().newest().is_some_and(|newest| newest.representation.body == list(0..20))
        })
        .await;
        plain.snapshot().await;
        backend.set("/a", Page::json(&list(0..21)));
        while plain.snapshot().await.data != list(0..21) {}
    }
    for prefer in ["wait=5, Delta=\"json-patch\"; x=1", "delta = json-patch"] {
        let events = Events::open(sidecar.address, "/a", &[("Prefer", prefer)]).await;
        assert_eq!(events.head.header("preference-applied"), Some("delta=json-patch"), "{prefer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_delta_can_say_is_said_whole() {
    let backend = Backend::start().await;
    let long = "x".repeat(200);
    backend.set("/a", Page::json(&format!("{{\"a\":1,\"l\":\"{long}\"}}")));
    let sidecar = Sidecar::start(&backend, ROUTE);
    let mut merge = open(&sidecar, "merge-patch", &[]).await;
    let mut splice = open(&sidecar, "splice", &[]).await;
    next(&mut merge, "snapshot").await;
    next(&mut splice, "snapshot").await;
    let null = format!("{{\"a\":null,\"l\":\"{long}\"}}");
    backend.set("/a", Page::json(&null));
    assert_eq!(next(&mut merge, "snapshot").await.data, null);
    assert_eq!(next(&mut splice, "patch").await.data, r#"[[5,1,"null"]]"#);
    // A patch says nothing of a type.
    backend.set("/a", Page::new("application/problem+json", null.replace("null", "1")));
    next(&mut merge, "snapshot").await;
    next(&mut splice, "snapshot").await;
    backend.set("/a", Page::text("no JSON any more"));
    assert_eq!(next(&mut merge, "snapshot").await.data, "no JSON any more");
}
