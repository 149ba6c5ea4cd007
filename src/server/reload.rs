//! Puts a new configuration in force while the server runs.
//!
//! ```text
//! SIGHUP, the file's folder, POST /api/reload ─▶ Reloader ─ load ─▶ reload::plan(old, new) ─▶ ReloadableState::apply
//!                                                     └ wrong ─▶ the old one stays, config_stale
//! the folder is watched ─ other than at start? ─┘
//! ```

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Mutex as AsyncMutex, Notify};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;
use tracing::{error, info, info_span, warn};

use super::{ReloadableState, log_requests};
use crate::admin::{ConfigStatus, Reload, Reloaded};
use crate::clock;
use crate::config::{self, Config, Overrides};
use crate::files;
use crate::poll::FileWatch;

/// Where the configuration comes from.
#[derive(Clone, Debug, Default)]
pub struct ConfigSource {
    /// The file, if there is one.
    pub path: Option<PathBuf>,
    /// What wins over it.
    pub overrides: Overrides,
}

/// An editor, or a copy, may be caught in the middle of writing: what cannot be read is read once more after this.
const PARTIAL_WRITE_RETRY: Duration = Duration::from_millis(150);

/// How long the file, and those that it names, may take to be read: a file system on the network may not answer.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Re-reads the configuration when it is told to.
pub(super) struct Reloader {
    source: ConfigSource,
    running: Arc<ReloadableState>,
    /// What the process was started with.
    started: Config,
    /// What is in force; also sees to it that one reload ends before the next begins.
    current: AsyncMutex<Config>,
    /// What is read in a thread of its own; it stays here while it has not ended, so that there is never a second one.
    reading: AsyncMutex<Option<JoinHandle<Result<Config, config::Error>>>>,
    standing: Mutex<ConfigStatus>,
    /// The file may have changed.
    pub(super) changed: Notify,
}

impl Reloader {
    pub(super) fn new(source: ConfigSource, config: Config, running: Arc<ReloadableState>) -> Self {
        let standing =
            ConfigStatus { file: source.path.clone(), read_at: clock::wall(), wrong: None, needs_restart: Vec::new() };
        Self {
            source,
            running,
            started: config.clone(),
            current: AsyncMutex::new(config),
            reading: AsyncMutex::default(),
            standing: Mutex::new(standing),
            changed: Notify::new(),
        }
    }

    /// Follows changes of the file.
    pub(super) async fn follow(self: Arc<Self>) {
        loop {
            self.changed.notified().await;
            if self.load().await.is_err() {
                // Either the rest follows at once, or it is wrong.
                let _ = timeout(PARTIAL_WRITE_RETRY, self.changed.notified()).await;
            }
            self.reload().await;
        }
    }

    /// Watches the file, beginning with what it has become since the process was started with it.
    pub(super) async fn watch(self: Arc<Self>, watch: FileWatch) {
        let Some(watch) = watch.take_baseline().await else { return };
        if self.source.path.as_deref().is_some_and(|path| !matches!(files::is_regular(path), Ok(false)))
            && !self.load().await.is_ok_and(|now| now.written == self.started.written)
        {
            self.changed.notify_one();
        }
        watch.run().await;
    }

    /// Reads the configuration in a thread for blocking work: nobody else waits for the file system.
    async fn load(&self) -> Result<Config, config::Error> {
        let failed = |error| config::Error::Read { path: self.source.path.clone().unwrap_or_default(), error };
        let silent = || {
            let text = format!("it was not read within {READ_TIMEOUT:?}: does its file system answer?");
            failed(io::Error::new(io::ErrorKind::TimedOut, text))
        };
        let mut reading = self.reading.lock().await;
        if let Some(before) = &mut *reading {
            // What it found may be of long ago.
            let _ = timeout(READ_TIMEOUT, before).await.map_err(|_| silent())?;
        }
        let source = self.source.clone();
        let read = reading.insert(spawn_blocking(move || {
            if let Some(path) = &source.path
                && files::is_regular(path).is_ok_and(|regular| !regular)
            {
                // Who wrote to a pipe has written what there was.
                let error = io::Error::other("it is no regular file, which is only read at the start");
                return Err(config::Error::Read { path: path.clone(), error });
            }
            config::load(source.path.as_deref(), &source.overrides)
        }));
        let read = timeout(READ_TIMEOUT, read).await.map_err(|_| silent())?;
        *reading = None;
        read.unwrap_or_else(|error| Err(failed(io::Error::other(error))))
    }

    fn is_wrong(&self, wrong: &str) {
        self.running.gateway.metrics.set_config_stale(true);
        self.standing_mut().wrong = Some(wrong.to_owned());
    }

    /// `waiting` are the keys that say something else than what the process was started with.
    fn is_right(&self, waiting: &[&'static str]) {
        self.running.gateway.metrics.set_config_stale(false);
        self.running.gateway.metrics.config_read();
        let mut standing = self.standing_mut();
        standing.wrong = None;
        standing.read_at = clock::wall();
        standing.needs_restart = waiting.to_vec();
    }

    fn standing_mut(&self) -> MutexGuard<'_, ConfigStatus> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Reload for Reloader {
    async fn reload(&self) -> Reloaded {
        // One at a time: the one that is under way may have read the file before this one was asked for.
        let mut current = self.current.lock().await;
        let read = self.load().await;
        let span = info_span!("reload");
        let _inside = span.enter();
        let logged = |new: Config| match log_requests(&self.running.gateway.access, &new.access) {
            Ok(()) => Ok(new),
            Err(error) => Err(error.to_string()),
        };
        let new = match read.map_err(|wrong| wrong.to_string()).and_then(logged) {
            Ok(new) => new,
            Err(wrong) => {
                error!("the configuration cannot be used, the one of before stays in force:\n{wrong}");
                self.is_wrong(&wrong);
                return Reloaded::Wrong(wrong);
            }
        };
        if let Some(warnings) = &new.warnings {
            warn!("the configuration can be used, with doubts:\n{warnings}");
        }
        let mut plan = config::reload::plan(&current, &new);
        // What needs a restart is as it was when the process started, whatever the file has said since.
        plan.needs_restart = config::reload::plan(&self.started, &new).needs_restart;
        self.is_right(&plan.needs_restart);
        if !plan.needs_restart.is_empty() {
            warn!("restart needed: {} cannot be changed while the server runs", plan.needs_restart.join(", "));
        }
        let (kept, removed, added) = (plan.kept.len(), plan.removed.len(), plan.added);
        info!(kept, added, removed, "the configuration was read again");
        self.running.apply(&new, &plan);
        *current = new;
        Reloaded::Applied { kept, added, removed, needs_restart: plan.needs_restart }
    }

    fn status(&self) -> ConfigStatus {
        self.standing_mut().clone()
    }
}
