//! Client hints that a browser omits from some of its requests.
//!
//! A page's own polls send `Sec-CH-UA` and similar headers; requests of a worker, such as those of the browser script
//! for all tabs, do not. Both come from one client, and a fetch with its credentials must look like the page's polls.
//!
//! ```text
//! a page's own request ─▶ Hints::note ─▶ by address, browser and credentials ─▶ Hints::complete ─▶ the headers of a stream
//! ```

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use parking_lot::Mutex;

use crate::route::Client;

/// The maximum number of clients with known hints; forgotten ones are learned again.
const MAX_CLIENTS: usize = 4096;

type Said = Arc<[(HeaderName, HeaderValue)]>;

/// The hints that clients sent with requests of their pages.
#[derive(Debug, Default)]
pub struct Hints {
    hasher: RandomState,
    known: Mutex<HashMap<u64, Said>>,
}

impl Hints {
    /// Records the hints in a request of a page.
    ///
    /// Clients without cookies and `Authorization` are recorded too, because a page may identify its user by a header
    /// of its own, which the request for the stream lacks. All such clients with one address and browser share their
    /// hints. A client with different hints is watched under another key than that of its polls, so it continues to
    /// poll.
    pub(in crate::proxy) fn note(&self, client: &Client, headers: &HeaderMap) {
        if !says_any(headers) {
            return;
        }
        let who = self.who(client, headers);
        let hints = headers.iter().filter(|(name, _)| is_hint(name));
        let said: Said = hints.map(|(name, value)| (name.clone(), value.clone())).collect();
        let mut known = self.known.lock();
        if known.get(&who) == Some(&said) {
            return;
        }
        if known.len() >= MAX_CLIENTS {
            known.clear();
        }
        known.insert(who, said);
    }

    /// Adds the hints that a request of the same client omits.
    pub(in crate::proxy) fn complete(&self, client: &Client, headers: &mut HeaderMap) {
        if says_any(headers) {
            return;
        }
        let said = self.known.lock().get(&self.who(client, headers)).cloned();
        for (name, value) in said.iter().flat_map(|said| said.iter()) {
            headers.append(name.clone(), value.clone());
        }
    }

    fn who(&self, client: &Client, headers: &HeaderMap) -> u64 {
        let own = [USER_AGENT, COOKIE, AUTHORIZATION].map(|name| headers.get_all(name).iter().collect::<Vec<_>>());
        self.hasher.hash_one((client.address, &client.origin, own))
    }
}

fn is_hint(name: &HeaderName) -> bool {
    name.as_str().starts_with("sec-ch-") || name == "save-data"
}

fn says_any(headers: &HeaderMap) -> bool {
    headers.contains_key("sec-ch-ua")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Origin, Scheme};
    use crate::route::Hop;

    #[test]
    fn what_a_worker_leaves_out_is_what_its_own_client_says() {
        let hop = Hop { address: None, tls: false, believed: false };
        let origin = Origin { scheme: Scheme::Http, host: "a".into(), public: "a".into() };
        let client = Client::new(None, origin, hop);
        let headers = |said: &[(&'static str, &'static str)]| -> HeaderMap {
            said.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
        };
        let hints = Hints::default();
        let page = [("user-agent", "m"), ("cookie", "sid=1"), ("sec-ch-ua", "\"Own\""), ("sec-ch-ua-mobile", "?0")];
        hints.note(&client, &headers(&page));
        hints.note(&client, &headers(&[("user-agent", "m"), ("x-token", "t"), ("sec-ch-ua", "\"Token\"")]));
        let completed = |said: &[(&'static str, &'static str)]| {
            let mut headers = headers(said);
            hints.complete(&client, &mut headers);
            headers.get("sec-ch-ua").map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(completed(&page[..2]).as_deref(), Some("\"Own\""));
        assert_eq!(completed(&[("user-agent", "m"), ("cookie", "sid=2")]), None);
        assert_eq!(completed(&[("user-agent", "n"), ("cookie", "sid=1")]), None);
        assert_eq!(
            completed(&[("user-agent", "m")]).as_deref(),
            Some("\"Token\""),
            "known by a header of its page's own"
        );
        let own = [("user-agent", "m"), ("cookie", "sid=1"), ("sec-ch-ua", "\"Newer\"")];
        assert_eq!(completed(&own).as_deref(), Some("\"Newer\""));
    }
}
