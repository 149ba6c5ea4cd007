//! The configuration file: from its text to the options of each feature.
//!
//! ```text
//! TOML text ─ read ─▶ File (serde shape) ─ check ─▶ build ─▶ Config (each feature's own Options)
//!                └──────────────┴────────────┴──▶ Diagnostics: all that is wrong, each with its place
//! ```

mod build;
mod check;
mod diagnostic;
mod effective;
mod file;
mod headers;
mod insert;
mod post;
mod read;
mod reference;
pub mod reload;
mod schema;
mod upstream;
mod value;
mod warnings;

pub use build::{AdminOptions, Config, RouteOptions, ServerOptions};
pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use effective::effective;
pub use file::File;
pub use insert::{has_route, names_upstream, with_route};
pub use reference::{example, reference};
pub use schema::schema;
pub use value::{ListenAddress, Period, Size, Switch};

use std::path::{Path, PathBuf};

use crate::files;

/// Settings from the command line and the environment, which override the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--upstream`.
    pub upstream: Option<String>,
    /// `--listen`.
    pub listen: Option<String>,
    /// `--admin`.
    pub admin: Option<String>,
}

impl Overrides {
    /// Returns the overrides from the environment alone.
    pub fn from_env() -> Self {
        let [upstream, listen, admin] = [UPSTREAM, LISTEN, ADMIN].map(|name| std::env::var(name).ok());
        Self { upstream, listen, admin }
    }
}

/// The environment variables that override the file.
const UPSTREAM: &str = "SUNGRAZER_UPSTREAM";
const LISTEN: &str = "SUNGRAZER_LISTEN";
const ADMIN: &str = "SUNGRAZER_ADMIN";

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: std::io::Error,
    },
    /// The content of the file is invalid.
    #[error("{0}")]
    Wrong(Diagnostics),
}

/// Loads the file at `path`, or the defaults without a path, and applies `overrides`.
///
/// # Errors
/// Returns all mistakes at once.
pub fn load(path: Option<&Path>, overrides: &Overrides) -> Result<Config, Error> {
    let (name, text) = source(path)?;
    parse(&name, &text, overrides).map_err(Error::Wrong)
}

/// Returns the name and the content of the file at `path`.
fn source(path: Option<&Path>) -> Result<(String, String), Error> {
    let Some(path) = path else { return Ok(("(no file)".to_owned(), String::new())) };
    let text = files::text(path).map_err(|error| Error::Read { path: path.to_owned(), error })?;
    Ok((path.display().to_string(), text))
}

/// Parses `text` from the file called `name`, and applies `overrides`.
///
/// # Errors
/// Returns all mistakes at once.
pub fn parse(name: &str, text: &str, overrides: &Overrides) -> Result<Config, Diagnostics> {
    let mut found = Diagnostics::new(name, text);
    // If the text is not TOML, nothing else can be checked.
    let Some((tree, mut file)) = read::read(text, &mut found) else { return Err(found) };
    read::apply(&mut file, overrides, text.trim().is_empty(), &mut found);
    check::check(&file, overrides, &tree, &mut found);
    if found.is_empty() {
        let mut config = build::build(&file, text, &tree, &mut found);
        if found.is_empty() {
            warnings::inspect(&file, &tree, &mut found);
            config.warnings = (!found.is_empty()).then_some(found);
            return Ok(config);
        }
    }
    Err(found)
}

/// Returns the default maximum size of a response body, in bytes.
pub fn default_max_body() -> u64 {
    file::Route::default().max_body.value.0
}
