//! Sungrazer stands in front of an unmodified backend and adds push to applications that only know polling.

pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod deliver;
pub mod hub;
pub mod model;
pub mod normalise;
pub mod poll;
pub mod proxy;
pub mod resource;
pub mod route;
pub mod server;
pub mod telemetry;
pub mod tls;
pub mod upstream;
