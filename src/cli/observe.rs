//! `sungrazer observe`: forwards all traffic and reports the savings of push, or reads an access log for that.
//!
//! ```text
//! clients ─▶ Server, observing ─▶ application        lines of a log ─▶ LogReader
//!                └─▶ Report ─┬▶ a table in the terminal, meanwhile        └─▶ Report
//!                            └▶ text or JSON in the end, and a configuration
//! ```

use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::info;

use super::check::{self, upstreams};
use super::write::{Routes, WriteError};
use super::{FileArgs, note, print, say, usage};
use crate::clock;
use crate::config::{Config, Overrides, Period};
use crate::observe::{LogReader, Observer, Report, configuration, routes, table, text};
use crate::server::{ConfigSource, Inherited, Server};

/// `observe`
#[derive(Clone, Debug, Args)]
pub(super) struct ObserveArgs {
    #[command(flatten)]
    file: FileArgs,
    /// The application: http://host:port, https://host:port or unix:/path. In a report about a log, what the configuration names
    #[arg(long, value_name = "URL", env = "SUNGRAZER_UPSTREAM")]
    upstream: Option<String>,
    /// Public listener: the address at which clients reach the application meanwhile [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR", env = "SUNGRAZER_LISTEN")]
    listen: Option<String>,
    /// Admin listener: the address of the dashboard and of /api/observed, or "off" [default: 127.0.0.1:9090]
    #[arg(long, value_name = "ADDR", env = "SUNGRAZER_ADMIN")]
    admin: Option<String>,
    /// Stop after this long [default: at Ctrl-C]
    #[arg(long = "for", value_name = "TIME", conflicts_with = "access_log")]
    time: Option<Period>,
    /// Read an access log in place of traffic, "-" for standard input: Sungrazer's own, "combined" of nginx and Apache httpd, or
    /// Caddy's JSON
    #[arg(long, value_name = "FILE")]
    access_log: Option<PathBuf>,
    /// Write the configuration into this file, or add its routes to it if it exists
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Print the report as JSON, which has the configuration in it
    #[arg(long)]
    json: bool,
}

/// The drain time. Polling clients keep their connections open, and no client needs to be waited for.
const DRAIN: Duration = Duration::from_secs(1);

/// The maximum length of a log line. Longer lines are not requests.
const MAX_LINE: u64 = 64 << 10;

/// Observes for the given time, and reports.
pub(super) fn observe(args: &ObserveArgs) -> anyhow::Result<ExitCode> {
    let target = match args.write.as_deref().map(Routes::open).transpose() {
        Ok(target) => target,
        Err(error) => return Ok(usage(&error.to_string())),
    };
    let (report, upstream) = if let Some(path) = &args.access_log {
        (read(path)?, args.upstream.clone())
    } else {
        let config = match prepare(args) {
            Ok(config) => config,
            Err(code) => return Ok(code),
        };
        let upstream = upstreams(&config);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
        let report = runtime.block_on(watch(config, args, &upstream))?;
        runtime.shutdown_background();
        (report, Some(upstream))
    };
    conclude(args, &report, upstream.as_deref(), target)
}

/// Returns the configuration of the observing server.
fn prepare(args: &ObserveArgs) -> Result<Config, ExitCode> {
    let path = args.file.path();
    if path.is_none() && args.upstream.is_none() {
        return Err(usage("which application? name it with --upstream, or a log of its requests with --access-log"));
    }
    let overrides =
        Overrides { upstream: args.upstream.clone(), listen: args.listen.clone(), admin: args.admin.clone() };
    let mut config = check::load(path.as_deref(), &overrides)?.observing();
    config.server.drain = config.server.drain.min(DRAIN);
    Ok(config)
}

/// Serves until the time is up or a signal arrives, and returns the report.
async fn watch(config: Config, args: &ObserveArgs, upstream: &str) -> anyhow::Result<Report> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let server = Server::start(config, &ConfigSource::default(), Inherited::from_env())?;
    let open = server.page().unwrap_or_default();
    let dashboard = server.dashboard().unwrap_or_else(|| "off".to_owned());
    // With `--json`, stdout contains only JSON.
    match args.json {
        true => note(&server.ready_line()),
        false => say(&server.ready_line()),
    }
    info!(
        version = env!("CARGO_PKG_VERSION"),
        upstream, open, dashboard, "all passes as it is to {upstream}: open {open}; dashboard: {dashboard}"
    );
    let mut live = Live::new();
    let mut shown = interval(Duration::from_secs(1));
    shown.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let time_is_up = async {
        match args.time {
            Some(time) => sleep(time.0).await,
            None => std::future::pending().await,
        }
    };
    let passive = server.gateway().passive.as_ref().context("the server does not observe")?;
    let going = async {
        loop {
            let now = shown.tick().await;
            live.show(&passive.report(now), args.time.map(|time| time.0));
        }
    };
    tokio::select! {
        () = going => {}
        () = time_is_up => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    live.clear();
    let report = passive.report(clock::now());
    tokio::select! {
        () = server.stop() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(report)
}

/// Reads a log and returns the report.
fn read(path: &Path) -> anyhow::Result<Report> {
    let mut reader = LogReader::new(Observer::new(std::hash::RandomState::new()));
    let name = path.display();
    let mut input: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(BufReader::new(std::fs::File::open(path).with_context(|| format!("cannot read {name}"))?))
    };
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = input.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        if read.with_context(|| format!("cannot read {name}"))? == 0 {
            return Ok(reader.report());
        }
        if !line.ends_with(b"\n") && line.len() as u64 == MAX_LINE {
            // It counts as one unreadable line, and its rest is skipped.
            input.skip_until(b'\n').with_context(|| format!("cannot read {name}"))?;
            line.truncate(1);
            line[0] = b'?';
        }
        let _ = reader.line(&line);
    }
}

/// Prints the report, and writes the configuration if requested.
fn conclude(
    args: &ObserveArgs,
    report: &Report,
    upstream: Option<&str>,
    target: Option<Routes>,
) -> anyhow::Result<ExitCode> {
    let written = configuration(report, upstream);
    if args.json {
        let mut value = serde_json::to_value(report).context("the report is no JSON")?;
        value["configuration"] = written.as_str().into();
        print(&format!("{value:#}\n"))?;
    } else {
        print(&text(report))?;
    }
    match target {
        Some(target) => match target.write(&written, &routes(report)) {
            // Printed to stderr, so that stdout stays valid JSON.
            Ok(done) => note(&format!("sungrazer: {done}")),
            Err(error @ WriteError::Write { .. }) => return Err(error.into()),
            Err(error) => return Ok(usage(&error.to_string())),
        },
        None if !args.json && !report.polls.is_empty() => {
            print(&format!("\nA configuration for this (--write FILE writes it):\n\n{written}"))?;
        }
        None => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// The growing table for a user at a terminal.
#[derive(Debug)]
struct Live {
    is_shown: bool,
    lines: usize,
}

/// The number of rows that fit on most screens.
const ROWS: usize = 12;

impl Live {
    fn new() -> Self {
        Self { is_shown: std::io::stderr().is_terminal(), lines: 0 }
    }

    fn show(&mut self, report: &Report, lasting: Option<Duration>) {
        if !self.is_shown {
            return;
        }
        let left = lasting.map(|all| all.saturating_sub(Duration::from_secs_f64(report.seconds.max(0.0))));
        let until = match left {
            Some(left) => format!("{} s left; Ctrl-C ends it now", left.as_secs()),
            None => "Ctrl-C ends it and prints the report".to_owned(),
        };
        let text = format!("{}{until}\n", table(report, ROWS));
        self.clear();
        self.lines = text.lines().count();
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    /// Clears the table.
    fn clear(&mut self) {
        if self.lines > 0 {
            let _ = write!(std::io::stderr(), "\x1b[{}A\x1b[J", self.lines);
            self.lines = 0;
        }
    }
}
