//! The program as a user starts and stops it.

use std::process::Output;

use crate::support::backend::{Backend, Page};
use crate::support::client::{self, Events};
use crate::support::program::{self, Program, Scratch, command, run};
use crate::support::sidecar::{LOCAL, Sidecar};
use crate::support::within;

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_says_so_and_stops_cleanly() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let scratch = Scratch::new("serve");
    let toml = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n[upstream]\nurl = \"{}\"\n[[route]]\npath = \"/a\"\nevery = \"50ms\"\n",
        backend.url()
    );
    let file = scratch.write("sungrazer.toml", &toml);
    for signal in ["TERM", "INT"] {
        let program = Program::start(&["-c", &file]).await;
        assert_eq!(
            program.ready,
            format!("sungrazer ready listen=http://{} admin=http://{}", program.address, program.admin)
        );
        assert_eq!(client::get(program.admin, "/readyz", &[]).await.status, 200);
        let mut events = Events::open(program.address, "/a", &[]).await;
        events.snapshot().await;
        program.signal(signal);
        let end = within("the end", events.next()).await.unwrap();
        assert_eq!(end.data, "{\"reason\":\"drain\"}");
        let (code, log) = program.wait().await;
        assert_eq!(code, Some(0), "{log}");
        assert!(log.lines().all(|line| line.starts_with('{')), "not a terminal, yet no JSON: {log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_alone_needs_no_file() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let program =
        Program::start(&["run", "--upstream", &backend.url(), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .await;
    assert_eq!(client::get(program.address, "/a", &[]).await.text(), "1");
    // No stream is offered on URLs that nobody configured.
    assert_eq!(
        client::get(program.address, "/a", &[("Accept", "text/event-stream")]).await.header("content-type"),
        Some("application/json")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_win_over_the_environment_and_that_over_the_file() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let scratch = Scratch::new("precedence");
    let file = scratch.write("x.toml", "[upstream]\nurl = \"http://127.0.0.1:1\"\n");
    let environment = [
        ("SUNGRAZER_CONFIG", file.as_str()),
        ("SUNGRAZER_UPSTREAM", "http://127.0.0.1:2"),
        ("SUNGRAZER_LISTEN", "127.0.0.1:0"),
        ("SUNGRAZER_ADMIN", "off"),
    ];
    let mut child = command()
        .envs(environment)
        .args(["--upstream", &backend.url()])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = tokio::io::BufReader::new(child.stdout.take().unwrap());
    within("the ready line", tokio::io::AsyncBufReadExt::read_line(&mut stdout, &mut line)).await.unwrap();
    let address = line
        .trim()
        .strip_prefix("sungrazer ready listen=http://")
        .and_then(|rest| rest.strip_suffix(" admin=off"))
        .expect(&line);
    assert_eq!(client::get(address.parse().unwrap(), "/a", &[]).await.text(), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_in_a_file_is_said_all_at_once_and_where() {
    let scratch = Scratch::new("wrong");
    let file = scratch.write(
        "bad.toml",
        "[upstream]\nurl = \"127.0.0.1:8000\"\n\n[[route]]\npath = \"/a\"\nevry = \"1s\"\nevery = 5\naudience = \"everyone\"\n\n[[route]]\nevery = \"soon\"\nignore = { json = [\"x\"], css = [\"((\"] }\n",
    );
    for args in [["check", "-c", file.as_str()], ["run", "-c", file.as_str()]] {
        let output = run(&args).await;
        assert_eq!(output.status.code(), Some(2));
        let text = stderr(&output);
        for expected in [
            "bad.toml:2:7",
            "write http://host:port",
            "bad.toml:6:1",
            "did you mean \"every\"?",
            "bad.toml:7:9",
            "expected \"auto\" or a duration such as \"250ms\"",
            "bad.toml:8:12",
            "\"credentials\", \"public\"",
            "this route has no path",
            "bad.toml:11:9",
            "bad.toml:12:20",
            "write \"/x\"",
        ] {
            assert!(text.contains(expected), "{expected:?} is missing in:\n{text}");
        }
        assert_eq!(stdout(&output), "");
    }
}

/// What `check` says of a file with this text.
async fn checked(text: &str) -> String {
    let scratch = Scratch::new("checked");
    let output = run(&["check", "-c", &scratch.write("bad.toml", text)]).await;
    assert_eq!(output.status.code(), Some(2), "{text}");
    stderr(&output).to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mistake_in_a_list_is_shown() {
    let said = checked(
        "[upstream]\nurl = [\"http://a\", \"b\", \"c\"]\n[server]\nlisten = [\"x\", \"127.0.0.1:0\", \"y\"]\ntrusted_proxies = [\"10.0.0.0/33\", \"foo\"]\n[[route]]\npath = \"/a\"\nmethods = [\"get\", \"put\"]\nignore = { regex = [\"(\", \"[\"] }\n",
    )
    .await;
    for place in ["2:20", "2:25", "4:11", "4:31", "5:20", "5:35", "8:12", "8:19", "9:21", "9:26"] {
        assert!(said.contains(&format!("bad.toml:{place}\n")), "nothing at {place}:\n{said}");
    }
    assert_eq!(said.matches("bad.toml:").count(), 10, "one for each and no more:\n{said}");
    assert!(said.contains("not a regular expression: unclosed group"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_follows_from_a_mistake_is_no_other_one() {
    let upstream = "[upstream]\nurl = \"http://a\"\n";
    for (text, said, unsaid) in [
        ("[upstream\n".to_owned(), "not TOML", "no application"),
        (format!("{upstream}[[route]]\npath = \"/a\"\nevry = \"100ms\"\nevery_max = \"200ms\"\n"), "evry", "shorter"),
        (format!("{upstream}[[route]]\npath = \"/a\"\nevery = 1\nevery_max = \"200ms\"\n"), "bad.toml:5:9", "shorter"),
        // Another route's mistake is none of this one's.
        (
            format!(
                "{upstream}[[route]]\npath = \"/a\"\nevery = 1\n[[route]]\npath = \"/b\"\nevery = \"1s\"\nevery_max = \"200ms\"\n"
            ),
            "bad.toml:9:13",
            "no application",
        ),
        (format!("{upstream}[route]\npath = \"/a\"\nevry = \"1s\"\n"), "write [[route]]", "map"),
        (format!("{upstream}[route]\npath = \"/a\"\nevry = \"1s\"\n"), "did you mean \"every\"", "sequence"),
        (format!("{upstream}max_fetches = \"many\"\n"), "a whole number", "usize"),
        (format!("{upstream}max_fetches = -1\n"), "a whole number", "usize"),
        (format!("{upstream}[server]\nredirect_port = 70000\n"), "up to 65535", "u16"),
        (format!("{upstream}[server]\ntls = 5\n"), "bad.toml:4:7", "struct"),
        (format!("{upstream}[[route]]\npath = \"/.sungrazer/x\"\n"), "Sungrazer's own", "no application"),
        (
            format!("[server]\nprefix = \"/p\"\n{upstream}[[route]]\npath = \"/p/**\"\n"),
            "Sungrazer's own",
            "no application",
        ),
    ] {
        let told = checked(&text).await;
        assert!(told.contains(said) && !told.contains(unsaid), "{text}\n{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_files_that_are_named_say_is_reported_where_they_are_named() {
    let scratch = Scratch::new("wrong-files");
    let file = scratch.write(
        "bad.toml",
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin_token = \"env:NO_SUCH_NAME\"\ntls = { cert = \"/no/cert.pem\", key = \"/no/key.pem\" }\n\n[upstream]\nurl = \"https://app.example\"\ntls = { ca = \"/no/ca.pem\" }\n",
    );
    let output = run(&["check", "-c", &file]).await;
    assert_eq!(output.status.code(), Some(2));
    for expected in ["bad.toml:3:15", "NO_SUCH_NAME", "bad.toml:4:7", "/no/cert.pem", "bad.toml:8:7", "/no/ca.pem"] {
        assert!(stderr(&output).contains(expected), "{expected:?} is missing in:\n{}", stderr(&output));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_is_no_toml_is_refused_where_it_stops_being_so() {
    let scratch = Scratch::new("syntax");
    let file = scratch.write("bad.toml", "[upstream]\nurl = http://x\n");
    let output = run(&["check", "-c", &file]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("bad.toml:2:7") && stderr(&output).contains("not TOML"), "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_tell_use_from_failure() {
    for (args, code, text) in [
        (&["--no-such-flag"][..], 2, "no-such-flag"),
        (&["check", "-c", "/no/such/file.toml"], 2, "/no/such/file.toml"),
        (&["check"], 2, "no sungrazer.toml"),
        (&["run", "--admin", "off"], 2, "no application"),
        (&["--upstream", "nonsense"], 2, "nonsense"),
        (&["--upstream", "http://x", "--listen", "8080"], 2, "8080"),
        (&["schema", "--log", "a=b=c"], 2, "--log"),
        (&["schema", "--log", "debgu"], 2, "\"debug\""),
        (&["schema", "--log", "info,warning"], 2, "\"warning\" is no level"),
        (&["schema", "--log", "WARN,sungrazer::poll=trace,sungrazer::proxy"], 0, ""),
        (&["--upstream", "http://x", "--listen", "192.0.2.1:0", "--admin", "off"], 1, "192.0.2.1:0"),
    ] {
        let output = run(args).await;
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(text), "{args:?}: {}", stderr(&output));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_printed_is_a_failure() {
    for args in [&["schema"][..], &["completions", "bash"], &["man"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let run = command().args(args).stdout(full).stderr(std::process::Stdio::piped()).spawn().unwrap();
        let output = within("the program to end", run.wait_with_output()).await.unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(stderr(&output).contains("cannot write to stdout"), "{args:?}: {}", stderr(&output));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_heeds_the_environment_as_run_does() {
    let scratch = Scratch::new("check-environment");
    let file = scratch.write("a.toml", "[server]\nlisten = \"127.0.0.1:0\"\n");
    let check = |variables: &'static [(&'static str, &'static str)], args: Vec<&'static str>| {
        let mut command = command();
        command.arg("check").args(args).envs(variables.iter().copied()).current_dir(scratch.path(""));
        async move { within("the program to end", command.output()).await.unwrap() }
    };
    let file: &'static str = file.leak();
    for (variables, args, code, text) in [
        (&[("SUNGRAZER_UPSTREAM", "http://a")][..], vec!["-c", file], 0, "a.toml is good: http://a"),
        (&[("SUNGRAZER_UPSTREAM", "http://a")], vec![], 0, "1 route"),
        (&[], vec!["-c", file], 2, "SUNGRAZER_UPSTREAM"),
        (&[("SUNGRAZER_UPSTREAM", "foo")], vec!["-c", file], 2, "SUNGRAZER_UPSTREAM \"foo\""),
        (
            &[("SUNGRAZER_UPSTREAM", "http://a"), ("SUNGRAZER_LISTEN", "x")],
            vec!["-c", file],
            2,
            "SUNGRAZER_LISTEN \"x\"",
        ),
        (&[("SUNGRAZER_UPSTREAM", "http://a"), ("SUNGRAZER_ADMIN", "y")], vec!["-c", file], 2, "SUNGRAZER_ADMIN \"y\""),
    ] {
        let output = check(variables, args).await;
        let said = format!("{}{}", stdout(&output), stderr(&output));
        assert!(output.status.code() == Some(code) && said.contains(text), "{variables:?}: {said}");
        assert!(!said.contains("foo") || !said.contains("no application"), "a mistake that follows another: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_prints_what_is_in_force() {
    let scratch = Scratch::new("check-print");
    let file = scratch.write("a.toml", "[server]\nadmin_token = \"hush\"\n[[route]]\npath = \"/a\"\nhold = \"25s\"\n");
    let output = run(&["check", "--print", "-c", &file, "--upstream", "http://a", "--listen", "127.0.0.1:1"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("is good: http://a"), "{}", stderr(&output));
    let printed = stdout(&output);
    assert!(!printed.contains("hush") && printed.contains("hold = \"25s\"\n"), "{printed}");
    // What was printed is a file that says the same, without any flag.
    let again = scratch.write("b.toml", printed);
    let output = run(&["check", "--print", "-c", &again]).await;
    let unmarked = |text: &str| {
        text.lines().map(|line| line.split(" #").next().unwrap().trim_end().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(unmarked(stdout(&output)), unmarked(printed), "{}", stderr(&output));
    let output = run(&["check", "--print", "-c", &scratch.write("c.toml", "[sever]\n")]).await;
    assert_eq!((output.status.code(), stdout(&output)), (Some(2), ""), "{}", stderr(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_file_is_called_good_and_the_schema_knows_every_key() {
    let scratch = Scratch::new("good");
    let file = scratch.write("good.toml", "[upstream]\nurl = \"unix:/run/app.sock\"\n[[route]]\npath = \"/a\"\n");
    let output = run(&["check", "-c", &file]).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stdout(&output).contains("1 route"));
    let output = run(&["schema"]).await;
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let route = schema["properties"]["route"]["items"]["properties"].as_object().unwrap();
    for key in [
        "path",
        "methods",
        "every",
        "every_max",
        "hold",
        "audience",
        "vary",
        "ignore_query",
        "ignore",
        "transports",
        "refresh_on",
        "refresh_gap",
        "watch_files",
        "history",
        "heartbeat",
        "max_age",
        "retry",
        "max_body",
        "fetch",
        "tick_on",
        "shim",
    ] {
        assert!(route.contains_key(key), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_told_by_the_exit_code() {
    let backend = Backend::start().await;
    backend.set("/slow", Page::text("x").delay(std::time::Duration::from_secs(60)));
    let scratch = Scratch::new("health");
    let toml = "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\ndrain = \"30s\"\n";
    let file = scratch.write("sungrazer.toml", toml);
    let program = Program::start(&["-c", &file, "--upstream", &backend.url()]).await;
    let admin = program.admin.to_string();
    for extra in [&[][..], &["--live"]] {
        let args = [&["health", "-c", &file, "--admin", &admin], extra].concat();
        let output = run(&args).await;
        assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""), "{}", stdout(&output));
    }
    // Somebody keeps it from stopping at once.
    let mut slow = client::Connection::open(program.address).await;
    slow.send(client::head("GET", "/slow", &[], b"")).await;
    backend.is_asked_for("/slow").await;
    program.signal("TERM");
    program.log_line("stopping").await;
    let output = run(&["health", "--admin", &admin]).await;
    assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
    assert!(stderr(&output).contains("503"), "{}", stderr(&output));
    assert_eq!(run(&["health", "--live", "--admin", &admin]).await.status.code(), Some(0));
    // A second signal stops at once.
    program.signal("TERM");
    let (code, log) = program.wait().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("again: stopping at once"), "{log}");
    let output = run(&["health", "--admin", &admin]).await;
    assert!(output.status.code() == Some(1) && stderr(&output).contains(&admin), "{}", stderr(&output));
    assert_eq!(run(&["health", "--admin", "off"]).await.status.code(), Some(2));
    assert_eq!(run(&["health", "-c", &file]).await.status.code(), Some(2), "a free port is nobody's");
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_and_the_manual_are_made_of_the_command_line() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = run(&["completions", shell]).await;
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(stdout(&output).contains("upstream") && stdout(&output).contains("health"), "{shell}");
    }
    let output = run(&["man"]).await;
    assert!(stdout(&output).starts_with(".ie") && stdout(&output).contains("sungrazer"), "{}", stdout(&output));
    let scratch = Scratch::new("man");
    let folder = scratch.path("pages").display().to_string();
    assert_eq!(run(&["man", "--folder", &folder]).await.status.code(), Some(0));
    for page in ["sungrazer.1", "sungrazer-run.1", "sungrazer-check.1", "sungrazer-health.1"] {
        let text = std::fs::read_to_string(scratch.path("pages").join(page)).expect(page);
        assert!(text.contains(".TH"), "{page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_logged_once() {
    let program =
        Program::start(&["--upstream", "http://127.0.0.1:1", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .await;
    for _ in 0..5 {
        assert_eq!(client::get(program.address, "/a", &[]).await.status, 502);
    }
    program.signal("TERM");
    let (code, log) = program.wait().await;
    assert_eq!(code, Some(0));
    assert_eq!(log.lines().filter(|line| line.contains("does not answer")).count(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_see_what_is_watched() {
    let backend = Backend::start().await;
    backend.set("/a", Page::json("1"));
    let sidecar = Sidecar::start(&backend, "[[route]]\npath = \"/a\"\nevery = \"50ms\"\n");
    let mut events = Events::open(sidecar.address, "/a?q=1", &[("Cookie", "sid=hunter2")]).await;
    let id = events.snapshot().await.id.unwrap();
    let resources = sidecar.admin("/api/resources").await;
    let listed: serde_json::Value = serde_json::from_slice(&resources.body).unwrap();
    let resource = &listed["resources"][0];
    assert_eq!(resource["url"], "/a?q=1");
    assert_eq!(resource["route"], "/a");
    assert_eq!(resource["version"], id);
    assert_eq!(resource["subscribers"]["sse"], 1);
    assert_eq!(resource["state"], "live");
    let why = sidecar.admin("/api/why?url=%2Fa%3Fq%3D1").await;
    assert!(why.text().contains("\"result\": \"changed\""), "{}", why.text());
    let metrics = sidecar.admin("/metrics").await;
    assert!(metrics.text().contains("sungrazer_streams{route=\"/a\",transport=\"sse\"} 1"), "{}", metrics.text());
    assert!(!metrics.text().contains("q=1"), "a URL became a label");
    for answer in [&resources, &why, &metrics] {
        assert!(!answer.text().contains("hunter2"), "a credential was told");
    }
    let mut connection = client::Connection::open(sidecar.server.admin().unwrap()).await;
    let before = backend.hits("/a");
    let woken = connection.request("POST", "/api/refresh?url=%2Fa%3Fq%3D1", &[LOCAL], b"").await;
    assert_eq!((woken.status, woken.text().trim()), (202, "{\n  \"woken\": 1\n}"));
    crate::support::eventually("the fetch", || backend.hits("/a") > before).await;
    assert_eq!(connection.request("POST", "/api/refresh", &[LOCAL], b"").await.status, 400);
    assert_eq!(connection.get("/api/refresh?url=/a", &[LOCAL]).await.status, 405);
    assert_eq!(connection.get("/nothing", &[LOCAL]).await.status, 404);
}

/// The only child of a process.
fn child_of(pid: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    // The thread that forked is the one that has the child.
    if let Ok(child) = children.trim().parse() {
        return Some(child);
    }
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok()?.trim().parse().ok())
        .next()
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_upgrades_under_load_lose_no_request_and_no_change() {
    let backend = Backend::start().await;
    backend.set("/a", Page::text("0"));
    backend.set("/b", Page::text("b"));
    let scratch = Scratch::new("upgrade");
    let toml = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\ndrain = \"2s\"\n[upstream]\nurl = \"{}\"\n[[route]]\npath = \"/a\"\nevery = \"50ms\"\nretry = \"10ms\"\n",
        backend.url()
    );
    let file = scratch.write("sungrazer.toml", &toml);
    let program = Program::start(&["-c", &file]).await;
    let (address, admin) = (program.address, program.admin);
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    // One client asks again and again, each time over a new connection; none of its requests may fail.
    let asking = tokio::spawn({
        let done = done.clone();
        async move {
            let mut asked = 0;
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                assert_eq!(client::get(address, "/b", &[]).await.text(), "b");
                asked += 1;
            }
            asked
        }
    });
    // An operator's probe does the same.
    let probing = tokio::spawn({
        let done = done.clone();
        async move {
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                assert_eq!(client::get(admin, "/readyz", &[]).await.status, 200);
            }
        }
    });
    // Another follows, comes back whenever its stream ends, and says what it holds.
    let (seen, mut saw) = tokio::sync::watch::channel(String::new());
    let following = tokio::spawn(async move {
        let (mut held, mut last) = (String::new(), String::new());
        while last != "last" {
            let mut events = Events::open(address, "/a", &[("Last-Event-ID", &held)]).await;
            while let Some(event) = events.next().await {
                if let Some(id) = event.id {
                    assert_ne!(event.data, last, "what was held was sent again");
                    (held, last) = (id, event.data);
                    seen.send_replace(last.clone());
                }
                if last == "last" {
                    break;
                }
            }
        }
    });
    let mut pid = program.pid();
    let newest = Newest(std::sync::atomic::AtomicU32::new(pid));
    for round in 1..=10 {
        backend.set("/a", Page::text(&round.to_string()));
        program::signal(pid, "USR2");
        let old = pid;
        crate::support::eventually("the new process", || {
            pid = child_of(old).unwrap_or(pid);
            newest.0.store(pid, std::sync::atomic::Ordering::SeqCst);
            pid != old
        })
        .await;
        crate::support::eventually("the old process to be gone", || {
            !std::path::Path::new(&format!("/proc/{old}")).exists() || is_zombie(old)
        })
        .await;
        within("the change", saw.wait_for(|seen| *seen == round.to_string())).await.unwrap();
    }
    backend.set("/a", Page::text("last"));
    within("the follower", following).await.unwrap();
    done.store(true, std::sync::atomic::Ordering::SeqCst);
    assert!(within("the asker", asking).await.unwrap() > 10);
    within("the probe", probing).await.unwrap();
    program::signal(pid, "TERM");
    crate::support::eventually("the last process to be gone", || {
        !std::path::Path::new(&format!("/proc/{pid}")).exists()
    })
    .await;
    assert_eq!(program.wait().await.0, Some(0));
}

/// The process that took over last; it has no parent that would end it should the test fail.
struct Newest(std::sync::atomic::AtomicU32);

impl Drop for Newest {
    fn drop(&mut self) {
        if std::thread::panicking() {
            program::signal(self.0.load(std::sync::atomic::Ordering::SeqCst), "KILL");
        }
    }
}

/// Whether a process has ended and waits for its parent.
fn is_zombie(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_fails_leaves_the_old_process_at_work() {
    let backend = Backend::start().await;
    backend.set("/a", Page::text("a"));
    let scratch = Scratch::new("upgrade-fails");
    let toml = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n[upstream]\nurl = \"{}\"\n",
        backend.url()
    );
    let file = scratch.write("sungrazer.toml", &toml);
    let program = Program::start(&["-c", &file]).await;
    scratch.write("sungrazer.toml", "nonsense");
    program.signal("USR2");
    let log = program.log_line("goes on").await;
    assert!(log.contains("ended before it accepted"), "{log}");
    assert_eq!(client::get(program.address, "/a", &[]).await.text(), "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_a_process_gone_need_not_wait_for_one_that_takes_its_place() {
    use std::os::unix::fs::PermissionsExt;
    let backend = Backend::start().await;
    backend.set("/a", Page::text("a"));
    let scratch = Scratch::new("upgrade-hangs");
    // The program by another name, so that it can be replaced.
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("sungrazer-{}", std::process::id()));
    std::fs::hard_link(env!("CARGO_BIN_EXE_sungrazer"), &path).unwrap();
    let toml = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\n[upstream]\nurl = \"{}\"\n",
        backend.url()
    );
    let file = scratch.write("sungrazer.toml", &toml);
    let program = Program::start_as(path.to_str().unwrap(), &["-c", &file]).await;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "#!/bin/sh\nexec sleep 600\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    program.signal("USR2");
    let mut successor = None;
    crate::support::eventually("the new process", || {
        successor = child_of(program.pid());
        successor.is_some()
    })
    .await;
    let successor = Newest(std::sync::atomic::AtomicU32::new(successor.unwrap()));
    assert_eq!(client::get(program.address, "/a", &[]).await.text(), "a");
    let pid = successor.0.load(std::sync::atomic::Ordering::SeqCst);
    program.signal("TERM");
    let (code, log) = program.wait().await;
    std::fs::remove_file(&path).unwrap();
    assert_eq!(code, Some(0), "{log}");
    crate::support::eventually("the new process to be gone", || {
        !std::path::Path::new(&format!("/proc/{pid}")).exists() || is_zombie(pid)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_beyond_the_drain_time_is_told() {
    let backend = Backend::start().await;
    backend.set("/slow", Page::text("x").delay(std::time::Duration::from_secs(60)));
    let scratch = Scratch::new("stays");
    let toml = "[server]\nlisten = \"127.0.0.1:0\"\nadmin = \"127.0.0.1:0\"\ndrain = \"300ms\"\n";
    let file = scratch.write("sungrazer.toml", toml);
    let program = Program::start(&["-c", &file, "--upstream", &backend.url()]).await;
    let mut slow = client::Connection::open(program.address).await;
    slow.send(client::head("GET", "/slow", &[], b"")).await;
    backend.is_asked_for("/slow").await;
    program.signal("TERM");
    let (code, log) = program.wait().await;
    assert_eq!(code, Some(0), "{log}");
    let line = log.lines().find(|line| line.contains("not everybody left")).expect(&log);
    assert!(line.contains("\"streams\":0") && line.contains("\"others\":1"), "{line}");
}
