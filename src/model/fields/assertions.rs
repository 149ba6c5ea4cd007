//! Request fields by which a proxy tells an application who the client is, and header names that can be mistaken for
//! them.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};

/// Sorted.
const ASSERTIONS: [&str; 25] = [
    "cf-connecting-ip",
    "client-cert",
    "client-cert-chain",
    "client-ip",
    "fastly-client-ip",
    "fly-client-ip",
    "impersonate-group",
    "impersonate-user",
    "remote-user",
    "true-client-ip",
    "x-arr-clientcert",
    "x-client-cert",
    "x-client-dn",
    "x-client-ip",
    "x-client-verify",
    "x-cluster-client-ip",
    "x-host",
    "x-original-host",
    "x-original-url",
    "x-real-ip",
    "x-remote-addr",
    "x-remote-user",
    "x-rewrite-url",
    "x-userinfo",
    "x-webauth-user",
];

/// The prefixes of further names.
const PREFIXES: [&str; 24] = [
    "cf-access-",
    "impersonate-",
    "remote-",
    "ssl-client-",
    "tailscale-",
    "x-amzn-oidc-",
    "x-appengine-user-",
    "x-auth-request-",
    "x-authenticated-",
    "x-authentik-",
    "x-client-cert-",
    "x-consumer-",
    "x-credential-",
    "x-envoy-original-",
    "x-forwarded-",
    "x-goog-authenticated-user-",
    "x-goog-iap-",
    "x-ms-client-principal",
    "x-ms-token-",
    "x-original-",
    "x-pomerium-",
    "x-remote-",
    "x-ssl-",
    "x-vouch-",
];

/// Parts of names that indicate an identity or an origin. Headers that an application's own pages send hold a secret
/// that the application checks (a key, a token), and do not have names that it trusts without a check.
const OF_PERSONS: [&str; 37] = [
    "aad",
    "address",
    "addr",
    "assertion",
    "cert",
    "claim",
    "claims",
    "clientcert",
    "clientip",
    "consumer",
    "dn",
    "email",
    "emails",
    "group",
    "groups",
    "identity",
    "iap",
    "ip",
    "jwt",
    "mail",
    "oidc",
    "principal",
    "remote",
    "role",
    "roles",
    "saml",
    "sso",
    "subject",
    "uid",
    "upn",
    "user",
    "useremail",
    "userid",
    "userinfo",
    "username",
    "users",
    "verify",
];

/// Returns whether proxies in front of applications identify the client by the header `name`. Such a proxy sees only
/// the request that opened the connection, not later messages on it.
pub fn is_identity_assertion(name: &HeaderName) -> bool {
    is_known_assertion(&canonical(name))
}

fn is_known_assertion(name: &str) -> bool {
    ASSERTIONS.binary_search(&name).is_ok() || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Returns whether an unknown `name` may be such a header, judged by the parts of the name.
pub fn may_assert(name: &HeaderName) -> bool {
    let name = canonical(name);
    is_known_assertion(&name) || (name != "x-user-agent" && name.split('-').any(|part| OF_PERSONS.contains(&part)))
}

/// Returns `name` in the form that CGI, WSGI, Rack, PHP and similar interfaces see: they map every character other than
/// letters and digits to the same one.
pub fn canonical(name: &HeaderName) -> Cow<'_, str> {
    let name = name.as_str();
    if is_plain(name) {
        return Cow::Borrowed(name);
    }
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    Cow::Owned(name.chars().map(plain).collect())
}

fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Returns whether the application may mistake `name`, in a request with these headers, for another header: an identity
/// assertion of a proxy, a standard HTTP header, or another header of the same request. For a `believed` sender, only
/// the last case counts.
pub fn is_disguised(name: &HeaderName, headers: &HeaderMap, believed: bool) -> bool {
    if is_plain(name.as_str()) {
        return false;
    }
    let name = canonical(name);
    headers.contains_key(&*name) || (!believed && (is_known_assertion(&name) || super::is_standard(&name)))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn what_proxies_assert_is_known() {
        assert!(ASSERTIONS.is_sorted());
        let name = |name: &str| name.parse::<HeaderName>().unwrap();
        for known in
            ["x-real-ip", "remote-user", "remote-email", "x-auth-request-email", "x-forwarded-user", "remote_user"]
        {
            assert!(is_identity_assertion(&name(known)) && may_assert(&name(known)), "{known}");
        }
        for other in ["authorization", "x-csrf-token", "x-api-key", "x-requested-with", "x-user-agent", "x-tenant"] {
            assert!(!is_identity_assertion(&name(other)) && !may_assert(&name(other)), "{other}");
        }
        for heard in ["x-auth-email", "x-token-user-email", "x-jwt-payload", "x-some-proxy-user", "x.some.role"] {
            assert!(may_assert(&name(heard)), "{heard}");
        }
    }

    #[test]
    fn names_that_pass_for_others_are_found() {
        let headers = HeaderMap::from_iter([(HeaderName::from_static("x-tenant"), HeaderValue::from_static("a"))]);
        let is = |name: &str, believed| is_disguised(&name.parse().unwrap(), &headers, believed);
        for name in ["x_forwarded_for", "x.real.ip", "remote_user", "content_length", "cookie_".trim_end_matches('_')] {
            assert_eq!(is(name, false), name != "cookie", "{name}");
        }
        for name in ["transfer_encoding", "x!forwarded!user", "x_http_method_override", "sec_fetch_site", "user_agent"]
        {
            assert!(is(name, false) && !is(name, true), "{name}");
        }
        assert!(is("x_tenant", true) && is("x.tenant", false));
        for name in ["x_api_key", "my.header", "x-forwarded-for", "x_request_id"] {
            assert!(!is(name, false), "{name}");
        }
    }
}
