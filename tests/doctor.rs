//! `sungrazer doctor` through proxies that do to streams what proxies do. Each is a few lines here: what it does is known.
//! `tests/doctor_peers.rs` has real ones.

use std::collections::HashMap;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::support::backend::Backend;
use crate::support::client::{self, Connection};
use crate::support::eventually;
use crate::support::program::command;
use crate::support::sidecar::Sidecar;

/// What a proxy does to what passes through it.
#[derive(Clone, Debug, Default)]
struct Habits {
    /// Bodies are passed on in pieces of at least so many bytes, or at their end.
    buffer: Option<usize>,
    /// A connection on which nothing comes for so long is closed; before the head of an answer has come, with this answer.
    idle: Option<Duration>,
    /// Bodies are compressed, and flushed after each piece.
    compresses: bool,
    /// Answers are kept and given again, whatever they say.
    caches: bool,
    /// Request headers that are left out.
    drops: &'static [&'static str],
    /// Lines that are added to the heads of answers.
    adds: &'static str,
    /// The host that is put in place of the client's.
    host: Option<&'static str>,
}

struct Proxy {
    address: SocketAddr,
}

impl Proxy {
    async fn start(upstream: SocketAddr, habits: Habits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let kept = Arc::<Mutex<HashMap<String, Vec<u8>>>>::default();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (habits, kept) = (habits.clone(), Arc::clone(&kept));
                tokio::spawn(async move { serve(client, upstream, &habits, &kept).await });
            }
        });
        Self { address }
    }
}

/// Serves one request; what goes wrong ends the connection.
async fn serve(
    mut client: TcpStream,
    upstream: SocketAddr,
    habits: &Habits,
    kept: &Mutex<HashMap<String, Vec<u8>>>,
) -> Option<()> {
    let head = read_head(&mut client).await?;
    let target = head.split(' ').nth(1)?.to_owned();
    let cached = kept.lock().unwrap().get(&target).cloned();
    if let Some(answer) = cached {
        return client.write_all(&answer).await.ok();
    }
    let mut server = TcpStream::connect(upstream).await.ok()?;
    server.write_all(asked(&head, habits).as_bytes()).await.ok()?;
    let first = async { read_head(&mut server).await };
    let answered = match habits.idle {
        Some(idle) => timeout(idle, first).await.ok(),
        None => Some(first.await),
    };
    let Some(answer) = answered else {
        let text = "HTTP/1.1 504 Gateway Time-out\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        return client.write_all(text.as_bytes()).await.ok();
    };
    let answer = answer?;
    if answer.contains(" 101 ") {
        client.write_all(answer.as_bytes()).await.ok()?;
        pass(&mut server, &mut client, habits).await;
        return Some(());
    }
    let coding = if habits.compresses { "Content-Encoding: gzip\r\n" } else { "" };
    let mut head = answer.replacen("\r\n", &format!("\r\nConnection: close\r\n{}{coding}", habits.adds), 1);
    if habits.compresses {
        let lines = head.split("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with("content-length"));
        head = lines.collect::<Vec<_>>().join("\r\n");
    }
    if habits.caches {
        let mut body = Vec::new();
        server.read_to_end(&mut body).await.ok()?;
        let aged = head.replacen("\r\n", "\r\nAge: 7\r\n", 1);
        kept.lock().unwrap().insert(target, [aged.as_bytes(), &body].concat());
        client.write_all(&[head.as_bytes(), &body].concat()).await.ok()?;
        return Some(());
    }
    if habits.buffer != Some(usize::MAX) {
        client.write_all(head.as_bytes()).await.ok()?;
        head.clear();
    }
    let mut client = Whole { client, head };
    client.pass(&mut server, habits).await
}

/// A client to which the head of the answer may still have to be sent.
struct Whole {
    client: TcpStream,
    head: String,
}

impl Whole {
    async fn pass(&mut self, server: &mut TcpStream, habits: &Habits) -> Option<()> {
        let (mut held, mut piece) = (Vec::new(), vec![0; 16 << 10]);
        let mut packer = GzEncoder::new(Vec::new(), Compression::default());
        loop {
            let reading = server.read(&mut piece);
            let read = match habits.idle {
                Some(idle) => timeout(idle, reading).await.ok()?,
                None => reading.await,
            };
            let read = read.ok()?;
            if habits.compresses {
                packer.write_all(&piece[..read]).unwrap();
                packer.flush().unwrap();
                if read == 0 {
                    packer.try_finish().unwrap();
                }
                held.append(packer.get_mut());
            } else {
                held.extend_from_slice(&piece[..read]);
            }
            if read == 0 || held.len() >= habits.buffer.unwrap_or(0) {
                self.client.write_all(&[self.head.as_bytes(), &held].concat()).await.ok()?;
                self.head.clear();
                held.clear();
            }
            if read == 0 {
                return Some(());
            }
        }
    }
}

/// Passes what comes from `server`, and what comes from `client`.
async fn pass(server: &mut TcpStream, client: &mut TcpStream, habits: &Habits) -> Option<()> {
    let (mut piece, mut other) = (vec![0; 16 << 10], vec![0; 1 << 10]);
    loop {
        let moving = async {
            tokio::select! {
                read = server.read(&mut piece) => (read, true),
                read = client.read(&mut other) => (read, false),
            }
        };
        let (read, is_down) = match habits.idle {
            Some(idle) => timeout(idle, moving).await.ok()?,
            None => moving.await,
        };
        let read = read.ok().filter(|read| *read > 0)?;
        match is_down {
            true => client.write_all(&piece[..read]).await.ok()?,
            false => server.write_all(&other[..read]).await.ok()?,
        }
    }
}

async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

/// The request as it is passed on.
fn asked(head: &str, habits: &Habits) -> String {
    let is_upgrade = head.to_ascii_lowercase().contains("\r\nupgrade:") && !habits.drops.contains(&"upgrade");
    let mut lines: Vec<String> = head.trim_end().split("\r\n").map(str::to_owned).collect();
    lines.retain(|line| {
        let name = line.split(':').next().unwrap().to_ascii_lowercase();
        !habits.drops.contains(&name.as_str()) && (is_upgrade || name != "connection")
    });
    if habits.compresses {
        // In HTTP/1.0 bodies come without chunks.
        lines[0] = lines[0].replace("HTTP/1.1", "HTTP/1.0");
    }
    if let Some(host) = habits.host {
        lines.retain(|line| !line.to_ascii_lowercase().starts_with("host:"));
        lines.push(format!("Host: {host}"));
    }
    if !is_upgrade {
        lines.push("Connection: close".to_owned());
    }
    lines.join("\r\n") + "\r\n\r\n"
}

/// What the doctor says of the way by `address`, and its exit code.
pub async fn examined(address: SocketAddr, more: &[&str]) -> (i32, Value, String) {
    let url = format!("http://{address}/");
    let run = async |json: bool| {
        let args = ["doctor", &url].into_iter().chain(more.iter().copied()).chain(json.then_some("--json"));
        let running = command().args(args).output();
        timeout(Duration::from_secs(90), running).await.expect("a doctor that ends").unwrap()
    };
    let (json, text) = tokio::join!(run(true), run(false));
    let said = String::from_utf8_lossy(&json.stderr).into_owned();
    let read = serde_json::from_slice(&json.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    (json.status.code().unwrap(), read, String::from_utf8(text.stdout).unwrap())
}

/// The faults that were found.
pub fn faults(read: &Value) -> Vec<&str> {
    let mut faults: Vec<&str> =
        read["findings"].as_array().unwrap().iter().filter_map(|finding| finding["fault"].as_str()).collect();
    faults.sort_unstable();
    faults.dedup();
    faults
}

pub fn trial<'r>(read: &'r Value, name: &str) -> &'r Value {
    read["trials"]
        .as_array()
        .unwrap()
        .iter()
        .find(|trial| trial["name"] == name)
        .unwrap_or_else(|| panic!("{name}: {read:#}"))
}

/// All that was found, as one text.
fn findings(read: &Value) -> String {
    read["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| format!("{}\n", finding["text"].as_str().unwrap()))
        .collect()
}

async fn sidecar() -> Sidecar {
    let backend = Backend::start().await;
    Sidecar::start(&backend, "")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_on_which_nothing_is_wrong_is_called_good() {
    let sidecar = sidecar().await;
    let proxy = Proxy::start(sidecar.address, Habits::default()).await;
    for address in [sidecar.address, proxy.address] {
        let (code, read, text) = examined(address, &["--for", "2s", "-H", "Cookie: sid=1"]).await;
        assert_eq!((code, &read["verdict"], faults(&read)), (0, &Value::from("streams"), vec![]), "{read:#}");
        assert_eq!(findings(&read), "", "{read:#}");
        for name in ["SSE", "chunks", "held poll", "WebSocket"] {
            assert_eq!(trial(&read, name)["works"], true, "{read:#}");
        }
        assert!(text.contains("Streams work") && text.contains("Nothing was found to be wrong"), "{text}");
    }
    eventually("everybody to be let go", || sidecar.held() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn buffers_are_found_and_how_much_they_keep() {
    let sidecar = sidecar().await;
    let check = async |size: usize| {
        let proxy = Proxy::start(sidecar.address, Habits { buffer: Some(size), ..Habits::default() }).await;
        let (code, read, text) = examined(proxy.address, &["--for", "1s"]).await;
        // What is held leaves whole.
        assert_eq!(
            (code, &read["verdict"], faults(&read)),
            (3, &Value::from("long-polls"), vec!["buffering"]),
            "{read:#}"
        );
        assert!(text.contains("proxy_buffering off;") && text.contains("flush_interval -1"), "{text}");
        assert!(text.contains("Streams do not work, but polls can be held"), "{text}");
        let said = trial(&read, "SSE")["text"].as_str().unwrap().to_owned();
        if size == usize::MAX {
            assert!(said.contains("kept back to the end"), "{said}");
        } else {
            let numbers: Vec<usize> =
                said.split(|c: char| !c.is_ascii_digit()).filter_map(|text| text.parse().ok()).collect();
            let until =
                numbers.iter().copied().find(|number| *number >= size).unwrap_or_else(|| panic!("{size}: {said}"));
            assert!(until < 4 * size + 2000, "{size}: {said}");
        }
        for name in ["WebSocket", "held poll"] {
            assert_eq!(trial(&read, name)["works"], true, "{read:#}");
        }
    };
    tokio::join!(check(1024), check(8192), check(usize::MAX));
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_that_is_cut_is_found_with_its_length() {
    let sidecar = sidecar().await;
    let check = async |idle: u64, longer: &str, code: i32| {
        let habits = Habits { idle: Some(Duration::from_millis(idle)), ..Habits::default() };
        let proxy = Proxy::start(sidecar.address, habits).await;
        let (found, read, text) = examined(proxy.address, &["--for", longer]).await;
        assert_eq!((found, faults(&read)), (code, vec!["idle"]), "{read:#}");
        for name in ["SSE", "chunks", "held poll", "WebSocket"] {
            let cut = trial(&read, name)["cut_after"].as_f64().unwrap_or_else(|| panic!("{name}: {read:#}"));
            let expected = idle as f64 / 1000.0;
            assert!((expected - 0.3..expected + 2.0).contains(&cut), "{name}: {cut} for {expected}");
        }
        assert!(text.contains("proxy_read_timeout 1h;") && text.contains("heartbeat = \"1s\""), "{text}");
        assert!(trial(&read, "held poll")["text"].as_str().unwrap().contains("504"), "{read:#}");
    };
    tokio::join!(check(3000, "6s", 0), check(1500, "6s", 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_else_is_done_to_answers_and_requests_is_found() {
    let check = async |habits: Habits, expected: &[&str], said: &[&str]| {
        let sidecar = sidecar().await;
        let what = format!("{habits:?}");
        let proxy = Proxy::start(sidecar.address, habits).await;
        let (_, read, text) = examined(proxy.address, &["--for", "1s"]).await;
        for fault in expected {
            assert!(faults(&read).contains(fault), "{what}: {read:#}");
        }
        for part in said {
            assert!(findings(&read).contains(part), "{what}: {part} is missing in {read:#}");
        }
        text
    };
    let plain = Habits::default;
    let (_, cached, bare, _) = tokio::join!(
        check(Habits { compresses: true, ..plain() }, &["compression", "http10"], &["compressed on the way (gzip)"]),
        check(Habits { caches: true, ..plain() }, &["caching"], &["Age: 7", "the same answer came twice"]),
        check(
            Habits { drops: &["upgrade"], adds: "Server: nginx/1.22.1\r\n", ..plain() },
            &["websocket"],
            &["WebSockets are not passed on"]
        ),
        check(
            Habits { drops: &["cookie", "last-event-id", "prefer"], host: Some("internal"), ..plain() },
            &["host"],
            &["the cookie that was sent does not arrive", "last-event-id does not arrive", "prefer does not arrive"],
        ),
    );
    assert!(cached.contains("CacheDisable /.sungrazer/") && cached.contains("Cloudflare:"), "{cached}");
    // Of those whose name is known, only theirs.
    assert!(bare.contains("nginx (server: nginx/1.22.1)") && bare.contains("proxy_set_header Upgrade"), "{bare}");
    assert!(!bare.contains("Caddy"), "{bare}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_examined_is_told_why() {
    let backend = Backend::start().await;
    let url = backend.url();
    let sidecar = Sidecar::with(&format!("[server]\nprefix = \"/push-own\"\n[upstream]\nurl = \"{url}\"\n"));
    let other = format!("http://{}", sidecar.address);
    for (args, code, said) in [
        (vec![&url[..]], 1, "no Sungrazer answers at /.sungrazer/doctor, but 404"),
        (vec![&other[..]], 1, "(--prefix)"),
        (vec!["http://127.0.0.1:1"], 1, "cannot connect to http://127.0.0.1:1"),
        (vec!["127.0.0.1:1"], 2, "write a whole URL"),
        (vec![&other[..], "--for", "1h"], 2, "at most 10m"),
    ] {
        let output =
            timeout(Duration::from_secs(60), command().arg("doctor").args(&args).output()).await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(code) && text.contains(said), "{args:?}: {text}");
    }
    let (code, read, _) = examined(sidecar.address, &["--for", "1s", "--prefix", "/push-own"]).await;
    assert_eq!((code, &read["verdict"]), (0, &Value::from("streams")), "{read:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_far_end_is_bounded_and_tells_nothing_of_the_site() {
    let sidecar = sidecar().await;
    let path = |rest: &str| format!("/.sungrazer/doctor{rest}");
    for (rest, status) in [("?for=11m", 400), ("?for=soon", 400), ("?for=1s&hold=1s", 400), ("", 200), ("?host=x", 200)]
    {
        assert_eq!(sidecar.get(&path(rest), &[]).await.status, status, "{rest}");
    }
    let foreign = sidecar.get(&path("?for=1s"), &[("Origin", "http://elsewhere.example")]).await;
    assert_eq!(foreign.status, 403);
    // A value that a proxy in front adds for the application is not repeated to whoever asks.
    let secrets = [
        ("X-Secret", "hush-1"),
        ("Authorization", "hush-2"),
        ("X-Forwarded-For", "hush-3"),
        ("Cookie", "sid=hush-4; sungrazer-doctor=mine"),
    ];
    let mirrored = sidecar.get(&path(""), &secrets).await;
    let mirrored = mirrored.text();
    assert!(
        !mirrored.contains("hush") && mirrored.contains("\"mine\"") && mirrored.contains("x-forwarded-for"),
        "{mirrored}"
    );
    // So many at a time, and no more.
    let mut held = Vec::new();
    for _ in 0..32 {
        let mut connection = Connection::open(sidecar.address).await;
        held.push(tokio::spawn(async move { connection.get("/.sungrazer/doctor?hold=5m", &[]).await }));
    }
    eventually("all of them to be held", || sidecar.held() == 32).await;
    assert_eq!(sidecar.get(&path("?hold=1s"), &[]).await.status, 503);
    assert_eq!(
        client::get(sidecar.address, &path(""), &[]).await.status,
        200,
        "what is answered at once is not counted"
    );
    held.iter().for_each(tokio::task::JoinHandle::abort);
    eventually("their leaving to be noticed", || sidecar.held() == 0).await;
    assert_eq!(sidecar.get(&path("?hold=1ms"), &[]).await.status, 200);
}
