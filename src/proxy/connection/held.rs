//! Serves a held client until it leaves.

use http::StatusCode;

use crate::deliver::{Downstream, Session};
use crate::proxy::connection::inflight::InFlightGuard;
use crate::proxy::connection::limit::ConnectionPermit;
use crate::telemetry::AccessGuard;

/// Guard that counts the connection as in use while the client is held.
#[allow(dead_code, reason = "it is there to be dropped")]
#[derive(Debug)]
pub(in crate::proxy) enum ActivityGuard {
    /// The permit of an HTTP/1.x connection.
    Connection(ConnectionPermit),
    /// The activity of an HTTP/2 stream.
    Stream(InFlightGuard),
}

/// Spawns a task that serves a held client, with a future as small as possible.
#[allow(clippy::manual_async_fn, reason = "an async fn would have room for its arguments twice")]
pub(in crate::proxy) fn spawn_held(
    mut wire: Downstream,
    mut session: Box<Session>,
    mut visit: Option<Box<AccessGuard>>,
    kept: ActivityGuard,
) -> impl Future<Output = ()> + Send {
    async move {
        let _kept = kept;
        session.run(&mut wire).await;
        if let Some(visit) = &mut visit {
            visit.set_response(StatusCode::OK.as_u16(), Some(wire.bytes_sent()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_holding<F>(
        _: impl FnOnce(Downstream, Box<Session>, Option<Box<AccessGuard>>, ActivityGuard) -> F,
    ) -> usize {
        size_of::<F>()
    }

    /// Each held client has one of each.
    #[test]
    fn who_is_held_costs_little() {
        let (holding, session) = (size_of_holding(spawn_held), size_of::<Session>());
        assert!(holding <= 640, "{holding} bytes");
        assert!(session <= 288, "{session} bytes");
    }
}
