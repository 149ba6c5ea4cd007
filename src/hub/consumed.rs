//! Responses that fetches consumed, kept for the clients that would have received them.
//!
//! Some applications deliver data once and then delete it. A fetch detects that, and the consumed response belongs to
//! the client whose next request would have received it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::model::Representation;

/// Consumed responses in order of arrival, each for one request. Bounded: the oldest are dropped first.
#[derive(Debug, Default)]
pub(super) struct ConsumedResponses {
    answers: Mutex<VecDeque<ConsumedResponse>>,
    /// Whether there are any; read for each forwarded request.
    any: AtomicBool,
}

#[derive(Debug)]
struct ConsumedResponse {
    client: u64,
    target: String,
    answer: Representation,
    until: Instant,
}

const MAX_ENTRIES: usize = 64;

/// The maximum size of all bodies in bytes.
const MAX_BYTES: usize = 8 << 20;

/// How long a response is kept for a page without a known interval. A page that has not polled for this long has gone.
const CONSUMED_TTL: Duration = Duration::from_secs(10);

/// The delay after its interval with which a page may poll.
const LATE: Duration = Duration::from_millis(500);

impl ConsumedResponses {
    /// Stores responses for the next requests of `client` for `target`, one each. The client polls at the interval
    /// `pace`: each response is dropped if the client has not polled for it in time.
    pub(super) fn store(
        &self,
        client: u64,
        target: &str,
        found: Vec<Representation>,
        pace: Option<Duration>,
        now: Instant,
    ) {
        let mut answers = self.answers.lock();
        let until = |at: usize| {
            let turns = u32::try_from(at + 1).unwrap_or(u32::MAX);
            now + pace.map_or(CONSUMED_TTL, |pace| pace.saturating_mul(turns).mul_f64(1.25) + LATE)
        };
        answers.extend(found.into_iter().enumerate().map(|(at, answer)| ConsumedResponse {
            client,
            target: target.to_owned(),
            answer,
            until: until(at),
        }));
        while answers.len() > MAX_ENTRIES
            || answers.iter().map(|debt| debt.answer.body.len()).sum::<usize>() > MAX_BYTES
        {
            answers.pop_front();
        }
        self.any.store(!answers.is_empty(), Ordering::Release);
    }

    /// Takes the response for a request of `client` for `target`, if there is one that `fits`.
    pub(super) fn take(
        &self,
        client: u64,
        target: &str,
        fits: impl Fn(&Representation) -> bool,
        now: Instant,
    ) -> Option<Representation> {
        let mut answers = self.answers.lock();
        answers.retain(|debt| now < debt.until);
        let is_for =
            |debt: &ConsumedResponse| debt.client == client && is_asked_for(&debt.target, target) && fits(&debt.answer);
        let taken = answers.iter().position(is_for).and_then(|at| answers.remove(at));
        self.any.store(!answers.is_empty(), Ordering::Release);
        taken.map(|debt| debt.answer)
    }

    /// Returns whether any responses are stored.
    pub(super) fn has_any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }
}

/// Returns whether a request for `sent` is for `target`: it has the same path, and besides the same parameters only
/// cache-busting ones.
pub(super) fn is_asked_for(target: &str, sent: &str) -> bool {
    let ((path, query), (sent_path, sent_query)) = (split(target), split(sent));
    let mut wanted: Vec<&str> = parameters(query).collect();
    let is_extra = |part: &&str| match wanted.iter().position(|one| one == part) {
        Some(at) => {
            wanted.remove(at);
            false
        }
        None => true,
    };
    path == sent_path
        && parameters(sent_query).filter(is_extra).collect::<Vec<_>>().into_iter().all(is_buster)
        && wanted.is_empty()
}

/// Returns `target` without cache-busting parameters.
pub(super) fn without_busters(target: &str) -> String {
    let (path, query) = split(target);
    let kept: Vec<&str> = parameters(query).filter(|part| !is_buster(part)).collect();
    if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) }
}

fn split(target: &str) -> (&str, &str) {
    target.split_once('?').unwrap_or((target, ""))
}

fn parameters(query: &str) -> impl Iterator<Item = &str> {
    query.split('&').filter(|part| !part.is_empty())
}

/// Returns whether a parameter is most likely cache-busting: by its name, or because its value is a time or a fraction.
fn is_buster(part: &str) -> bool {
    const NAMES: [&str; 10] =
        ["_", "__", "_dc", "_ts", "nocache", "no_cache", "cachebuster", "cachebust", "rnd", "random"];
    let (name, value) = part.split_once('=').map_or(("", part), |(name, value)| (name, value));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_moment = value.len() == 13 && is_digits(value);
    let is_fraction = value.trim_start_matches('0').strip_prefix('.').is_some_and(is_digits);
    NAMES.contains(&name.to_ascii_lowercase().as_str()) || is_moment || is_fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_caches_out_asks_for_the_same() {
        for (target, sent, same) in [
            ("/a", "/a", true),
            ("/a", "/a?t=1700000000000", true),
            ("/a", "/a?_=7", true),
            ("/a", "/a?0.123", true),
            ("/a?b=1", "/a?b=1&x=.5", true),
            ("/a?b=1", "/a?_=1&b=1", true),
            ("/a", "/a?b=1", false),
            ("/a?b=1", "/a", false),
            ("/a?b=1", "/a?b=2", false),
            ("/a", "/b", false),
            ("/a", "/a?user=17", false),
        ] {
            assert_eq!(is_asked_for(target, sent), same, "{target} {sent}");
        }
        assert_eq!(without_busters("/a?t=1700000000000&b=1"), "/a?b=1");
        assert_eq!(without_busters("/a?_=1"), "/a");
    }
}
