//! The public listener: requests byte for byte, and messages over a WebSocket. A panic anywhere in the process is a finding.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sungrazer::config::{self, Overrides};
use sungrazer::server::{ConfigSource, Inherited, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;

struct Running {
    runtime: Runtime,
    server: Server,
}

/// Its application is not there: what is fuzzed is what happens before it is asked.
const CONFIG: &str = r#"
[server]
max_streams_per_address = 100000
[upstream]
url = "http://127.0.0.1:1"
connect_timeout = "20ms"
fetch_timeout = "20ms"
[[route]]
path = "/a/**"
hold = "10ms"
every = "1h"
every_max = "1h"
[[route]]
path = "/tick"
fetch = false
"#;

static RUNNING: LazyLock<Running> = LazyLock::new(|| {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() == Some(WORKER) {
            BROKEN.store(true, Ordering::SeqCst);
        }
        before(panic);
    }));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name(WORKER).enable_all().build().unwrap();
    let overrides = Overrides { listen: Some("127.0.0.1:0".into()), admin: Some("off".into()), upstream: None };
    let config = config::parse("fuzz.toml", CONFIG, &overrides).unwrap_or_else(|found| panic!("{found}"));
    let server =
        runtime.block_on(async { Server::start(config, &ConfigSource::default(), Inherited::default()).unwrap() });
    Running { runtime, server }
});

/// The thread that serves.
const WORKER: &str = "fuzz-server";

/// Whether it panicked: a task that does takes nobody along.
static BROKEN: AtomicBool = AtomicBool::new(false);

/// An answer takes no longer, unless it is a stream.
const PATIENCE: Duration = Duration::from_millis(30);

fn exchange(begin: &[u8], data: &[u8]) {
    let Running { runtime, server } = &*RUNNING;
    let address = server.listen()[0];
    runtime.block_on(async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut answer = [0; 4096];
        if !begin.is_empty() {
            let _ = stream.write_all(begin).await;
            let _ = timeout(Duration::from_secs(5), stream.read(&mut answer)).await;
        }
        let _ = stream.write_all(data).await;
        let _ = stream.shutdown().await;
        while let Ok(Ok(1..)) = timeout(PATIENCE, stream.read(&mut answer)).await {}
    });
    assert!(!BROKEN.load(Ordering::SeqCst), "the server panicked");
}

pub fn requests(data: &[u8]) {
    exchange(b"", data);
}

/// Texts, divided by zeros, in masked frames.
pub fn websocket(data: &[u8]) {
    let mut frames = Vec::new();
    for text in data.split(|byte| *byte == 0) {
        frames.push(0x81);
        match text.len() {
            length @ 0..126 => frames.push(0x80 | length as u8),
            length => {
                frames.push(0x80 | 126);
                frames.extend_from_slice(&(length as u16).to_be_bytes());
            }
        }
        frames.extend_from_slice(&[0; 4]);
        frames.extend_from_slice(&text[..text.len().min(65_535)]);
    }
    exchange(
        b"GET /.sungrazer/ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: sungrazer.v1\r\n\r\n",
        &frames,
    );
}
