//! The task that looks at one resource.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use tokio::time::{Instant, sleep_until};
use tracing::{Instrument, debug, info, info_span, warn};

use super::trial::Trial;
use super::{Bearings, Budget, Fetch, Permit, Schedule, ScheduleOptions, Urgency, WatchRequest};
use crate::clock::{self, roughly};
use crate::model::{EndReason, Kind, Validators};
use crate::normalise::Rules;
use crate::resource::{
    Condition, Ended, Entry, Failure, HistoryOptions, Look, Outcome, Resource, Retire, State, Trigger, Verdict,
    route_to_paste,
};
use crate::telemetry::{Happening, RouteMetrics};

/// How the resources of a route are watched.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The route's pattern, which labels metrics and logs.
    pub route: Arc<str>,
    /// When to look.
    pub schedule: ScheduleOptions,
    /// What is no change.
    pub rules: Arc<Rules>,
    /// How much of the past is kept.
    pub history: HistoryOptions,
    /// The largest decoded body that is watched, in bytes.
    pub max_body: u64,
    /// How long a resource without clients is kept for those who come back.
    pub linger: Duration,
    /// Whether nobody has said that it may be looked at: then it is found out whether looking takes something away.
    pub proves: bool,
    /// Request headers that count for nobody's identity, beside those that are known to.
    pub ignored: Vec<HeaderName>,
}

/// Makes the looks of one resource until nobody wants them any more.
pub struct Poller<F: ?Sized> {
    /// What is looked at.
    pub resource: Arc<Resource>,
    /// How.
    pub plan: Arc<Plan>,
    /// By whom.
    pub fetch: Arc<F>,
    /// Within which caps.
    pub budget: Arc<Budget>,
    /// Where it ends.
    pub hub: Arc<dyn Retire>,
    /// Where looks are counted.
    pub metrics: Arc<RouteMetrics>,
    /// Of the jitter.
    pub seed: u64,
}

/// What a poller has heard of what happened to its route.
pub(super) struct Ears {
    heard: u64,
    bearings: Bearings,
    pub(super) trial: Option<Trial>,
}

impl<F: Fetch + ?Sized> Poller<F> {
    /// Runs to the resource's end.
    pub async fn run(self) {
        let span = info_span!("poll", route = %self.plan.route, resource = self.resource.handle());
        self.watch().instrument(span).await;
    }

    async fn watch(self) {
        self.metrics.resources().inc();
        let mut state = State::new(Arc::clone(&self.plan.rules), self.plan.history, Arc::clone(self.resource.room()));
        let mut schedule = Schedule::new(self.plan.schedule, self.seed);
        let trial = self.plan.proves.then(Trial::default);
        let mut ears = Ears { heard: self.resource.pulse().beats(), bearings: Bearings::default(), trial };
        let mut held_back = false;
        let mut proven = !self.plan.proves;
        while let Some((trigger, due)) = self.wait(&mut schedule, &mut ears).await {
            let Some(mut look) = self.look(&state, &ears, trigger, due).await else { continue };
            let (started, finished) = (look.started, look.finished);
            if self.is_overtaken_by_a_write(&look) {
                self.keep_for_who_wrote(&state, &look);
                self.record(
                    &look,
                    trigger,
                    "overtaken",
                    "a client that shows this page has written meanwhile".to_owned(),
                );
                schedule.looked(started, trigger, None);
                self.resource.discard_look();
                continue;
            }
            if !self.try_out(&mut ears, &mut look) {
                self.record(
                    &look,
                    trigger,
                    "unlike",
                    "a client was answered otherwise: its next poll is waited for".to_owned(),
                );
                schedule.looked(started, trigger, None);
                self.resource.discard_look();
                continue;
            }
            if !proven {
                self.prove(&mut proven, &state, &mut look).await;
            }
            // While the upstream was answering, clients were shown something else that may be newer. If that goes on and on,
            // every other look is told nevertheless: it is a real state, and others wait for one. What clients have written
            // they are not shown the past of by their own fences.
            let shown = self.resource.siblings().shown_beside(self.resource.handle());
            let shown = shown.max(Some(self.resource.fenced_itself()));
            held_back = !held_back && Some(started) < shown && matches!(look.outcome, Outcome::Fresh(_));
            if held_back {
                self.record(
                    &look,
                    trigger,
                    "overtaken",
                    "something newer may have been shown while the upstream was answering".to_owned(),
                );
                schedule.looked(started, trigger, None);
                self.resource.trigger(trigger);
                self.resource.discard_look();
                continue;
            }
            let room = self.resource.room();
            state.charge(self.resource.owner(|owner| room.used_by(owner) as usize));
            let (mut verdict, mut ring) = self.take_in(&mut state, look, trigger);
            if state.is_too_much() {
                // Who has more than a share of the memory keeps nothing more from the others.
                state.close(Ended::Closed(EndReason::Overload));
                (verdict, ring) = (Verdict::Ended, true);
            }
            schedule.looked(started, trigger, Some(&verdict));
            if verdict == Verdict::Changed {
                ears.bearings.changed(started);
                self.resource.siblings().show(self.resource.handle(), finished);
            }
            self.resource.set_interval(schedule.interval());
            self.resource.rest(schedule.rests_until());
            if verdict == Verdict::Ended {
                // Whoever joins from now on starts anew; whoever is here is told.
                self.hub.forget(&self.resource);
            }
            self.resource.publish(Arc::clone(state.head()), ring);
            if verdict == Verdict::Ended {
                break;
            }
        }
        let condition = state.head().condition.clone();
        if state.head().ended().is_none() {
            // Whoever is held is told. If nobody is, a plain request may just have found the resource, and must not wait in
            // vain.
            state.close(Ended::Closed(self.resource.closed_for()));
            self.resource.publish(Arc::clone(state.head()), true);
        }
        if matches!(condition, Condition::Stale { .. }) {
            let _ = self.metrics.failing().end();
        }
        self.metrics.resources().dec();
    }

    /// Waits until a look is due, and says why and since when. `None`: the watch is over, because nobody needs the
    /// resource or because its route is there no more.
    async fn wait(&self, schedule: &mut Schedule, ears: &mut Ears) -> Option<(Trigger, Instant)> {
        let mut idle_since = None;
        loop {
            if self.resource.is_closing() {
                self.hub.forget(&self.resource);
                return None;
            }
            let now = clock::now();
            schedule.keep_pace(self.resource.pace());
            if !self.may_look(ears, now) {
                if self.resource.held() > 0 {
                    idle_since = None;
                    self.resource.attention().await;
                    continue;
                }
                let deadline = *idle_since.get_or_insert(now) + self.plan.linger;
                if deadline <= now {
                    // Nothing waits for a look that may not be made.
                    self.hub.forget(&self.resource);
                    return None;
                }
                tokio::select! {
                    () = sleep_until(deadline) => {}
                    () = self.resource.attention() => {}
                }
                continue;
            }
            let held = self.resource.held() > 0;
            if held {
                self.listen(schedule, ears, now);
            }
            if self.resource.is_told() {
                schedule.told();
            }
            if self.resource.seen_well().is_some_and(|seen| schedule.seen_well(seen)) {
                self.resource.trigger(Trigger::Demand);
            }
            self.resource.rest(schedule.rests_until());
            if self.resource.is_triggered() {
                let due =
                    if self.resource.is_awaited() { schedule.demanded_due(now) } else { schedule.triggered_due(now) };
                if due > now {
                    // Whatever else happens until then is served by the same look; but what ends a rest is to be heard.
                    let is_rest = schedule.rests_until().is_some();
                    tokio::select! {
                        () = sleep_until(due) => {}
                        () = self.resource.attention() => {}
                        () = self.resource.pulse().beats_beyond(ears.heard), if held && is_rest => {}
                    }
                    continue;
                }
                match self.resource.take_trigger(self.resource.held() > 0, schedule.heeds_writes(due)) {
                    Some(trigger) => return Some((trigger, due)),
                    None => continue,
                }
            }
            if held {
                idle_since = None;
                let due = schedule.due(now);
                tokio::select! {
                    // Meanwhile the client may have written.
                    () = sleep_until(due) => if self.may_look(ears, clock::now()) {
                        return Some((Trigger::Timer, due));
                    },
                    () = self.resource.attention() => {}
                    () = self.resource.pulse().beats_beyond(ears.heard) => {}
                }
            } else {
                let since = *idle_since.get_or_insert(now);
                let deadline = self.resource.last_poll().map_or(since, |polled| polled.max(since)) + self.plan.linger;
                if deadline <= now && self.hub.retire(&self.resource) {
                    return None;
                }
                tokio::select! {
                    () = sleep_until(deadline) => {}
                    () = self.resource.attention() => {}
                }
            }
        }
    }

    /// Takes what has happened to the route for a trigger, if it is one for this resource.
    fn listen(&self, schedule: &mut Schedule, ears: &mut Ears, now: Instant) {
        let heard = self.resource.pulse().since(ears.heard);
        ears.heard = heard.beats;
        let bears = ears.bearings.wrote(&heard.writes, now);
        if heard.trigger > Some(Trigger::Write) {
            schedule.told();
        }
        if let Some(trigger) = heard.trigger
            && (trigger != Trigger::Write || bears || !schedule.is_measured())
        {
            self.resource.trigger(trigger);
        }
    }

    /// Makes one look, as soon as the budget allows. `None` if everybody who wanted it has gone meanwhile.
    async fn look(&self, state: &State, ears: &Ears, trigger: Trigger, due: Instant) -> Option<Look> {
        let urgency = if trigger == Trigger::Timer { Urgency::Routine } else { Urgency::Triggered };
        let validators =
            state.head().newest().map(|newest| newest.representation.validators.clone()).unwrap_or_default();
        self.metrics.triggered(trigger.as_str());
        let (permit, started) = self.admit_while_wanted(urgency, due).await?;
        // From here on a write waits for it; one that came before is seen.
        let _under_way = self.resource.page().fetches();
        if !self.may_look(ears, clock::now()) {
            self.resource.trigger(trigger);
            return None;
        }
        self.resource.look_began(started);
        let ask = self.ask(permit, validators);
        // What only waiting clients asked for is called off with the last of them: the application may be holding it.
        let outcome = match self.resource.held() {
            0 => self.while_wanted(ask).await,
            _ => Some(ask.await),
        };
        if outcome.is_none() {
            self.resource.abandon_look();
        }
        Some(Look { started, finished: clock::now(), at: clock::wall(), outcome: outcome? })
    }

    /// Does `work`, as long as anybody wants the resource. What calls for attention meanwhile is seen to afterwards.
    async fn while_wanted<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                () = self.resource.attention() => {
                    if !self.resource.is_wanted() {
                        return None;
                    }
                }
            }
        }
    }

    /// Waits for the budget, as long as anybody wants the resource. Whoever joins meanwhile may have its turn sooner.
    async fn admit_while_wanted(&self, urgency: Urgency, due: Instant) -> Option<(Permit, Instant)> {
        loop {
            tokio::select! {
                biased;
                admitted = self.admit(urgency, due) => return Some(admitted),
                () = self.resource.attention() => {
                    if !self.resource.is_wanted() {
                        return None;
                    }
                }
            }
        }
    }

    /// Waits for the budget. Also returns when it allowed to ask.
    pub(super) async fn admit(&self, urgency: Urgency, due: Instant) -> (Permit, Instant) {
        let asked = clock::now();
        let owner = self.resource.owner(|owner| self.budget.load(owner));
        let permit = self.budget.admit(owner, urgency, due).await;
        let started = clock::now();
        // Not since it was due: that may have been while nobody watched.
        self.budget.note_wait(started.saturating_duration_since(asked), self.plan.schedule.every);
        (permit, started)
    }

    /// Asks the upstream.
    pub(super) async fn ask(&self, permit: Permit, validators: Validators) -> Outcome {
        let request = WatchRequest {
            key: self.resource.key(),
            validators,
            max_body: self.plan.max_body,
            seat: self.resource.seat(),
            ignored: &self.plan.ignored,
        };
        let outcome = self.fetch.fetch(&request).await;
        drop(permit);
        outcome
    }

    /// Takes a look in. Returns what it meant, and whether clients must be woken.
    fn take_in(&self, state: &mut State, look: Look, trigger: Trigger) -> (Verdict, bool) {
        let was_stale = matches!(state.head().condition, Condition::Stale { .. });
        let entry = Entry::of(&look, trigger);
        let (verdict, ring) = state.observe(look);
        self.log(&verdict, was_stale);
        if let Some(advice) = &state.head().advice
            && self.plan.rules.advise()
        {
            self.log_advice(advice, state);
        }
        if verdict == Verdict::Changed {
            self.resource.pulse().note_change();
        }
        self.metrics.fetched(verdict.result());
        self.metrics.fetch_took(entry.took);
        if let Some(bytes) = entry.bytes {
            self.metrics.looked_at(bytes);
        }
        let entry = Entry { result: verdict.result(), because: state.explain(&verdict), ..entry };
        if let Some(what) = worth_telling(&verdict, state, was_stale) {
            self.tell(what, &entry);
        }
        self.resource.record(entry);
        (verdict, ring)
    }

    /// One line a route and trouble, not one a look or a resource: of a backend that does not answer at all there is a line
    /// already, and where one resource fails, others of its route most likely do.
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

    /// Logs advice on the resource's route, with a route of its own to paste.
    fn log_advice(&self, advice: &str, state: &State) {
        let url = &*self.resource.key().target;
        let path = url.split('?').next().unwrap_or_default();
        let is_page =
            state.head().newest().is_some_and(|newest| newest.representation.media_type().kind() == Kind::Html);
        match route_to_paste(advice, path, is_page && self.plan.proves) {
            Some(route) => warn!(url, "{path}: {advice}. As a route of its own, above {:?}:\n{route}", self.plan.route),
            None => warn!(url, "{path}: {advice}"),
        }
    }

    fn tell(&self, what: &'static str, entry: &Entry) {
        self.metrics.happened(Happening {
            number: 0,
            at: entry.at,
            route: Arc::clone(&self.plan.route),
            resource: self.resource.handle().to_owned(),
            url: Arc::clone(&self.resource.key().target),
            what,
            because: entry.because.clone(),
            trigger: entry.trigger.as_str(),
            status: entry.status,
            bytes: entry.bytes,
            took: entry.took,
        });
    }

    pub(super) fn record(&self, look: &Look, trigger: Trigger, result: &'static str, because: String) {
        self.metrics.fetched(result);
        self.resource.record(Entry { result, because, ..Entry::of(look, trigger) });
    }
}

/// What an operator would want to hear of a look, if anything.
fn worth_telling(verdict: &Verdict, state: &State, was_stale: bool) -> Option<&'static str> {
    match verdict {
        Verdict::Changed if state.head().newest().is_some_and(|newest| newest.version.position == 1) => Some("first"),
        Verdict::Changed => Some("changed"),
        Verdict::Ended => Some("ended"),
        Verdict::Failed(_) => (!was_stale).then_some("stale"),
        Verdict::Insignificant | Verdict::Unchanged | Verdict::NotModified => was_stale.then_some("live"),
    }
}
