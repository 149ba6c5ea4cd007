//! Client connections that have an upstream connection of their own, because that is where the client is signed in.
//!
//! NTLM and Negotiate sign a connection in, not a request (RFC 4559 section 6). Whatever else is sent on that connection is
//! answered as that client's, with or without credentials. So it is nobody else's from then on, and all that the client sends
//! goes over it.
//!
//! ```text
//! Authorization: NTLM … ─▶ Bindings::bind(client's connection) ─▶ a group of its own in pingora's pool of connections
//! what else comes on it ─▶ Bindings::find ─▶ the same group, the same replica
//! ```

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use http::Version;
use parking_lot::Mutex;
use pingora::http::RequestHeader;

use crate::model::fields;
use crate::proxy::request::view::{Peer, RequestView};
use crate::upstream::{ReplicaGuard, Upstream};

/// The connections of clients that are bound, by the other end.
#[derive(Debug, Default)]
pub struct Bindings {
    groups: AtomicU64,
    /// How many there are, so that whoever has none need not lock anything.
    count: AtomicUsize,
    bound: Mutex<HashMap<(IpAddr, u16), Binding>>,
}

/// Which upstream connection a client's requests are sent over.
#[derive(Clone, Debug)]
pub(in crate::proxy) struct Binding {
    /// Tells the connections that may serve this client from all others.
    pub(in crate::proxy) group: u64,
    upstream: Option<Arc<Upstream>>,
}

impl Binding {
    /// Another use of the replica that the client is signed in at.
    pub(in crate::proxy) fn upstream(&self) -> Option<ReplicaGuard> {
        self.upstream.as_ref().filter(|upstream| upstream.is_available()).map(ReplicaGuard::new)
    }
}

impl Bindings {
    /// Whether `request` is part of what signs a connection in, or came on a connection that is.
    pub(in crate::proxy) fn concern(&self, request: &RequestView<'_>) -> bool {
        fields::binds_connection(request.headers())
            || (request.head.version != Version::HTTP_2 && self.of(request.peer).is_some())
    }

    /// How the request with this head, which came from `peer`, has to be sent. `None`: like any other.
    ///
    /// Requests of one HTTP/2 connection may be those of several people behind one proxy: each that is concerned has an upstream
    /// connection of its own. Browsers do not speak what takes several
    /// requests over HTTP/2.
    pub(in crate::proxy) fn find(&self, peer: Peer, head: &RequestHeader) -> Option<Binding> {
        let binds = || fields::binds_connection(&head.headers);
        if head.version == Version::HTTP_2 {
            return binds().then(|| self.next());
        }
        self.of(peer).or_else(|| binds().then(|| self.bind(peer)))
    }

    /// The requests of this client are sent to `upstream` from now on.
    pub(in crate::proxy) fn stay(&self, peer: Peer, chosen: &ReplicaGuard) {
        let Some(end) = peer.end() else { return };
        if let Some(binding) = self.bound.lock().get_mut(&end) {
            binding.upstream = Some(chosen.share());
        }
    }

    /// The client's connection is over.
    pub(in crate::proxy) fn forget(&self, peer: Peer) {
        if self.count.load(Ordering::Acquire) > 0
            && let Some(end) = peer.end()
        {
            let mut bound = self.bound.lock();
            bound.remove(&end);
            self.count.store(bound.len(), Ordering::Release);
        }
    }

    fn of(&self, peer: Peer) -> Option<Binding> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.bound.lock().get(&peer.end()?).cloned()
    }

    fn bind(&self, peer: Peer) -> Binding {
        let binding = self.next();
        if let Some(end) = peer.end() {
            let mut bound = self.bound.lock();
            bound.insert(end, binding.clone());
            self.count.store(bound.len(), Ordering::Release);
        }
        binding
    }

    fn next(&self) -> Binding {
        // 0 is the group of all others.
        Binding { group: self.groups.fetch_add(1, Ordering::Relaxed) + 1, upstream: None }
    }
}
