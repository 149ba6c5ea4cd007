//! The task that fetches one resource.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use tokio::time::{Instant, sleep_until};
use tracing::{Instrument, debug, info, info_span, warn};

use super::cohorts::{CohortSeat, Cohorts};
use super::effort::{FetchWeight, Share};
use super::noise::{NoiseLog, Succession};
use super::trial::Trial;
use super::{FetchLimiter, Fetcher, Schedule, ScheduleOptions, WriteRelevance};
use crate::clock::{self, roughly};
use crate::model::{EndReason, Kind};
use crate::normalise::Rules;
use crate::resource::{
    CompletedFetch, Ended, Failure, FetchLogEntry, FetchOutcome, HistoryOptions, Resource, ResourceRegistry,
    ResourceStatus, StateMachine, Trigger, Verdict, route_to_paste,
};
use crate::telemetry::{Event, RouteMetrics};

/// How the resources of a route are watched.
#[derive(Clone, Debug)]
pub struct WatchConfig {
    /// The route's pattern, which labels metrics and logs.
    pub route: Arc<str>,
    /// When to fetch.
    pub schedule: ScheduleOptions,
    /// The ignore rules.
    pub rules: Arc<Rules>,
    /// The limits of the history.
    pub history: HistoryOptions,
    /// The largest decoded body that is watched, in bytes.
    pub max_body: u64,
    /// How long a resource without clients is kept for clients that reconnect.
    pub linger: Duration,
    /// Whether the configuration does not declare fetches safe, so that the poller must verify that they have no side
    /// effects.
    pub verify_safe: bool,
    /// Request headers that do not identify a client, in addition to the known ones.
    pub ignored: Vec<HeaderName>,
    /// The log of learned noise, if noise is to be learned.
    pub noise: Option<Arc<NoiseLog>>,
    /// The cohorts of identities that are fetched in turn, unless each is fetched by itself.
    pub cohorts: Option<Arc<Cohorts>>,
}

/// Fetches one resource until it has no clients any more.
pub struct Poller<F: ?Sized> {
    /// The resource.
    pub resource: Arc<Resource>,
    /// The configuration.
    pub config: Arc<WatchConfig>,
    /// The fetcher.
    pub fetcher: Arc<F>,
    /// The limiter.
    pub limiter: Arc<FetchLimiter>,
    /// The registry from which the resource is removed at the end.
    pub registry: Arc<dyn ResourceRegistry>,
    /// The metrics of its route.
    pub metrics: Arc<RouteMetrics>,
    /// The seed of the jitter.
    pub seed: u64,
}

/// The poller's position in the events of its route.
pub(super) struct RouteEventCursor {
    seen: u64,
    relevance: WriteRelevance,
    pub(super) trial: Option<Trial>,
}

impl<F: Fetcher + ?Sized> Poller<F> {
    /// Runs until the resource ends.
    pub async fn run(self) {
        let span = info_span!("poll", route = %self.config.route, resource = self.resource.handle());
        self.watch().instrument(span).await;
    }

    async fn watch(self) {
        self.metrics.resources().inc();
        let mut state = self.state_machine();
        let mut schedule = Schedule::new(self.config.schedule, self.seed);
        let trial = self.config.verify_safe.then(Trial::default);
        let mut event_cursor = RouteEventCursor {
            seen: self.resource.route_events().sequence(),
            relevance: WriteRelevance::default(),
            trial,
        };
        let mut share = Share::new(Arc::clone(self.limiter.efforts()));
        let cohorts = self.config.cohorts.as_ref().filter(|_| self.resource.key().identity.fields().next().is_some());
        let seat = cohorts.map(|cohorts| CohortSeat::new(cohorts, &self.resource, &self.metrics));
        let mut held_back = false;
        let mut proven = !self.config.verify_safe;
        while let Some((trigger, due)) = self.wait(&mut schedule, &mut event_cursor, seat.as_ref()).await {
            let Some(mut fetch) = self.run_fetch(&state, &event_cursor, seat.as_ref(), (trigger, due)).await else {
                continue;
            };
            let (started, finished) = (fetch.started, fetch.finished);
            let is_first = state.head().newest().is_none();
            if self.is_overtaken_by_a_write(&fetch) {
                self.keep_for_who_wrote(&state, &fetch);
                self.log_fetch(
                    &fetch,
                    trigger,
                    "overtaken",
                    "a client that shows this page has written meanwhile".to_owned(),
                );
                schedule.record(started, trigger, None);
                self.resource.fetch_discarded();
                continue;
            }
            if !self.try_out(&mut event_cursor, &mut fetch) {
                self.log_fetch(
                    &fetch,
                    trigger,
                    "unlike",
                    "a client was answered otherwise: its next poll is waited for".to_owned(),
                );
                schedule.record(started, trigger, None);
                self.resource.fetch_discarded();
                continue;
            }
            let mut succession = Succession::default();
            if !proven {
                self.verify_safe_to_fetch(&mut proven, &state, &mut fetch, &mut succession).await;
            }
            // While the upstream was answering, clients were shown another state, which may be newer. If that happens
            // repeatedly, every other fetch is published nevertheless: it is a real state, and other clients wait for
            // one. Clients that have written are protected from older states by their own fences.
            let shown = self.resource.siblings().shown_beside(self.resource.handle());
            let shown = shown.max(Some(self.resource.own_fence()));
            held_back = !held_back && Some(started) < shown && matches!(fetch.outcome, FetchOutcome::Fresh(_));
            if held_back {
                self.log_fetch(
                    &fetch,
                    trigger,
                    "overtaken",
                    "something newer may have been shown while the upstream was answering".to_owned(),
                );
                schedule.record(started, trigger, None);
                self.resource.trigger(trigger);
                self.resource.fetch_discarded();
                continue;
            }
            let room = self.resource.memory_budget();
            state.charge(self.resource.owner(|owner| room.used_by(owner) as usize));
            let weight = FetchWeight::of(&fetch);
            let (mut verdict, mut ring) = self.apply(&mut state, fetch, trigger);
            if let Some(seat) = &seat {
                seat.record(state.head(), &verdict, finished);
            }
            self.account(&mut schedule, &mut share, weight, seat.as_ref().map_or(1, CohortSeat::turns));
            succession.learn(&mut state);
            if state.is_too_much() {
                // A resource that exceeds its share of the memory must not deprive others.
                state.close(Ended::Closed(EndReason::Overload));
                (verdict, ring) = (Verdict::Ended, true);
            }
            schedule.record(started, trigger, Some(&verdict));
            if verdict == Verdict::Changed {
                event_cursor.relevance.changed(started);
                self.resource.siblings().show(self.resource.handle(), finished);
            }
            self.resource.set_interval(schedule.interval());
            self.resource.rest(schedule.rests_until());
            if verdict == Verdict::Ended {
                // Clients that join from now on get a new resource; current ones are told that it ended.
                self.registry.remove(&self.resource);
            }
            self.resource.publish(Arc::clone(state.head()), ring);
            if verdict == Verdict::Ended {
                break;
            }
            if is_first && proven && self.config.noise.is_some() {
                self.fetch_in_succession(&mut state, &event_cursor).await;
            }
        }
        let condition = state.head().status.clone();
        if state.head().ended().is_none() {
            // Held clients are told. Without any, a plain request may just have found the resource, and must not wait
            // forever.
            state.close(Ended::Closed(self.resource.close_reason()));
            self.resource.publish(Arc::clone(state.head()), true);
        }
        if matches!(condition, ResourceStatus::Stale { .. }) {
            let _ = self.metrics.failing().end();
        }
        self.metrics.resources().dec();
    }

    /// Waits until a fetch is due. Returns its trigger and the time since when it is due, or `None` if the watch is
    /// over because the resource has no clients or its route was removed.
    async fn wait(
        &self,
        schedule: &mut Schedule,
        event_cursor: &mut RouteEventCursor,
        seat: Option<&CohortSeat>,
    ) -> Option<(Trigger, Instant)> {
        let mut idle_since = None;
        loop {
            if self.resource.is_closing() {
                self.registry.remove(&self.resource);
                return None;
            }
            let now = clock::now();
            schedule.set_client_interval(self.resource.client_interval());
            if !self.may_fetch(event_cursor, now) {
                if self.resource.held() > 0 {
                    idle_since = None;
                    self.resource.poller_wakeup().await;
                    continue;
                }
                let deadline = *idle_since.get_or_insert(now) + self.config.linger;
                if deadline <= now {
                    // No client waits for a fetch that may not be made.
                    self.registry.remove(&self.resource);
                    return None;
                }
                tokio::select! {
                    () = sleep_until(deadline) => {}
                    () = self.resource.poller_wakeup() => {}
                }
                continue;
            }
            let held = self.resource.held() > 0;
            if held {
                self.poll_route_events(schedule, event_cursor, now);
            }
            if self.resource.is_hinted() {
                schedule.hinted();
            }
            if self.resource.seen_well().is_some_and(|seen| schedule.seen_well(seen)) {
                self.resource.trigger(Trigger::Demand);
            }
            self.resource.rest(schedule.rests_until());
            if self.resource.is_triggered() {
                let due =
                    if self.resource.is_awaited() { schedule.demanded_due(now) } else { schedule.triggered_due(now) };
                if due > now {
                    // Further events until then are covered by the same fetch, but events that end a rest must be
                    // handled.
                    let is_rest = schedule.rests_until().is_some();
                    tokio::select! {
                        () = sleep_until(due) => {}
                        () = self.resource.poller_wakeup() => {}
                        () = self.resource.route_events().wait_past(event_cursor.seen), if held && is_rest => {}
                    }
                    continue;
                }
                match self.resource.take_trigger(self.resource.held() > 0, schedule.write_may_trigger(due)) {
                    Some(trigger) => return Some((trigger, due)),
                    None => continue,
                }
            }
            if held {
                idle_since = None;
                let turn = seat.and_then(|seat| seat.due(schedule.interval(), schedule.longest()));
                let due = turn.map_or_else(|| schedule.due(now), |turn| schedule.due_in_turn(turn, now));
                tokio::select! {
                    // The client may have written meanwhile.
                    () = sleep_until(due) => if self.may_fetch(event_cursor, clock::now()) {
                        return Some((Trigger::Timer, due));
                    },
                    () = self.resource.poller_wakeup() => {}
                    () = self.resource.route_events().wait_past(event_cursor.seen) => {}
                }
            } else {
                if let Some(seat) = seat {
                    seat.away();
                }
                let since = *idle_since.get_or_insert(now);
                let deadline = self.resource.last_poll().map_or(since, |polled| polled.max(since)) + self.config.linger;
                if deadline <= now && self.registry.remove_if_idle(&self.resource) {
                    return None;
                }
                tokio::select! {
                    () = sleep_until(deadline) => {}
                    () = self.resource.poller_wakeup() => {}
                }
            }
        }
    }

    /// Triggers the resource if the route's new events concern it.
    fn poll_route_events(&self, schedule: &mut Schedule, event_cursor: &mut RouteEventCursor, now: Instant) {
        let heard = self.resource.route_events().since(event_cursor.seen);
        event_cursor.seen = heard.sequence;
        let bears = event_cursor.relevance.record_write(&heard.writes, now);
        if heard.trigger > Some(Trigger::Write) {
            schedule.hinted();
        }
        if let Some(trigger) = heard.trigger
            && (trigger != Trigger::Write || bears || !schedule.is_client_paced())
        {
            self.resource.trigger(trigger);
        }
    }

    /// Applies a fetch. Returns the verdict, and whether clients must be woken.
    fn apply(&self, state: &mut StateMachine, fetch: CompletedFetch, trigger: Trigger) -> (Verdict, bool) {
        let was_stale = matches!(state.head().status, ResourceStatus::Stale { .. });
        let entry = FetchLogEntry::from_fetch(&fetch, trigger);
        state.set_pace(self.resource.client_interval().min.unwrap_or_default());
        if matches!(trigger, Trigger::Write | Trigger::File | Trigger::Hook) {
            state.stirred(fetch.started);
        }
        let (verdict, ring) = state.observe(fetch);
        self.tell_noise(state, &verdict);
        self.log(&verdict, was_stale);
        if let Some(advice) = &state.head().advice
            && self.config.rules.warn_once()
        {
            self.log_advice(advice, state);
        }
        if verdict == Verdict::Changed {
            self.resource.route_events().record_change();
        }
        self.metrics.fetched(verdict.result());
        self.metrics.fetch_took(entry.took);
        if let Some(bytes) = entry.bytes {
            self.metrics.fetched_at(bytes);
        }
        let entry = FetchLogEntry { result: verdict.result(), reason: state.explain(&verdict), ..entry };
        if let Some(what) = notable_event(&verdict, state, was_stale) {
            self.emit_event(what, &entry);
        }
        self.resource.log_fetch(entry);
        (verdict, ring)
    }

    /// Logs one line per route and problem, not one per fetch or resource: a backend that does not answer at all is
    /// logged elsewhere, and if one resource fails, others of its route most likely do too.
    fn log(&self, verdict: &Verdict, was_stale: bool) {
        let url = &*self.resource.key().target;
        match verdict {
            Verdict::Failed(Failure { text, status, .. }) if !was_stale => {
                if self.metrics.failing().begin(status.is_some()) {
                    warn!(
                        url,
                        "cannot be fetched: {text}; nothing else is logged of this route until all of it can be fetched again"
                    );
                } else {
                    debug!(url, "cannot be fetched: {text}");
                }
            }
            Verdict::Failed(_) => {}
            _ if was_stale => {
                if let Some(lasted) = self.metrics.failing().end() {
                    info!(url, "all of this route can be fetched again, after {}", roughly(lasted));
                } else {
                    debug!(url, "can be fetched again");
                }
            }
            verdict => debug!(?verdict, "looked"),
        }
    }

    /// Logs advice on the resource's route, including a route to paste.
    fn log_advice(&self, advice: &str, state: &StateMachine) {
        let url = &*self.resource.key().target;
        let path = url.split('?').next().unwrap_or_default();
        let is_page =
            state.head().newest().is_some_and(|newest| newest.representation.media_type().kind() == Kind::Html);
        match route_to_paste(advice, path, is_page && self.config.verify_safe) {
            Some(route) => {
                warn!(url, "{path}: {advice}. As a route of its own, above {:?}:\n{route}", self.config.route);
            }
            None => warn!(url, "{path}: {advice}"),
        }
    }

    fn emit_event(&self, what: &'static str, entry: &FetchLogEntry) {
        self.metrics.emit(Event {
            number: 0,
            at: entry.at,
            route: Arc::clone(&self.config.route),
            resource: self.resource.handle().to_owned(),
            url: Arc::clone(&self.resource.key().target),
            kind: what,
            reason: entry.reason.clone(),
            trigger: entry.trigger.as_str(),
            status: entry.status,
            bytes: entry.bytes,
            took: entry.took,
        });
    }

    pub(super) fn log_fetch(&self, fetch: &CompletedFetch, trigger: Trigger, result: &'static str, reason: String) {
        self.metrics.fetched(result);
        self.resource.log_fetch(FetchLogEntry { result, reason, ..FetchLogEntry::from_fetch(fetch, trigger) });
    }
}

/// Returns the kind of event for the event log, if the fetch is relevant to operators.
fn notable_event(verdict: &Verdict, state: &StateMachine, was_stale: bool) -> Option<&'static str> {
    match verdict {
        Verdict::Changed if state.head().newest().is_some_and(|newest| newest.version.position == 1) => Some("first"),
        Verdict::Changed => Some("changed"),
        Verdict::Ended => Some("ended"),
        Verdict::Failed(_) => (!was_stale).then_some("stale"),
        Verdict::Insignificant | Verdict::Noise | Verdict::Unchanged | Verdict::NotModified => {
            was_stale.then_some("live")
        }
    }
}
