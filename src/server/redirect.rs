//! Redirects plain HTTP clients to the TLS listener.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, LOCATION};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::proxy::serve_gracefully;

/// The timeout for a request and its response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The delay before accepting again when the process has no free file descriptor.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(200);

/// The port of `https`.
const HTTPS: u16 = 443;

/// Answers on `listener` until the server stops, with at most `most` concurrent clients, and redirects them to `port`.
/// Each client is one of `tasks`.
pub(super) async fn serve(
    listener: TcpListener,
    port: u16,
    most: usize,
    stopping: CancellationToken,
    tasks: TaskTracker,
) {
    let places = Arc::new(Semaphore::new(most));
    let accepting = async {
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let answer = service_fn(move |request: Request<Incoming>| async move {
                        Ok::<_, Infallible>(redirect(&request, port))
                    });
                    let connection = http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(REQUEST_TIMEOUT)
                        .keep_alive(false)
                        .serve_connection(TokioIo::new(stream), answer);
                    let connection = serve_gracefully(connection, stopping.clone());
                    tasks.spawn(async move {
                        // Errors are ignored: the connection ends either way.
                        let _ = timeout(REQUEST_TIMEOUT, connection).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    warn!("redirect listener: {error}");
                    sleep(ACCEPT_RETRY_DELAY).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepting => {}
        () = stopping.cancelled() => {}
    }
}

/// Builds a 308 response, which preserves the method and the body.
fn redirect<B>(request: &Request<B>, port: u16) -> Response<Empty<Bytes>> {
    let mut answer = Response::new(Empty::new());
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).and_then(name);
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let place = host.filter(|_| target.starts_with('/')).and_then(|host| {
        let port = if port == HTTPS { String::new() } else { format!(":{port}") };
        HeaderValue::from_str(&format!("https://{host}{port}{target}")).ok()
    });
    match place {
        Some(place) => {
            *answer.status_mut() = StatusCode::PERMANENT_REDIRECT;
            answer.headers_mut().insert(LOCATION, place);
        }
        None => *answer.status_mut() = StatusCode::BAD_REQUEST,
    }
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// Returns the host without its port, if the text is a valid host.
fn name(host: &str) -> Option<&str> {
    let end = match host.strip_prefix('[') {
        Some(rest) => rest.find(']')? + 2,
        None => host.find(':').unwrap_or(host.len()),
    };
    let (name, port) = host.split_at(end);
    let port = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:[]".contains(&byte);
    (port && !name.is_empty() && name.bytes().all(plain)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent_to(host: &str, target: &str, port: u16) -> Option<String> {
        let request = Request::builder().uri(target).header(HOST, host).body(()).expect("a request");
        let answer = redirect(&request, port);
        answer.headers().get(LOCATION).map(|place| place.to_str().expect("text").to_owned())
    }

    #[test]
    fn clients_are_sent_to_where_they_wanted() {
        let to = |text: &str| Some(text.to_owned());
        assert_eq!(sent_to("a.example", "/b?c=d", 443), to("https://a.example/b?c=d"));
        assert_eq!(sent_to("a.example:80", "/", 8443), to("https://a.example:8443/"));
        assert_eq!(sent_to("[::1]:80", "/b", 443), to("https://[::1]/b"));
        for host in ["a.example/evil", "a@b", "a.example:x", "", "[::1"] {
            assert_eq!(sent_to(host, "/", 443), None, "{host}");
        }
    }
}
