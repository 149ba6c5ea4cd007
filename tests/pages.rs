//! What real applications answer to polls, as they are installed: `sungrazer probe` makes each of it silent while nothing
//! happens, and hides nothing that does; and deltas lead from each answer to each other. They must be there, so these are
//! only run on request: `tests/run pages`.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::Command;

use crate::support::backend::dead_port;
use crate::support::client::{self, Connection, Events};
use crate::support::oracle::{self, Json, Reader};
use crate::support::peers::{self, listens, spawn};
use crate::support::program::{self, Scratch};
use crate::support::sidecar::Sidecar;
use crate::support::within;
use sungrazer::diff::delta;
use sungrazer::model::DeltaKind;

/// What is in an answer and was not before.
enum Expected {
    Text(String),
    /// So many idle connections, or more.
    Waiting(usize),
}

impl Expected {
    fn is_in(&self, body: &str) -> bool {
        match self {
            Self::Text(text) => body.contains(text),
            Self::Waiting(least) => {
                let count = body.split_once("Waiting: ").unwrap().1.trim();
                count.parse::<usize>().unwrap() >= *least
            }
        }
    }
}

type Happening = Pin<Box<dyn Future<Output = Expected> + Send>>;

/// Makes something happen, for the so-manieth time.
type Change = Box<dyn Fn(usize) -> Happening + Send + Sync>;

/// Something that pages or people poll.
struct Polled {
    app: &'static str,
    address: SocketAddr,
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
    /// `None` where nothing changes that could be made to.
    change: Option<Change>,
    /// What it consists of, until it is dropped.
    _running: Box<dyn Send>,
}

impl Polled {
    fn name(&self) -> String {
        format!("{} {}", self.app, self.path)
    }

    async fn body(&self) -> String {
        let answer = client::get(self.address, self.path, self.headers).await;
        assert_eq!(answer.status, 200, "{}", self.name());
        answer.text().to_owned()
    }
}

const STATISTICS: &str = "
listen stats
    bind ADDRESS
    stats enable
    stats uri /stats
    stats refresh 5s
    stats auth admin:ha
backend app
    server s1 127.0.0.1:9 weight 10
    server s2 127.0.0.1:9 weight 20
";

/// Says a command to HAProxy, and waits until it was carried out.
async fn command(socket: PathBuf, command: String) {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(command.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer.trim(), "");
}

/// Its page of statistics, on which each fetch counts.
async fn haproxy() -> Vec<Polled> {
    let haproxy = peers::haproxy(STATISTICS).await;
    let socket = haproxy.scratch.path("admin.sock");
    let change = move |n: usize| -> Happening {
        let socket = socket.clone();
        Box::pin(async move {
            if n == 0 {
                command(socket, "disable server app/s1\n".to_owned()).await;
                return Expected::Text(" MAINT<".to_owned());
            }
            command(socket, format!("set weight app/s2 {n}\n")).await;
            Expected::Text(format!(">{n}/{n}<"))
        })
    };
    vec![Polled {
        app: "HAProxy",
        address: haproxy.address,
        path: "/stats",
        headers: &[("Authorization", "Basic YWRtaW46aGE=")],
        change: Some(Box::new(change)),
        _running: Box::new(haproxy),
    }]
}

const LISTINGS: &str = "
    location /status { stub_status; }
    location /files/ { autoindex on; }
    location /json/ { alias FOLDER/files/; autoindex on; autoindex_format json; }
    location /xml/ { alias FOLDER/files/; autoindex on; autoindex_format xml; }
";

/// A server for each of its pages: one counts the fetches of all.
async fn nginx() -> Vec<Polled> {
    let mut polled = Vec::new();
    for path in ["/status", "/files/", "/json/", "/xml/"] {
        let nginx = Arc::new(peers::nginx("", LISTINGS).await);
        let address = nginx.address;
        std::fs::create_dir(nginx.scratch.path("files")).unwrap();
        nginx.scratch.write("files/readme.txt", "text");
        let change: Change = if path == "/status" {
            let idle = Arc::new(Mutex::new(Vec::new()));
            Box::new(move |n| {
                let idle = Arc::clone(&idle);
                Box::pin(async move {
                    let mut connection = Connection::open(address).await;
                    assert_eq!(connection.get("/files/readme.txt", &[]).await.status, 200);
                    idle.lock().unwrap().push(connection);
                    Expected::Waiting(n + 1)
                })
            })
        } else {
            let nginx = Arc::clone(&nginx);
            Box::new(move |n| {
                let name = format!("file-{n}.txt");
                nginx.scratch.write(&format!("files/{name}"), "text");
                Box::pin(async move { Expected::Text(name) })
            })
        };
        polled.push(Polled {
            app: "nginx",
            address,
            path,
            headers: &[],
            change: Some(change),
            _running: Box::new(nginx),
        });
    }
    polled
}

/// Where `examples/rq-dashboard` installs its packages.
fn rq(program: &str) -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"));
    cache.join("sungrazer/rq-dashboard/bin").join(program)
}

const ENQUEUE: &str = "
import sys
from redis import Redis
from rq import Queue
Queue('default', connection=Redis(port=int(sys.argv[1]))).enqueue('time.sleep', 1, job_id='job-' + sys.argv[2])
";

/// What its page asks for, and the page itself, which it asks for as well and which has no data in it.
async fn rq_dashboard() -> Vec<Polled> {
    let mut polled = Vec::new();
    for path in ["/0/data/queues.json", "/0/data/jobs/default/queued/8/asc/1.json", "/"] {
        let (scratch, address, redis) = (Scratch::new("rq"), dead_port().await, dead_port().await);
        let (folder, redis_port) = (scratch.path("").display().to_string(), redis.port().to_string());
        let mut running = vec![spawn(
            "redis-server",
            &["--port", &redis_port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", &folder],
        )];
        listens("redis", redis).await;
        let (port, url) = (address.port().to_string(), format!("redis://{redis}"));
        running.push(spawn(rq("rq-dashboard"), &["--bind", "127.0.0.1", "--port", &port, "--redis-url", &url]));
        listens("rq-dashboard", address).await;
        let change: Change = Box::new(move |n| {
            let port = redis_port.clone();
            Box::pin(async move {
                let mut enqueue = Command::new(rq("python"));
                let ran = within("a job", enqueue.args(["-c", ENQUEUE, &port, &n.to_string()]).output()).await.unwrap();
                assert!(ran.status.success(), "{ran:?}");
                Expected::Text(if path.contains("queues") {
                    format!("\"count\":{}", n + 1)
                } else {
                    format!("job-{n}")
                })
            })
        });
        polled.push(Polled {
            app: "rq-dashboard",
            address,
            path,
            headers: &[],
            change: (path != "/").then_some(change),
            _running: Box::new((running, scratch)),
        });
    }
    polled
}

async fn all() -> Vec<Polled> {
    let (haproxy, nginx, rq) = tokio::join!(haproxy(), nginx(), rq_dashboard());
    haproxy.into_iter().chain(nginx).chain(rq).collect()
}

/// How long nothing happens, and nothing may be told.
const SILENCE: Duration = Duration::from_secs(25);

/// How long there is for a second event of what is one change.
const ECHO: Duration = Duration::from_secs(5);

/// Probes as a user would, and returns the route that was printed.
async fn probed(polled: &Polled) -> String {
    let url = format!("http://{}{}", polled.address, polled.path);
    let headers: Vec<String> = polled.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let args = ["probe", &url].into_iter().chain(headers.iter().flat_map(|header| ["-H", header.as_str()]));
    let output = tokio::time::timeout(Duration::from_secs(90), program::command().args(args).output()).await;
    let output = output.expect("a probe that ends").unwrap();
    assert!(output.status.success(), "{}: {}", polled.name(), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// How many fetches of `sidecar` brought a result that begins so.
async fn fetches(sidecar: &Sidecar, result: &str) -> u64 {
    let metrics = sidecar.admin("/metrics").await;
    let of = |line: &&str| line.starts_with("sungrazer_fetches_total") && line.contains(&format!("result=\"{result}"));
    metrics.text().lines().filter(of).map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// What the last changes were, as operators are told.
async fn reason(sidecar: &Sidecar, path: &str) -> String {
    let why = sidecar.admin(&format!("/api/why?url={path}")).await;
    let why: Value = serde_json::from_slice(&why.body).unwrap();
    let fetches = why["resources"][0]["looks"].as_array().unwrap();
    let changes = fetches.iter().filter(|fetch| fetch["result"] == "changed");
    changes.map(|fetch| format!("{}\n", fetch["because"])).collect()
}

async fn all_fetches(sidecar: &Sidecar) -> u64 {
    fetches(sidecar, "").await
}

/// Follows what was probed, with what the probe printed. Returns what was seen, as a row of a table.
async fn is_calmed(polled: &Polled) -> String {
    let name = polled.name();
    let block = probed(polled).await;
    let quick = block.replace("every = \"1s\"", "every_max = \"500ms\"\nevery = \"500ms\"");
    assert_ne!(quick, block, "{name}");
    let sidecar = Sidecar::with(&quick);
    // The first client's first fetch goes along with the question whether the application streams by itself: a page that
    // counts connections tells of both.
    let mut early = Events::open(sidecar.address, polled.path, polled.headers).await;
    early.snapshot().await;
    within("the first fetches", async {
        while all_fetches(&sidecar).await < 4 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let mut events = Events::open(sidecar.address, polled.path, polled.headers).await;
    drop(early);
    let (before, changed) = (all_fetches(&sidecar).await, fetches(&sidecar, "changed").await);
    let first = within(&format!("the first state of {name}"), events.snapshot()).await;
    let silence = tokio::time::timeout(SILENCE, events.next()).await;
    if let Ok(event) = silence {
        let reason = reason(&sidecar, polled.path).await;
        panic!("{name}: told of {reason}with\n{block}\nafter {first:?}: {event:?}");
    }
    let quiet = all_fetches(&sidecar).await - before;
    assert!(quiet > 10, "{name}: {quiet} fetches");
    assert_eq!(fetches(&sidecar, "changed").await, changed, "{name}");
    if let Some(change) = &polled.change {
        let expected = change(0).await;
        assert!(!expected.is_in(&first.data), "{name}: it was there before: {first:?}");
        let news = within(&format!("a change of {name}, with\n{block}"), events.snapshot()).await;
        assert!(expected.is_in(&news.data), "{name}: {news:?} with\n{block}");
        let echo = tokio::time::timeout(ECHO, events.next()).await;
        if let Ok(event) = echo {
            let reason = reason(&sidecar, polled.path).await;
            panic!("{name}: told of {reason}with\n{block}\nafter {news:?}: {event:?}");
        }
    }
    let told = if polled.change.is_some() { "1" } else { "" };
    let said = |mark: &str| block.lines().find_map(|line| line.strip_prefix(mark)).unwrap_or("?").trim().to_owned();
    let rules = block.lines().filter(|line| line.starts_with("    ")).count();
    let (answer, changes) = (said("# Answer"), said("# Changes"));
    let changes = changes.split([';', ':']).next().unwrap();
    format!("| {name} | {} | {changes} | {rules} | {quiet} | 0 | {told} |", answer.split(';').next().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs HAProxy, nginx, redis-server and rq-dashboard; tests/run sees to it"]
async fn what_a_probe_prints_makes_them_silent_until_something_happens() {
    let polled = all().await;
    let rows = join_all(polled.iter().map(is_calmed)).await;
    eprintln!(
        "| polled | answer | while probed | rules | fetches while nothing happened | events | events of a change |"
    );
    eprintln!("| --- | --- | --- | ---: | ---: | ---: | ---: |\n{}", rows.join("\n"));
}

/// What `patch` makes of `base`, by an implementation that is not the program's.
fn applied(kind: DeltaKind, base: &str, patch: &str) -> Json {
    let read = |text| Json::read(text, Reader::LastWins);
    match kind {
        DeltaKind::Splice => Json::String(oracle::splice(base, &read(patch)).unwrap().encode_utf16().collect()),
        DeltaKind::JsonPatch => oracle::json_patch(read(base), &read(patch)).unwrap(),
        DeltaKind::MergePatch => oracle::merge_patch(read(base), &read(patch)),
    }
}

/// Checks the laws of deltas on successive answers. Returns how many patches there were, their bytes, and those of what
/// they stood for.
fn keeps_the_laws(name: &str, kind: DeltaKind, history: &[String]) -> (usize, usize, usize) {
    let target = |text: &str| match kind {
        DeltaKind::Splice => Json::String(text.encode_utf16().collect()),
        _ => Json::read(text, Reader::LastWins),
    };
    let (mut patches, mut said, mut meant) = (0, 0, 0);
    for (from, base) in history.iter().enumerate() {
        for (to, other) in history.iter().enumerate() {
            let Ok(patch) = delta(kind, base, other) else { continue };
            let patch = String::from_utf8(patch).unwrap();
            assert!(patch.len() < other.len(), "{name}: {kind} is larger than what it stands for");
            assert_eq!(applied(kind, base, &patch), target(other), "{name}: {kind} from {from} to {to}");
            if to == from + 1 && base != other {
                (patches, said, meant) = (patches + 1, said + patch.len(), meant + other.len());
            }
        }
    }
    (patches, said, meant)
}

/// How many states of each are fetched.
const STATES: usize = 6;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs HAProxy, nginx, redis-server and rq-dashboard; tests/run sees to it"]
async fn deltas_lead_from_each_answer_to_each_other() {
    let polled = all().await;
    let mut rows = Vec::new();
    for polled in &polled {
        let (name, Some(change)) = (polled.name(), &polled.change) else { continue };
        let mut history = vec![polled.body().await];
        for n in 0..STATES {
            let expected = change(n).await;
            within(&format!("change {n} of {name}"), async {
                while !expected.is_in(history.last().unwrap()) {
                    history.push(polled.body().await);
                }
            })
            .await;
            // What changes by the fetch alone is a state like others.
            history.push(polled.body().await);
        }
        history.dedup();
        assert!(history.len() > STATES, "{name}: {} states", history.len());
        let json = history[0].starts_with(['{', '[']);
        for kind in DeltaKind::ALL.into_iter().filter(|kind| json || *kind == DeltaKind::Splice) {
            let (patches, said, meant) = keeps_the_laws(&name, kind, &history);
            rows.push(format!("| {name} | {kind} | {patches} of {} | {said} | {meant} |", history.len() - 1));
        }
    }
    eprintln!("| polled | delta | changes said by a patch | bytes of patches | of whole bodies |");
    eprintln!("| --- | --- | ---: | ---: | ---: |\n{}", rows.join("\n"));
}
