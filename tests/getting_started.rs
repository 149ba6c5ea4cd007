//! The commands of docs/guide/getting-started.md, as they are printed there. curl must be there, so this is only run on request:
//! `tests/run clients`.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::documents::blocks;
use crate::support::backend::{Backend, Page};
use crate::support::client::{Connection, Events};
use crate::support::program::Scratch;

/// `probe` takes its time, and says nothing meanwhile where no terminal shows it.
const PATIENCE: Duration = Duration::from_secs(60);

const GUIDE: &str = include_str!("../docs/guide/getting-started.md");

/// What the commands say that do not start a server, by how they begin.
const SAYS: &[(&str, &str)] = &[
    ("curl http://127.0.0.1:9090/api/resources", "\"url\": \"/api/messages\""),
    ("curl 'http://127.0.0.1:9090/api/why", "\"looks\""),
    ("sungrazer tail ", "200, application/json"),
    ("sungrazer probe ", "path = \"/api/messages\""),
    ("sungrazer check", "is good"),
    ("curl -N ", "data: {\"messages\":[\"hello\"]"),
];

/// Where the reader's own machine has what the page names.
struct Place {
    scratch: Scratch,
    backend: Backend,
    /// The last server that was started, and its listeners.
    server: Option<(Child, SocketAddr, SocketAddr)>,
}

impl Place {
    fn at_home(&self, text: &str) -> String {
        let text = text.replace("http://127.0.0.1:8000", &self.backend.url());
        match &self.server {
            Some((_, listen, admin)) => {
                text.replace("127.0.0.1:8080", &listen.to_string()).replace("127.0.0.1:9090", &admin.to_string())
            }
            None => text,
        }
    }

    fn spawn(&self, line: &str) -> Child {
        let path = format!("{}:{}", self.scratch.path("bin").display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("exec {}", self.at_home(line))])
            .current_dir(self.scratch.path(""))
            .env("PATH", path)
            .env("SUNGRAZER_LISTEN", "127.0.0.1:0")
            .env("SUNGRAZER_ADMIN", "127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        command.spawn().unwrap()
    }

    /// Starts a server in place of the one before.
    async fn serve(&mut self, line: &str) {
        self.server = None;
        let mut child = self.spawn(line);
        let ready = reads(&mut child, line, "\n").await;
        let address = |name: &str| {
            let (_, rest) = ready.split_once(&format!("{name}=http://")).unwrap_or_else(|| panic!("{line}: {ready}"));
            rest.split_whitespace().next().unwrap().parse().unwrap()
        };
        self.server = Some((child, address("listen"), address("admin")));
    }
}

impl Place {
    /// Observes a page that polls, for less long than a reader would, and sees the file that comes of it.
    async fn observe(&mut self, line: &str) {
        self.server = None;
        assert!(line.contains("--for 10m"), "{line}");
        let line = line.replace("--for 10m", "--for 4s");
        let _ = std::fs::remove_file(self.scratch.path("sungrazer.toml"));
        let mut child = self.spawn(&line);
        let ready = reads(&mut child, &line, "\n").await;
        let (_, rest) = ready.split_once("listen=http://").unwrap_or_else(|| panic!("{line}: {ready}"));
        let listen: SocketAddr = rest.split_whitespace().next().unwrap().parse().unwrap();
        let polls = async {
            let mut timer = tokio::time::interval(Duration::from_millis(200));
            loop {
                timer.tick().await;
                if let Ok(stream) = tokio::net::TcpStream::connect(listen).await {
                    let mut page = Connection { stream, buffer: Vec::new() };
                    let request = b"GET /api/messages HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
                    // It may be about to end.
                    if page.stream.write_all(request).await.is_ok() {
                        while page.fill().await {}
                    }
                }
            }
        };
        let ended = tokio::select! {
            ended = timeout(PATIENCE, child.wait()) => ended.unwrap().unwrap(),
            () = polls => unreachable!("a page polls for ever"),
        };
        assert!(ended.success(), "{line}: {ended}");
        let written = std::fs::read_to_string(self.scratch.path("sungrazer.toml")).unwrap();
        assert!(written.contains("path = \"/api/messages\"") && written.contains("/generated"), "{written}");
    }
}

/// Waits until `child` has said `text`, and returns all that it has said.
async fn reads(child: &mut Child, line: &str, text: &str) -> String {
    let mut said = String::new();
    let mut stdout = BufReader::new(child.stdout.as_mut().unwrap());
    while !said.contains(text) {
        let mut piece = [0; 4096];
        let read = timeout(PATIENCE, stdout.read(&mut piece)).await;
        let read = read.unwrap_or_else(|_| panic!("{line:?} does not say {text:?}, but {said}")).unwrap();
        assert!(read > 0, "{line:?} ended without saying {text:?}: {said}");
        said.push_str(&String::from_utf8_lossy(&piece[..read]));
    }
    said
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs curl; tests/run sees to it"]
async fn the_commands_do_what_the_page_says() {
    let backend = Backend::start().await;
    backend.handle("/api/messages", |_| {
        let now = humantime::format_rfc3339_millis(sungrazer::clock::wall());
        Page::json(&format!("{{\"messages\":[\"hello\"],\"generated\":\"{now}\"}}"))
    });
    let scratch = Scratch::new("getting-started");
    std::fs::create_dir(scratch.path("bin")).unwrap();
    std::os::unix::fs::symlink(Path::new(env!("CARGO_BIN_EXE_sungrazer")), scratch.path("bin/sungrazer")).unwrap();
    let mut place = Place { scratch, backend, server: None };
    let files = blocks(GUIDE, "toml");
    let commands: Vec<(usize, String)> = blocks(GUIDE, "sh")
        .into_iter()
        .flat_map(|(at, block)| block.lines().map(|line| (at, line.to_owned())).collect::<Vec<_>>())
        .map(|(at, line)| (at, line.split(" #").next().unwrap_or_default().trim().to_owned()))
        .filter(|(_, line)| !line.starts_with("cargo "))
        .collect();
    let mut said = vec![false; SAYS.len()];
    let (mut served, mut follower, mut observed) = (0, None, false);
    for (at, line) in commands {
        if let Some((_, file)) = files.iter().rfind(|(file_at, _)| *file_at < at) {
            place.scratch.write("sungrazer.toml", &place.at_home(file));
        }
        if let Some(index) = SAYS.iter().position(|(begins, _)| line.starts_with(begins)) {
            reads(&mut place.spawn(&line), &line, SAYS[index].1).await;
            said[index] = true;
            continue;
        }
        if line.starts_with("sungrazer observe ") {
            place.observe(&line).await;
            observed = true;
            continue;
        }
        assert!(line.starts_with("sungrazer"), "line {at}: nothing is known of {line:?}");
        place.serve(&line).await;
        served += 1;
        // The page that the reader has open.
        let listen = place.server.as_ref().unwrap().1;
        let mut events = Events::open(listen, "/.sungrazer/stream?url=/api/messages", &[]).await;
        events.snapshot().await;
        follower = Some(events);
    }
    drop(follower);
    assert!(said.iter().all(|said| *said) && served == 2 && observed, "{said:?} {served} {observed}");
}
