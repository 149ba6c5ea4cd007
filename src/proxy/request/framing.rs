//! Rejects messages that servers might frame or route differently.

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{Method, StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};

use crate::model::fields;

/// Returns the status with which a request is refused, if any: servers might disagree about its recipient or its end
/// (RFC 9112 sections 3.2 and 6.3, RFC 9113 section 8.3.1), or its transfer coding is not supported (RFC 9112 section
/// 6.1).
pub(in crate::proxy) fn rejection(head: &RequestHeader) -> Option<StatusCode> {
    if is_ambiguous(head) {
        return Some(StatusCode::BAD_REQUEST);
    }
    let coding = head.headers.get(TRANSFER_ENCODING)?;
    if coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") {
        return None;
    }
    let codings: Vec<&str> = fields::list(&head.headers, &TRANSFER_ENCODING).collect();
    let ends_in_chunks = codings.len() > 1 && codings.last().is_some_and(|last| last.eq_ignore_ascii_case("chunked"));
    // The end of the body can be found, but the body could only be forwarded with a wrong coding.
    Some(if ends_in_chunks { StatusCode::NOT_IMPLEMENTED } else { StatusCode::BAD_REQUEST })
}

fn is_ambiguous(head: &RequestHeader) -> bool {
    let (mut hosts, mut length, mut coding, mut bad_host) = (0, 0, 0, false);
    for (name, value) in &head.headers {
        match *name {
            HOST => {
                hosts += 1;
                bad_host |= !value.as_bytes().iter().copied().all(is_of_host);
            }
            CONTENT_LENGTH => length += 1,
            TRANSFER_ENCODING => coding += 1,
            _ => {}
        }
    }
    // Removing these fields as hop-by-hop headers would change the meaning of the request.
    let taken_out = fields::list(&head.headers, &CONNECTION).any(|name| {
        let name = name.to_ascii_lowercase();
        UNREMOVABLE.contains(&name.as_str()) || name.starts_with("x-forwarded-")
    });
    // This server offers no CONNECT tunnels.
    head.method == Method::CONNECT
        || bad_host
        || taken_out
        || match head.version {
            Version::HTTP_11 => hosts != 1 || length + coding > 1,
            Version::HTTP_10 => hosts > 1 || length > 1 || coding > 0,
            _ => hosts > 1 || length > 1 || coding > 0 || head.headers.contains_key(CONNECTION),
        }
}

/// Removes the upgrade to HTTP/2 (RFC 7540 section 3.2, withdrawn by RFC 9113): an application that accepted it would
/// receive requests that bypass this server. Servers may ignore `Upgrade`, so removing it is safe.
pub(in crate::proxy) fn strip_h2c_upgrade(head: &mut RequestHeader) {
    let asks = |protocol: &str| protocol.eq_ignore_ascii_case("h2c") || protocol.eq_ignore_ascii_case("h2");
    if fields::list(&head.headers, &UPGRADE).any(asks) {
        head.remove_header(&UPGRADE);
        head.remove_header("http2-settings");
    }
}

/// Removes hop-by-hop headers from a response, except for its framing, which has been validated.
pub(in crate::proxy) fn strip_connection_headers(answer: &mut ResponseHeader) {
    for name in fields::hop_by_hop(&answer.headers) {
        if name != TRANSFER_ENCODING && name != CONTENT_LENGTH {
            answer.remove_header(&name);
        }
    }
}

/// Fields that `Connection` must not name: they determine the recipient, the sender and the end of a request.
const UNREMOVABLE: [&str; 8] =
    ["host", "content-length", "cookie", "authorization", "forwarded", "via", "cdn-loop", "origin"];

/// Returns whether `byte` is allowed in a registered name, an address or a port (RFC 3986 section 3.2.2).
fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(&byte)
}

/// Converts the target of an HTTP/1.x request to origin form. An absolute-form target also contains the host, which
/// takes precedence (RFC 9112 section 3.2.2). Returns `false` if the target is not usable by a reverse proxy.
pub(in crate::proxy) fn to_origin_form(head: &mut RequestHeader) -> bool {
    let target = head.raw_path();
    if target.starts_with(b"/") || (target == b"*" && head.method == Method::OPTIONS) {
        return true;
    }
    let Some((scheme, rest)) = std::str::from_utf8(target).ok().and_then(|target| target.split_once("://")) else {
        return false;
    };
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return false;
    }
    let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if host.is_empty() || !host.bytes().all(is_of_host) {
        return false;
    }
    let host = host.to_owned();
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    head.insert_header(HOST, host).is_ok() && head.set_raw_path(path.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: &str, target: &str, headers: &[(&'static str, &'static str)]) -> RequestHeader {
        let mut head = RequestHeader::build(method, target.as_bytes(), None).expect("a head");
        for (name, value) in headers {
            head.append_header(*name, *value).expect("a header");
        }
        head
    }

    #[test]
    fn one_host_and_one_framing_are_clear() {
        let host = ("host", "x.example:80");
        assert!(!is_ambiguous(&head("GET", "/", &[host])));
        assert!(!is_ambiguous(&head("POST", "/", &[host, ("content-length", "1")])));
        for headers in [
            &[][..],
            &[host, host],
            &[("host", "x/y")],
            &[("host", "x y")],
            &[("host", "a@b")],
            &[host, ("connection", "close, Host")],
            &[host, ("connection", "X-Forwarded-For")],
            &[host, ("content-length", "1"), ("content-length", "1")],
            &[host, ("content-length", "1"), ("transfer-encoding", "chunked")],
            &[host, ("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
        ] {
            assert!(is_ambiguous(&head("POST", "/", headers)), "{headers:?}");
        }
    }

    #[test]
    fn no_coding_but_chunked_is_understood() {
        for (coding, expected) in [
            ("chunked", None),
            ("Chunked", None),
            ("gzip, chunked", Some(StatusCode::NOT_IMPLEMENTED)),
            ("chunked, chunked", Some(StatusCode::NOT_IMPLEMENTED)),
            ("deflate, gzip, chunked", Some(StatusCode::NOT_IMPLEMENTED)),
            ("gzip", Some(StatusCode::BAD_REQUEST)),
            ("chunked, gzip", Some(StatusCode::BAD_REQUEST)),
            ("chunked, gzip, br", Some(StatusCode::BAD_REQUEST)),
            ("xchunked", Some(StatusCode::BAD_REQUEST)),
            ("chunked;q=1", Some(StatusCode::BAD_REQUEST)),
            ("", Some(StatusCode::BAD_REQUEST)),
            ("chunked,", Some(StatusCode::BAD_REQUEST)),
            (",", Some(StatusCode::BAD_REQUEST)),
        ] {
            let found = rejection(&head("POST", "/", &[("host", "x"), ("transfer-encoding", coding)]));
            assert_eq!(found, expected, "{coding:?}");
        }
    }

    #[test]
    fn absolute_targets_name_the_host() {
        for (target, expected) in [
            ("http://y:81/a?b", Some(("/a?b", "y:81"))),
            ("HTTP://y", Some(("/", "y"))),
            ("https://y?b", Some(("/?b", "y"))),
            ("/a?http://y/", Some(("/a?http://y/", "x"))),
            ("ftp://y/a", None),
            ("http:///a", None),
            ("http://u@y/a", None),
            ("a", None),
            ("*", None),
        ] {
            let mut head = head("GET", target, &[("host", "x")]);
            let made = to_origin_form(&mut head).then(|| {
                (
                    String::from_utf8_lossy(head.raw_path()).into_owned(),
                    head.headers[HOST].to_str().unwrap_or("?").to_owned(),
                )
            });
            assert_eq!(made, expected.map(|(path, host)| (path.to_owned(), host.to_owned())), "{target}");
        }
        assert!(to_origin_form(&mut head("OPTIONS", "*", &[("host", "x")])));
    }
}
