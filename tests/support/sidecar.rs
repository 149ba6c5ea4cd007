//! The server, in this process.

use std::net::SocketAddr;

use sungrazer::config::{self, Overrides};
use sungrazer::server::{ConfigSource, Inherited, Server};

use super::backend::Backend;
use super::client::{self, Events, Response};

/// How the admin listener wants to be called.
pub const LOCAL: (&str, &str) = ("Host", "localhost");

/// A server in front of a backend.
pub struct Sidecar {
    pub server: Server,
    pub address: SocketAddr,
}

impl Sidecar {
    /// Starts one in front of `backend`, with `routes` in TOML.
    pub fn start(backend: &Backend, routes: &str) -> Self {
        Self::with(&format!("[upstream]\nurl = \"{}\"\n{routes}", backend.url()))
    }

    /// Starts one with this configuration, on free ports.
    pub fn with(toml: &str) -> Self {
        let overrides =
            Overrides { listen: Some("127.0.0.1:0".into()), admin: Some("127.0.0.1:0".into()), upstream: None };
        let config = config::parse("test.toml", toml, &overrides).unwrap_or_else(|found| panic!("{found}"));
        let server = Server::start(config, &ConfigSource::default(), Inherited::default()).unwrap();
        Self { address: server.listen()[0], server }
    }

    pub async fn get(&self, target: &str, headers: &[(&str, &str)]) -> Response {
        client::get(self.address, target, headers).await
    }

    pub async fn events(&self, target: &str) -> Events {
        Events::open(self.address, target, &[]).await
    }

    pub async fn admin(&self, target: &str) -> Response {
        client::get(self.server.admin().unwrap(), target, &[LOCAL]).await
    }

    /// How many resources are watched.
    pub fn watched(&self) -> usize {
        self.server.gateway().hub.len()
    }

    /// How many clients are held.
    pub fn held(&self) -> usize {
        self.server.gateway().streams.len()
    }
}
