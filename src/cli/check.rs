//! `sungrazer check`

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::{RunArgs, note, print, say, usage};
use crate::config::{self, Config, Diagnostics, Overrides};
use crate::upstream::ApplicationOptions;

/// `check`
#[derive(Clone, Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    pub(super) run: RunArgs,
    /// Print the effective configuration, with these flags and this environment: every key
    #[arg(long)]
    print: bool,
}

/// Checks whether the configuration can be used, as `run` would with the same flags.
pub(super) fn check(args: &CheckArgs) -> Result<ExitCode> {
    let (path, overrides) = (args.run.file.path(), args.run.overrides());
    if path.is_none() && overrides.upstream.is_none() {
        let text = "there is no sungrazer.toml here: name the file with -c, or the application with --upstream";
        return Ok(usage(text));
    }
    let name = path.as_ref().map_or_else(|| "the command line".to_owned(), |path| path.display().to_string());
    match load(path.as_deref(), &overrides) {
        Ok(config) => {
            if let Some(warnings) = &config.warnings {
                note(&in_colour(warnings.clone()).to_string());
            }
            let verdict = format!(
                "{}: {name} is good{}: {}, {} {}",
                env!("CARGO_PKG_NAME"),
                match config.warnings.as_ref().map_or(0, Diagnostics::len) {
                    0 => String::new(),
                    1 => ", with a warning".to_owned(),
                    number => format!(", with {number} warnings"),
                },
                upstreams(&config),
                config.routes.len(),
                if config.routes.len() == 1 { "route" } else { "routes" }
            );
            if args.print {
                note(&verdict);
                print(&config::effective(path.as_deref(), &overrides)?)?;
            } else {
                say(&verdict);
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(code) => Ok(code),
    }
}

/// Returns the URLs of all applications, with the paths that they are for.
pub(super) fn upstreams(config: &Config) -> String {
    let mut all = vec![upstream(&config.upstream.general)];
    all.extend(config.upstream.special.iter().map(|(path, special)| format!("{} for {path}", upstream(special))));
    all.join("; ")
}

/// Returns the URLs of one application, separated by commas.
fn upstream(application: &ApplicationOptions) -> String {
    let urls = application.replicas.replicas.iter().map(|replica| replica.address.to_string());
    urls.collect::<Vec<_>>().join(", ")
}

fn in_colour(found: Diagnostics) -> Diagnostics {
    found.colored(std::io::stderr().is_terminal())
}

/// Loads the configuration, or reports its mistakes.
pub(super) fn load(path: Option<&Path>, overrides: &Overrides) -> Result<Config, ExitCode> {
    config::load(path, overrides).map_err(|error| match error {
        config::Error::Wrong(found) => usage(&in_colour(found).to_string()),
        error @ config::Error::Read { .. } => usage(&format!("sungrazer: {error}")),
    })
}
