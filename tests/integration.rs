//! Everything that needs sockets, files or processes, in one binary.
#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods
)]

mod support;

mod attacks;
mod bounds;
mod changes;
mod cohorts;
mod consistency;
mod contact;
mod curl;
mod deliveries;
mod deltas;
mod demo;
mod dialects;
mod differential;
mod doctor;
mod doctor_peers;
mod documents;
mod effort;
mod examples;
mod fairness;
mod floods;
mod framing;
mod fuzzing;
mod getting_started;
mod headers;
mod held_polls;
mod identity;
mod injection;
mod interop;
mod layering;
mod leaks;
mod limits;
mod memory;
mod names;
mod naming;
mod noise;
mod observe;
mod operations;
mod operators;
#[cfg(feature = "otel")]
mod otel;
mod paces;
mod pages;
mod passthrough;
mod posts;
mod probing;
mod process;
mod prose;
mod proxies;
mod relaying;
mod reload;
mod replicas;
mod security;
mod shim_streams;
mod simulation;
mod smuggling;
mod sse;
mod tailing;
mod taking;
mod timers;
mod tls;
mod triggers;
mod tunnels;
mod upstreams;
mod validators;
mod waiting;
mod watching;
