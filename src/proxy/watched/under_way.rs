//! Plain requests of routes, from their arrival to the last byte of their answers, whoever gives these.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::clock;
use crate::deliver::Poll;
use crate::hub::{Arrival, Hub};

/// Who is to be told when a request has been answered. Told when this is dropped; so it is kept until then.
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

/// What goes with a request into pingora's proxy, and sees whether the application's answer came whole.
#[derive(Clone, Debug, Default)]
pub(in crate::proxy) struct Witness(Arc<AtomicBool>);

impl Witness {
    /// It did.
    pub(in crate::proxy) fn saw_whole_answer(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it did.
    pub(in crate::proxy) fn has_seen(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl UnderWay {
    /// Whether anybody wants to know how the application answers.
    pub(in crate::proxy) fn is_watched(&self) -> bool {
        self.crossing.get().is_some()
    }

    /// The hub is to be told.
    pub(in crate::proxy) fn crosses(&self, hub: &Arc<Hub>, arrival: Arrival) {
        // A request arrives once.
        let _ = self.crossing.set(Box::new(Crossing { hub: Arc::clone(hub), arrival }));
    }

    /// It is answered by us, and may be held.
    pub(in crate::proxy) fn is_ours(&self) {
        if let Some(crossing) = self.crossing.get() {
            crossing.hub.withhold(&crossing.arrival);
        }
    }

    /// The application has answered it itself, and all of that is there.
    pub(in crate::proxy) fn answered(&self) {
        if let Some(crossing) = self.crossing.get() {
            crossing.hub.answered(&crossing.arrival, clock::now());
        }
    }

    /// The request is this poll.
    pub(in crate::proxy) fn is(&self, poll: Poll) -> &Poll {
        self.poll.get_or_init(|| Box::new(poll))
    }

    /// The poll that it is, if its page may be held.
    pub(in crate::proxy) fn poll(&self) -> Option<&Poll> {
        self.poll.get().map(|poll| &**poll)
    }
}

impl Drop for Crossing {
    fn drop(&mut self) {
        self.hub.leave(&self.arrival, clock::now());
    }
}
