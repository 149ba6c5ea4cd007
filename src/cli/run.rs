//! `sungrazer run`

use std::process::ExitCode;

use anyhow::Context;
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

use super::{RunArgs, check, say};
use crate::config::Config;
use crate::server::{Inherited, Server, Source};

/// Serves until a signal says to stop.
pub(super) fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let source = Source { path: args.file.path(), overrides: args.overrides() };
    let config = match check::load(source.path.as_deref(), &source.overrides) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let inherited = Inherited::from_env();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(serve(config, source, inherited))?;
    // Whatever still runs has had its time.
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

async fn serve(config: Config, source: Source, inherited: Inherited) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let mut hang_up = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
    let mut upgrade = signal(SignalKind::user_defined2()).context("cannot wait for SIGUSR2")?;
    let mut server = Server::start(config, &source, inherited)?;
    say(&server.ready_line());
    // Whoever started us may wait for this: systemd, or the process whose place we take. If nobody does, it is nothing.
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    let which = loop {
        tokio::select! {
            _ = terminate.recv() => break "SIGTERM",
            _ = interrupt.recv() => break "SIGINT",
            _ = hang_up.recv() => server.reload(),
            _ = upgrade.recv() => {
                // Who wants us gone need not wait for a successor; it ends with the attempt.
                let handed_over = tokio::select! {
                    handed_over = server.hand_over() => handed_over,
                    _ = terminate.recv() => break "SIGTERM",
                    _ = interrupt.recv() => break "SIGINT",
                };
                match handed_over {
                    Ok(pid) => {
                        info!(pid, "a new process has taken over");
                        let _ = sd_notify::notify(&[NotifyState::MainPid(pid)]);
                        break "SIGUSR2";
                    }
                    Err(error) => error!("SIGUSR2: {error}; this process goes on"),
                }
            }
        }
    };
    info!("{which}: stopping");
    tokio::select! {
        () = server.stop() => {}
        _ = terminate.recv() => info!("SIGTERM again: stopping at once"),
        _ = interrupt.recv() => info!("SIGINT again: stopping at once"),
    }
    Ok(())
}
