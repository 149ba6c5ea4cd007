//! Identities that see the same take turns: what the application is asked, and who is told what.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use crate::support::backend::{Backend, Page};
use crate::support::client::Events;
use crate::support::sidecar::Sidecar;
use crate::support::within;

const IDENTITIES: usize = 12;
const ROUTE: &str = "[[route]]\npath = \"/**\"\nevery = \"100ms\"\nevery_max = \"60s\"\n";

/// An application that says the same to all but those who have a message of their own.
#[derive(Default)]
struct Board {
    version: AtomicUsize,
    own: Mutex<BTreeMap<String, String>>,
    asked: AtomicUsize,
}

async fn board() -> (Backend, Arc<Board>) {
    let (backend, board) = (Backend::start().await, Arc::new(Board::default()));
    let shown = Arc::clone(&board);
    backend.handle("/board", move |request| {
        shown.asked.fetch_add(1, Ordering::SeqCst);
        let user = request.header("cookie").unwrap_or_default().to_owned();
        match shown.own.lock().unwrap().get(&user) {
            Some(own) => Page::text(own),
            None => Page::text(&format!("version {}", shown.version.load(Ordering::SeqCst))),
        }
    });
    (backend, board)
}

async fn follow(sidecar: &Sidecar, user: usize) -> Events {
    let asked = json!({ "follow": [{ "url": "/board" }], "exact": true });
    let cookie = format!("session={user}");
    Events::post_as(sidecar.address, "/.sungrazer/stream", &asked.to_string(), &[("cookie", &cookie)]).await
}

/// Waits until a stream has told this body.
async fn told(events: &mut Events, body: &str) {
    loop {
        let record = within(body, events.next()).await.expect("a record");
        if record.data.contains(&format!("\"body\":\"{body}\"")) {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_all_see_is_fetched_for_one_in_turn_and_for_all_when_it_changes() {
    let (backend, board) = board().await;
    let sidecar = Sidecar::start(&backend, ROUTE);
    let mut streams = Vec::new();
    for user in 0..IDENTITIES {
        streams.push(follow(&sidecar, user).await);
    }
    for version in 0..4 {
        board.version.store(version, Ordering::SeqCst);
        for events in &mut streams {
            told(events, &format!("version {version}")).await;
        }
    }
    // One fetch in each interval, not twelve.
    let asked = || board.asked.load(Ordering::SeqCst);
    let turns = async {
        loop {
            let before = asked();
            sleep(Duration::from_millis(500)).await;
            // Twelve would be asked sixty times.
            if let found @ 0..=8 = asked() - before {
                return found;
            }
        }
    };
    assert!(within("the members to take turns", turns).await > 0, "nobody is fetched");
    let metrics = sidecar.server.gateway().metrics.render();
    assert!(metrics.contains("sungrazer_cohorts{route=\"/**\"} 1"), "{metrics}");
    // News for all.
    board.version.store(9, Ordering::SeqCst);
    for events in &mut streams {
        told(events, "version 9").await;
    }
    // News for one, in whose turn it is found, and which nobody else is told.
    board.own.lock().unwrap().insert("session=5".to_owned(), "yours alone".to_owned());
    told(&mut streams[5], "yours alone").await;
    board.version.store(10, Ordering::SeqCst);
    for (user, events) in streams.iter_mut().enumerate().filter(|(user, _)| *user != 5) {
        let record = within("the next version", events.next()).await.expect("a record");
        assert!(record.data.contains("version 10"), "user {user}: {}", record.data);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_cohorts_each_is_fetched_at_its_own_interval() {
    let (backend, board) = board().await;
    let sidecar = Sidecar::start(&backend, &format!("{ROUTE}cohorts = false\n"));
    let mut streams = Vec::new();
    for user in 0..3 {
        streams.push(follow(&sidecar, user).await);
    }
    for version in 0..5 {
        board.version.store(version, Ordering::SeqCst);
        for events in &mut streams {
            told(events, &format!("version {version}")).await;
        }
    }
    let metrics = sidecar.server.gateway().metrics.render();
    assert!(metrics.contains("sungrazer_cohorts{route=\"/**\"} 0"), "{metrics}");
}
