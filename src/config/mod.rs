//! The configuration file: from text to the options of each feature.
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
mod insert;
mod read;
mod reference;
pub mod reload;
mod schema;
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

/// What the command line and the environment say, which wins over the file.
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
    /// What the environment alone says.
    pub fn from_env() -> Self {
        let [upstream, listen, admin] = [UPSTREAM, LISTEN, ADMIN].map(|name| std::env::var(name).ok());
        Self { upstream, listen, admin }
    }
}

/// The variables of the environment that win over the file.
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
        /// Why.
        error: std::io::Error,
    },
    /// The file says something that cannot be.
    #[error("{0}")]
    Wrong(Diagnostics),
}

/// Reads the file at `path`, or takes the defaults if there is none, and applies `overrides`.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn load(path: Option<&Path>, overrides: &Overrides) -> Result<Config, Error> {
    let (name, text) = source(path)?;
    parse(&name, &text, overrides).map_err(Error::Wrong)
}

/// What the file at `path` is called, and what it says.
fn source(path: Option<&Path>) -> Result<(String, String), Error> {
    let Some(path) = path else { return Ok(("(no file)".to_owned(), String::new())) };
    let text = files::text(path).map_err(|error| Error::Read { path: path.to_owned(), error })?;
    Ok((path.display().to_string(), text))
}

/// Reads `text`, which comes from the file called `name`, and applies `overrides`.
///
/// # Errors
/// Everything that is wrong, at once.
pub fn parse(name: &str, text: &str, overrides: &Overrides) -> Result<Config, Diagnostics> {
    let mut found = Diagnostics::new(name, text);
    // What else is missing in what is no TOML, nobody can say.
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

/// The largest body that a route takes unless it says otherwise, in bytes.
pub fn default_max_body() -> u64 {
    file::Route::default().max_body.value.0
}
