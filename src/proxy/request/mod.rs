//! Requests: heads, framing, forwarding headers, and request views.

pub(super) mod access;
pub(super) mod client_hints;
pub(super) mod forwarded;
pub(super) mod framing;
pub(super) mod head;
pub(super) mod limits;
pub(super) mod uri_reference;
pub(super) mod view;
