//! What makes a message one that servers might take apart differently.

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{Method, StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};

use crate::model::fields;

/// Why a request is refused: servers might disagree on whom it is for, or on where it ends (RFC 9112 sections 3.2 and 6.3,
/// RFC 9113 section 8.3.1), or it is coded in a way that is not understood here (RFC 9112 section 6.1).
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
    // Where it ends can be found, but what is in it could only be handed on as something that it is not.
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
    // Taken out on the way, these would leave another request.
    let taken_out = fields::list(&head.headers, &CONNECTION).any(|name| {
        let name = name.to_ascii_lowercase();
        UNREMOVABLE.contains(&name.as_str()) || name.starts_with("x-forwarded-")
    });
    // There are no tunnels here, and an application is asked for what it has.
    head.method == Method::CONNECT
        || bad_host
        || taken_out
        || match head.version {
            Version::HTTP_11 => hosts != 1 || length + coding > 1,
            Version::HTTP_10 => hosts > 1 || length > 1 || coding > 0,
            _ => hosts > 1 || length > 1 || coding > 0 || head.headers.contains_key(CONNECTION),
        }
}

/// Takes out the wish to go on in HTTP/2 (RFC 7540 section 3.2, which RFC 9113 has withdrawn): an application that grants it
/// would be spoken to past everything that is here. Nobody has to grant it, so nobody notices.
pub(in crate::proxy) fn strip_h2c_upgrade(head: &mut RequestHeader) {
    let asks = |protocol: &str| protocol.eq_ignore_ascii_case("h2c") || protocol.eq_ignore_ascii_case("h2");
    if fields::list(&head.headers, &UPGRADE).any(asks) {
        head.remove_header(&UPGRADE);
        head.remove_header("http2-settings");
    }
}

/// Takes from an answer what belongs to the backend's connection, but for where its body ends, which is certain.
pub(in crate::proxy) fn strip_connection_headers(answer: &mut ResponseHeader) {
    for name in fields::hop_by_hop(&answer.headers) {
        if name != TRANSFER_ENCODING && name != CONTENT_LENGTH {
            answer.remove_header(&name);
        }
    }
}

/// What no `Connection` may name: whom a request is for, from whom it comes, and where it ends.
const UNREMOVABLE: [&str; 8] =
    ["host", "content-length", "cookie", "authorization", "forwarded", "via", "cdn-loop", "origin"];

/// What can stand in a registered name, an address or a port (RFC 3986 section 3.2.2).
fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(&byte)
}

/// Brings the target of an HTTP/1.x request into origin form: what was sent in absolute form names the host as well, and
/// that counts (RFC 9112 section 3.2.2). `false` if the target is none that a proxy in front of an application can use.
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
