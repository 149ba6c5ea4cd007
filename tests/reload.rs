//! A configuration that changes while the server runs.

use std::time::Duration;

use sungrazer::config::{self, Overrides};
use sungrazer::server::{ConfigSource, Inherited, Server};

use crate::support::backend::{Backend, Page};
use crate::support::client::{self, Connection, Events};
use crate::support::program::{Program, Scratch};
use crate::support::sidecar::LOCAL;
use crate::support::{eventually, within};

const A: &str = "[[route]]\npath = \"/a\"\nevery = \"50ms\"\nevery_max = \"100ms\"\n";
const B: &str = "[[route]]\npath = \"/b\"\nevery = \"50ms\"\nevery_max = \"100ms\"\n";

fn toml(backend: &Backend, routes: &str) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n[upstream]\nurl = \"{}\"\n{routes}",
        backend.url()
    )
}

async fn backend() -> Backend {
    let backend = Backend::start().await;
    backend.set("/a", Page::text("a"));
    backend.set("/b", Page::text("b"));
    backend
}

/// Waits until the server says that it has read its configuration `times` times since it was asked.
async fn reload(program: &Program) -> client::Response {
    Connection::open(program.admin).await.request("POST", "/api/reload", &[LOCAL], b"").await
}

#[tokio::test(flavor = "multi_thread")]
async fn unchanged_routes_keep_their_streams_and_changed_ones_end_them() {
    let backend = backend().await;
    let scratch = Scratch::new("reload");
    let file = scratch.write("sungrazer.toml", &toml(&backend, &format!("{A}{B}")));
    let program = Program::start(&["-c", &file]).await;
    let (mut a, mut b) =
        (Events::open(program.address, "/a", &[]).await, Events::open(program.address, "/b", &[]).await);
    let mut both = Events::open(program.address, "/.sungrazer/stream?url=/a&url=/b", &[]).await;
    for events in [&mut a, &mut b, &mut both] {
        events.next().await.unwrap();
    }
    both.next().await.unwrap();
    // The file itself is watched.
    scratch.write("sungrazer.toml", &toml(&backend, &format!("{}# moved\n{A}", B.replace("100ms", "200ms"))));
    let end = within("the end of the changed route's stream", b.next()).await.unwrap();
    assert_eq!(end.data, "{\"reason\":\"reload\"}");
    assert_eq!(b.next().await, None);
    // A stream of many finds the new route by itself.
    for (path, text) in [("/a", "a two"), ("/b", "b two")] {
        backend.set(path, Page::text(text));
        loop {
            let record = within("the change", both.next()).await.unwrap().data;
            if record.contains(text) {
                break;
            }
        }
    }
    assert_eq!(within("the change", a.snapshot()).await.data, "a two");
    // A route that is gone passes through.
    scratch.write("sungrazer.toml", &toml(&backend, A));
    let ended = within("the end of the route that is gone", async {
        loop {
            let record = both.next().await.unwrap().data;
            if record.contains("\"event\":\"end\"") {
                return record;
            }
        }
    });
    assert!(ended.await.contains("\"url\":\"/b\""));
    let plain = client::get(program.address, "/b", &[("Accept", "text/event-stream")]).await;
    assert_eq!(plain.text(), "b two");
    backend.set("/a", Page::text("a three"));
    assert_eq!(within("the change", a.snapshot()).await.data, "a three");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_file_changes_nothing_and_is_told_of() {
    let backend = backend().await;
    let scratch = Scratch::new("reload-wrong");
    let file = scratch.write("sungrazer.toml", &toml(&backend, A));
    let program = Program::start(&["-c", &file]).await;
    let mut a = Events::open(program.address, "/a", &[]).await;
    a.snapshot().await;
    scratch.write("sungrazer.toml", &toml(&backend, &A.replace("every =", "evry =")));
    let refused = reload(&program).await;
    assert_eq!(refused.status, 422);
    assert!(
        refused.text().contains("did you mean \"every\"?") && refused.text().contains("sungrazer.toml:8:1"),
        "{}",
        refused.text()
    );
    assert!(client::get(program.admin, "/metrics", &[LOCAL]).await.text().contains("sungrazer_config_stale 1"));
    assert!(client::get(program.admin, "/api/resources", &[LOCAL]).await.text().contains("did you mean"));
    backend.set("/a", Page::text("a two"));
    assert_eq!(within("the change", a.snapshot()).await.data, "a two");
    scratch.write("sungrazer.toml", &toml(&backend, A));
    program.signal("HUP");
    let metrics =
        || async { client::get(program.admin, "/metrics", &[LOCAL]).await.text().contains("sungrazer_config_stale 0") };
    within("the file to be good again", async {
        while !metrics().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_wait_for_a_restart_and_limits_do_not() {
    let backend = backend().await;
    let scratch = Scratch::new("reload-limits");
    let file = scratch.write("sungrazer.toml", &toml(&backend, A));
    let program = Program::start(&["-c", &file]).await;
    let _held = Events::open(program.address, "/a", &[]).await;
    let text = toml(&backend, A).replace("[server]\n", "[server]\nmax_streams = 1\nh2c = true\nprefix = \"/_push\"\n");
    scratch.write("sungrazer.toml", &text);
    let applied = reload(&program).await;
    assert!(applied.status == 200 && applied.text().contains("\"server.h2c\""), "{}", applied.text());
    assert_eq!(Events::try_open(program.address, "/a", &[]).await.head.status, 503);
    assert_eq!(client::get(program.address, "/_push/nothing", &[]).await.text().trim(), "There is nothing here.");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_upstream_takes_over() {
    let (before, after) = (backend().await, backend().await);
    after.set("/a", Page::text("from the other one"));
    let scratch = Scratch::new("reload-upstream");
    let file = scratch.write("sungrazer.toml", &toml(&before, A));
    let program = Program::start(&["-c", &file]).await;
    let mut a = Events::open(program.address, "/a", &[]).await;
    a.snapshot().await;
    scratch.write("sungrazer.toml", &toml(&after, A));
    // A fetch may have been made of the other one already.
    let mut told = within("news", a.next()).await.unwrap();
    if told.data == "from the other one" {
        told = within("the end", a.next()).await.unwrap();
    }
    assert_eq!(told.data, "{\"reason\":\"reload\"}");
    assert_eq!(client::get(program.address, "/a", &[]).await.text(), "from the other one");
    assert_eq!(Events::open(program.address, "/a", &[]).await.snapshot().await.data, "from the other one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_rewrites_costs_no_stream_of_an_unchanged_route() {
    let backend = backend().await;
    let scratch = Scratch::new("reload-storm");
    let file = scratch.write("sungrazer.toml", &toml(&backend, A));
    let program = Program::start(&["-c", &file]).await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut events = Events::open(program.address, "/a", &[]).await;
        events.snapshot().await;
        streams.push(events);
    }
    for round in 0..1000 {
        let every = 100 + round % 7;
        let text = toml(&backend, &format!("{A}{}", B.replace("100ms", &format!("{every}ms"))));
        match round % 3 {
            // Written in place, replaced, and caught half-written.
            0 => drop(scratch.write("sungrazer.toml", &text)),
            1 => {
                scratch.write("new", &text);
                std::fs::rename(scratch.path("new"), scratch.path("sungrazer.toml")).unwrap();
            }
            _ => {
                scratch.write("sungrazer.toml", &text[..text.len() / 2]);
                scratch.write("sungrazer.toml", &text);
            }
        }
        if round % 100 == 50 {
            backend.set("/a", Page::text(&format!("round {round}")));
            for events in &mut streams {
                assert_eq!(within("the change", events.snapshot()).await.data, format!("round {round}"));
            }
        }
    }
    let applied = reload(&program).await;
    assert_eq!(applied.status, 200, "{}", applied.text());
    backend.set("/a", Page::text("after the storm"));
    for events in &mut streams {
        assert_eq!(within("the change", events.snapshot()).await.data, "after the storm");
    }
    eventually("the backend to be asked", || backend.hits("/a") > 0).await;
}

/// What `/api/resources` answers to this token.
async fn with_token(program: &Program, token: Option<&str>) -> u16 {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let headers: Vec<_> =
        [LOCAL].into_iter().chain(bearer.as_deref().map(|bearer| ("Authorization", bearer))).collect();
    client::get(program.admin, "/api/resources", &headers).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_token_that_changes_is_asked_for_at_once() {
    let backend = backend().await;
    let scratch = Scratch::new("reload-token");
    let with = |token: &str| toml(&backend, A).replace("[server]\n", &format!("[server]\nadmin_token = \"{token}\"\n"));
    let file = scratch.write("sungrazer.toml", &toml(&backend, A));
    let program = Program::start(&["-c", &file]).await;
    assert_eq!(with_token(&program, None).await, 200);
    scratch.write("sungrazer.toml", &with("first"));
    let applied = reload(&program).await;
    assert!(applied.status == 401 || applied.text().contains("\"needs_restart\": []"), "{}", applied.text());
    assert_eq!((with_token(&program, None).await, with_token(&program, Some("first")).await), (401, 200));
    // Who watches knows the token of before, and is sent away with it.
    let mut watching = Events::open(program.admin, "/api/state", &[LOCAL, ("Authorization", "Bearer first")]).await;
    watching.snapshot().await;
    let secret = scratch.write("token", "second\n");
    scratch.write("sungrazer.toml", &with(&format!("file:{secret}")));
    program.signal("HUP");
    within("the watcher to be sent away", async { while watching.next().await.is_some() {} }).await;
    assert_eq!((with_token(&program, Some("first")).await, with_token(&program, Some("second")).await), (401, 200));
    // Only the file that it names is another one.
    scratch.write("token", "third\n");
    let bearer = [LOCAL, ("Authorization", "Bearer second")];
    let applied = Connection::open(program.admin).await.request("POST", "/api/reload", &bearer, b"").await;
    assert_eq!(applied.status, 200, "{}", applied.text());
    assert_eq!((with_token(&program, Some("second")).await, with_token(&program, Some("third")).await), (401, 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_others_reach_is_never_without_a_token() {
    let backend = backend().await;
    let scratch = Scratch::new("reload-open");
    let open =
        toml(&backend, A).replace("admin = \"127.0.0.1:0\"\n", "admin = \"0.0.0.0:0\"\nadmin_token = \"s3cret\"\n");
    let file = scratch.write("sungrazer.toml", &open);
    let mut program = Program::start(&["-c", &file]).await;
    program.admin = ([127, 0, 0, 1], program.admin.port()).into();
    // That needs no token, and is not where the listener is.
    for text in [toml(&backend, A), toml(&backend, A).replace("admin = \"127.0.0.1:0\"", "admin = \"off\"")] {
        scratch.write("sungrazer.toml", &text);
        let bearer = [LOCAL, ("Authorization", "Bearer s3cret")];
        let applied = Connection::open(program.admin).await.request("POST", "/api/reload", &bearer, b"").await;
        assert!(applied.status == 200 && applied.text().contains("server.admin"), "{}", applied.text());
        assert_eq!((with_token(&program, None).await, with_token(&program, Some("s3cret")).await), (401, 200));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_saved_while_the_server_starts_is_not_missed() {
    let backend = backend().await;
    let scratch = Scratch::new("reload-start");
    let path = scratch.path("sungrazer.toml");
    scratch.write("sungrazer.toml", &toml(&backend, &format!("{A}{B}")));
    // It is started with what the file said before it was saved.
    let before = config::parse("sungrazer.toml", &toml(&backend, A), &Overrides::default()).unwrap();
    let source = ConfigSource { path: Some(path), overrides: Overrides::default() };
    let server = Server::start(before, &source, Inherited::default()).unwrap();
    eventually("the other route", || server.gateway().routes.load().iter().count() == 2).await;
}

fn make_pipe(path: &std::path::Path) {
    let _ = std::fs::remove_file(path);
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_in_place_of_the_file_holds_nobody_up() {
    let backend = backend().await;
    let scratch = Scratch::new("reload-pipe");
    let file = scratch.write("sungrazer.toml", &toml(&backend, A));
    let program = Program::start(&["-c", &file]).await;
    make_pipe(&scratch.path("sungrazer.toml"));
    for _ in 0..3 {
        program.signal("HUP");
        let refused = within("an answer", reload(&program)).await;
        assert!(refused.status == 422 && refused.text().contains("no regular file"), "{}", refused.text());
    }
    assert_eq!(client::get(program.address, "/a", &[]).await.text(), "a");
    program.signal("TERM");
    assert_eq!(program.wait().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_comes_through_a_pipe_once() {
    let backend = backend().await;
    let scratch = Scratch::new("reload-pipe-start");
    let path = scratch.path("sungrazer.toml");
    make_pipe(&path);
    let writing = tokio::task::spawn_blocking({
        let (path, text) = (path.clone(), toml(&backend, A));
        move || std::fs::write(path, text).unwrap()
    });
    let program = Program::start(&["-c", path.to_str().unwrap()]).await;
    within("the writer", writing).await.unwrap();
    assert_eq!(client::get(program.address, "/a", &[]).await.text(), "a");
    let refused = within("an answer", reload(&program)).await;
    assert!(refused.status == 422 && refused.text().contains("only read at the start"), "{}", refused.text());
    let metrics = client::get(program.admin, "/metrics", &[LOCAL]).await;
    assert!(metrics.text().contains("sungrazer_config_stale 1"), "{}", metrics.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_opened_is_a_mistake_of_the_new_configuration() {
    let backend = backend().await;
    let scratch = Scratch::new("reload-log");
    let file = scratch.write("sungrazer.toml", &toml(&backend, A));
    let program = Program::start(&["-c", &file]).await;
    let log = scratch.path("no/such/folder/access.json").display().to_string();
    let text = toml(&backend, B).replace("[server]\n", &format!("[server]\naccess_log = \"{log}\"\n"));
    scratch.write("sungrazer.toml", &text);
    let refused = reload(&program).await;
    assert!(refused.status == 422 && refused.text().contains(&log), "{}", refused.text());
    assert!(client::get(program.admin, "/metrics", &[LOCAL]).await.text().contains("sungrazer_config_stale 1"));
    assert_eq!(Events::open(program.address, "/a", &[]).await.snapshot().await.data, "a", "the old one is in force");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_as_kubernetes_makes_it_is_nothing_to_complain_of() {
    use std::os::unix::fs::symlink;
    let backend = backend().await;
    let scratch = Scratch::new("reload-swap");
    let put = |version: usize, every: &str| {
        let folder = scratch.path(&format!("..{version}"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("sungrazer.toml"), toml(&backend, &A.replace("100ms", every))).unwrap();
        symlink(format!("..{version}"), scratch.path("..data_tmp")).unwrap();
        std::fs::rename(scratch.path("..data_tmp"), scratch.path("..data")).unwrap();
    };
    put(0, "100ms");
    symlink("..data/sungrazer.toml", scratch.path("sungrazer.toml")).unwrap();
    let file = scratch.path("sungrazer.toml").display().to_string();
    let program = Program::start(&["-c", &file]).await;
    for version in 1..=5 {
        put(version, &format!("{}ms", 100 + version));
        std::fs::remove_dir_all(scratch.path(&format!("..{}", version - 1))).unwrap();
        eventually("the swap to be read", || program.log().matches("was read again").count() >= version).await;
    }
    assert!(!program.log().contains("\"WARN\""), "{}", program.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_that_are_gone_leave_no_metrics() {
    let backend = backend().await;
    let scratch = Scratch::new("reload-metrics");
    let file = scratch.write("sungrazer.toml", &toml(&backend, &format!("{A}{B}")));
    let program = Program::start(&["-c", &file]).await;
    let metrics = async || client::get(program.admin, "/metrics", &[LOCAL]).await.text().to_owned();
    let mut stream = Events::open(program.address, "/a", &[]).await;
    stream.snapshot().await;
    let mut poll = Connection::open(program.address).await;
    poll.get("/a", &[]).await;
    assert!(metrics().await.contains("{route=\"/a\""));
    scratch.write("sungrazer.toml", &toml(&backend, B));
    assert_eq!(reload(&program).await.status, 200);
    assert_eq!(within("the end", stream.next()).await.unwrap().data, "{\"reason\":\"reload\"}");
    within("the metrics to go", async {
        while metrics().await.contains("{route=\"/a\"") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(metrics().await.contains("{route=\"/b\""), "and no others");
}
