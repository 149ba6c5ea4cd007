//! The demo's output in the terminal: the URLs, and the number of requests on each side.

use std::fmt::Write;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::Side;
use super::wiki::INTERVAL;
use crate::cli::say;

/// The addresses of the demo.
#[derive(Clone, Debug)]
pub(super) struct Links {
    /// The page with both sides.
    pub(super) viewer: SocketAddr,
    /// The wiki itself.
    pub(super) polled: SocketAddr,
    /// The sidecar in front of the wiki.
    pub(super) pushed: SocketAddr,
    /// The sidecar's dashboard.
    pub(super) admin: Option<SocketAddr>,
}

/// The demo's own activity.
#[derive(Clone, Debug)]
pub(super) struct Cast {
    /// The number of readers on each side.
    pub(super) readers: usize,
    /// The average time between two edits by the demo.
    pub(super) edits: Option<Duration>,
}

/// Returns the introduction.
pub(super) fn introduction(links: &Links, cast: &Cast) -> String {
    let mut text = format!(
        "An old wiki page that polls every {}, without and with Sungrazer.\n\n  \
           open     http://{}/   both side by side, with stopwatches: start here\n  \
           polled   http://{}/   the application itself\n  \
           pushed   http://{}/   the same page, through Sungrazer\n",
        humantime::format_duration(INTERVAL),
        links.viewer,
        links.polled,
        links.pushed,
    );
    if let Some(admin) = links.admin {
        let _ = writeln!(text, "  admin    http://{admin}/   Sungrazer's dashboard");
    }
    text.push('\n');
    if let Some(edits) = cast.edits {
        let edits = humantime::format_duration(edits);
        let _ = writeln!(text, "The demo edits the wiki about every {edits}, without telling Sungrazer.");
    }
    if cast.readers > 0 {
        let _ = writeln!(text, "{} readers follow each side as the page does; they are measured below.", cast.readers);
    }
    text.push_str("Ctrl-C ends the demo.\n");
    text
}

/// Returns the heading of the table.
pub(super) fn heading() -> String {
    format!("{:<10}{:>20}{:>12}{:>26}", "", "requests at the wiki", "a minute", "a change is seen after")
}

/// Returns the rows of the table, one per side.
pub(super) fn rows(sides: &[Side], began: Instant, now: Instant) -> String {
    let elapsed = now.saturating_duration_since(began);
    let row = |side: &Side| {
        let asked = side.asked();
        let minutes = elapsed.as_secs_f64().max(1.0) / 60.0;
        let seen =
            side.delays.median(now).map_or_else(|| "-".to_owned(), |delay| format!("{:.2} s", delay.as_secs_f64()));
        // Counters of this size are exact as floating-point numbers.
        format!("{:<10}{asked:>20}{:>12.0}{seen:>26}", side.way.as_str(), asked as f64 / minutes)
    };
    sides.iter().map(row).collect::<Vec<_>>().join("\n")
}

/// The table of counters: updated in place on a terminal, printed now and then elsewhere.
#[derive(Debug)]
pub(super) struct Board {
    in_place: bool,
    /// The number of lines to overwrite.
    lines: usize,
}

impl Board {
    /// Creates a board and prints its heading.
    pub(super) fn new() -> Self {
        say(&heading());
        Self { in_place: std::io::stdout().is_terminal(), lines: 0 }
    }

    /// Returns the interval of updates.
    pub(super) fn every(&self) -> Duration {
        Duration::from_secs(if self.in_place { 1 } else { 10 })
    }

    /// Prints `rows`.
    pub(super) fn show(&mut self, rows: &str) {
        if self.in_place && self.lines > 0 {
            // Moves to the first line of the previous rows and clears everything below.
            say(&format!("\x1b[{}A\x1b[J{rows}", self.lines));
        } else {
            say(rows);
        }
        self.lines = rows.lines().count();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_introduction_names_what_to_open_and_only_what_goes_on() {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let links = Links { viewer: address(4), polled: address(1), pushed: address(2), admin: None };
        let alone = introduction(&links, &Cast { readers: 0, edits: None });
        for line in ["open     http://127.0.0.1:4/ ", "polled   http://127.0.0.1:1/ ", "pushed   http://127.0.0.1:2/ "]
        {
            assert!(alone.contains(line), "{alone}");
        }
        assert!(!alone.contains("edits the wiki") && !alone.contains("readers") && !alone.contains("dashboard"));
        let links = Links { admin: Some(address(3)), ..links };
        let crowded = introduction(&links, &Cast { readers: 5, edits: Some(Duration::from_secs(10)) });
        for part in ["admin    http://127.0.0.1:3/ ", "about every 10s", "5 readers follow each side"] {
            assert!(crowded.contains(part), "{crowded}");
        }
    }
}
