//! Plain polls that wait for news.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::support::backend::{Backend, Page};
use crate::support::client::{Connection, Response};
use crate::support::sidecar::Sidecar;
use crate::support::{eventually, within};

fn route(hold: &str) -> String {
    format!("[[route]]\npath = \"/a\"\nevery = \"50ms\"\nevery_max = \"100ms\"\nhold = \"{hold}\"\n")
}

/// What a page that polls says of what it has.
const ASKED: [(&str, &str); 1] = [("Prefer", "wait=600")];

/// A page that polls again and again, each time a while after its answer came.
struct Polling {
    /// How long each poll took, and what came.
    polls: Arc<Mutex<Vec<(Duration, String)>>>,
    task: tokio::task::JoinHandle<()>,
}

const REST: Duration = Duration::from_millis(400);

impl Polling {
    fn start(sidecar: &Sidecar, headers: &'static [(&'static str, &'static str)]) -> Self {
        let (address, polls) = (sidecar.address, Arc::<Mutex<Vec<_>>>::default());
        let task = tokio::spawn({
            let polls = Arc::clone(&polls);
            async move {
                let mut connection = Connection::open(address).await;
                loop {
                    let began = Instant::now();
                    let text = connection.get("/a", headers).await.text().to_owned();
                    polls.lock().unwrap().push((began.elapsed(), text));
                    tokio::time::sleep(REST).await;
                }
            }
        });
        Self { polls, task }
    }

    /// Waits until it has been held for as long as it rests, and is held now.
    async fn is_known(&self, sidecar: &Sidecar) {
        let known = || self.polls.lock().unwrap().last().is_some_and(|(took, _)| *took >= REST);
        tokio::time::timeout(Duration::from_secs(60), async {
            while !(known() && sidecar.held() == 1) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("the page to be held");
    }

    fn last(&self) -> String {
        self.polls.lock().unwrap().last().map(|(_, text)| text.clone()).unwrap_or_default()
    }
}

impl Drop for Polling {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_are_answered_at_once_while_it_is_not_known_whose_they_are() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1").etag());
    let sidecar = Sidecar::start(&backend, &route("1h"));
    let first = sidecar.get("/a", &[]).await;
    let (tag, browser) = (first.header("etag").unwrap().to_owned(), ("User-Agent", "Mozilla/5.0"));
    // Tabs of one browser, and people behind one address: with and without what a cache that they share says.
    for headers in [&[browser][..], &[browser, ("If-None-Match", &tag)], &[], &[("If-None-Match", &tag)]] {
        for _ in 0..4 {
            let mut tab = Connection::open(sidecar.address).await;
            for _ in 0..3 {
                let answer = within("an answer at once", tab.get("/a", headers)).await;
                assert!([200, 304].contains(&answer.status), "{answer:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_polls_alone_is_held_until_something_changes() {
    const SCRIPTS: [&[(&str, &str)]; 3] =
        [&[], &[("Accept", "text/html"), ("HX-Request", "true")], &[("Sec-Fetch-Mode", "cors")]];
    for headers in SCRIPTS {
        let backend = Backend::start().await;
        backend.set("/a", Page::json("1"));
        let sidecar = Sidecar::start(&backend, &route("1h"));
        let page = Polling::start(&sidecar, headers);
        page.is_known(&sidecar).await;
        backend.set("/a", Page::json("2"));
        eventually("the change", || page.last() == "2").await;
        // Another that looks the same is answered at once, and so is the one that waited.
        page.is_known(&sidecar).await;
        let before = page.polls.lock().unwrap().len();
        let mut other = Connection::open(sidecar.address).await;
        assert_eq!(within("an answer at once", other.get("/a", headers)).await.text(), "2");
        eventually("the end of the hold", || page.polls.lock().unwrap().len() > before).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_whose_poll_is_held_is_left_to_the_backend_when_that_fails() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let sidecar = Sidecar::start(&backend, &route("1h"));
    let page = Polling::start(&sidecar, &[]);
    page.is_known(&sidecar).await;
    backend.set("/a", Page::text("down for maintenance").status(503).header("Retry-After", "600"));
    eventually("the backend's own word", || page.last() == "down for maintenance").await;
    backend.set("/a", Page::json("3"));
    eventually("the end of the outage", || page.last() == "3").await;
}

/// The validator of what there is, which is also what is held on.
async fn etag(client: &mut Connection) -> String {
    client.get("/a", &[("Prefer", "wait=1")]).await.header("etag").unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_time_of_a_long_poll_is_up_a_validator_gets_304() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let sidecar = Sidecar::start(&backend, &route("1h"));
    let mut client = Connection::open(sidecar.address).await;
    let etag = etag(&mut client).await;
    let began = Instant::now();
    let held = client.get("/a", &[("If-None-Match", &etag), ("Prefer", "wait=1")]).await;
    assert!(began.elapsed() >= Duration::from_millis(990), "answered after {:?}", began.elapsed());
    assert_eq!((held.status, held.text()), (304, ""));
    let once = within("an answer at once", client.get("/a", &ASKED)).await;
    assert_eq!((once.status, once.text()), (200, "1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_validator_is_answered_at_once() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let sidecar = Sidecar::start(&backend, &route("1h"));
    let mut client = Connection::open(sidecar.address).await;
    let etag = etag(&mut client).await;
    backend.set("/a", Page::json("2"));
    let fresh = within("the change", client.get("/a", &[("If-None-Match", &etag), ASKED[0]])).await;
    assert_eq!((fresh.status, fresh.text()), (200, "2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_says_that_it_has_counts_for_more_than_what_its_like_were_given() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let sidecar = Sidecar::start(&backend, &route("1h"));
    let (mut one, mut other) = (Connection::open(sidecar.address).await, Connection::open(sidecar.address).await);
    let old = etag(&mut one).await;
    backend.set("/a", Page::json("2"));
    // Another tab of the same browser is told of the change; this one has not heard of it.
    let known = [("If-None-Match", &*old), ASKED[0]];
    assert_eq!(within("the change", other.get("/a", &known)).await.text(), "2");
    let answer = within("an answer at once", one.get("/a", &known)).await;
    assert_eq!((answer.status, answer.text()), (200, "2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_ignored_does_not_end_a_hold_though_the_validator_is_another() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("{\"n\":1,\"t\":1}"));
    let sidecar = Sidecar::start(&backend, &format!("{}ignore = {{ json = [\"/t\"] }}\n", route("1h")));
    let mut client = Connection::open(sidecar.address).await;
    let etag = etag(&mut client).await;
    let _watching = sidecar.events("/a").await;
    let fetches = backend.hits("/a");
    backend.set("/a", Page::json("{\"n\":1,\"t\":2}"));
    eventually("some fetches", || backend.hits("/a") > fetches + 2).await;
    let held = tokio::spawn(async move { client.get("/a", &[("If-None-Match", &etag), ASKED[0]]).await });
    eventually("the poll to be held", || sidecar.held() == 2).await;
    backend.set("/a", Page::json("{\"n\":2,\"t\":3}"));
    assert_eq!(within("the change", held).await.unwrap().text(), "{\"n\":2,\"t\":3}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_client_that_leaves_is_noticed() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let sidecar = Sidecar::start(&backend, &route("1h"));
    let mut client = Connection::open(sidecar.address).await;
    let etag = etag(&mut client).await;
    let held = tokio::spawn(async move { client.get("/a", &[("If-None-Match", &etag), ASKED[0]]).await });
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
    let etag = etag(&mut client).await;
    let held = tokio::spawn(async move { client.get("/a", &[("If-None-Match", &etag), ASKED[0]]).await });
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

/// A route with and without `hold`, whose resource is fetched for a reason or not at all.
fn for_a_reason(hold: &str, rest: &str) -> String {
    format!("[[route]]\npath = \"/a\"\nevery = \"10m\"\nevery_max = \"10m\"\n{hold}{rest}\n")
}

/// A first poll, and then one that is held for so many seconds.
async fn poll(sidecar: &Sidecar, seconds: u32) -> tokio::task::JoinHandle<Response> {
    let mut client = Connection::open(sidecar.address).await;
    let etag = etag(&mut client).await;
    let held = tokio::spawn(async move {
        let wait = format!("wait={seconds}");
        client.get("/a", &[("If-None-Match", &etag), ("Prefer", &wait)]).await
    });
    eventually("the poll to be held", || sidecar.held() == 1).await;
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_poll_is_answered_with_what_its_client_has_written() {
    for (rest, status) in [("refresh_on = []", 200), ("refresh_on = [\"POST /other\"]", 500), ("", 200), ("", 409)] {
        for hold in ["", "hold = \"1h\"\n"] {
            let backend = Backend::start().await;
            backend.set("/a", Page::json("1"));
            backend.set("/w", Page::text("w").status(status));
            let sidecar = Sidecar::start(&backend, &for_a_reason(hold, rest));
            let mut held = poll(&sidecar, 600).await;
            // What changes nothing that is asked for ends no hold.
            let mut writer = Connection::open(sidecar.address).await;
            let fetches = backend.hits("/a");
            assert_eq!(writer.request("POST", "/w", &[], b"nothing").await.status, status);
            eventually("the fetch for it", || backend.hits("/a") > fetches).await;
            let early = tokio::time::timeout(Duration::from_millis(50), &mut held).await;
            assert!(early.is_err(), "{hold} {rest} {status}: {early:?}");
            backend.set("/a", Page::json("2"));
            assert_eq!(writer.request("POST", "/w", &[], b"something").await.status, status);
            let answer = within("the answer", held).await.unwrap();
            assert_eq!((answer.status, answer.text()), (200, "2"), "{hold} {rest} {status}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_before_a_clients_write_is_no_answer_when_its_time_is_up_or_the_server_stops() {
    for drains in [true, false] {
        for hold in ["", "hold = \"1h\"\n"] {
            let backend = Backend::start().await;
            let (gate, written) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
            backend.handle("/a", {
                let (gate, written) = (Arc::clone(&gate), Arc::clone(&written));
                move |seen| {
                    let is_fetch = seen.is_fetch();
                    match (written.load(Ordering::SeqCst), is_fetch) {
                        (false, _) => Page::json("1"),
                        // Fetches bring nothing any more.
                        (true, true) => Page::json("2").gate(&gate),
                        (true, false) => Page::json("2"),
                    }
                }
            });
            backend.handle("/w", move |_| {
                written.store(true, Ordering::SeqCst);
                Page::text("no").status(500)
            });
            let sidecar = Sidecar::start(&backend, &for_a_reason(hold, "refresh_on = []"));
            let held = poll(&sidecar, if drains { 600 } else { 1 }).await;
            let written = Connection::open(sidecar.address).await.request("POST", "/w", &[], b"x").await;
            assert_eq!(written.status, 500);
            let stopped = drains.then(|| tokio::spawn(sidecar.server.stop()));
            let answer = within("the answer", held).await.unwrap();
            assert_eq!((answer.status, answer.text()), (200, "2"), "{hold}, drains: {drains}");
            drop(stopped);
        }
    }
}
