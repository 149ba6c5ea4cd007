//! Requests that are passed through to the backend.

pub(super) mod buffered_stream;
pub(super) mod inject;
pub(super) mod observe;
pub(super) mod pingora;
pub(super) mod relay;
pub(super) mod response;
pub(super) mod tunnel;
pub(super) mod upload_timeout;
pub(super) mod validators;
