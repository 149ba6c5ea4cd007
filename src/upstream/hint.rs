//! Replaces library errors about an unreachable backend by advice for operators.

use super::Address;

/// Explains `text`, a library's reason why there is no connection to `address`.
pub(super) fn explain(address: &Address, text: String) -> String {
    let has = |part: &str| text.contains(part);
    if has("invalid peer certificate") {
        return certificate(&text);
    }
    let hint = match address {
        Address::Tcp { .. } if address.is_tls() && (has("InvalidContentType") || has("corrupt message")) => {
            return "it does not speak TLS there: write http:// in place of https://, or the port at which it does"
                .to_owned();
        }
        Address::Tcp { .. } if address.is_tls() && (has("no answer in time") || has("took too long")) => {
            "is TLS spoken there? if not, write http:// in place of https://"
        }
        Address::Unix { .. } if has("No such file") => "is the application running, and is the path right?",
        Address::Unix { .. } if has("Permission denied") => "this user may not open that socket",
        _ => return text,
    };
    format!("{text}: {hint}")
}

/// Explains a problem with a certificate.
fn certificate(text: &str) -> String {
    let lower = text.to_ascii_lowercase().replace(' ', "");
    let has = |part: &str| lower.contains(part);
    if has("notvalidforname") {
        let (_, valid) = text.split_once("only valid for").unwrap_or_default();
        let names: Vec<&str> = valid.split('"').skip(1).step_by(2).collect();
        let names = if names.is_empty() { "others".to_owned() } else { names.join(", ") };
        format!(
            "its certificate is not for this name (but for {names}): write tls = {{ server_name = \"..\" }} under [upstream]"
        )
    } else if has("expired") {
        "its certificate has expired: renew it; tls = { verify = false } under [upstream] takes any".to_owned()
    } else if has("notvalidyet") {
        "its certificate is not valid yet: is the clock right?".to_owned()
    } else if has("causedasendentity") {
        "its certificate is self-signed: tls = { verify = false } under [upstream] takes any; safer is one that is signed by an \
         authority, which tls = { ca = \"ca.pem\" } names"
            .to_owned()
    } else if has("unknownissuer") {
        "its certificate is not signed by an authority that is known here: name that with tls = { ca = \"ca.pem\" } under \
         [upstream]; tls = { verify = false } takes any"
            .to_owned()
    } else {
        format!("its certificate is not accepted: {text}; tls = {{ verify = false }} under [upstream] takes any")
    }
}

/// Returns a hint for a backend at `address` that accepts connections but has never answered.
pub(super) fn suspicion(address: &str) -> &'static str {
    if address.starts_with("http://") { "; if it speaks TLS there, write https:// in place of http://" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libraries_say_is_put_in_words_of_the_configuration() {
        for (address, text, part) in [
            ("https://a", "the TLS handshake failed (invalid peer certificate: UnknownIssuer)", "tls = { ca = "),
            (
                "https://a",
                "(invalid peer certificate: Other(OtherError(CaUsedAsEndEntity)))",
                "self-signed: tls = { verify = false }",
            ),
            ("https://a", "(invalid peer certificate: certificate not valid; NotValidForName)", "server_name"),
            (
                "https://a",
                "(invalid peer certificate: certificate not valid for name \"a\"; certificate is only valid for DnsName(\"b.c\"))",
                "not for this name (but for b.c)",
            ),
            ("https://a", "(invalid peer certificate: certificate expired: verification time 1)", "has expired"),
            ("https://a", "received corrupt message of type InvalidContentType", "write http://"),
            ("https://a", "the TLS handshake took too long", "is TLS spoken there?"),
            ("unix:/run/a", "no connection (No such file or directory (os error 2))", "is the application running"),
            ("http://a", "nobody listens there", "nobody listens there"),
        ] {
            let address: Address = address.parse().expect(address);
            let said = explain(&address, text.to_owned());
            assert!(said.contains(part), "{text}: {said}");
            assert!(!said.contains("OtherError") && !said.contains("InvalidContentType"), "{said}");
        }
    }
}
