//! `sungrazer check`

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use super::{FileArgs, say, usage};
use crate::config::{self, Config, Overrides};

/// Says whether the configuration can be used.
pub(super) fn check(args: &FileArgs) -> ExitCode {
    let (path, overrides) = (args.path(), Overrides::from_env());
    if path.is_none() && overrides.upstream.is_none() {
        return usage("there is no sungrazer.toml here: name the file with -c");
    }
    let name = path.as_ref().map_or_else(|| "the environment".to_owned(), |path| path.display().to_string());
    match load(path.as_deref(), &overrides) {
        Ok(config) => {
            say(&format!(
                "{}: {name} is good: {}, {} {}",
                env!("CARGO_PKG_NAME"),
                config
                    .upstream
                    .replicas
                    .iter()
                    .map(|replica| replica.address.to_string())
                    .collect::<Vec<_>>()
                    .join(", "),
                config.routes.len(),
                if config.routes.len() == 1 { "route" } else { "routes" }
            ));
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

/// Loads the configuration, or reports what is wrong with it.
pub(super) fn load(path: Option<&Path>, overrides: &Overrides) -> Result<Config, ExitCode> {
    config::load(path, overrides).map_err(|error| match error {
        config::Error::Wrong(found) => usage(&found.colored(std::io::stderr().is_terminal()).to_string()),
        error @ config::Error::Read { .. } => usage(&format!("sungrazer: {error}")),
    })
}
