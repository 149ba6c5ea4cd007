//! What is fuzzed: with coverage by `tests/fuzz/run`, and for a moment, from the seeds, with the other tests.

#[path = "bodies.rs"]
mod bodies;
#[path = "deltas.rs"]
mod deltas;
#[path = "posts.rs"]
mod posts;
#[path = "server.rs"]
mod server;
#[path = "texts.rs"]
mod texts;

/// A target.
pub struct Target {
    pub name: &'static str,
    /// Panics if a law is broken.
    pub run: fn(&[u8]),
    /// How many inputs take about as long as one of the slowest target.
    pub speed: usize,
}

const fn target(name: &'static str, run: fn(&[u8]), speed: usize) -> Target {
    Target { name, run, speed }
}

pub const TARGETS: &[Target] = &[
    target("json", texts::json, 50),
    target("html", texts::html, 50),
    target("selectors", texts::selectors, 50),
    target("pointers", texts::pointers, 50),
    target("config", texts::config, 10),
    target("paths", texts::paths, 50),
    target("normalise", bodies::normalise, 50),
    target("explain", bodies::explained, 30),
    target("probe", bodies::probed, 5),
    target("diff", deltas::json, 50),
    target("splice", deltas::splice, 50),
    target("json_rpc", posts::json_rpc, 50),
    target("graphql", posts::graphql, 20),
    target("form", posts::form, 50),
    target("requests", server::requests, 1),
    target("websocket", server::websocket, 1),
];
