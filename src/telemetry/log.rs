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

/// What is logged unless asked otherwise. pingora reports every client that goes away as an error; what matters of it is
/// logged here in our own words. notify complains of folders that are gone, which is what it is there to tell.
const QUIET_LIBRARIES: &str = "pingora=off,pingora_core=off,pingora_proxy=off,h2=off,hyper=warn,notify=off";

/// What to log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// A word that would be taken for the only part of the program that is logged.
    #[error(
        "{0:?} is no level: write \"off\", \"error\", \"warn\", \"info\", \"debug\" or \"trace\", or with a part of the program, \"sungrazer::poll=debug\""
    )]
    NoLevel(String),
    /// Something else.
    #[error("{0}: write a level such as \"debug\", or levels for parts of the program, \"info,sungrazer::poll=trace\"")]
    Unreadable(#[from] ParseError),
}

/// Starts logging. `directives` are those of `SUNGRAZER_LOG`, such as `debug` or `sungrazer::poll=trace`.
///
/// # Errors
/// If a directive cannot be read.
pub fn init(directives: &str, format: Format) -> Result<(), FilterError> {
    // The filter would take such a word for a target, and nothing else would be logged.
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
    // A second initialisation can only happen in tests that share a process; the first one stays in force.
    let _ = if json {
        subscriber.json().flatten_event(true).finish().with(Throttle::default()).try_init()
    } else {
        subscriber.with_target(false).finish().with(Throttle::default()).try_init()
    };
    Ok(())
}

/// The longest text of a client's that a line shows, in bytes.
const MAX_TEXT: usize = 200;

/// What a line shows of a path or another text that a client made up.
pub fn brief(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_TEXT {
        return Cow::Borrowed(text);
    }
    let end = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= MAX_TEXT).last().unwrap_or_default();
    Cow::Owned(format!("{}… ({} bytes)", &text[..end], text.len()))
}

/// Whether whoever reads stderr knows what escape sequences are, and wants them (<https://no-color.org>).
fn takes_colour() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
