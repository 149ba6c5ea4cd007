//! What the demo shows: two links, and how often the wiki is asked by each way.

use std::fmt::Write;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::time::Duration;

use super::Side;
use super::wiki::INTERVAL;
use crate::cli::say;

/// Where everything is.
#[derive(Debug)]
pub(super) struct Links {
    /// The wiki itself.
    pub(super) polled: SocketAddr,
    /// The sidecar in front of it.
    pub(super) pushed: SocketAddr,
    /// The sidecar's own view.
    pub(super) admin: Option<SocketAddr>,
}

/// What goes on beside the pages that somebody opens.
#[derive(Debug)]
pub(super) struct Cast {
    /// Readers on each side.
    pub(super) readers: usize,
    /// How often the demo edits the text.
    pub(super) edits: Option<Duration>,
}

/// The introduction.
pub(super) fn introduction(links: &Links, cast: &Cast) -> String {
    let mut text = format!(
        "A wiki whose page asks every {} whether anything is new, served twice:\n\n  \
           polled   http://{}/   the wiki itself\n  \
           pushed   http://{}/   the same page, unmodified, with Sungrazer in front\n\n\
         Open both side by side, edit the text in one and watch the other.\n",
        humantime::format_duration(INTERVAL),
        links.polled,
        links.pushed,
    );
    let mut also = Vec::new();
    if let Some(edits) = cast.edits {
        also.push(format!("the demo edits it too, every {}", humantime::format_duration(edits)));
    }
    if cast.readers > 0 {
        also.push(format!("{} more readers follow each link, as the page does", cast.readers));
    }
    if !also.is_empty() {
        let _ = writeln!(text, "Meanwhile {}.", also.join(", and "));
    }
    let _ = write!(
        text,
        "\nA page that may be changed needs one line, and there is curl:\n\n  \
           new EventSource('/wiki/text').onmessage = function (event) {{ show(event.data); }};\n  \
           curl -N -H 'Accept: text/event-stream' http://{}/wiki/text\n",
        links.pushed
    );
    if let Some(admin) = links.admin {
        let _ = write!(text, "\nWhat is watched: http://{admin}/api/resources, /metrics. ");
    } else {
        text.push('\n');
    }
    text.push_str("Ctrl-C ends the demo.\n");
    text
}

/// The table, one line a side.
pub(super) fn table(sides: &[Side], elapsed: Duration) -> String {
    let mut text =
        format!("{:<10}{:>20}{:>12}{:>26}", "", "requests at the wiki", "a minute", "a change is seen after");
    for side in sides {
        let asked = side.asked();
        let minutes = elapsed.as_secs_f64().max(1.0) / 60.0;
        let seen = side.delays.median().map_or_else(|| "-".to_owned(), |delay| format!("{:.2} s", delay.as_secs_f64()));
        let _ = write!(
            text,
            "\n{:<10}{asked:>20}{:>12.0}{seen:>26}",
            side.way.as_str(),
            // Counters of this size are exact as floating point numbers.
            asked as f64 / minutes
        );
    }
    text
}

/// The counters as they change: in place on a terminal, now and then elsewhere.
#[derive(Debug)]
pub(super) struct Board {
    in_place: bool,
    lines: usize,
}

impl Board {
    /// A board that shows nothing yet.
    pub(super) fn new() -> Self {
        Self { in_place: std::io::stdout().is_terminal(), lines: 0 }
    }

    /// How often there is something to show.
    pub(super) fn every(&self) -> Duration {
        Duration::from_secs(if self.in_place { 1 } else { 10 })
    }

    /// Shows `text`.
    pub(super) fn show(&mut self, text: &str) {
        if self.in_place && self.lines > 0 {
            // Up to the first line of the last text, and everything below it cleared.
            say(&format!("\x1b[{}A\x1b[J{text}", self.lines));
        } else {
            say(text);
        }
        self.lines = text.lines().count();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_introduction_tells_only_of_what_goes_on() {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let links = Links { polled: address(1), pushed: address(2), admin: None };
        let alone = introduction(&links, &Cast { readers: 0, edits: None });
        assert!(alone.contains("polled   http://127.0.0.1:1/ ") && alone.contains("pushed   http://127.0.0.1:2/ "));
        assert!(!alone.contains("Meanwhile") && !alone.contains("/api/resources"));
        let crowded = introduction(&links, &Cast { readers: 5, edits: Some(Duration::from_secs(10)) });
        assert!(crowded.contains("every 10s, and 5 more readers"), "{crowded}");
    }
}
