//! First contact: what the program says to somebody who does not know it yet, and to operators whose application is away.

use std::os::fd::OwnedFd;
use std::process::Stdio;

use command_fds::{CommandFdExt, FdMapping};
use sungrazer::config::{self, Overrides};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::backend::{Backend, Page, dead_port};
use crate::support::client::{Events, get};
use crate::support::program::{Program, Scratch, command, run};
use crate::support::{eventually, within};

const ANY: [&str; 4] = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn check_warns_of_what_has_no_effect_and_calls_the_file_good() {
    let scratch = Scratch::new("doubtful");
    let upstream = "[upstream]\nurl = \"http://127.0.0.1:1\"\n";
    let routes =
        "[[route]]\npath = \"/**\"\n[[route]]\npath = \"/api/jobs\"\nshim = true\n[[route]]\npath = \"/x/:id\"\n";
    let file = scratch.write("doubtful.toml", &format!("{upstream}{routes}"));
    let output = run(&["check", "-c", &file]).await;
    let (said, doubts) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{said}{doubts}");
    assert!(said.contains("is good, with 4 warnings") && said.contains("3 routes"), "{said}");
    for part in [
        "\"/**\" above takes all of \"/api/jobs\"",
        "\"/**\" above takes all of \"/x/:id\"",
        "doubtful.toml:6:8",
        "looks like what pages poll",
        "write \"/x/*\"",
    ] {
        assert!(doubts.contains(part), "{part:?} is missing in:\n{doubts}");
    }
    assert!(!doubts.contains("error"), "{doubts}");
    // It runs all the same, and says so in the log.
    let program = Program::start(&[&["-c", &file], &ANY[..]].concat()).await;
    assert!(program.log_line("with doubts").await.contains("takes all of"));
}

#[tokio::test(flavor = "multi_thread")]
async fn words_that_are_none_are_taken_for_those_that_were_meant() {
    let scratch = Scratch::new("words");
    for (line, meant) in [
        ("audience = \"everyone\"", "did you mean \"public\"?"),
        ("audience = \"pubic\"", "did you mean \"public\"?"),
        ("audience = \"user\"", "did you mean \"credentials\"?"),
        ("transports = [\"websockets\"]", "did you mean \"websocket\"?"),
        ("transports = [\"sse\", \"ws\"]", "did you mean \"websocket\"?"),
        ("transports = [\"EventSource\"]", "did you mean \"sse\"?"),
        ("transports = [\"longpoll\"]", "did you mean \"long-poll\"?"),
    ] {
        let file =
            scratch.write("a.toml", &format!("[upstream]\nurl = \"http://a\"\n[[route]]\npath = \"/a\"\n{line}\n"));
        let output = run(&["check", "-c", &file]).await;
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(meant), "{line}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_may_stand_before_the_verb_or_after_it() {
    let scratch = Scratch::new("order");
    let file = scratch.write("a.toml", "[server]\nlisten = \"127.0.0.1:0\"\n");
    for args in [
        &["check", "--upstream", "http://a"][..],
        &["--upstream", "http://a", "check"],
        &["-c", &file, "check", "--upstream", "http://a"],
        &["--upstream", "http://b", "check", "--upstream", "http://a"],
    ] {
        let mut asked = command();
        asked.args(args).current_dir(scratch.path("")).env("SUNGRAZER_UPSTREAM", "http://c");
        let output = within("the program to end", asked.output()).await.unwrap();
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output.stderr));
        assert!(said.contains(" is good: http://a"), "{args:?}: {said}");
    }
    let output = run(&["--upstream", "http://a", "schema"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--upstream before \"schema\" means nothing"), "{}", text(&output.stderr));
    let help = text(&run(&["--help"]).await.stdout);
    for riddle in ["come in", "Which\n"] {
        assert!(!help.contains(riddle), "{riddle:?}: {help}");
    }
    assert!(help.contains("Public listener") && help.contains("dashboard, metrics and health"), "{help}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_what_runs_and_what_to_open_and_stdout_one_line() {
    let backend = Backend::start().await;
    let scratch = Scratch::new("introduction");
    let file = scratch.write("own.toml", "[[route]]\npath = \"/a\"\n[[route]]\npath = \"/b\"\n");
    let upstream = backend.url();
    for (args, configuration, routes) in
        [(vec!["--upstream", &upstream], "none", 1), (vec!["--upstream", &upstream, "-c", &file], &file, 2)]
    {
        let program = Program::start(&[&args[..], &ANY[..]].concat()).await;
        let line = program.log_line("open http://").await;
        let said: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(said["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(said["configuration"], configuration);
        assert_eq!(said["upstream"], upstream);
        assert_eq!(said["routes"], routes);
        assert_eq!(said["open"], format!("http://{}/", program.address));
        assert_eq!(said["dashboard"], format!("http://{}/", program.admin));
    }
    let mut child = command()
        .args(["--upstream", &upstream, "--listen", "0.0.0.0:0", "--admin", "off", "--log-format", "text"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = String::new();
    let mut stderr = child.stderr.take().unwrap();
    within("the line", async {
        let mut piece = [0; 1024];
        while !log.contains("dashboard: off") {
            let read = stderr.read(&mut piece).await.unwrap();
            assert!(read > 0, "{log}");
            log.push_str(&text(&piece[..read]));
        }
    })
    .await;
    assert!(log.contains("open http://127.0.0.1:"), "an address that can be opened: {log}");
    assert!(!log.contains('\x1b'), "no terminal reads this: {log:?}");
    crate::support::program::signal(child.id().unwrap(), "TERM");
    let output = within("the end", child.wait_with_output()).await.unwrap();
    assert_eq!(text(&output.stdout).lines().count(), 1, "{}", text(&output.stdout));
}

/// A port on which somebody answers this, whatever is said.
async fn port(answer: &'static [u8]) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer).await;
        }
    });
    address
}

/// What servers say to a client that begins with TLS where they do not speak it.
const BAD_REQUEST: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// What they say to one that does not where they do: a fatal alert, "unexpected message" (RFC 8446 section 6).
const ALERT: &[u8] = &[21, 3, 1, 0, 2, 2, 10];

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_scheme_or_socket_is_said_in_words_of_the_configuration() {
    let silent = Backend::start().await;
    let scratch = Scratch::new("schemes");
    for (url, hint) in [
        (format!("https://{}", port(BAD_REQUEST).await), "it does not speak TLS there: write http://"),
        (silent.url().replace("http://", "https://"), "is TLS spoken there? if not, write http://"),
        (format!("http://{}", port(ALERT).await), "if it speaks TLS there, write https://"),
        (format!("http://{}", port(b"").await), "if it speaks TLS there, write https://"),
        (format!("unix:{}", scratch.path("none.sock").display()), "is the application running, and is the path right?"),
    ] {
        let program = Program::start(&[&["--upstream", &url], &ANY[..]].concat()).await;
        let status = get(program.address, "/a", &[]).await.status;
        assert!([502, 504].contains(&status), "{url}: {status}");
        let line = program.log_line("does not answer").await;
        assert!(line.contains(hint), "{url}: {line}");
        for raw in ["InvalidContentType", "ReadError", "ConnectionClosed", "InvalidHTTPHeader"] {
            assert!(!line.contains(raw), "{url}: {line}");
        }
    }
}

/// Lines of the log at this level.
fn lines(log: &str, level: &str) -> Vec<String> {
    log.lines().filter(|line| line.contains(&format!("\"level\":\"{level}\""))).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_one_line_and_its_end_another_however_much_is_watched() {
    let backend = Backend::start().await;
    let scratch = Scratch::new("outage");
    let file = scratch.write("a.toml", "[[route]]\npath = \"/a/*\"\nevery = \"100ms\"\nevery_max = \"100ms\"\n");
    // Fewer fetches than max_fetch_rate allows: that they had to wait would be another line.
    let paths: Vec<String> = (0..8).map(|number| format!("/a/{number}")).collect();
    let set = |backend: &Backend, page: &dyn Fn() -> Page| paths.iter().for_each(|path| backend.set(path, page()));
    set(&backend, &|| Page::json("1"));
    let url = backend.url();
    let program = Program::start(&[&["-c", &file, "--upstream", &url], &ANY[..]].concat()).await;
    let mut streams = Vec::new();
    for path in &paths {
        let mut events = Events::open(program.address, path, &[]).await;
        events.snapshot().await;
        streams.push(events);
    }
    let is_stale = async |streams: &mut Vec<Events>, name: &str| {
        for events in streams {
            while within(name, events.next()).await.unwrap().event.as_deref() != Some(name) {}
        }
    };
    // It says itself that it cannot.
    set(&backend, &|| Page::json("{}").status(503));
    is_stale(&mut streams, "stale").await;
    set(&backend, &|| Page::json("1"));
    is_stale(&mut streams, "live").await;
    let ended = program.log_line("can be fetched again, after").await;
    let log = program.log();
    let warnings = lines(&log, "WARN");
    assert_eq!(warnings.len(), 1, "{log}");
    assert!(warnings[0].contains("/a/") && warnings[0].contains("503") && ended.contains("/a/"), "{log}");
    // It is not there at all.
    let address = backend.stop().await;
    is_stale(&mut streams, "stale").await;
    let backend = Backend::start_at(address).await;
    set(&backend, &|| Page::json("1"));
    is_stale(&mut streams, "live").await;
    program.log_line("answers again, after").await;
    let log = program.log();
    assert_eq!(lines(&log, "WARN").len(), 2, "{log}");
    assert!(lines(&log, "WARN")[1].contains(&url), "{log}");
    assert_eq!(log.matches("answers again, after").count(), 1, "{log}");
    assert_eq!(log.matches("can be fetched again, after").count(), 1, "the backend's own line tells of it: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn advice_names_the_url_and_a_route_that_can_be_pasted() {
    let backend = Backend::start().await;
    let count = std::sync::atomic::AtomicUsize::new(0);
    backend.handle("/api/jobs", move |_| {
        let now = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Page::json(&format!("{{\"jobs\":[],\"now\":{now}}}"))
    });
    let scratch = Scratch::new("advice");
    let file = scratch.write("a.toml", "[[route]]\npath = \"/api/**\"\nevery = \"20ms\"\nevery_max = \"20ms\"\n");
    let program = Program::start(&[&["-c", &file, "--upstream", &backend.url()], &ANY[..]].concat()).await;
    let _events = Events::open(program.address, "/api/jobs?page=1", &[]).await;
    let line = program.log_line("that is no news").await;
    let said: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(said["url"], "/api/jobs?page=1");
    let message = said["message"].as_str().unwrap();
    assert!(message.starts_with("/api/jobs: ") && message.contains("above \"/api/**\""), "{message}");
    let (_, route) = message.split_once(":\n").unwrap();
    let overrides = Overrides { upstream: Some("http://a".to_owned()), ..Overrides::default() };
    let config = config::parse("pasted", route, &overrides).unwrap_or_else(|found| panic!("{found}"));
    assert_eq!(config.routes[0].pattern.as_str(), "/api/jobs");
    assert!(route.contains("ignore = { json = [\"/now\"] }"), "{route}");
}

/// Starts the program as systemd does, with a socket called `name` at `address`.
fn activated(name: &str, address: &str, args: &[&str]) -> tokio::process::Command {
    let socket = std::net::TcpListener::bind(address).unwrap();
    let mut command = std::process::Command::new("sh");
    command
        .env_clear()
        .args(["-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_sungrazer")])
        .args(args)
        .env("LISTEN_FDNAMES", name)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .fd_mappings(vec![FdMapping { parent_fd: OwnedFd::from(socket), child_fd: 3 }])
        .unwrap();
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_is_handed_over_is_held_to_the_configuration() {
    let scratch = Scratch::new("sockets");
    let upstream = format!("[upstream]\nurl = \"http://{}\"\n", dead_port().await);
    let file = scratch.write("a.toml", &upstream);
    let args = ["-c", &file, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:9090"];
    let output = within("the program to end", activated("admin", "0.0.0.0:0", &args).output()).await.unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("admin_token") && said.contains("0.0.0.0:"), "{said}");
    // With a token it is served, and that the two do not agree is told.
    let file = scratch.write("b.toml", &format!("[server]\nadmin_token = \"secret\"\n{upstream}"));
    let args = ["-c", &file, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:9090"];
    let log = start_and_stop(activated("admin", "0.0.0.0:0", &args)).await;
    assert!(log.contains("where the configuration says 127.0.0.1:9090"), "{log}");
    let log = start_and_stop(activated("listen", "0.0.0.0:0", &["-c", &file, "--admin", "off"])).await;
    assert!(log.contains("where the configuration says 127.0.0.1:8080"), "{log}");
    // Port 0 is any port.
    let args = ["-c", &file, "--listen", "127.0.0.1:0", "--admin", "off"];
    let log = start_and_stop(activated("listen", "127.0.0.1:0", &args)).await;
    assert!(!log.contains("where the configuration says"), "{log}");
}

/// Starts the program, waits until it is ready, stops it, and returns what it has logged.
async fn start_and_stop(mut command: tokio::process::Command) -> String {
    let mut child = command.spawn().unwrap();
    let mut ready = [0; 17];
    let read = child.stdout.as_mut().unwrap().read_exact(&mut ready);
    within("the ready line", read).await.unwrap();
    crate::support::program::signal(child.id().unwrap(), "TERM");
    text(&within("the end", child.wait_with_output()).await.unwrap().stderr)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_that_is_closed_ends_what_has_no_file_to_read_again() {
    let backend = Backend::start().await;
    let scratch = Scratch::new("hang-up");
    let url = backend.url();
    let program = Program::start(&[&["--upstream", &url], &ANY[..]].concat()).await;
    program.signal("HUP");
    let (code, log) = program.wait().await;
    assert!(code == Some(0) && log.contains("SIGHUP: stopping"), "{log}");
    let file = scratch.write("a.toml", "[[route]]\npath = \"/a\"\n");
    let program = Program::start(&[&["--upstream", &url, "-c", &file], &ANY[..]].concat()).await;
    program.signal("HUP");
    program.log_line("the configuration was read again").await;
    // Who has it started with the signal ignored, as nohup does, wants it to stay.
    let mut ignoring = tokio::process::Command::new("sh");
    ignoring
        .env_clear()
        .args(["-c", "trap '' HUP; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_sungrazer"), "--upstream", &url])
        .args(ANY)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = ignoring.spawn().unwrap();
    let mut ready = [0; 17];
    let read = child.stdout.as_mut().unwrap().read_exact(&mut ready);
    within("the ready line", read).await.unwrap();
    let pid = child.id().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().trim().to_owned();
    assert_eq!(u64::from_str_radix(&ignored, 16).unwrap() & 1, 1, "it left SIGHUP as it was");
    crate::support::program::signal(pid, "HUP");
    crate::support::program::signal(pid, "TERM");
    let output = within("the end", child.wait_with_output()).await.unwrap();
    assert!(text(&output.stderr).contains("SIGTERM: stopping"), "{}", text(&output.stderr));
    eventually("the backend to be left", || backend.open() == 0).await;
}
