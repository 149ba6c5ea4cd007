//! Requests for watched resources: dispatch, memory, long polls, streams.

pub(super) mod audience;
pub(super) mod client_context;
pub(super) mod clients;
pub(super) mod dispatch;
pub(super) mod doctor;
pub(super) mod endpoints;
mod follow_list;
pub(super) mod get;
pub(super) mod identity;
pub(super) mod purge;
pub(super) mod replies;
pub(super) mod settable_header;
pub(super) mod stream;
pub(super) mod under_way;
pub(super) mod writes;
