//! The files to which `probe` and `observe` write.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::config::{self, Diagnostics, Overrides};
use crate::files;
use crate::observe::RouteText;

/// A file to which several routes are added.
#[derive(Debug)]
pub(super) struct Routes {
    target: Target,
}

impl Routes {
    /// Checks before any observation that routes can be added to the file at `path`.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read or is not valid.
    pub(super) fn open(path: &Path) -> Result<Self, WriteError> {
        Target::of(path).map(|target| Self { target })
    }

    /// Writes `whole` to a new file, or adds the missing `routes` to an existing file. Returns a message about the
    /// result.
    ///
    /// # Errors
    /// Returns an error if the file would be invalid with them, or cannot be written.
    pub(super) fn write(self, whole: &str, routes: &[RouteText]) -> Result<String, WriteError> {
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
                // Each route is inserted above all others, so the last one is inserted first. A catch-all route stays
                // below.
                for route in new.iter().rev() {
                    written = match route.path.as_str() {
                        "/**" => format!("{}\n\n{}", written.trim_end(), route.text),
                        _ => config::with_route(&written, &route.text),
                    };
                }
                (written, format!("added {} routes to {name}, above the others; read what they say", new.len()))
            }
        };
        self.target.replace(&written)?;
        Ok(done)
    }
}

/// The reason why a route cannot be added to a file.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    /// The file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
    /// The file has a route with the same path.
    #[error("{} has a route with path = {route:?} already: remove it first, or probe without --write", .path.display())]
    RouteExists { path: PathBuf, route: String },
    /// The file is not valid, or would not be with the new route.
    #[error(transparent)]
    Invalid(#[from] Diagnostics),
    /// The file cannot be written.
    #[error("cannot write {}", .path.display())]
    Write {
        path: PathBuf,
        #[source]
        error: io::Error,
    },
}

/// An existing or a new file.
#[derive(Debug)]
pub(super) struct Target {
    path: PathBuf,
    /// Its current content.
    text: Option<String>,
}

impl Target {
    /// Checks before any fetch that a route for `route` can be added to the file at `path`.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read, is not valid, or has such a route.
    pub(super) fn open(path: &Path, route: &str) -> Result<Self, WriteError> {
        let target = Self::of(path)?;
        if let Some(text) = &target.text
            && config::has_route(text, route)
        {
            return Err(WriteError::RouteExists { path: path.to_owned(), route: route.to_owned() });
        }
        Ok(target)
    }

    fn of(path: &Path) -> Result<Self, WriteError> {
        let text = match files::text(path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(WriteError::Read { path: path.to_owned(), error }),
        };
        let target = Self { path: path.to_owned(), text };
        if let Some(text) = target.text.as_ref().filter(|_| target.names_upstream()) {
            target.check(text)?;
        }
        Ok(target)
    }

    /// Returns whether the file names an application.
    pub(super) fn names_upstream(&self) -> bool {
        self.text.as_deref().is_some_and(config::names_upstream)
    }

    /// Writes `block` and returns a message about the result.
    ///
    /// # Errors
    /// Returns an error if the file would be invalid with it, or cannot be written.
    pub(super) fn write(&self, block: &str) -> Result<String, WriteError> {
        let written = match &self.text {
            Some(text) => config::with_route(text, block),
            None => block.to_owned(),
        };
        self.replace(&written)?;
        let name = self.path.display();
        Ok(match &self.text {
            Some(_) => format!("added a route to {name}, above all others; read what it says is not decided"),
            None => format!("wrote {name}; read what it says is not decided, then start with: sungrazer -c {name}"),
        })
    }

    fn replace(&self, text: &str) -> Result<(), WriteError> {
        self.check(text)?;
        files::replace(&self.path, text).map_err(|error| WriteError::Write { path: self.path.clone(), error })
    }

    fn check(&self, text: &str) -> Result<(), Diagnostics> {
        let name = self.path.display().to_string();
        config::parse(&name, text, &Overrides::default()).map(drop)
    }
}
