//! Plain polls that wait for news.

use std::time::{Duration, Instant};

use crate::support::backend::{Backend, Page};
use crate::support::client::Connection;
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
