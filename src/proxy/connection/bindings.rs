//! Client connections that are bound to an upstream connection of their own, because the client is signed in there.
//!
//! NTLM and Negotiate sign in a connection, not a request (RFC 4559 section 6). The backend attributes every other
//! request on that connection to the same client, with or without credentials. The connection therefore belongs to that
//! client alone from then on, and all requests of the client use it.
//!
//! ```text
//! Authorization: NTLM … ─▶ Bindings::bind(client's connection) ─▶ a group of its own in pingora's pool of connections
//! other requests on it  ─▶ Bindings::find ─▶ the same group, the same replica
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

/// The bound client connections, by remote address and port.
#[derive(Debug, Default)]
pub struct Bindings {
    groups: AtomicU64,
    /// The number of bindings, so that unbound clients need no lock.
    count: AtomicUsize,
    bound: Mutex<HashMap<(IpAddr, u16), Binding>>,
}

/// The upstream connection for a client's requests.
#[derive(Clone, Debug)]
pub(in crate::proxy) struct Binding {
    /// Identifies the connections that may serve this client.
    pub(in crate::proxy) group: u64,
    /// The replica that the client uses of each application.
    upstreams: Vec<(Arc<str>, Arc<Upstream>)>,
}

impl Binding {
    /// Returns another use of the replica of this application at which the client is signed in.
    pub(in crate::proxy) fn upstream(&self, application: &str) -> Option<ReplicaGuard> {
        let (_, upstream) = self.upstreams.iter().find(|(name, _)| **name == *application)?;
        upstream.is_available().then(|| ReplicaGuard::new(upstream))
    }
}

impl Bindings {
    /// Returns whether `request` takes part in signing in a connection, or came on a signed-in connection.
    pub(in crate::proxy) fn concern(&self, request: &RequestView<'_>) -> bool {
        fields::binds_connection(request.headers())
            || (request.head.version != Version::HTTP_2 && self.of(request.peer).is_some())
    }

    /// Returns the binding for the request with this head from `peer`; `None` if it is sent like any other request.
    ///
    /// Requests on one HTTP/2 connection may belong to several users behind one proxy, so each affected request gets an
    /// upstream connection of its own. Browsers do not use multi-request authentication over HTTP/2.
    pub(in crate::proxy) fn find(&self, peer: Peer, head: &RequestHeader) -> Option<Binding> {
        let binds = || fields::binds_connection(&head.headers);
        if head.version == Version::HTTP_2 {
            return binds().then(|| self.next());
        }
        self.of(peer).or_else(|| binds().then(|| self.bind(peer)))
    }

    /// Sends the requests of this client for `application` to the replica `chosen` from now on.
    pub(in crate::proxy) fn stay(&self, peer: Peer, application: &Arc<str>, chosen: &ReplicaGuard) {
        let Some(end) = peer.end() else { return };
        if let Some(binding) = self.bound.lock().get_mut(&end) {
            binding.upstreams.retain(|(name, _)| name != application);
            binding.upstreams.push((Arc::clone(application), chosen.share()));
        }
    }

    /// Removes the binding when the client's connection has ended.
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
        // 0 is the group of all unbound clients.
        Binding { group: self.groups.fetch_add(1, Ordering::Relaxed) + 1, upstreams: Vec::new() }
    }
}
