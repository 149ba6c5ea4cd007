//! The reload interface of the admin API.

use std::path::PathBuf;
use std::time::SystemTime;

use async_trait::async_trait;

/// The result of a reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// The new configuration is in force.
    Applied {
        /// The number of unchanged routes.
        kept: usize,
        /// The number of new routes.
        added: usize,
        /// The number of removed routes.
        removed: usize,
        /// Keys whose change waits for a restart.
        needs_restart: Vec<&'static str>,
    },
    /// The file is invalid; the previous configuration stays in force.
    Wrong(String),
}

/// The state of the configuration in force compared with the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigStatus {
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// When the configuration in force was read.
    pub read_at: SystemTime,
    /// The error of the last read, if the file could not be used.
    pub wrong: Option<String>,
    /// Changed keys that take effect after a restart.
    pub needs_restart: Vec<&'static str>,
}

/// Reloads the configuration.
#[async_trait]
pub trait Reload: Send + Sync + 'static {
    /// Reads the configuration and applies it if it is valid.
    async fn reload(&self) -> Reloaded;

    /// Returns the state of the configuration in force.
    fn status(&self) -> ConfigStatus;

    /// Returns the error of the last read, if the file could not be used.
    fn wrong(&self) -> Option<String> {
        self.status().wrong
    }
}
