//! Who may ask.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use subtle::ConstantTimeEq;
use tokio::sync::watch;

use crate::model::Secret;

/// What operators must know, if anything: a new configuration may say something else.
#[derive(Debug)]
pub struct Token(watch::Sender<Option<Secret>>);

impl Token {
    /// Asks for `token`; `None`: for nothing.
    pub fn new(token: Option<Secret>) -> Self {
        Self(watch::Sender::new(token))
    }

    /// Asks for `token` from now on. Whoever is held because he knew another is sent away.
    pub fn set(&self, token: Option<Secret>) {
        self.0.send_if_modified(|known| {
            let is_another = *known != token;
            *known = token;
            is_another
        });
    }

    /// What is asked for now.
    pub(super) fn now(&self) -> Option<Secret> {
        self.0.borrow().clone()
    }

    /// Returns, when the result is awaited, once something else is asked for than now.
    pub(super) fn token_changed(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut token = self.0.subscribe();
        async move {
            // Nobody asks for anything any more when the listener is gone.
            let _ = token.changed().await;
        }
    }
}

/// Whether a request with `headers` knows the token, if there is one. Takes the same time however wrong it is.
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
