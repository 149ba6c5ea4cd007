//! What the admin API knows of reloading.

use std::path::PathBuf;
use std::time::SystemTime;

use async_trait::async_trait;

/// How a reload went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// The new configuration is in force.
    Applied {
        /// Routes that are as before.
        kept: usize,
        /// Routes that are new.
        added: usize,
        /// Routes that are there no more.
        removed: usize,
        /// Keys whose change waits for a restart.
        needs_restart: Vec<&'static str>,
    },
    /// The file says something that cannot be; the configuration of before stays in force.
    Wrong(String),
}

/// How the configuration in force stands to the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigStatus {
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// When what is in force was read.
    pub read_at: SystemTime,
    /// What is wrong with the file, if it could not be used when it was last read.
    pub wrong: Option<String>,
    /// Keys that say something else in the file, and wait for a restart.
    pub needs_restart: Vec<&'static str>,
}

/// Somebody who can have the configuration read again.
#[async_trait]
pub trait Reload: Send + Sync + 'static {
    /// Reads it, and puts it in force if it can be used.
    async fn reload(&self) -> Reloaded;

    /// How what is in force stands to the file.
    fn status(&self) -> ConfigStatus;

    /// What is wrong with the file, if it could not be used when it was last read.
    fn wrong(&self) -> Option<String> {
        self.status().wrong
    }
}
