//! Applies a new configuration while the server runs.
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

/// The origin of the configuration.
#[derive(Clone, Debug, Default)]
pub struct ConfigSource {
    /// The file, if there is one.
    pub path: Option<PathBuf>,
    /// The overrides from the command line.
    pub overrides: Overrides,
}

/// The delay before a second attempt to read the file: an editor may be in the middle of writing it.
const PARTIAL_WRITE_RETRY: Duration = Duration::from_millis(150);

/// The timeout for reading the file and the files that it names: a network file system may not answer.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Re-reads the configuration on demand.
pub(super) struct Reloader {
    source: ConfigSource,
    running: Arc<ReloadableState>,
    /// The configuration at the start of the process.
    started: Config,
    /// The configuration in force. The lock also serialises reloads.
    current: AsyncMutex<Config>,
    /// The read in progress on a blocking thread. It stays here until it ends, so that there is never a second one.
    reading: AsyncMutex<Option<JoinHandle<Result<Config, config::Error>>>>,
    standing: Mutex<ConfigStatus>,
    /// Notified when the file may have changed.
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
                // Either the rest of the file follows soon, or the file is invalid.
                let _ = timeout(PARTIAL_WRITE_RETRY, self.changed.notified()).await;
            }
            self.reload().await;
        }
    }

    /// Watches the file, beginning with changes since the process read it at start.
    pub(super) async fn watch(self: Arc<Self>, watch: FileWatch) {
        let Some(watch) = watch.take_baseline().await else { return };
        if self.source.path.as_deref().is_some_and(|path| !matches!(files::is_regular(path), Ok(false)))
            && !self.load().await.is_ok_and(|now| now.written == self.started.written)
        {
            self.changed.notify_one();
        }
        watch.run().await;
    }

    /// Reads the configuration on a blocking thread, so that no other task waits for the file system.
    async fn load(&self) -> Result<Config, config::Error> {
        let failed = |error| config::Error::Read { path: self.source.path.clone().unwrap_or_default(), error };
        let silent = || {
            let text = format!("it was not read within {READ_TIMEOUT:?}: does its file system answer?");
            failed(io::Error::new(io::ErrorKind::TimedOut, text))
        };
        let mut reading = self.reading.lock().await;
        if let Some(before) = &mut *reading {
            // The result of an earlier read may be outdated, so it is dropped.
            let _ = timeout(READ_TIMEOUT, before).await.map_err(|_| silent())?;
        }
        let source = self.source.clone();
        let read = reading.insert(spawn_blocking(move || {
            if let Some(path) = &source.path
                && files::is_regular(path).is_ok_and(|regular| !regular)
            {
                // The content of a pipe can be read only once.
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

    /// Reports a valid configuration. `waiting` are the keys that need a restart to take effect.
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
        // The lock serialises reloads: a reload in progress may have read the file before this one was requested.
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
        // The keys that need a restart are compared with the configuration at the start of the process.
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
