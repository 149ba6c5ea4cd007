//! The service that the listener hands connections to.

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

use crate::deliver::H1Connection;
use crate::model::AddressBucket;
use crate::proxy::connection::h1;
use crate::proxy::connection::h2;
use crate::proxy::connection::inflight::InFlight;
use crate::proxy::connection::limit::{ConnectionLimit, reject};
use crate::proxy::gateway::Gateway;
use crate::proxy::passthrough::pingora::PassthroughProxy;

/// The protocols of a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionOptions {
    /// HTTP/2 without TLS, for clients that begin with its preface (RFC 9113 section 3.3).
    pub h2c: bool,
}

/// Serves HTTP/1.x connections itself and leaves HTTP/2 to pingora, which hands its streams back.
pub struct ConnectionApp {
    options: ConnectionOptions,
    h2: Arc<H2>,
    doors: ConnectionLimit,
}

/// pingora's proxy with this crate's phases.
pub(in crate::proxy) type Proxy = HttpProxy<PassthroughProxy>;

/// The maximum number of streams on one HTTP/2 connection: a browser uses one connection for all tabs.
const MAX_H2_STREAMS: u32 = 256;

/// The maximum amount of unsent data per HTTP/2 stream, in bytes.
const H2_SEND_BUFFER: usize = 64 * 1024;

/// The maximum size of the decompressed header list of one HTTP/2 request, in bytes: the same as in other servers.
const MAX_H2_HEADERS: u32 = 64 * 1024;

const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl ConnectionApp {
    /// Creates a service for `gateway` with at most `connections` connections.
    pub fn new(gateway: Arc<Gateway>, options: ConnectionOptions, connections: usize) -> Self {
        let applications = gateway.upstream.load();
        let replicas = applications.values().flat_map(|application| &application.options().replicas);
        let keepalive = replicas.map(|replica| replica.keepalive).sum();
        let conf = ServerConf { upstream_keepalive_pool_size: keepalive, ..ServerConf::default() };
        let mut proxy = HttpProxy::new(PassthroughProxy::new(Arc::clone(&gateway)), Arc::new(conf));
        proxy.handle_init_modules();
        let mut server = HttpServerOptions::default();
        server.h2c = options.h2c;
        let mut h2 = default_h2_options();
        h2.max_concurrent_streams(MAX_H2_STREAMS)
            .max_send_buffer_size(H2_SEND_BUFFER)
            .max_header_list_size(MAX_H2_HEADERS);
        let h2 = Arc::new(H2 { gateway, proxy: Arc::new(proxy), server, h2 });
        Self { options, h2, doors: ConnectionLimit::new(connections) }
    }

    /// Serves one connection until it ends.
    pub async fn serve(&self, mut stream: Stream, shutdown: &ShutdownWatch) {
        let gateway = &self.h2.gateway;
        let peer = stream.get_socket_digest();
        let peer = peer.as_ref().and_then(|socket| socket.peer_addr()?.as_inet());
        let Some(open) = ConnectionLimit::try_acquire(&self.doors, peer.map(|peer| AddressBucket::of(peer.ip())))
        else {
            gateway.metrics.limit_hit("connections");
            return reject(stream).await;
        };
        let mut buffer = BytesMut::new();
        let mut http2 = matches!(stream.selected_alpn_proto(), Some(ALPN::H2));
        if self.options.h2c && stream.get_ssl_digest().is_none() {
            // pingora would wait forever for the whole preface, and an HTTP/1.x head may be shorter than that.
            match timeout(gateway.options().head_timeout, reads_preface(&mut stream, &mut buffer)).await {
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
            let _in_use = gateway.tasks.token();
            let connection = Arc::new(H2Connection { h2: Arc::clone(&self.h2), busy: Arc::default() });
            tokio::select! {
                _ = connection.process_new(stream, shutdown) => {}
                () = connection.busy.idle(gateway.options().keepalive) => {}
            }
            return;
        }
        // A separate task, so that the memory of pingora's task for the connection is freed.
        let connection = h1::serve(
            Arc::clone(gateway),
            Arc::clone(&self.h2.proxy),
            H1Connection { stream, buffer, chunks: true, sent: 0 },
            shutdown.clone(),
            open,
        );
        gateway.tasks.spawn(connection);
    }
}

/// Returns whether the client begins with the HTTP/2 preface, or `None` if it left. The bytes read are in `buffer`.
async fn reads_preface(stream: &mut Stream, buffer: &mut BytesMut) -> Option<bool> {
    while buffer.len() < H2_PREFACE.len() {
        // For HTTP/1.x, all available bytes of pipelined requests must be read together with the first: pingora drops a
        // connection on which it finds more than the request that it was given.
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
impl ServerApp for ConnectionApp {
    async fn process_new(self: &Arc<Self>, stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        self.serve(stream, shutdown).await;
        None
    }

    async fn cleanup(&self) {
        self.h2.proxy.http_cleanup().await;
    }
}

/// The HTTP/2 part of the service.
pub(in crate::proxy) struct H2 {
    pub(in crate::proxy) gateway: Arc<Gateway>,
    pub(in crate::proxy) proxy: Arc<Proxy>,
    server: HttpServerOptions,
    h2: H2Options,
}

/// One HTTP/2 connection.
struct H2Connection {
    h2: Arc<H2>,
    busy: Arc<InFlight>,
}

#[async_trait]
impl HttpServerApp for H2Connection {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let H2 { gateway, proxy, .. } = &*self.h2;
        match session {
            ServerSession::H2(session) => {
                h2::serve(gateway, proxy, session, shutdown, InFlight::begin(&self.busy)).await;
            }
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
