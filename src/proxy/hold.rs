//! A held client, to its end.

use http::StatusCode;

use super::busy::InUse;
use super::doors::Open;
use crate::deliver::{Session, Wire};
use crate::telemetry::Visit;

/// What a client keeps from being taken for unused while it is held.
#[allow(dead_code, reason = "it is there to be dropped")]
#[derive(Debug)]
pub(super) enum Kept {
    /// A connection of its own.
    Connection(Open),
    /// A stream of one.
    Stream(InUse),
}

/// Holds a client to its end: a task of its own, with room for nothing else.
#[allow(clippy::manual_async_fn, reason = "an async fn would have room for its arguments twice")]
pub(super) fn hold(
    mut wire: Wire,
    mut session: Box<Session>,
    mut visit: Option<Box<Visit>>,
    kept: Kept,
) -> impl Future<Output = ()> + Send {
    async move {
        let _kept = kept;
        session.run(&mut wire).await;
        if let Some(visit) = &mut visit {
            visit.answered(StatusCode::OK.as_u16(), Some(wire.sent()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_holding<F>(_: impl FnOnce(Wire, Box<Session>, Option<Box<Visit>>, Kept) -> F) -> usize {
        size_of::<F>()
    }

    /// Each held client has one of both.
    #[test]
    fn who_is_held_costs_little() {
        let (holding, session) = (size_of_holding(hold), size_of::<Session>());
        assert!(holding <= 640, "{holding} bytes");
        assert!(session <= 288, "{session} bytes");
    }
}
