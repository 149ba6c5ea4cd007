//! The files into which `probe` and `observe` write.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::config::{self, Overrides};
use crate::files;
use crate::observe::RouteText;

/// A file that is to have several routes.
#[derive(Debug)]
pub(super) struct Routes {
    target: Target,
}

impl Routes {
    /// Sees to it, before anything is observed, that the file at `path` is none that nothing can be added to.
    ///
    /// # Errors
    /// Why not, as it is to be said.
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        Target::of(path).map(|target| Self { target })
    }

    /// Writes `whole` into a file that is new, and those of `routes` that it does not have yet into one that is not. Says what
    /// was done; or, as the inner error, why the file would be none that can be used.
    pub(super) fn write(self, whole: &str, routes: &[RouteText]) -> anyhow::Result<Result<String, String>> {
        let name = self.target.path.display().to_string();
        let (written, done) = match &self.target.text {
            None => (
                whole.to_owned(),
                format!("wrote {name}; read it, then try it: sungrazer check -c {name}, sungrazer -c {name}"),
            ),
            Some(text) => {
                let is_new = |route: &&RouteText| !config::has_route(text, &route.path);
                let new: Vec<&RouteText> = routes.iter().filter(is_new).collect();
                let mut written = text.clone();
                // Each is put above all that are there, and the last is to stand lowest. What takes everything stands below.
                for route in new.iter().rev() {
                    written = match route.path.as_str() {
                        "/**" => format!("{}\n\n{}", written.trim_end(), route.text),
                        _ => config::with_route(&written, &route.text),
                    };
                }
                (written, format!("added {} routes to {name}, above the others; read what they say", new.len()))
            }
        };
        if let Err(found) = self.target.check(&written) {
            return Ok(Err(found));
        }
        files::replace(&self.target.path, &written).with_context(|| format!("cannot write {name}"))?;
        Ok(Ok(done))
    }
}

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
        let target = Self::of(path)?;
        if let Some(text) = &target.text
            && config::has_route(text, route)
        {
            return Err(format!(
                "{} has a route with path = {route:?} already: remove it first, or probe without --write",
                path.display()
            ));
        }
        Ok(target)
    }

    fn of(path: &Path) -> Result<Self, String> {
        let text = match files::text(path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
        };
        let target = Self { path: path.to_owned(), text };
        if let Some(text) = target.text.as_ref().filter(|_| target.names_upstream()) {
            target.check(text)?;
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
