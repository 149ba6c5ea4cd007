//! What the times at which beacons arrive say of the path.

use std::time::Duration;

use serde::Deserialize;

/// A beacon, and when it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beacon {
    /// When it was sent, since the first was.
    pub(super) sent: Duration,
    /// How many bytes were sent before it.
    pub(super) bytes: usize,
    /// Whether it carries nothing.
    pub(super) is_small: bool,
    /// Whether it comes behind the silence.
    pub(super) is_last: bool,
    /// When it arrived, since the request was sent.
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
    /// Reads one, which is a line of its own, and an event if it stands behind `data:`.
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

/// How beacons came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// As they were sent.
    Prompt {
        /// The longest delay of a small one, beyond what any of them took.
        worst: Duration,
        /// Whether small ones wait for more again and again, though only for a moment.
        waits: bool,
    },
    /// Only when so many bytes were sent: more than `over`, at most `until`.
    HeldBack { over: usize, until: usize },
    /// All at the end.
    HeldToTheEnd { bytes: usize },
    /// None came.
    Nothing,
}

/// What arrives this much later than it might have is late; beacons are sent 200 ms apart.
const LATE: Duration = Duration::from_millis(150);

/// So many late ones are no accident: with any buffer at all, half of them are.
const MAX_LATE: usize = 4;

/// What waits no longer than this waits for a timer: with a buffer of any size that is used, some wait for longer. Systems keep what
/// they are told to join with more for 200 ms.
const A_MOMENT: Duration = Duration::from_millis(300);

/// What is sent within this time of a moment is sent then.
const THEN: Duration = Duration::from_millis(100);

/// Judges by the small ones, which any slow line carries at once. A short answer takes `trip`.
pub(super) fn flow(beacons: &[Beacon], trip: Duration) -> Flow {
    let (Some(first), Some(last)) = (beacons.first(), beacons.last()) else { return Flow::Nothing };
    let way = beacons.iter().map(|beacon| beacon.arrived.saturating_sub(beacon.sent)).min().unwrap_or_default();
    let small: Vec<&Beacon> = beacons.iter().filter(|beacon| beacon.is_small).collect();
    let delay = |beacon: &Beacon| beacon.arrived.saturating_sub(beacon.sent + way);
    let late = |beacons: &[&Beacon]| beacons.iter().filter(|beacon| delay(beacon) > LATE).count();
    // Where one moment was slow, what came behind it is in time. A buffer fills again and again.
    let behind = small.partition_point(|beacon| beacon.arrived <= first.arrived + THEN);
    let worst = small.iter().map(|beacon| delay(beacon)).max().unwrap_or_default();
    let (all, again) = (late(&small), late(&small[behind..]));
    if all < MAX_LATE || behind < small.len() && again * 3 < small.len() - behind {
        return Flow::Prompt { worst, waits: false };
    }
    if worst <= A_MOMENT {
        return Flow::Prompt { worst, waits: true };
    }
    // What was sent last when the first came is what filled the buffer. Each may have been completed by the one behind it, so
    // their own delays say too little of the way.
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

    /// Beacons as they are sent, each through `buffer`, which says at what time a byte at that place leaves it.
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

    /// When a buffer of `size` bytes that is sent whenever it is full lets go of byte `place`.
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
