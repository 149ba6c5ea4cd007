//! Analyses the arrival times of beacons.

use std::time::Duration;

use serde::Deserialize;

/// A beacon and its arrival time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beacon {
    /// When it was sent, relative to the first beacon.
    pub(super) sent: Duration,
    /// The number of bytes sent before it.
    pub(super) bytes: usize,
    /// Whether it has no padding.
    pub(super) is_small: bool,
    /// Whether it follows the silence.
    pub(super) is_last: bool,
    /// When it arrived, relative to the request.
    pub(super) arrived: Duration,
}

#[derive(Deserialize)]
struct Written<'a> {
    at: u64,
    bytes: usize,
    #[serde(default)]
    last: bool,
    #[serde(borrow)]
    pad: Option<&'a str>,
}

impl Beacon {
    /// Parses a line with a beacon, which may be prefixed by `data:`.
    pub(super) fn read(line: &str, arrived: Duration) -> Option<Self> {
        let line = line.trim();
        let text = line.strip_prefix("data:").unwrap_or(line);
        let read: Written<'_> = serde_json::from_str(text).ok()?;
        Some(Self {
            sent: Duration::from_millis(read.at),
            bytes: read.bytes,
            is_small: read.pad.is_none() && !read.last,
            is_last: read.last,
            arrived,
        })
    }
}

/// How beacons were delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// As they were sent.
    Prompt {
        /// The maximum delay of a small beacon, relative to the fastest one.
        worst: Duration,
        /// Whether small beacons are repeatedly delayed for a short time.
        waits: bool,
    },
    /// Only after a certain number of bytes was sent: more than `over`, at most `until`.
    HeldBack { over: usize, until: usize },
    /// All at the end.
    HeldToTheEnd { bytes: usize },
    /// No beacon arrived.
    Nothing,
}

/// The delay above which a beacon counts as late; beacons are sent 200 ms apart.
const LATE: Duration = Duration::from_millis(150);

/// How many late beacons are no accident: with any buffer, half of them are late.
const MAX_LATE: usize = 4;

/// The maximum delay that indicates a timer rather than a buffer, which delays some beacons longer. Systems that
/// coalesce small writes delay them by up to 200 ms.
const A_MOMENT: Duration = Duration::from_millis(300);

/// The tolerance within which two times count as equal.
const THEN: Duration = Duration::from_millis(100);

/// Analyses the small beacons, which even a slow connection transfers at once. `trip` is the duration of a short
/// response.
pub(super) fn flow(beacons: &[Beacon], trip: Duration) -> Flow {
    let (Some(first), Some(last)) = (beacons.first(), beacons.last()) else { return Flow::Nothing };
    let way = beacons.iter().map(|beacon| beacon.arrived.saturating_sub(beacon.sent)).min().unwrap_or_default();
    let small: Vec<&Beacon> = beacons.iter().filter(|beacon| beacon.is_small).collect();
    let delay = |beacon: &Beacon| beacon.arrived.saturating_sub(beacon.sent + way);
    let late = |beacons: &[&Beacon]| beacons.iter().filter(|beacon| delay(beacon) > LATE).count();
    // After a single slow moment, later beacons are in time. A buffer delays repeatedly.
    let behind = small.partition_point(|beacon| beacon.arrived <= first.arrived + THEN);
    let worst = small.iter().map(|beacon| delay(beacon)).max().unwrap_or_default();
    let (all, again) = (late(&small), late(&small[behind..]));
    if all < MAX_LATE || behind < small.len() && again * 3 < small.len() - behind {
        return Flow::Prompt { worst, waits: false };
    }
    if worst <= A_MOMENT {
        return Flow::Prompt { worst, waits: true };
    }
    // The last beacon that was sent when the first arrived is the one that filled the buffer. Each beacon may have been
    // released by the next one, so their own delays say too little about the connection.
    let way = way.min(trip);
    let filled = beacons.iter().rposition(|beacon| beacon.sent + way <= first.arrived + THEN).unwrap_or_default();
    match (beacons.get(filled), beacons.get(filled + 1)) {
        (Some(filling), Some(next)) => Flow::HeldBack { over: filling.bytes, until: next.bytes },
        _ => Flow::HeldToTheEnd { bytes: last.bytes },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_prompt(flow: Flow) -> bool {
        matches!(flow, Flow::Prompt { .. })
    }

    const TRIP: Duration = Duration::from_millis(30);

    /// Returns beacons as sent through `buffer`, which returns the time at which a byte at a position leaves the
    /// buffer.
    fn through(buffer: impl Fn(usize, usize, u64) -> u64) -> Vec<Beacon> {
        let sizes = [[45; 8], [1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10, 128 << 10]].concat();
        let mut bytes = 0;
        let mut sent = Vec::new();
        for (n, size) in sizes.iter().enumerate() {
            sent.push((n, 200 * n as u64, bytes, bytes + size));
            bytes += size;
        }
        sent.iter()
            .map(|(n, at, before, behind)| Beacon {
                sent: Duration::from_millis(*at),
                bytes: *before,
                is_small: *n < 8,
                is_last: false,
                arrived: Duration::from_millis(30 + buffer(*n, *behind, *at)),
            })
            .collect()
    }

    /// Returns when a buffer of `size` bytes, which is flushed when full, releases byte `place`.
    fn released(size: usize, place: usize) -> u64 {
        let full = place.div_ceil(size) * size;
        let sizes = [[45; 8], [1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10, 128 << 10]].concat();
        let mut bytes = 0;
        for (n, more) in sizes.iter().enumerate() {
            bytes += more;
            if bytes >= full {
                return 200 * n as u64;
            }
        }
        20_000
    }

    #[test]
    fn what_comes_at_once_is_prompt_even_if_a_moment_was_slow() {
        let flow = |beacons: Vec<Beacon>| flow(&beacons, TRIP);
        assert_eq!(flow(through(|_, _, at| at)), Flow::Prompt { worst: Duration::ZERO, waits: false });
        assert!(is_prompt(flow(through(|n, _, at| at + if n == 3 { 400 } else { 0 }))));
        assert!(is_prompt(flow(through(|n, _, at| if n < 3 { 600 } else { at }))), "a slow start");
        assert!(is_prompt(flow(through(|n, _, at| if n < 6 { 1000 } else { at }))), "a slower start");
        assert!(is_prompt(flow(through(|n, _, at| at + if n > 8 { 3000 } else { 5 }))), "a slow line");
    }

    #[test]
    fn small_pieces_that_wait_for_more_for_a_moment_are_told_from_a_buffer() {
        let joined = through(|n, _, at| at + if n % 2 == 0 { 200 } else { 0 });
        assert_eq!(flow(&joined, TRIP), Flow::Prompt { worst: Duration::from_millis(200), waits: true });
    }

    #[test]
    fn buffers_are_found_with_about_their_sizes() {
        for size in [128, 512, 1024, 4096, 8192, 16_384, 65_536] {
            let Flow::HeldBack { over, until } = flow(&through(|_, place, _| released(size, place)), TRIP) else {
                panic!("{size}");
            };
            assert!(over < size && size <= until, "{size}: {over} to {until}");
        }
        assert!(matches!(flow(&through(|_, _, _| 20_000), TRIP), Flow::HeldToTheEnd { bytes: 100_000.. }));
        assert_eq!(flow(&[], TRIP), Flow::Nothing);
    }

    #[test]
    fn beacons_are_read_in_each_form() {
        let read = |line| Beacon::read(line, Duration::ZERO).map(|found| (found.bytes, found.is_small, found.is_last));
        assert_eq!(read("data: {\"n\":1,\"at\":200,\"bytes\":45}"), Some((45, true, false)));
        assert_eq!(read("{\"n\":9,\"at\":200,\"bytes\":45,\"pad\":\"xy\"}"), Some((45, false, false)));
        assert_eq!(read("{\"n\":16,\"at\":200,\"bytes\":45,\"last\":true}"), Some((45, false, true)));
        assert_eq!(read("<html>"), None);
    }
}
