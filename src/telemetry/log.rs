//! Log lines on stderr: readable on a terminal, JSON otherwise.

use std::borrow::Cow;
use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, ParseError};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::throttle::Throttle;

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

/// The default filter. pingora reports every client that disconnects as an error; relevant failures are logged by this
/// crate. notify warns about missing folders, which watching for them makes normal.
const QUIET_LIBRARIES: &str = "pingora=off,pingora_core=off,pingora_proxy=off,h2=off,hyper=warn,notify=off";

/// The log filter cannot be parsed.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// A single word that would be parsed as the only module to log.
    #[error(
        "{0:?} is no level: write \"off\", \"error\", \"warn\", \"info\", \"debug\" or \"trace\", or with a part of the program, \"sungrazer::poll=debug\""
    )]
    NoLevel(String),
    /// Any other error.
    #[error("{0}: write a level such as \"debug\", or levels for parts of the program, \"info,sungrazer::poll=trace\"")]
    Unreadable(#[from] ParseError),
}

/// Starts logging. `directives` is the value of `SUNGRAZER_LOG`, such as `debug` or `sungrazer::poll=trace`.
///
/// # Errors
/// Returns an error if a directive cannot be parsed.
pub fn init(directives: &str, format: Format) -> Result<(), FilterError> {
    // The filter would parse such a word as a target, and log nothing else.
    let is_no_level =
        |word: &&str| !word.is_empty() && !word.contains(['=', '[', ':']) && word.parse::<LevelFilter>().is_err();
    if let Some(word) = directives.split(',').map(str::trim).find(is_no_level) {
        return Err(FilterError::NoLevel(word.to_owned()));
    }
    let filter = EnvFilter::try_new(format!("{QUIET_LIBRARIES},{directives}"))?;
    let json = match format {
        Format::Auto => !std::io::stderr().is_terminal(),
        Format::Text => false,
        Format::Json => true,
    };
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(takes_colour()).with_writer(std::io::stderr);
    // A second initialisation only happens in tests that share a process; the first one stays in force.
    let _ = if json {
        subscriber.json().flatten_event(true).finish().with(Throttle::default()).try_init()
    } else {
        subscriber.with_target(false).finish().with(Throttle::default()).try_init()
    };
    Ok(())
}

/// The maximum length of a client's text in a log line, in bytes.
const MAX_TEXT: usize = 200;

/// Shortens a path or another text from a client for a log line.
pub fn brief(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_TEXT {
        return Cow::Borrowed(text);
    }
    let end = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= MAX_TEXT).last().unwrap_or_default();
    Cow::Owned(format!("{}… ({} bytes)", &text[..end], text.len()))
}

/// Returns whether stderr is a terminal and colours are not disabled (<https://no-color.org>).
fn takes_colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
