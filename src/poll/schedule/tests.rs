use proptest::prelude::*;

use super::*;
use crate::clock;
use crate::resource::Failure;

const OPTIONS: Options = Options {
    every: Duration::from_secs(1),
    every_max: Duration::from_secs(30),
    refresh_gap: Duration::from_millis(50),
    effort: None,
};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn failed(status: u16, retry_after: Option<Duration>) -> Verdict {
    Verdict::Failed(Failure { status: Some(status), retry_after, text: String::new() })
}

#[test]
fn the_first_fetch_is_due_at_once() {
    let now = clock::now();
    assert_eq!(Schedule::new(OPTIONS, 1).due(now), now);
}

#[test]
fn intervals_grow_with_quiet_and_shrink_with_news() {
    let mut schedule = Schedule::new(OPTIONS, 1);
    let start = clock::now();
    schedule.record(start, Trigger::Timer, Some(&Verdict::Changed));
    let mut at = start;
    while at < start + seconds(60) {
        at = schedule.due(at);
        schedule.record(at, Trigger::Timer, Some(&Verdict::Unchanged));
    }
    assert!((seconds(6)..seconds(7)).contains(&schedule.interval()), "{:?} after a quiet minute", schedule.interval());
    while at < start + seconds(3600) {
        at = schedule.due(at);
        schedule.record(at, Trigger::Timer, Some(&Verdict::NotModified));
    }
    assert_eq!(schedule.interval(), seconds(30));
    schedule.record(at, Trigger::Timer, Some(&Verdict::Changed));
    assert!(schedule.interval() < Duration::from_millis(1100));
}

#[test]
fn a_trigger_is_served_after_the_gap_and_brings_the_interval_back() {
    let mut schedule = Schedule::new(OPTIONS, 1);
    let start = clock::now();
    schedule.record(start, Trigger::Timer, Some(&Verdict::Changed));
    let later = start + seconds(3600);
    schedule.record(later, Trigger::Timer, Some(&Verdict::Unchanged));
    assert_eq!(schedule.interval(), seconds(30));
    assert_eq!(schedule.triggered_due(later), later + OPTIONS.refresh_gap);
    assert_eq!(schedule.triggered_due(later + seconds(1)), later + seconds(1));
    schedule.record(later + seconds(1), Trigger::File, Some(&Verdict::Unchanged));
    assert!(schedule.interval() < Duration::from_millis(1100));
}

#[test]
fn a_write_is_followed_by_one_more_fetch() {
    let options = Options { every: seconds(30), ..OPTIONS };
    let mut schedule = Schedule::new(options, 1);
    let start = clock::now();
    schedule.record(start, Trigger::Write, Some(&Verdict::Unchanged));
    let after = schedule.due(start);
    assert_eq!(after, start + FOLLOW_UP_DELAY);
    schedule.record(after, Trigger::Timer, Some(&Verdict::Unchanged));
    assert!(schedule.due(after) >= after + seconds(30));
}

#[test]
fn failures_double_the_interval_up_to_the_ceiling() {
    let mut schedule = Schedule::new(OPTIONS, 1);
    let mut at = clock::now();
    for expected in [1, 2, 4, 8, 16, 30, 30] {
        schedule.record(at, Trigger::Timer, Some(&failed(500, None)));
        let interval = schedule.interval();
        assert!(
            interval >= seconds(expected) && interval <= seconds(expected).mul_f64(1.1),
            "{interval:?} instead of {expected} s"
        );
        at = schedule.due(at);
    }
    schedule.record(at, Trigger::Timer, Some(&Verdict::Unchanged));
    assert!(schedule.failures == 0);
}

#[test]
fn retry_after_is_heeded_by_timers_and_triggers_but_not_for_ever() {
    let mut schedule = Schedule::new(OPTIONS, 1);
    let at = clock::now();
    schedule.record(at, Trigger::Timer, Some(&failed(503, Some(seconds(60)))));
    assert_eq!(schedule.due(at), at + seconds(60));
    assert_eq!(schedule.triggered_due(at), at + seconds(60));
    schedule.record(at, Trigger::Timer, Some(&failed(503, Some(seconds(1_000_000)))));
    assert_eq!(schedule.due(at), at + MAX_RETRY_AFTER);
}

#[test]
fn a_rest_ends_at_the_first_sign_that_the_upstream_is_well() {
    let at = clock::now();
    let resting = || {
        let mut schedule = Schedule::new(OPTIONS, 1);
        schedule.record(at, Trigger::Timer, Some(&failed(503, Some(seconds(60)))));
        assert_eq!(schedule.demanded_due(at + seconds(1)), at + seconds(60));
        assert_eq!(schedule.rests_until(), Some(at + seconds(60)));
        schedule
    };
    let mut told = resting();
    told.hinted();
    assert_eq!((told.rests_until(), told.demanded_due(at + seconds(1))), (None, at + seconds(1)));
    let mut hopeful = resting();
    assert!(!hopeful.seen_well(at), "it was well before, perhaps");
    assert!(hopeful.seen_well(at + seconds(1)));
    assert_eq!(hopeful.rests_until(), None);
    assert!(!hopeful.seen_well(at + seconds(1)), "one fetch will do");
}

#[test]
fn signs_that_deceive_are_believed_more_and_more_rarely() {
    let start = clock::now();
    let mut schedule = Schedule::new(OPTIONS, 1);
    schedule.record(start, Trigger::Timer, Some(&failed(503, Some(seconds(600)))));
    let mut fetches = 0;
    let mut fetch = None;
    for second in 1..=300 {
        let now = start + seconds(second);
        if schedule.seen_well(now) {
            fetch = Some(schedule.triggered_due(now));
        }
        if fetch.take_if(|due| *due <= now).is_some() {
            schedule.record(now, Trigger::Demand, Some(&failed(503, Some(seconds(600)))));
            fetches += 1;
        }
    }
    assert!((8..20).contains(&fetches), "{fetches} fetches in five minutes");
    schedule.record(start + seconds(301), Trigger::Hook, Some(&Verdict::Unchanged));
    assert!(!schedule.seen_well(start + seconds(302)), "it is well");
    schedule.record(start + seconds(303), Trigger::Timer, Some(&failed(503, Some(seconds(600)))));
    assert!(schedule.seen_well(start + seconds(304)), "all is forgotten");
}

#[test]
fn who_waits_for_a_fetch_does_not_wait_for_the_gap() {
    let mut schedule = Schedule::new(OPTIONS, 1);
    let at = clock::now();
    schedule.record(at, Trigger::Write, Some(&Verdict::Changed));
    assert_eq!(schedule.triggered_due(at), at + OPTIONS.refresh_gap);
    assert_eq!(schedule.demanded_due(at), at);
}

#[test]
fn resources_that_begin_together_drift_apart() {
    let start = clock::now();
    let dues: std::collections::HashSet<Instant> = (0..100)
        .map(|seed| {
            let mut schedule = Schedule::new(OPTIONS, seed);
            schedule.record(start, Trigger::Demand, Some(&Verdict::Changed));
            schedule.due(start)
        })
        .collect();
    assert!(dues.len() > 90);
}

fn verdicts() -> impl Strategy<Value = Option<Verdict>> {
    prop_oneof![
        Just(Some(Verdict::Changed)),
        Just(Some(Verdict::Unchanged)),
        Just(Some(Verdict::NotModified)),
        Just(Some(Verdict::Insignificant)),
        Just(None),
        proptest::option::of(0u64..1000).prop_map(|wait| Some(failed(503, wait.map(Duration::from_secs)))),
    ]
}

fn triggers() -> impl Strategy<Value = Trigger> {
    prop::sample::select(&[Trigger::Timer, Trigger::Demand, Trigger::Write, Trigger::File, Trigger::Hook][..])
}

proptest! {
    /// In all histories: no fetch is earlier than the gap or later than the maximum (or the upstream's request), and by
    /// the timer none is earlier than the interval, except for the follow-up.
    #[test]
    fn fetches_are_never_too_near_and_never_too_far(
        seed: u64,
        every in 10u64..5000,
        factor in 1u64..50,
        steps in prop::collection::vec((triggers(), verdicts(), 0u64..100_000), 1..50),
    ) {
        let every = Duration::from_millis(every);
        let options = Options { every, every_max: every * u32::try_from(factor).unwrap(), refresh_gap: Duration::from_millis(50), effort: None };
        let mut schedule = Schedule::new(options, seed);
        let mut now = clock::now();
        for (trigger, verdict, pause) in steps {
            schedule.record(now, trigger, verdict.as_ref());
            let asked = match &verdict {
                Some(Verdict::Failed(failure)) => failure.retry_after.unwrap_or_default().min(MAX_RETRY_AFTER),
                _ => Duration::ZERO,
            };
            prop_assert!(schedule.interval() >= options.every && schedule.interval() <= options.every_max);
            let due = schedule.due(now);
            prop_assert!(due >= now + options.every.min(FOLLOW_UP_DELAY / 2));
            prop_assert!(due <= now + options.every_max.max(asked));
            prop_assert!(schedule.triggered_due(now) >= now + options.refresh_gap.max(asked));
            now += Duration::from_millis(pause);
        }
    }
}

#[test]
fn nobody_learns_later_than_by_fetching_himself() {
    let mut schedule = Schedule::new(OPTIONS, 1);
    let start = clock::now();
    schedule.record(start, Trigger::Timer, Some(&Verdict::Changed));
    let at = start + seconds(3600);
    schedule.record(at, Trigger::Timer, Some(&Verdict::Unchanged));
    assert!(schedule.due(at) > at + seconds(20));
    let mut due_at = |fastest| {
        schedule.set_client_interval(ClientInterval { min: Some(fastest), declared_by_all: false });
        schedule.due(at)
    };
    assert_eq!(due_at(seconds(5)), at + seconds(5));
    // The same holds for a client that polls more often than the route says.
    assert_eq!(due_at(Duration::from_millis(500)), at + Duration::from_millis(500));
    // The minimum client interval bounds that.
    assert_eq!(due_at(Duration::from_millis(10)), at + MIN_CLIENT_INTERVAL);
}

/// Creates a schedule whose held clients all declare this interval.
fn measured(options: Options, pace: Duration) -> Schedule {
    let mut schedule = Schedule::new(options, 1);
    schedule.set_client_interval(ClientInterval { min: Some(pace), declared_by_all: true });
    schedule
}

/// Fetches whenever it is due, until `until`, and returns the number of fetches; `verdict` is the verdict on a fetch at
/// a time.
fn fetches(schedule: &mut Schedule, from: Instant, until: Instant, mut verdict: impl FnMut(Instant) -> Verdict) -> u32 {
    let (mut at, mut count) = (schedule.due(from), 0);
    while at < until {
        schedule.record(at, Trigger::Timer, Some(&verdict(at)));
        at = schedule.due(at);
        count += 1;
    }
    count
}

/// Returns the verdicts on a resource that changes with this period.
fn changes_every(period: Duration, start: Instant) -> impl FnMut(Instant) -> Verdict {
    let mut seen = 0;
    move |at| {
        let state = at.saturating_duration_since(start).as_nanos() / period.as_nanos();
        if std::mem::replace(&mut seen, state) == state { Verdict::Unchanged } else { Verdict::Changed }
    }
}

#[test]
fn what_is_restless_is_fetched_as_often_as_who_follows_it_would() {
    let (mut schedule, start) = (measured(OPTIONS, seconds(5)), clock::now());
    fetches(&mut schedule, start, start + seconds(10), |_| Verdict::Changed);
    let (from, until) = (start + seconds(10), start + seconds(110));
    let count = fetches(&mut schedule, from, until, |_| Verdict::Changed);
    assert!((19..=21).contains(&count), "{count} fetches in twenty of its intervals");
    // After an unchanged fetch, the next change counts again.
    let at = schedule.due(until);
    schedule.record(at, Trigger::Timer, Some(&Verdict::Unchanged));
    schedule.record(at + seconds(5), Trigger::Timer, Some(&Verdict::Changed));
    assert!(schedule.interval() < Duration::from_millis(1100));
}

#[test]
fn nobody_who_does_not_say_how_often_he_would_fetch_is_told_more_rarely() {
    for pace in [ClientInterval::default(), ClientInterval { min: Some(seconds(5)), declared_by_all: false }] {
        let (mut schedule, start) = (Schedule::new(OPTIONS, 1), clock::now());
        schedule.set_client_interval(pace);
        let count = fetches(&mut schedule, start, start + seconds(110), |_| Verdict::Changed);
        assert!(count >= 100, "{count} fetches");
    }
    // A route with a fixed interval is not affected.
    let always = Options { every_max: OPTIONS.every, ..OPTIONS };
    let (mut schedule, start) = (measured(always, seconds(5)), clock::now());
    let count = fetches(&mut schedule, start, start + seconds(110), |_| Verdict::Changed);
    assert!(count >= 100, "{count} fetches");
}

#[test]
fn early_fetches_are_made_as_long_as_they_find_something() {
    let start = clock::now();
    // Each change is found by an early fetch.
    let mut lively = measured(OPTIONS, seconds(10));
    fetches(&mut lively, start, start + seconds(100), changes_every(seconds(4), start));
    assert!(lively.interval() < Duration::from_millis(1100), "{:?}", lively.interval());
    // The early fetches after each of these changes find nothing.
    let mut calm = measured(OPTIONS, seconds(10));
    let hour = seconds(3600);
    let count = fetches(&mut calm, start, start + hour, changes_every(seconds(300), start));
    assert!(count < 360 + 12 * 12, "{count} fetches in an hour, and 360 polls");
}

#[test]
fn quiet_things_are_fetched_no_more_often_than_who_follows_them_would() {
    for pace in [seconds(5), seconds(60), seconds(300)] {
        let (mut schedule, start) = (measured(OPTIONS, pace), clock::now());
        schedule.record(start, Trigger::Demand, Some(&Verdict::Changed));
        let count = fetches(&mut schedule, start, start + 40 * pace, |_| Verdict::Unchanged);
        assert!((40..=52).contains(&count), "{count} fetches in 40 intervals of {pace:?}");
    }
}

#[test]
fn writes_have_what_is_restless_fetched_once_in_an_interval() {
    let (mut schedule, start) = (measured(OPTIONS, seconds(5)), clock::now());
    assert!(schedule.write_may_trigger(start));
    let end = start + seconds(30);
    fetches(&mut schedule, start, end, |_| Verdict::Changed);
    assert!(schedule.write_may_trigger(end));
    schedule.record(end, Trigger::Write, Some(&Verdict::Changed));
    assert!(!schedule.write_may_trigger(end + seconds(4)));
    assert!(schedule.write_may_trigger(end + seconds(5)));
    assert_eq!(schedule.due(end), end + seconds(5), "what comes later is seen by the next fetch");
    // A resource with rare changes is fetched after each write, and once more.
    let mut calm = measured(OPTIONS, seconds(5));
    calm.record(start, Trigger::Write, Some(&Verdict::Changed));
    assert!(calm.write_may_trigger(start));
    assert_eq!(calm.due(start), start + FOLLOW_UP_DELAY);
}
