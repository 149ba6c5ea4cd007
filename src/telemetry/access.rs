//! The access log: one JSON object per request, written when the request ends.
//!
//! ```text
//! request ends ─ AccessGuard dropped ─▶ Record ─┬▶ a queue with a bound ─▶ a thread that writes
//!                                         └▶ the exporter of spans, if there is one
//! ```
//!
//! Requests never wait for the log. Lines that the writer cannot write, or not fast enough, are counted, and the log
//! reports their number.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use serde_json::{Map, Value};
use tokio::time::Instant;
use tracing::{error, info};

use super::Metrics;
use super::trace::Trace;
use crate::clock;

/// The target of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AccessLogTarget {
    /// No log.
    #[default]
    Nowhere,
    /// Standard output, after the ready line.
    Stdout,
    /// Standard error, between the log lines.
    Stderr,
    /// A file that is appended to.
    File(PathBuf),
}

/// The text is not a valid target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write \"off\", \"stdout\", \"stderr\", or the absolute path of a file")]
pub struct ParseAccessLogError;

impl FromStr for AccessLogTarget {
    type Err = ParseAccessLogError;

    fn from_str(text: &str) -> Result<Self, ParseAccessLogError> {
        match text {
            "off" => Ok(Self::Nowhere),
            "stdout" => Ok(Self::Stdout),
            "stderr" => Ok(Self::Stderr),
            path if path.starts_with('/') && !path.ends_with('/') => Ok(Self::File(path.into())),
            _ => Err(ParseAccessLogError),
        }
    }
}

/// A finished request.
#[derive(Clone, Debug)]
pub struct Record {
    /// When it arrived.
    pub at: SystemTime,
    /// How long it took; for a held client, how long it was held.
    pub took: Duration,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// The method.
    pub method: String,
    /// The host that it was sent to.
    pub host: String,
    /// The path. Queries may contain secrets, so they are not logged.
    pub path: String,
    /// The protocol of the client.
    pub protocol: &'static str,
    /// The `User-Agent`.
    pub agent: Option<String>,
    /// The pattern of the matching route.
    pub route: Option<Arc<str>>,
    /// The status of the response; `None` if the client left before the response.
    pub status: Option<u16>,
    /// The number of body bytes sent, if counted.
    pub bytes: Option<u64>,
    /// The source of the response: `proxied`, `memory`, `own`, `tunnel`, `request` over a WebSocket, or the transport
    /// that held the client.
    pub how: &'static str,
    /// The trace of the request.
    pub trace: Option<Trace>,
}

impl Record {
    /// Formats the record as a line.
    fn line(&self) -> String {
        let mut object = Map::new();
        let mut put = |name: &str, value: Value| {
            if !value.is_null() {
                object.insert(name.to_owned(), value);
            }
        };
        put("at", humantime::format_rfc3339_millis(self.at).to_string().into());
        put("client", self.client.map(|client| client.to_canonical().to_string()).into());
        put("method", self.method.as_str().into());
        put("host", self.host.as_str().into());
        put("path", self.path.as_str().into());
        put("protocol", self.protocol.into());
        put("agent", self.agent.as_deref().into());
        put("route", self.route.as_deref().into());
        put("status", self.status.into());
        put("bytes", self.bytes.into());
        put("took_ms", (self.took.as_micros() as f64 / 1000.0).into());
        put("how", self.how.into());
        put("trace", self.trace.as_ref().map(Trace::id).into());
        Value::Object(object).to_string()
    }
}

/// Receives records besides the log.
pub trait Export: Send + Sync + 'static {
    /// Receives a record. Must not block.
    fn export(&self, record: Record);
}

/// The access log and the exporter of spans.
#[derive(Default)]
pub struct AccessLog {
    writer: ArcSwapOption<Writer>,
    exporter: Mutex<Option<Arc<dyn Export>>>,
    /// Whether there is any receiver; read without a lock for each request.
    on: std::sync::atomic::AtomicBool,
    exporting: std::sync::atomic::AtomicBool,
}

impl AccessLog {
    /// Sets the target. A file is opened again even if it is the same as before, which log rotation relies on.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened; the previous target stays in use then.
    pub fn set(&self, to: &AccessLogTarget) -> io::Result<()> {
        let writer = match to {
            AccessLogTarget::Nowhere => None,
            AccessLogTarget::Stdout => Some(Writer::start(Sink::stdio(&io::stdout())?)?),
            AccessLogTarget::Stderr => Some(Writer::start(Sink::stdio(&io::stderr())?)?),
            AccessLogTarget::File(path) => Some(Writer::start(Sink::file(path)?)?),
        };
        self.on.store(writer.is_some() || self.is_exporting(), Ordering::Release);
        // The previous writer writes its queue and ends in the background.
        if let Some(before) = self.writer.swap(writer.map(Arc::new)) {
            before.end();
        }
        Ok(())
    }

    /// Sets the exporter that receives every request; `None` removes it.
    pub fn set_exporter(&self, exporter: Option<Arc<dyn Export>>) {
        self.exporting.store(exporter.is_some(), Ordering::Release);
        self.on.store(exporter.is_some() || self.writer.load().is_some(), Ordering::Release);
        *self.exporter.lock().unwrap_or_else(PoisonError::into_inner) = exporter;
    }

    /// Returns whether requests are logged or exported.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Acquire)
    }

    /// Returns whether spans are exported, so that forwarded requests are children of our spans.
    pub fn is_exporting(&self) -> bool {
        self.exporting.load(Ordering::Acquire)
    }

    /// Stops logging and gives the writer a moment for queued lines. Blocks meanwhile.
    pub fn close(&self) {
        self.set_exporter(None);
        self.on.store(false, Ordering::Release);
        if let Some(writer) = self.writer.swap(None) {
            writer.end();
            writer.wait();
        }
    }

    fn take(&self, record: Record) {
        if let Some(writer) = self.writer.load_full() {
            writer.send(record.line());
        }
        if self.is_exporting() {
            let exporter = self.exporter.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(exporter) = exporter {
                exporter.export(record);
            }
        }
    }
}

impl std::fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessLog").field("on", &self.is_on()).finish_non_exhaustive()
    }
}

/// A request in progress. Dropping it counts and logs the request.
#[derive(Debug)]
pub struct AccessGuard {
    log: Arc<AccessLog>,
    metrics: Arc<Metrics>,
    began: Instant,
    how: &'static str,
    status: Option<u16>,
    bytes: Option<u64>,
    /// The record, if the request is logged or exported.
    record: Option<Box<Record>>,
}

impl AccessGuard {
    /// Creates a guard for a request that arrived at `began` and is answered by `how`. `record` is set if the request
    /// is to be logged or exported.
    pub fn new(
        log: &Arc<AccessLog>,
        metrics: &Arc<Metrics>,
        began: Instant,
        how: &'static str,
        mut record: Option<Box<Record>>,
    ) -> Self {
        if let Some(record) = record.as_mut().filter(|_| log.is_exporting()) {
            record.trace = Some(Trace::within(record.trace.take()));
        }
        let (log, metrics) = (Arc::clone(log), Arc::clone(metrics));
        Self { log, metrics, began, how, status: None, bytes: None, record }
    }

    /// Records the response.
    pub fn set_response(&mut self, status: u16, bytes: Option<u64>) {
        self.status = Some(status);
        self.bytes = bytes;
    }

    /// Returns when the request arrived.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Returns the `traceparent` for the backend, if spans are exported.
    pub fn traceparent(&self) -> Option<String> {
        self.record.as_ref()?.trace.as_ref().filter(|_| self.log.is_exporting()).map(Trace::to_string)
    }
}

impl Drop for AccessGuard {
    fn drop(&mut self) {
        let took = clock::now().saturating_duration_since(self.began);
        self.metrics.request(self.how, self.status, took);
        if let Some(record) = self.record.take() {
            self.log.take(Record { took, status: self.status, bytes: self.bytes, ..*record });
        }
    }
}

/// The maximum number of queued lines.
const MAX_WAITING: usize = 8192;

/// The maximum number of bytes per write.
const BATCH: usize = 64 * 1024;

struct Sink {
    file: File,
    /// The path to reopen after an error, if there is one.
    path: Option<PathBuf>,
}

impl Sink {
    /// Creates a sink for standard output or error. It bypasses the standard library's buffer, so that a failed write
    /// is not repeated later.
    fn stdio(output: &impl AsFd) -> io::Result<Self> {
        Ok(Self { file: output.as_fd().try_clone_to_owned()?.into(), path: None })
    }

    fn file(path: &Path) -> io::Result<Self> {
        Ok(Self { file: open_stream(path)?, path: Some(path.to_owned()) })
    }

    /// Reopens the path, where there may be another file now.
    fn open_again(&mut self) {
        if let Some(Ok(another)) = self.path.as_deref().map(open_stream) {
            self.file = another;
        }
    }
}

/// Opens a file for appending. A FIFO is also opened for reading: opening then does not wait for a reader, and a
/// missing reader fills the pipe instead of raising EPIPE.
fn open_stream(path: &Path) -> io::Result<File> {
    let is_pipe = std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo());
    OpenOptions::new().create(true).append(true).read(is_pipe).open(path)
}

/// The timeout for writing the last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// A thread that writes lines.
struct Writer {
    queue: Mutex<Option<SyncSender<String>>>,
    lost: Arc<AtomicU64>,
    /// Closed when the thread ends.
    ended: Mutex<Receiver<()>>,
}

impl Writer {
    fn start(sink: Sink) -> io::Result<Self> {
        let (queue, lines) = sync_channel(MAX_WAITING);
        let (ending, ended) = sync_channel(0);
        let lost = Arc::<AtomicU64>::default();
        let known = Arc::clone(&lost);
        thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            write(&lines, &known, sink);
            drop(ending);
        })?;
        Ok(Self { queue: Mutex::new(Some(queue)), lost, ended: Mutex::new(ended) })
    }

    fn send(&self, line: String) {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = &*queue
            && let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = queue.try_send(line)
        {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Closes the queue. The thread ends after it has written the queued lines.
    fn end(&self) {
        *self.queue.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Waits for the thread to end, with a timeout, because the reader of the log may be stuck.
    fn wait(&self) {
        let _ = self.ended.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(FLUSH_TIMEOUT);
    }
}

/// Writes lines until all senders are dropped. Errors never stop the server or the log: lines that could not be written
/// count as lost, and the next lines are tried again.
fn write(lines: &Receiver<String>, lost: &AtomicU64, mut sink: Sink) {
    let (mut failing, mut torn) = (false, false);
    while let Ok(first) = lines.recv() {
        let missing = lost.swap(0, Ordering::Relaxed);
        let mut batch = Batch::new(torn, missing);
        batch.push(&first);
        while batch.text.len() < BATCH
            && let Ok(line) = lines.try_recv()
        {
            batch.push(&line);
        }
        let (written, outcome) = write_all(&mut sink, batch.text.as_bytes());
        torn = batch.text.as_bytes()[..written].last().map_or(torn, |last| *last != b'\n');
        match outcome {
            Ok(()) if std::mem::take(&mut failing) => info!(lost = missing, "the access log can be written again"),
            Ok(()) => {}
            Err(error) => {
                lost.fetch_add(batch.lost(written), Ordering::Relaxed);
                if !std::mem::replace(&mut failing, true) {
                    error!("the access log cannot be written: {error}; lines are lost until it can be");
                }
                sink.open_again();
            }
        }
    }
}

/// Writes as much of `bytes` as possible. Returns the number of bytes written.
fn write_all(sink: &mut Sink, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match sink.file.write(&bytes[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

/// Lines that are written together, preceded by a note about lines lost before.
struct Batch {
    text: String,
    /// The beginning of each line.
    begins: Vec<usize>,
    missing: u64,
}

impl Batch {
    /// Creates a batch. `torn` means that the previous line was cut off.
    fn new(torn: bool, missing: u64) -> Self {
        let mut text = if torn { "\n".to_owned() } else { String::new() };
        if missing > 0 {
            text.push_str(&format!("{{\"lost\":{missing}}}\n"));
        }
        Self { text, begins: Vec::new(), missing }
    }

    fn push(&mut self, line: &str) {
        self.begins.push(self.text.len());
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Returns the number of lines lost if only this many bytes were written, including earlier lost lines if the note
    /// about them was not written.
    fn lost(&self, written: usize) -> u64 {
        let ends = self.begins.iter().skip(1).copied().chain([self.text.len()]);
        let lines = ends.filter(|end| *end > written).count() as u64;
        let said = self.begins.first().is_some_and(|first| written >= *first);
        lines + if said { 0 } else { self.missing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_apart() {
        assert_eq!("off".parse(), Ok(AccessLogTarget::Nowhere));
        assert_eq!("stdout".parse(), Ok(AccessLogTarget::Stdout));
        assert_eq!("/var/log/a.json".parse(), Ok(AccessLogTarget::File("/var/log/a.json".into())));
        for wrong in ["", "on", "access.log", "/var/log/"] {
            assert_eq!(wrong.parse::<AccessLogTarget>(), Err(ParseAccessLogError), "{wrong}");
        }
    }

    #[test]
    fn what_was_not_written_is_counted_as_lost() {
        let mut batch = Batch::new(true, 3);
        batch.push("{\"a\":1}");
        batch.push("{\"b\":2}");
        assert_eq!(batch.text, "\n{\"lost\":3}\n{\"a\":1}\n{\"b\":2}\n");
        let (said, first) = ("\n{\"lost\":3}\n".len(), "{\"a\":1}\n".len());
        for (written, lost) in [(0, 5), (said - 1, 5), (said, 2), (said + first - 1, 2), (said + first, 1)] {
            assert_eq!(batch.lost(written), lost, "{written}");
        }
        assert_eq!(batch.lost(batch.text.len()), 0);
    }

    #[test]
    fn a_line_is_one_line_whatever_the_client_sends() {
        let record = Record {
            at: SystemTime::UNIX_EPOCH,
            took: Duration::from_micros(1500),
            client: Some("::ffff:10.0.0.1".parse().expect("an address")),
            method: "GET".to_owned(),
            host: "site.example".to_owned(),
            path: "/a\"\n{".to_owned(),
            protocol: "HTTP/1.1",
            agent: None,
            route: Some("/a".into()),
            status: Some(200),
            bytes: Some(7),
            how: "proxied",
            trace: None,
        };
        let line = record.line();
        assert!(!line.contains('\n'), "{line}");
        let value: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!((&value["path"], &value["client"]), (&"/a\"\n{".into(), &"10.0.0.1".into()));
        assert_eq!((&value["took_ms"], value.get("agent")), (&1.5.into(), None));
    }
}
