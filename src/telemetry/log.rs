//! Log lines on stderr: readable on a terminal, JSON otherwise.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// Readable text.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged unless asked otherwise. pingora reports every client that goes away as an error; what matters of it is
/// logged here in our own words. notify complains of folders that are gone, which is what it is there to tell.
const QUIET_LIBRARIES: &str = "pingora=off,pingora_core=off,pingora_proxy=off,h2=off,hyper=warn,notify=off";

/// Starts logging. `directives` are those of `SUNGRAZER_LOG`, such as `debug` or `sungrazer::poll=trace`.
///
/// # Errors
/// If a directive cannot be read.
pub fn init(directives: &str, format: Format) -> Result<(), ParseError> {
    let filter = EnvFilter::try_new(format!("{QUIET_LIBRARIES},{directives}"))?;
    let json = match format {
        Format::Auto => !std::io::stderr().is_terminal(),
        Format::Text => false,
        Format::Json => true,
    };
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second initialisation can only happen in tests that share a process; the first one stays in force.
    let _ =
        if json { subscriber.json().flatten_event(true).try_init() } else { subscriber.with_target(false).try_init() };
    Ok(())
}
