//! `sungrazer run`

use std::process::ExitCode;

use anyhow::Context;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use super::check::{self, upstreams};
use super::{RunArgs, say};
use crate::config::Config;
use crate::server::{ConfigSource, Inherited, Server};

/// Serves until a signal stops the process.
pub(super) fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let source = ConfigSource { path: args.file.path(), overrides: args.overrides() };
    let config = match check::load(source.path.as_deref(), &source.overrides) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let inherited = Inherited::from_env();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(serve(config, source, inherited))?;
    // Remaining tasks have had their time.
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

async fn serve(config: Config, source: ConfigSource, inherited: Inherited) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let mut hang_up = HangUp::new(source.path.is_some())?;
    let mut upgrade = signal(SignalKind::user_defined2()).context("cannot wait for SIGUSR2")?;
    let (upstream, routes, observes) = (upstreams(&config), config.routes.len(), config.observes);
    if let Some(warnings) = &config.warnings {
        warn!("the configuration can be used, with doubts:\n{warnings}");
    }
    let mut server = Server::start(config, &source, inherited)?;
    say(&server.ready_line());
    introduce(&server, &source, &upstream, routes);
    if observes {
        info!(
            "mode = \"observe\": all passes as it is, and nothing is pushed; the dashboard and /api/observed tell what is polled"
        );
    }
    // Notifies the process that waits for readiness, if any: systemd, or the previous process.
    let _ = sd_notify::notify(&[NotifyState::Ready]);
    let which = loop {
        tokio::select! {
            _ = terminate.recv() => break "SIGTERM",
            _ = interrupt.recv() => break "SIGINT",
            () = hang_up.recv() => match source.path {
                Some(_) => server.reload(),
                None => break "SIGHUP",
            },
            _ = upgrade.recv() => {
                // A signal to stop also cancels the handover.
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

/// Prints the configuration and the URLs to open.
fn introduce(server: &Server, source: &ConfigSource, upstream: &str, routes: usize) {
    let configuration = source.path.as_ref().map_or_else(|| "none".to_owned(), |path| path.display().to_string());
    let open = server.page().unwrap_or_default();
    let dashboard = server.dashboard().unwrap_or_else(|| "off".to_owned());
    info!(
        version = env!("CARGO_PKG_VERSION"),
        configuration, upstream, routes, open, dashboard, "in front of {upstream}: open {open}; dashboard: {dashboard}"
    );
}

/// SIGHUP. With a configuration file it triggers a reload, as in other servers. Without a file there is nothing to
/// reload: the signal means that the terminal was closed, and the program ends like others.
struct HangUp(Option<Signal>);

impl HangUp {
    fn new(has_file: bool) -> anyhow::Result<Self> {
        // A program started with `nohup` must continue.
        let heeds = has_file || !is_ignored(SignalKind::hangup());
        let signal = heeds.then(|| signal(SignalKind::hangup())).transpose();
        Ok(Self(signal.context("cannot wait for SIGHUP")?))
    }

    async fn recv(&mut self) {
        match &mut self.0 {
            Some(signal) => drop(signal.recv().await),
            None => std::future::pending().await,
        }
    }
}

/// Returns whether the parent process set `signal` to be ignored, where the system reports it.
fn is_ignored(signal: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).map(str::trim);
    let mask = mask.and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or_default();
    let bit = u32::try_from(signal.as_raw_value() - 1).unwrap_or_default();
    mask.checked_shr(bit).is_some_and(|mask| mask & 1 == 1)
}
