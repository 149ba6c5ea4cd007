//! Client connections: accept, read, count, close.

pub(super) mod bindings;
pub(super) mod h1;
pub(super) mod h2;
pub(super) mod held;
pub(super) mod inflight;
pub(super) mod limit;
pub(super) mod service;
pub(super) mod shutdown;
