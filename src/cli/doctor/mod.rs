//! `sungrazer doctor`: examines how the path to a Sungrazer affects streams, and prints configuration that repairs it.
//!
//! ```text
//! URL ─┬─ short answers ────────────────────▶ intermediaries, their changes, caching
//!      ├─ beacons: SSE, lines, WebSocket ───▶ beacons::flow: prompt, or buffered up to a number of bytes
//!      └─ silence: the same, and held polls ▶ whether it is cut
//!                         └──────────────────▶ Findings ─▶ a report, configuration lines, and the exit code
//! ```
//!
//! The endpoint at the remote end is `GET {prefix}/doctor`: see `proxy/watched/doctor.rs`.

mod beacons;
mod connection;
mod findings;
mod measure;
mod path;
mod remedies;
mod report;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use http::header::COOKIE;

use self::connection::{Far, Over, PATIENCE};
use self::findings::{Findings, Verdict};
use self::measure::{Heard, Held, Mirror, Sent};
use self::path::{Intermediary, intermediaries};
use super::request::RequestArgs;
use super::{print, usage};
use crate::clock;
use crate::config::Period;

/// `doctor`
#[derive(Clone, Debug, Args)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    request: RequestArgs,
    /// How long connections stay silent, to see whether they are cut; at most 10m
    #[arg(long = "for", value_name = "TIME", default_value = "20s")]
    silence: Period,
    /// The `prefix` of that Sungrazer's configuration
    #[arg(long, value_name = "PATH", default_value = "/.sungrazer")]
    prefix: String,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The exit code if streams do not work but held polls do.
const LONG_POLLS: u8 = 3;

/// The exit code if neither works.
const NOTHING: u8 = 4;

/// The complete result.
struct Examined {
    /// The examined URL.
    url: String,
    prefix: String,
    path: Vec<Intermediary>,
    /// Whether browsers would use HTTP/2.
    h2: bool,
    findings: Findings,
    verdict: Verdict,
}

/// Examines the path, and reports by the exit code what works on it.
pub(super) fn doctor(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let most = Duration::from_secs(600);
    if args.silence.0 > most || args.silence.0 < Duration::from_secs(1) {
        return Ok(usage("--for is at least 1s and at most 10m"));
    }
    if !args.prefix.starts_with('/') {
        return Ok(usage("--prefix begins with \"/\""));
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let examined = runtime.block_on(examine(args));
    // Unanswered requests must not keep the process running.
    runtime.shutdown_background();
    let examined = examined.with_context(|| format!("cannot examine the way to {}", args.request.url.origin()))?;
    let text = if args.json { format!("{:#}\n", report::json(&examined)) } else { report::text(&examined) };
    print(&text)?;
    Ok(match examined.verdict {
        Verdict::Streams => ExitCode::SUCCESS,
        Verdict::LongPolls => ExitCode::from(LONG_POLLS),
        Verdict::Nothing => ExitCode::from(NOTHING),
    })
}

const SSE: &str = "text/event-stream";
const LINES: &str = "application/x-ndjson";

/// The results over HTTP/2.
struct Second {
    mirror: anyhow::Result<Mirror>,
    stream: Option<(anyhow::Result<Heard>, Held)>,
}

async fn examine(args: &DoctorArgs) -> anyhow::Result<Examined> {
    let (request, silence) = (&args.request, args.silence.0);
    let prefix = args.prefix.trim_end_matches('/');
    let base = format!("{prefix}/doctor");
    let far = Far { args: request, upstream: request.upstream(PATIENCE)? };
    let sent = Sent::new(&mark(), request.given(&COOKIE).as_deref())?;
    let first = far.mirror(Over::H1, &base, &sent).await?;
    if first.said.is_none() {
        let there = intermediaries([&first.headers].into_iter(), &[]);
        let who = there.first().map(|there| format!(" ({}: {})", there.name, there.evidence)).unwrap_or_default();
        bail!(
            "no Sungrazer answers at {base}, but {}{who}: is one behind it, does everything below {prefix}/ reach it, and is \
             its prefix another one (--prefix)?",
            first.status
        );
    }
    let again = Sent::new(&mark(), request.given(&COOKIE).as_deref())?;
    let second = far.mirror(Over::H1, &base, &again).await?;
    progress(silence, true);
    let (sse, lines, socket, held, h2) = tokio::join!(
        far.listen(Over::H1, &base, SSE, silence),
        far.listen(Over::H1, &base, LINES, silence),
        far.converse(&base, silence),
        far.hold(Over::H1, &base, silence),
        over_h2(&far, &base, &again, silence),
    );
    progress(silence, false);
    let trip = first.took.min(second.took);
    let mut findings = Findings::default();
    findings.stream("SSE", &sse, trip, silence);
    findings.stream("chunks", &lines, trip, silence);
    findings.held("held poll", &held, silence);
    findings.stream("WebSocket", &socket, trip, silence);
    let mut responses = vec![&first.headers, &second.headers];
    responses.extend([&sse, &lines, &socket].into_iter().flatten().map(|heard| &heard.headers));
    let (Held::Answered(headers) | Held::Cut { headers, .. }) = &held;
    responses.push(headers);
    let markers = first.said.iter().flat_map(|said| said["markers"].as_array()).flatten();
    let markers: Vec<&str> = markers.filter_map(serde_json::Value::as_str).collect();
    let path = intermediaries(responses.into_iter(), &markers);
    findings.mirrors("HTTP/1.1", &[(&first, &sent), (&second, &again)]);
    let is_tls = request.url.address.is_tls();
    let browsers_use_h2 = is_tls && h2.mirror.is_ok();
    h2.tell(&mut findings, is_tls, &again, trip, silence);
    let verdict = match browsers_use_h2 {
        true => findings.verdict(&["SSE over HTTP/2"], &["held poll over HTTP/2"]),
        false => findings.verdict(&["SSE"], &["held poll"]),
    };
    Ok(Examined { url: request.url.origin(), prefix: prefix.to_owned(), path, h2: browsers_use_h2, findings, verdict })
}

async fn over_h2(far: &Far<'_>, base: &str, sent: &Sent, silence: Duration) -> Second {
    let mirror = far.mirror(Over::H2, base, sent).await;
    if !mirror.as_ref().is_ok_and(|mirror| mirror.said.is_some()) {
        return Second { mirror, stream: None };
    }
    let stream = tokio::join!(far.listen(Over::H2, base, SSE, silence), far.hold(Over::H2, base, silence));
    Second { mirror, stream: Some(stream) }
}

impl Second {
    fn tell(&self, findings: &mut Findings, is_tls: bool, sent: &Sent, trip: Duration, silence: Duration) {
        match &self.mirror {
            Ok(mirror) => findings.mirrors("HTTP/2", &[(mirror, sent)]),
            // Browsers use HTTP/2 over TLS only.
            Err(_) if !is_tls => {}
            Err(error) => findings.absent("HTTP/2", &format!("{error:#}")),
        }
        if let Some((heard, held)) = &self.stream {
            findings.stream("SSE over HTTP/2", heard, trip, silence);
            findings.held("held poll over HTTP/2", held, silence);
        }
    }
}

/// Returns a unique mark.
fn mark() -> String {
    format!("doctor-{:016x}", clock::seed())
}

/// Prints the expected duration if stderr is a terminal.
fn progress(silence: Duration, begins: bool) {
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() {
        let time = clock::roughly(silence + Duration::from_secs(4));
        let text = if begins { format!("listening for {time} …") } else { "\r\x1b[K".to_owned() };
        let _ = write!(stderr, "{text}");
        let _ = stderr.flush();
    }
}
