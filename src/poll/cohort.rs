//! Cohorts: identities that received the same content over several versions are fetched in turn while nothing changes.
//!
//! ```text
//! fetches of each identity ─ the same content over several versions ─▶ seated: one of all is fetched per interval, in turn
//!      ▲                                                                  │ news
//!      │                                                                  ▼
//!      └─ the finder leaves ◀─ not seen by them ─ two witnesses are fetched ─ seen by one ─▶ all are fetched at once
//! ```
//!
//! Only the times of fetches are decided here. Each identity receives what its own fetches returned, and is fetched at
//! least every `every_max`. Pure: the time is an argument, and the members to wake are results.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use slab::Slab;
use tokio::time::Instant;

use crate::model::Digest;

/// The number of consecutive versions that an identity must share with others before it joins.
const SHARED_VERSIONS: u32 = 3;

/// The maximum of that number. It doubles each time that an identity leaves because its content differed.
const MAX_SHARED_VERSIONS: u32 = 96;

/// The number of members that are fetched to confirm news.
const WITNESSES: usize = 2;

/// What a fetch found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The content with this meaning, new or not.
    Content(Digest),
    /// No usable response.
    Failure,
}

/// What other members must do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Orders {
    /// The members to fetch at once.
    pub(super) fetch: Vec<usize>,
    /// The member whose turn it is now.
    pub(super) next: Option<usize>,
}

/// The identities for which one URL is watched.
#[derive(Debug, Default)]
pub(super) struct Cohort {
    members: Slab<Member>,
    /// The number of members with each content.
    contents: HashMap<Digest, usize>,
    /// The seated members whose clients are held, by the start of their last fetch.
    queue: BTreeSet<(Instant, usize)>,
    /// The number of seated members.
    seated: usize,
    /// The content of the seated members, and when it was found.
    current: Option<(Digest, Instant)>,
    /// The start of the last fetch of a seated member.
    last: Option<Instant>,
    news: Option<News>,
    /// Whether the last fetch of a seated member failed.
    failing: bool,
}

#[derive(Debug)]
struct Member {
    content: Option<Digest>,
    /// The number of consecutive versions that others received, too, and whether the current one is counted.
    shared: u32,
    is_counted: bool,
    /// The number that is needed.
    needed: u32,
    is_seated: bool,
    /// The start of the last fetch.
    started: Option<Instant>,
    interval: Duration,
}

/// News that no other member has seen yet.
#[derive(Clone, Copy, Debug)]
struct News {
    finder: usize,
    found: Instant,
}

impl Cohort {
    /// Adds an identity.
    pub(super) fn join(&mut self) -> usize {
        self.members.insert(Member {
            content: None,
            shared: 0,
            is_counted: false,
            needed: SHARED_VERSIONS,
            is_seated: false,
            started: None,
            interval: Duration::ZERO,
        })
    }

    /// Removes an identity.
    pub(super) fn leave(&mut self, id: usize) -> Orders {
        let orders = self.away(id);
        self.unseat(id);
        let member = self.members.remove(id);
        self.forget_content(member.content);
        orders
    }

    /// Returns whether there are no members.
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Returns the number of members that take turns.
    pub(super) fn turns(&self) -> usize {
        self.queue.len()
    }

    /// Returns when a held member is due, where its own interval would be `interval` and may be `longest`; `None` if it does
    /// not take turns.
    pub(super) fn due(&mut self, id: usize, interval: Duration, longest: Duration) -> Option<Instant> {
        let member = &mut self.members[id];
        member.interval = interval;
        let started = member.started.filter(|_| member.is_seated)?;
        self.queue.insert((started, id));
        if self.queue.len() < 2 {
            return None;
        }
        let latest = started + longest;
        let is_first = self.queue.first().is_some_and(|(_, first)| *first == id);
        let shortest = || self.queue.iter().map(|(_, id)| self.members[*id].interval).min();
        let turn = self.last.zip(is_first.then(shortest).flatten()).map(|(last, interval)| last + interval);
        Some(turn.map_or(latest, |turn| turn.min(latest)))
    }

    /// Records that a member has no held clients.
    pub(super) fn away(&mut self, id: usize) -> Orders {
        let was_first = self.queue.first().is_some_and(|(_, first)| *first == id);
        if let Some(started) = self.members[id].started {
            self.queue.remove(&(started, id));
        }
        Orders { next: self.first().filter(|_| was_first), ..Orders::default() }
    }

    /// Records that a fetch of a member begins.
    pub(super) fn begin(&mut self, id: usize, now: Instant) -> Orders {
        let member = &mut self.members[id];
        let before = member.started.replace(now);
        if !member.is_seated {
            return Orders::default();
        }
        self.last = Some(now);
        if let Some(before) = before
            && self.queue.remove(&(before, id))
        {
            self.queue.insert((now, id));
        }
        Orders { next: self.first().filter(|first| *first != id), ..Orders::default() }
    }

    /// Records the outcome of a member's last fetch, which ended at `finished`.
    pub(super) fn record(&mut self, id: usize, found: Found, finished: Instant) -> Orders {
        let was_seated = self.members[id].is_seated;
        let content = match found {
            Found::Content(content) => content,
            Found::Failure => return self.fail(id),
        };
        let is_new = self.members[id].content != Some(content);
        if is_new {
            self.count(id, content);
        }
        if !was_seated {
            self.seat(id, finished);
            return Orders::default();
        }
        self.failing = false;
        if is_new { self.hear(id, content, finished) } else { self.confirm(id, content) }
    }

    /// Handles a seated member's new content.
    fn hear(&mut self, id: usize, content: Digest, finished: Instant) -> Orders {
        if self.current.is_some_and(|(current, _)| current == content) {
            return Orders::default();
        }
        match self.news.filter(|news| news.finder != id) {
            // Seen by two members, or several members saw different things: the content of all may have changed.
            Some(news) => {
                self.news = None;
                self.current = Some((content, news.found.min(finished)));
                Orders { fetch: self.others(id, content), ..Orders::default() }
            }
            None => {
                self.news = Some(News { finder: id, found: finished });
                let witnesses = self.others(id, content).into_iter().take(WITNESSES).collect();
                Orders { fetch: witnesses, ..Orders::default() }
            }
        }
    }

    /// Handles a seated member's unchanged content.
    fn confirm(&mut self, id: usize, content: Digest) -> Orders {
        let started = self.members[id].started;
        if let Some((current, found)) = self.current
            && current != content
        {
            // A member that is still to be fetched for news stays.
            if started >= Some(found) && self.news.is_none_or(|news| news.finder != id) {
                self.diverge(id);
            }
        } else if let Some(news) = self.news
            && news.finder != id
            && started >= Some(news.found)
        {
            self.news = None;
            self.diverge(news.finder);
        }
        Orders::default()
    }

    /// Handles a failed fetch. One member is asked whether it concerns others; if it does, all are fetched by themselves.
    fn fail(&mut self, id: usize) -> Orders {
        if !self.members[id].is_seated {
            return Orders::default();
        }
        self.unseat(id);
        let members: Vec<usize> = self.queue.iter().map(|(_, id)| *id).collect();
        if std::mem::replace(&mut self.failing, true) {
            members.iter().for_each(|id| self.unseat(*id));
            return Orders { fetch: members, next: None };
        }
        Orders { fetch: members.into_iter().take(1).collect(), next: None }
    }

    /// Returns the held members without `content`, the longest waiting first.
    fn others(&self, id: usize, content: Digest) -> Vec<usize> {
        let ids = self.queue.iter().map(|(_, other)| *other);
        ids.filter(|other| *other != id && self.members[*other].content != Some(content)).collect()
    }

    fn first(&self) -> Option<usize> {
        self.queue.first().map(|(_, id)| *id)
    }

    /// Counts a member's new content, as shared if others have it, too.
    fn count(&mut self, id: usize, content: Digest) {
        let before = self.members[id].content.replace(content);
        self.forget_content(before);
        let member = &mut self.members[id];
        if before.is_some() && !member.is_counted {
            member.shared = 0;
        }
        member.is_counted = false;
        let count = self.contents.entry(content).or_default();
        *count += 1;
        if *count == 2 {
            self.members.iter_mut().filter(|(_, other)| other.content == Some(content)).for_each(|(_, it)| it.count());
        } else if *count > 2 {
            self.members[id].count();
        }
    }

    fn forget_content(&mut self, content: Option<Digest>) {
        if let Some(content) = content
            && let Some(count) = self.contents.get_mut(&content)
        {
            *count -= 1;
            if *count == 0 {
                self.contents.remove(&content);
            }
        }
    }

    /// Seats a member that has shared enough versions.
    fn seat(&mut self, id: usize, now: Instant) {
        let is_alone = self.seated == 0;
        let member = &mut self.members[id];
        let Some(content) = member.content.filter(|_| member.is_counted && member.shared >= member.needed) else {
            return;
        };
        if is_alone {
            self.current = Some((content, now));
            self.news = None;
            self.failing = false;
        }
        if self.current.is_some_and(|(current, _)| current == content) {
            member.is_seated = true;
            self.seated += 1;
            self.last = self.last.max(member.started);
        }
    }

    fn unseat(&mut self, id: usize) {
        let member = &mut self.members[id];
        self.seated -= usize::from(std::mem::take(&mut member.is_seated));
        if let Some(started) = member.started {
            self.queue.remove(&(started, id));
        }
        if self.news.is_some_and(|news| news.finder == id) {
            self.news = None;
        }
    }

    /// Removes a member whose content differs. It must share more versions before it is seated again.
    fn diverge(&mut self, id: usize) {
        self.unseat(id);
        let member = &mut self.members[id];
        member.shared = 0;
        member.is_counted = true;
        member.needed = (member.needed * 2).min(MAX_SHARED_VERSIONS);
    }
}

impl Member {
    /// Counts the current content as shared, once.
    fn count(&mut self) {
        if !self.is_counted {
            self.is_counted = true;
            self.shared = self.shared.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests;
