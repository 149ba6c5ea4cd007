//! Checks replicas that may be down in the background, so that no client request has to.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::header::{HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue};
use tokio::time::{sleep, timeout};

use super::Upstream;

const OWN_USER_AGENT: &str = concat!("sungrazer/", env!("CARGO_PKG_VERSION"));

/// The number of consecutive bad responses after which a replica receives no requests.
const UNHEALTHY_THRESHOLD: usize = 2;

/// Checks `replicas` at the interval `every`. With a path, it requests that path from all replicas; without, it tries
/// to connect to the replicas that failed when they were last used.
pub(super) async fn run_health_checks(replicas: Vec<Arc<Upstream>>, path: Option<String>, every: Duration) {
    let mut bad = vec![0; replicas.len()];
    loop {
        sleep(every).await;
        let checks = replicas.iter().zip(&mut bad).map(|(replica, bad)| check(replica, path.as_deref(), every, bad));
        join_all(checks).await;
    }
}

async fn check(replica: &Upstream, path: Option<&str>, patience: Duration, bad: &mut usize) {
    let Some(path) = path else {
        if replica.health().is_down() && matches!(timeout(patience, replica.connect()).await, Ok(Ok(_))) {
            replica.health().mark_up();
        }
        return;
    };
    let mut headers = HeaderMap::new();
    if let Ok(host) = HeaderValue::from_str(&replica.options().address.authority()) {
        headers.insert(HOST, host);
    }
    headers.insert(USER_AGENT, HeaderValue::from_static(OWN_USER_AGENT));
    let trouble = match timeout(patience, replica.probe_head(path, &headers)).await {
        Ok(Some(answer)) if answer.status.as_u16() < 400 => None,
        Ok(Some(answer)) => Some(format!("{path} answers {}", answer.status)),
        Ok(None) | Err(_) => Some(format!("{path} is not answered")),
    };
    match trouble {
        None => {
            *bad = 0;
            replica.health().mark_up();
            replica.health().mark_healthy();
        }
        Some(text) => {
            *bad += 1;
            if *bad >= UNHEALTHY_THRESHOLD {
                replica.health().mark_unhealthy(&text);
            }
        }
    }
}
