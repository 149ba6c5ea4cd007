//! The file into which `probe` writes.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::config::{self, Overrides};
use crate::files;

/// A file that is there, or is to be.
#[derive(Debug)]
pub(super) struct Target {
    path: PathBuf,
    /// What it says now.
    text: Option<String>,
}

impl Target {
    /// Sees to it before anything is fetched that a route for `route` can be added to the file at `path`.
    ///
    /// # Errors
    /// Why not, as it is to be said.
    pub(super) fn open(path: &Path, route: &str) -> Result<Self, String> {
        let text = match files::text(path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
        };
        let target = Self { path: path.to_owned(), text };
        if let Some(text) = &target.text {
            if config::has_route(text, route) {
                return Err(format!(
                    "{} has a route with path = {route:?} already: remove it first, or probe without --write",
                    path.display()
                ));
            }
            if target.names_upstream() {
                target.check(text)?;
            }
        }
        Ok(target)
    }

    /// Whether the file says which application it is for.
    pub(super) fn names_upstream(&self) -> bool {
        self.text.as_deref().is_some_and(config::names_upstream)
    }

    /// Writes `block`, and says what was done; or, as the inner error, why the file would be none that can be used.
    pub(super) fn write(&self, block: &str) -> anyhow::Result<Result<String, String>> {
        let written = match &self.text {
            Some(text) => config::with_route(text, block),
            None => block.to_owned(),
        };
        if let Err(found) = self.check(&written) {
            return Ok(Err(found));
        }
        let name = self.path.display();
        files::replace(&self.path, &written).with_context(|| format!("cannot write {name}"))?;
        Ok(Ok(match &self.text {
            Some(_) => format!("added a route to {name}, above all others; read what it says is not decided"),
            None => format!("wrote {name}; read what it says is not decided, then start with: sungrazer -c {name}"),
        }))
    }

    fn check(&self, text: &str) -> Result<(), String> {
        let name = self.path.display().to_string();
        config::parse(&name, text, &Overrides::default()).map(drop).map_err(|found| found.to_string())
    }
}
