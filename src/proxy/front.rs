//! What the listener hands connections to.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::BytesMut;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::protocols::{ALPN, Stream};
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use pingora::server::configuration::ServerConf;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use super::busy::Busy;
use super::doors::{Doors, turn_away};
use super::phases::Phases;
use super::site::Site;
use super::{h1, h2};
use crate::deliver::H1;
use crate::model::Network;

/// What a listener speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrontOptions {
    /// HTTP/2 without TLS, for clients that begin with its preface (RFC 9113 section 3.3).
    pub h2c: bool,
}

/// Takes connections and serves HTTP/1.x on them itself; HTTP/2 is left to pingora, which hands its streams back.
pub struct Front {
    options: FrontOptions,
    h2: Arc<H2>,
    doors: Doors,
}

/// pingora's proxy with our phases.
pub(super) type Proxy = HttpProxy<Phases>;

/// A browser page follows many resources over one connection; this is enough for all its tabs.
const MOST_H2_STREAMS: u32 = 256;

/// What may wait unsent for one HTTP/2 stream.
const H2_SEND_BUFFER: usize = 64 * 1024;

/// The heads of one HTTP/2 request, decompressed, in bytes: as much as other servers take.
const MOST_H2_HEADERS: u32 = 64 * 1024;

const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl Front {
    /// A front for `site`, with at most so many connections.
    pub fn new(site: Arc<Site>, options: FrontOptions, connections: usize) -> Self {
        let keepalive = site.replicas().options().replicas.iter().map(|replica| replica.keepalive).sum();
        let conf = ServerConf { upstream_keepalive_pool_size: keepalive, ..ServerConf::default() };
        let mut proxy = HttpProxy::new(Phases::new(Arc::clone(&site)), Arc::new(conf));
        proxy.handle_init_modules();
        let mut server = HttpServerOptions::default();
        server.h2c = options.h2c;
        let mut h2 = default_h2_options();
        h2.max_concurrent_streams(MOST_H2_STREAMS)
            .max_send_buffer_size(H2_SEND_BUFFER)
            .max_header_list_size(MOST_H2_HEADERS);
        let h2 = Arc::new(H2 { site, proxy: Arc::new(proxy), server, h2 });
        Self { options, h2, doors: Doors::new(connections) }
    }

    /// Serves one connection to its end.
    pub async fn serve(&self, mut stream: Stream, shutdown: &ShutdownWatch) {
        let site = &self.h2.site;
        let peer = stream.get_socket_digest();
        let peer = peer.as_ref().and_then(|socket| socket.peer_addr()?.as_inet());
        let Some(open) = Doors::enter(&self.doors, peer.map(|peer| Network::of(peer.ip()))) else {
            site.metrics.limit_hit("connections");
            return turn_away(stream).await;
        };
        let mut buffer = BytesMut::new();
        let mut http2 = matches!(stream.selected_alpn_proto(), Some(ALPN::H2));
        if self.options.h2c && stream.get_ssl_digest().is_none() {
            // pingora would wait for the whole preface for ever, and an HTTP/1.x head may be shorter than that.
            match timeout(site.options().head_timeout, reads_preface(&mut stream, &mut buffer)).await {
                Ok(Some(preface)) => http2 = preface,
                _ => return,
            }
            if http2 {
                let Ok(mut plain) = stream.into_any().downcast::<L4Stream>() else { return };
                plain.rewind(&buffer);
                stream = plain;
            }
        }
        if http2 {
            let _in_use = site.tasks.token();
            let connection = Arc::new(H2Connection { h2: Arc::clone(&self.h2), busy: Arc::default() });
            tokio::select! {
                _ = connection.process_new(stream, shutdown) => {}
                () = connection.busy.idle(site.options().keepalive) => {}
            }
            return;
        }
        // A task of our own: what pingora's holds for a connection is freed, whatever becomes of this one.
        let connection = h1::serve(
            Arc::clone(site),
            Arc::clone(&self.h2.proxy),
            H1 { stream, buffer, chunks: true, sent: 0 },
            shutdown.clone(),
            open,
        );
        site.tasks.spawn(connection);
    }
}

/// Whether the client begins with the HTTP/2 preface; what was read is in `buffer`. `None`: it left.
async fn reads_preface(stream: &mut Stream, buffer: &mut BytesMut) -> Option<bool> {
    while buffer.len() < H2_PREFACE.len() {
        // If this is HTTP/1.x, whatever has arrived of the requests behind the first is to be read with it: pingora gives up
        // a connection on which it finds more than the one that it was given.
        buffer.reserve(1024);
        match stream.read_buf(buffer).await {
            Ok(1..) => {}
            _ => return None,
        }
        let known = buffer.len().min(H2_PREFACE.len());
        if buffer[..known] != H2_PREFACE[..known] {
            return Some(false);
        }
    }
    Some(true)
}

#[async_trait]
impl ServerApp for Front {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        self.serve(stream, shutdown).await;
        None
    }

    async fn cleanup(&self) {
        self.h2.proxy.http_cleanup().await;
    }
}

/// The HTTP/2 half of the front.
pub(super) struct H2 {
    pub(super) site: Arc<Site>,
    pub(super) proxy: Arc<Proxy>,
    server: HttpServerOptions,
    h2: H2Options,
}

/// One HTTP/2 connection.
struct H2Connection {
    h2: Arc<H2>,
    busy: Arc<Busy>,
}

#[async_trait]
impl HttpServerApp for H2Connection {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let H2 { site, proxy, .. } = &*self.h2;
        match session {
            ServerSession::H2(session) => h2::serve(site, proxy, session, shutdown, Busy::begin(&self.busy)).await,
            other => drop(proxy.process_new_http(other, shutdown).await),
        }
        None
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.h2.server)
    }

    fn h2_options(&self) -> Option<H2Options> {
        Some(self.h2.h2.clone())
    }
}
