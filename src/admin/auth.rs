//! Authentication of the admin listener.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use subtle::ConstantTimeEq;
use tokio::sync::watch;

use crate::model::Secret;

/// The token that operators must send, if any. A reload may change it.
#[derive(Debug)]
pub struct Token(watch::Sender<Option<Secret>>);

impl Token {
    /// Creates the check for `token`; `None` requires no token.
    pub fn new(token: Option<Secret>) -> Self {
        Self(watch::Sender::new(token))
    }

    /// Changes the token. Held clients that used another token are disconnected.
    pub fn set(&self, token: Option<Secret>) {
        self.0.send_if_modified(|known| {
            let is_another = *known != token;
            *known = token;
            is_another
        });
    }

    /// Returns the current token.
    pub(super) fn now(&self) -> Option<Secret> {
        self.0.borrow().clone()
    }

    /// Returns a future that completes once the token differs from the current one.
    pub(super) fn token_changed(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut token = self.0.subscribe();
        async move {
            // An error means that the listener is gone, so no token is needed any more.
            let _ = token.changed().await;
        }
    }
}

/// Returns whether a request with `headers` contains the token, if one is required. Runs in constant time.
pub(super) fn is_allowed(token: Option<&Secret>, headers: &HeaderMap) -> bool {
    let Some(token) = token else { return true };
    let given = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, given) = value.as_bytes().split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then_some(given)
    });
    given.is_some_and(|given| given.ct_eq(token.expose()).into())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_the_token_opens() {
        let token = Secret::new(b"s3cret");
        let with = |value: &'static str| HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))]);
        assert!(is_allowed(None, &HeaderMap::new()));
        assert!(is_allowed(Some(&token), &with("bearer s3cret")));
        for value in ["Bearer s3cre", "Bearer s3cret1", "Basic s3cret", "Bearer", ""] {
            assert!(!is_allowed(Some(&token), &with(value)), "{value}");
        }
        assert!(!is_allowed(Some(&token), &HeaderMap::new()));
    }
}
