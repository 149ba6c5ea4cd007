//! An application that runs several times.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::support::backend::{Backend, Page};
use crate::support::client;
use crate::support::sidecar::Sidecar;
use crate::support::{eventually, within};

async fn two() -> [Backend; 2] {
    let both = [Backend::start().await, Backend::start().await];
    for (backend, name) in both.iter().zip(["one", "two"]) {
        serve(backend, name);
    }
    both
}

fn serve(backend: &Backend, name: &str) {
    backend.set("/who", Page::text(name));
    backend.set("/a", Page::text(name));
    backend.set("/healthz", Page::text("well"));
}

fn in_front_of(both: &[Backend; 2], more: &str) -> Sidecar {
    Sidecar::with(&format!(
        "[upstream]\nurl = [\"{}\", \"{}\"]\nhealth_every = \"100ms\"\n{more}\n[[route]]\npath = \"/a\"\nevery = \"30ms\"\nevery_max = \"30ms\"\n",
        both[0].url(),
        both[1].url()
    ))
}

/// Who answers, of so many requests.
async fn answers(sidecar: &Sidecar, requests: usize) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for _ in 0..requests {
        let answer = sidecar.get("/who", &[]).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        *found.entry(answer.text().to_owned()).or_default() += 1;
    }
    found
}

fn counts<const N: usize>(expected: [(&str, usize); N]) -> BTreeMap<String, usize> {
    expected.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_take_turns_and_nobody_notices_that_one_replica_goes_and_comes_back() {
    let both = two().await;
    let sidecar = in_front_of(&both, "");
    let [_one, two] = both;
    assert_eq!(answers(&sidecar, 10).await, counts([("one", 5), ("two", 5)]));
    let address = two.stop().await;
    assert_eq!(answers(&sidecar, 10).await, counts([("one", 10)]));
    let metrics = sidecar.admin("/metrics").await;
    assert!(metrics.text().contains("sungrazer_replicas_away 1"), "{}", metrics.text());
    assert!(metrics.text().contains("sungrazer_upstream_away 0"), "{}", metrics.text());
    let again = Backend::start_at(address).await;
    serve(&again, "two");
    within("the second to be asked again", async { while !answers(&sidecar, 2).await.contains_key("two") {} }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_is_fetched_on_one_replica_until_that_fails() {
    let both = two().await;
    let sidecar = in_front_of(&both, "");
    let mut events = sidecar.events("/a").await;
    let first = events.snapshot().await.data;
    let affinity = both.iter().position(|backend| backend.hits("/a") > 0).unwrap();
    eventually("more fetches", || both[affinity].hits("/a") > 10).await;
    assert_eq!(both[1 - affinity].hits("/a"), 0, "replicas that differ would make the page flap");
    let [one, two] = both;
    let (seated, other) = if affinity == 0 { (one, two) } else { (two, one) };
    let address = seated.stop().await;
    // Nobody hears of the outage: the other one answers.
    let second = within("the other's state", events.next()).await.unwrap();
    assert_eq!((second.event.as_deref(), second.data == first), (None, false), "{second:?}");
    let back = Backend::start_at(address).await;
    serve(&back, &first);
    within("the first to be asked again", async { while answers(&sidecar, 2).await.len() < 2 {} }).await;
    let before = other.hits("/a");
    eventually("more fetches", || other.hits("/a") > before + 5).await;
    assert_eq!(back.hits("/a"), 0, "it stays where it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_says_that_it_is_not_well_is_spared() {
    let both = two().await;
    let sidecar = in_front_of(&both, "health_path = \"/healthz\"");
    both[0].set("/healthz", Page::text("overloaded").status(503));
    within("the first to be spared", async { while answers(&sidecar, 2).await.contains_key("one") {} }).await;
    assert_eq!(answers(&sidecar, 6).await, counts([("two", 6)]));
    let state = sidecar.admin("/api/state").await;
    assert!(state.text().contains("/healthz answers 503"), "{}", state.text());
    both[0].set("/healthz", Page::text("well"));
    within("the first to be asked again", async { while !answers(&sidecar, 2).await.contains_key("one") {} }).await;
    // All are unwell: a bad answer is better than none.
    for backend in &both {
        backend.set("/healthz", Page::text("no").status(500));
    }
    eventually("both checks", || both.iter().all(|backend| backend.hits("/healthz") > 6)).await;
    assert_eq!(sidecar.get("/who", &[]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_one_with_the_least_to_do_is_asked() {
    let both = two().await;
    let sidecar = in_front_of(&both, "balance = \"least-connections\"");
    let gate = Arc::new(Notify::new());
    for backend in &both {
        backend.set("/slow", Page::text("slow").gate(&gate));
    }
    let address = sidecar.address;
    let slow = tokio::spawn(async move { client::get(address, "/slow", &[]).await.status });
    eventually("the slow request", || both.iter().any(|backend| backend.hits("/slow") == 1)).await;
    let busy = both.iter().position(|backend| backend.hits("/slow") == 1).unwrap();
    let idle = ["one", "two"][1 - busy];
    assert_eq!(answers(&sidecar, 6).await, counts([(idle, 6)]));
    gate.notify_one();
    assert_eq!(within("the slow answer", slow).await.unwrap(), 200);
    assert_eq!(answers(&sidecar, 6).await.len(), 2, "both are idle");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_not_sent_twice() {
    let both = two().await;
    for backend in &both {
        backend.set("/write", Page::dropped());
    }
    let sidecar = in_front_of(&both, "");
    let mut connection = client::Connection::open(sidecar.address).await;
    assert_eq!(connection.request("POST", "/write", &[], b"x").await.status, 502);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(both.iter().map(|backend| backend.hits("/write")).sum::<usize>(), 1);
}
