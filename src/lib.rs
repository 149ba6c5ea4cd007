//! Sungrazer stands in front of an unmodified backend and adds push to applications that only know polling.
//!
//! # Data path
//!
//! ```text
//! clients ─▶ proxy ─┬─ no opinion ───────────────────────────────────────────────▶ upstream
//!                   ├─ answered from memory ◀─────────────────────┐
//!                   └─ held: deliver ◀─ frame ◀─ Update ◀─ Cursor ┤
//!                                                                 │ ResourceState (history, status), notifications
//! upstream ─▶ FetchOutcome ─ classify ─▶ CompletedFetch ─ StateMachine::observe ┘
//!              ▲
//!         poll: Schedule, Trigger, FetchLimiter; one task per resource with clients
//! ```
//!
//! A request that matches a *route* is for a *resource*, which its *key* names: the route, the origin, the target, the
//! *variant* (headers that split it) and the *identity* (credentials). The [`hub`] finds the resource, or creates it
//! with a poller. Each *fetch* yields a *representation*. A representation with a different meaning than the previous
//! one becomes a *snapshot* with a *version*, and joins the *history*. A held client is a *session* with a *URL
//! subscription* for each URL: a *subscription* to the resource and a *cursor* into its history. One
//! [`resource::TaskNotify`] wakes the client for all of them. A *stream format* encodes *updates* for its connection.
//! `docs/internals/architecture.md` explains the terms of this project.
//!
//! # Rooms
//!
//! Imports run in one direction, from the bottom of this list to its top; a test checks the exact table.
//!
//! | room | |
//! | --- | --- |
//! | [`model`], [`normalise`] | plain types, and the compared form of a body: no I/O, no clock |
//! | [`proto`] | HTTP without policy: message framing |
//! | [`json`], [`markup`], [`diff`] | zero-copy parsers; differences and deltas |
//! | [`post`] | requests that are not GETs and only read, and who gets their responses |
//! | [`explain`], [`probe`], [`observe`] | explanations of changes; detection of noise, and ignore rules for it; what traffic tells about polling |
//! | [`resource`] | the state machine of one resource, and the handle that poller and clients share |
//! | [`poll`], [`hub`] | when and how to fetch; the registry of resources |
//! | [`deliver`] | stream formats, and the loops that hold clients |
//! | [`route`], [`upstream`], [`tls`] | routes and resource keys; the backend; certificates |
//! | [`proxy`], [`admin`] | the listeners |
//! | [`config`], [`server`] | the configuration file and its options; start, reload and shutdown |
//! | [`cli`] | the command line: one file per verb |
//! | [`clock`], [`files`], [`telemetry`] | the only reader of clocks; files that the configuration names; logs and metrics |
//!
//! # In another program
//!
//! Sungrazer is a program. This library serves its binary, tests and benchmarks; its API changes without notice.
//!
//! ```no_run
//! use sungrazer::config::{self, Overrides};
//! use sungrazer::server::{ConfigSource, Inherited, Server};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let text = "[upstream]\nurl = \"http://127.0.0.1:8000\"\n[[route]]\npath = \"/api/messages\"\n";
//! let config = config::parse("in the program", text, &Overrides::default())?;
//! let server = Server::start(config, &ConfigSource::default(), Inherited::default())?;
//! println!("{}", server.ready_line());
//! tokio::signal::ctrl_c().await?;
//! server.stop().await;
//! # Ok(())
//! # }
//! ```

pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod deliver;
pub mod diff;
pub mod explain;
pub mod files;
pub mod hub;
pub mod json;
pub mod markup;
pub mod model;
pub mod normalise;
pub mod observe;
pub mod poll;
pub mod post;
pub mod probe;
pub mod proto;
pub mod proxy;
pub mod resource;
pub mod route;
pub mod server;
pub mod shim;
pub mod telemetry;
pub mod tls;
pub mod upstream;
