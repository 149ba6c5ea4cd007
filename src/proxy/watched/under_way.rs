//! Plain requests of routes, from their arrival to the last byte of their responses.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::clock;
use crate::deliver::Poll;
use crate::hub::{Arrival, Hub};

/// The observers of a request's end. They are notified when this is dropped, so it is kept until then.
#[derive(Debug, Default)]
pub(in crate::proxy) struct UnderWay {
    crossing: OnceLock<Box<Crossing>>,
    poll: OnceLock<Box<Poll>>,
}

#[derive(Debug)]
struct Crossing {
    hub: Arc<Hub>,
    arrival: Arrival,
}

/// Travels with a request through pingora's proxy, and records whether the application's response was complete.
#[derive(Clone, Debug, Default)]
pub(in crate::proxy) struct Witness(Arc<AtomicBool>);

impl Witness {
    /// Records that it was complete.
    pub(in crate::proxy) fn saw_whole_answer(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Returns whether it was complete.
    pub(in crate::proxy) fn has_seen(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl UnderWay {
    /// Returns whether the application's response time is of interest.
    pub(in crate::proxy) fn is_watched(&self) -> bool {
        self.crossing.get().is_some()
    }

    /// Registers the hub as an observer.
    pub(in crate::proxy) fn crosses(&self, hub: &Arc<Hub>, arrival: Arrival) {
        // A request arrives only once.
        let _ = self.crossing.set(Box::new(Crossing { hub: Arc::clone(hub), arrival }));
    }

    /// Records that this server answers the request and may hold it.
    pub(in crate::proxy) fn is_ours(&self) {
        if let Some(crossing) = self.crossing.get() {
            crossing.hub.withhold(&crossing.arrival);
        }
    }

    /// Records that the application itself has answered completely.
    pub(in crate::proxy) fn answered(&self) {
        if let Some(crossing) = self.crossing.get() {
            crossing.hub.answered(&crossing.arrival, clock::now());
        }
    }

    /// Registers the poll that this request is.
    pub(in crate::proxy) fn is(&self, poll: Poll) -> &Poll {
        self.poll.get_or_init(|| Box::new(poll))
    }

    /// Returns the poll, if its page may be held.
    pub(in crate::proxy) fn poll(&self) -> Option<&Poll> {
        self.poll.get().map(|poll| &**poll)
    }
}

impl Drop for Crossing {
    fn drop(&mut self) {
        self.hub.leave(&self.arrival, clock::now());
    }
}
