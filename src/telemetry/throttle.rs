//! Limits the rate of log lines that clients can cause.
//!
//! ```text
//! event ─▶ the place in the program that it comes from ─▶ below the limit? written, else counted, reported with the next
//! ```

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::clock;

/// The maximum number of lines per place within [`WINDOW`].
const MAX_LINES: u32 = 20;

const WINDOW: Duration = Duration::from_secs(10);

/// A filter that limits the lines of each place.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    places: Mutex<HashMap<Identifier, Place>>,
}

/// A place in the program that emits log lines.
#[derive(Debug)]
struct Place {
    since: Instant,
    lines: u32,
    left_out: u64,
}

impl Throttle {
    /// Returns the number of dropped lines since the last one if another line from `place` may be written.
    fn admit(&self, place: Identifier, now: Instant) -> Option<u64> {
        let mut places = self.places.lock();
        let place = places.entry(place).or_insert(Place { since: now, lines: 0, left_out: 0 });
        if now.saturating_duration_since(place.since) >= WINDOW {
            *place = Place { since: now, lines: 0, left_out: place.left_out };
        }
        if place.lines >= MAX_LINES {
            place.left_out += 1;
            return None;
        }
        place.lines += 1;
        Some(std::mem::take(&mut place.left_out))
    }
}

impl<S: Subscriber> Layer<S> for Throttle {
    fn event_enabled(&self, event: &Event<'_>, _context: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO {
            // An operator has enabled these levels explicitly.
            return true;
        }
        let admitted = self.admit(metadata.callsite(), clock::now());
        if let Some(left_out @ 1..) = admitted {
            let (file, line) = (metadata.file(), metadata.line());
            warn!(left_out, file, line, "lines like the next were left out: there were too many");
        }
        admitted.is_some()
    }
}

#[cfg(test)]
mod tests {
    use tracing::Metadata;
    use tracing::callsite::Callsite;
    use tracing::subscriber::Interest;

    use super::*;

    struct Somewhere(u8);

    impl Callsite for Somewhere {
        fn set_interest(&self, _: Interest) {}

        fn metadata(&self) -> &Metadata<'_> {
            unreachable!("nobody asks for {}", self.0)
        }
    }

    static HERE: Somewhere = Somewhere(1);
    static THERE: Somewhere = Somewhere(2);

    #[test]
    fn so_many_lines_of_a_kind_are_written_and_the_rest_is_counted() {
        let (throttle, now) = (Throttle::default(), clock::now());
        let here = || Identifier(&HERE);
        for _ in 0..MAX_LINES {
            assert_eq!(throttle.admit(here(), now), Some(0));
        }
        for _ in 0..7 {
            assert_eq!(throttle.admit(here(), now), None);
        }
        assert_eq!(throttle.admit(Identifier(&THERE), now), Some(0));
        assert_eq!(throttle.admit(here(), now + WINDOW), Some(7));
        assert_eq!(throttle.admit(here(), now + WINDOW), Some(0));
    }
}
