//! `sungrazer tail`: subscribes to a resource and displays its changes.
//!
//! ```text
//! URL ─ Source ─┬─ an event stream, Sungrazer's or another's ─┐
//!               └─ fetches of our own, where there is none ─────┴─▶ News ─ Show ─▶ diffs, bodies or records, on stdout
//! ```

mod changes;
mod events;
mod show;
mod source;

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::unix::pipe::Sender;
use tokio::signal::unix::{SignalKind, signal};

use self::show::{Form, Show};
use self::source::Source;
use super::note;
use super::request::RequestArgs;
use crate::clock;
use crate::config::Period;

/// `tail`
#[derive(Clone, Debug, Args)]
pub(super) struct TailArgs {
    #[command(flatten)]
    request: RequestArgs,
    /// Print each body as it is, instead of the changes
    #[arg(long, conflicts_with = "ndjson")]
    raw: bool,
    /// Print one JSON object per event and line
    #[arg(long)]
    ndjson: bool,
    /// Fetch interval if there is no stream
    #[arg(long, value_name = "TIME", default_value = "1s")]
    every: Period,
    /// When to use colours; "auto": on a terminal, unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    color: Color,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

impl Color {
    fn is_on(self) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        }
    }
}

/// Runs until the resource is gone, a signal arrives, or stdout is closed.
pub(super) fn tail(args: &TailArgs) -> anyhow::Result<ExitCode> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let ended = runtime.block_on(run(args));
    // A blocked write must not keep the process running.
    runtime.shutdown_background();
    ended.with_context(|| format!("cannot follow {}", args.request.url.shown()))?;
    Ok(ExitCode::SUCCESS)
}

async fn run(args: &TailArgs) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    tokio::select! {
        followed = follow(args) => followed,
        () = reader_gone() => Ok(()),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

async fn follow(args: &TailArgs) -> anyhow::Result<()> {
    let form = match (args.raw, args.ndjson) {
        (true, _) => Form::Raw,
        (_, true) => Form::Records,
        _ => Form::Changes,
    };
    let mut show = Show::new(form, args.color.is_on());
    let mut source = Source::new(args.request.clone(), args.every.0)?;
    let mut out = tokio::io::stdout();
    loop {
        let news = source.next().await?;
        let at = humantime::format_rfc3339_millis(clock::wall()).to_string();
        let shown = show.show(&at, &news);
        if let Some(aside) = shown.aside {
            note(&aside);
        }
        let written = async {
            out.write_all(shown.out.as_bytes()).await?;
            out.flush().await
        };
        match written.await {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(error).context("cannot write"),
        }
        if news.is_last() {
            anyhow::bail!("the stream has ended for good: {}", news.reason());
        }
    }
}

/// Waits until the reader of stdout, if that is a pipe, is closed; otherwise forever.
async fn reader_gone() {
    // Nothing is written through this descriptor, so its blocking mode is not changed.
    if let Ok(owned) = io::stdout().as_fd().try_clone_to_owned()
        && let Ok(pipe) = Sender::from_owned_fd_unchecked(owned)
        && pipe.ready(Interest::ERROR).await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}
