//! Plain polls that wait for news.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::support::backend::{Backend, Page};
use crate::support::client::{Connection, Response};
use crate::support::sidecar::Sidecar;
use crate::support::{eventually, within};

fn route(hold: &str) -> String {
    format!("[[route]]\npath = \"/a\"\nevery = \"50ms\"\nevery_max = \"100ms\"\nhold = \"{hold}\"\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_poll_is_answered_at_once_and_the_next_when_something_changed() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let sidecar = Sidecar::start(&backend, &route("1h"));
    let mut client = Connection::open(sidecar.address).await;
    assert_eq!(within("the first answer", client.get("/a", &[])).await.text(), "1");
    let next = tokio::spawn(async move {
        let response = client.get("/a", &[]).await;
        (client, response)
    });
    eventually("the poll to be held", || sidecar.held() == 1).await;
    backend.set("/a", Page::json("2"));
    let (mut client, response) = within("the second answer", next).await.unwrap();
    assert_eq!((response.status, response.text()), (200, "2"));
    assert!(response.is_from_memory());
    // The connection goes on.
    backend.set("/a", Page::json("3"));
    assert_eq!(within("the third answer", client.get("/a", &[])).await.text(), "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_hold_is_up_a_validator_gets_304_and_the_rest_200() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let sidecar = Sidecar::start(&backend, &route("300ms"));
    let mut client = Connection::open(sidecar.address).await;
    let etag = client.get("/a", &[]).await.header("etag").unwrap().to_owned();
    let began = Instant::now();
    let held = client.get("/a", &[]).await;
    assert!(began.elapsed() >= Duration::from_millis(290), "answered after {:?}", began.elapsed());
    assert_eq!((held.status, held.text()), (200, "1"));
    let began = Instant::now();
    let held = client.get("/a", &[("If-None-Match", &etag)]).await;
    assert!(began.elapsed() >= Duration::from_millis(290), "answered after {:?}", began.elapsed());
    assert_eq!((held.status, held.text()), (304, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_validator_is_answered_at_once() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let sidecar = Sidecar::start(&backend, &route("1h"));
    let mut client = Connection::open(sidecar.address).await;
    let etag = client.get("/a", &[]).await.header("etag").unwrap().to_owned();
    backend.set("/a", Page::json("2"));
    let fresh = within("the change", client.get("/a", &[("If-None-Match", &etag)])).await;
    assert_eq!((fresh.status, fresh.text()), (200, "2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_says_that_it_has_counts_for_more_than_what_its_like_were_given() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let sidecar = Sidecar::start(&backend, &route("1h"));
    let (mut one, mut other) = (Connection::open(sidecar.address).await, Connection::open(sidecar.address).await);
    let old = one.get("/a", &[]).await.header("etag").unwrap().to_owned();
    backend.set("/a", Page::json("2"));
    // Another tab of the same browser is told of the change; this one has not heard of it.
    assert_eq!(within("the change", other.get("/a", &[("If-None-Match", &old)])).await.text(), "2");
    let answer = within("an answer at once", one.get("/a", &[("If-None-Match", &old)])).await;
    assert_eq!((answer.status, answer.text()), (200, "2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ignored_does_not_end_a_hold_though_the_validator_is_another() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("{\"n\":1,\"t\":1}"));
    let sidecar = Sidecar::start(&backend, &format!("{}ignore = {{ json = [\"/t\"] }}\n", route("1h")));
    let mut client = Connection::open(sidecar.address).await;
    let etag = client.get("/a", &[]).await.header("etag").unwrap().to_owned();
    let _watching = sidecar.events("/a").await;
    let looks = backend.hits("/a");
    backend.set("/a", Page::json("{\"n\":1,\"t\":2}"));
    eventually("some looks", || backend.hits("/a") > looks + 2).await;
    let held = tokio::spawn(async move { client.get("/a", &[("If-None-Match", &etag)]).await });
    eventually("the poll to be held", || sidecar.held() == 2).await;
    backend.set("/a", Page::json("{\"n\":2,\"t\":3}"));
    assert_eq!(within("the change", held).await.unwrap().text(), "{\"n\":2,\"t\":3}");
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_that_ask_for_parts_of_a_page_are_held() {
    let backend = Backend::start().await;
    backend.set("/a", Page::new("text/html", "<p>1"));
    let sidecar = Sidecar::start(&backend, &route("1h"));
    for mark in ["HX-Request", "Turbo-Frame", "X-Requested-With"] {
        let headers = [("Accept", "text/html"), (mark, "true")];
        let mut client = Connection::open(sidecar.address).await;
        client.get("/a", &headers).await;
        let held = tokio::spawn(async move { client.get("/a", &headers).await });
        eventually("the poll to be held", || sidecar.held() == 1).await;
        held.abort();
        eventually("its leaving to be noticed", || sidecar.held() == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_polls_without_waiting_is_not_held() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let sidecar = Sidecar::start(&backend, &route("1h"));
    let mut waiting = Connection::open(sidecar.address).await;
    waiting.get("/a", &[]).await;
    let held = tokio::spawn(async move { waiting.get("/a", &[]).await });
    eventually("the poll to be held", || sidecar.held() == 1).await;
    let mut second = Connection::open(sidecar.address).await;
    assert_eq!(within("an answer in between", second.get("/a", &[])).await.text(), "1");
    held.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_client_that_leaves_is_noticed() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let sidecar = Sidecar::start(&backend, &route("1h"));
    let mut client = Connection::open(sidecar.address).await;
    client.get("/a", &[]).await;
    let held = tokio::spawn(async move { client.get("/a", &[]).await });
    eventually("the poll to be held", || sidecar.held() == 1).await;
    let left = Instant::now();
    held.abort();
    eventually("the client's leaving to be noticed", || sidecar.held() == 0).await;
    assert!(left.elapsed() < Duration::from_secs(1), "noticed after {:?}", left.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_sends_the_poll_to_the_backend() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let sidecar = Sidecar::start(&backend, &route("1h"));
    let mut client = Connection::open(sidecar.address).await;
    client.get("/a", &[]).await;
    let held = tokio::spawn(async move { client.get("/a", &[]).await });
    eventually("the poll to be held", || sidecar.held() == 1).await;
    backend.set("/a", Page::text("down for maintenance").status(503));
    let response = within("the answer", held).await.unwrap();
    assert_eq!((response.status, response.text()), (503, "down for maintenance"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_is_navigated_to_is_never_held() {
    let backend = Backend::start().await;
    backend.set("/a", Page::new("text/html", "<p>1"));
    let sidecar = Sidecar::start(&backend, &route("1h"));
    let mut client = Connection::open(sidecar.address).await;
    for _ in 0..3 {
        let response =
            within("the page", client.get("/a", &[("Accept", "text/html"), ("Sec-Fetch-Mode", "navigate")])).await;
        assert_eq!(response.text(), "<p>1");
    }
}

/// The ways to be held.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Without a word.
    Plain,
    /// With a validator that holds.
    Validated,
    /// By `Prefer: wait`, for so many seconds, and with a validator that holds.
    Asked(u32),
}

impl Way {
    /// A route whose resource is looked at for a reason or not at all.
    fn route(self, hold: &str, rest: &str) -> String {
        let hold = if let Self::Asked(_) = self { String::new() } else { format!("hold = \"{hold}\"\n") };
        format!("[[route]]\npath = \"/a\"\nevery = \"10m\"\nevery_max = \"10m\"\n{hold}{rest}\n")
    }

    /// A first poll, and then one that is held.
    async fn poll(self, sidecar: &Sidecar) -> tokio::task::JoinHandle<Response> {
        let mut client = Connection::open(sidecar.address).await;
        let etag = client.get("/a", &[("Prefer", "wait=1")]).await.header("etag").unwrap().to_owned();
        if let Self::Plain = self {
            client.get("/a", &[]).await;
        }
        let held = tokio::spawn(async move {
            let wait = format!("wait={}", if let Self::Asked(seconds) = self { seconds } else { 0 });
            let headers = [("If-None-Match", &*etag), ("Prefer", &*wait)];
            let some = match self {
                Self::Plain => &headers[..0],
                Self::Validated => &headers[..1],
                Self::Asked(_) => &headers,
            };
            client.get("/a", some).await
        });
        eventually("the poll to be held", || sidecar.held() == 1).await;
        held
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_poll_is_answered_with_what_its_client_has_written() {
    for (rest, status) in [("refresh_on = []", 200), ("refresh_on = [\"POST /other\"]", 500), ("", 200), ("", 409)] {
        for way in [Way::Plain, Way::Validated, Way::Asked(600)] {
            let backend = Backend::start().await;
            backend.set("/a", Page::json("1"));
            backend.set("/w", Page::text("w").status(status));
            let sidecar = Sidecar::start(&backend, &way.route("1h", rest));
            let mut held = way.poll(&sidecar).await;
            // What changes nothing that is asked for ends no hold.
            let mut writer = Connection::open(sidecar.address).await;
            let looks = backend.hits("/a");
            assert_eq!(writer.request("POST", "/w", &[], b"nothing").await.status, status);
            eventually("the look for it", || backend.hits("/a") > looks).await;
            let early = tokio::time::timeout(Duration::from_millis(50), &mut held).await;
            assert!(early.is_err(), "{way:?} {rest} {status}: {early:?}");
            backend.set("/a", Page::json("2"));
            assert_eq!(writer.request("POST", "/w", &[], b"something").await.status, status);
            let answer = within("the answer", held).await.unwrap();
            assert_eq!((answer.status, answer.text()), (200, "2"), "{way:?} {rest} {status}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_before_a_clients_write_is_no_answer_when_its_time_is_up_or_the_server_stops() {
    for drains in [true, false] {
        for way in [Way::Plain, Way::Validated, Way::Asked(if drains { 600 } else { 1 })] {
            let backend = Backend::start().await;
            let (gate, written) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
            backend.handle("/a", {
                let (gate, written) = (Arc::clone(&gate), Arc::clone(&written));
                move |seen| {
                    let is_look = seen.is_fetch();
                    match (written.load(Ordering::SeqCst), is_look) {
                        (false, _) => Page::json("1"),
                        // Looks bring nothing any more.
                        (true, true) => Page::json("2").gate(&gate),
                        (true, false) => Page::json("2"),
                    }
                }
            });
            backend.handle("/w", move |_| {
                written.store(true, Ordering::SeqCst);
                Page::text("no").status(500)
            });
            let hold = if drains { "1h" } else { "500ms" };
            let sidecar = Sidecar::start(&backend, &way.route(hold, "refresh_on = []"));
            let held = way.poll(&sidecar).await;
            let written = Connection::open(sidecar.address).await.request("POST", "/w", &[], b"x").await;
            assert_eq!(written.status, 500);
            let stopped = drains.then(|| tokio::spawn(sidecar.server.stop()));
            let answer = within("the answer", held).await.unwrap();
            assert_eq!((answer.status, answer.text()), (200, "2"), "{way:?}, drains: {drains}");
            drop(stopped);
        }
    }
}
