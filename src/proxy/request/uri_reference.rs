//! Resolves URI references in responses.

use crate::route::Target;

/// Returns path and query of `reference` in a response to a request for `base` (RFC 3986 section 5.2), if it points to
/// the site at `scheme` and `host`.
pub(in crate::proxy) fn resolve(base: Target<'_>, reference: &str, scheme: &str, host: &str) -> Option<String> {
    let reference = reference.split('#').next()?;
    let rest = match reference.split_once(':') {
        Some((named, rest)) if is_scheme(named) => {
            if !named.eq_ignore_ascii_case(scheme) || !rest.starts_with("//") {
                return None;
            }
            rest
        }
        _ => reference,
    };
    let rest = match rest.strip_prefix("//") {
        Some(rest) => {
            let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
            if !authority.eq_ignore_ascii_case(host) {
                return None;
            }
            if !target.starts_with('/') {
                return Some(format!("/{target}"));
            }
            target
        }
        None => rest,
    };
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (rest, None),
    };
    let (path, query) = match path {
        "" => (base.path.to_owned(), query.or(base.query)),
        path if path.starts_with('/') => (remove_dot_segments(path), query),
        path => {
            let folder = base.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            (remove_dot_segments(&format!("{folder}/{path}")), query)
        }
    };
    Some(query.map_or_else(|| path.clone(), |query| format!("{path}?{query}")))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// Returns an absolute path without its dot segments (RFC 3986 section 5.2.4).
fn remove_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            segment => {
                kept.push(segment);
                continue;
            }
        }
        if last {
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_lead_where_the_rfc_says_and_nowhere_else() {
        let base = Target::parse("/b/c/d?q").unwrap();
        for (reference, target) in [
            ("/a?b", Some("/a?b")),
            ("g", Some("/b/c/g")),
            ("./g?y#s", Some("/b/c/g?y")),
            ("g/", Some("/b/c/g/")),
            ("?y", Some("/b/c/d?y")),
            ("", Some("/b/c/d?q")),
            ("#s", Some("/b/c/d?q")),
            ("..", Some("/b/")),
            ("../g", Some("/b/g")),
            ("../../../g", Some("/g")),
            ("/a/./b/../c", Some("/a/c")),
            ("7", Some("/b/c/7")),
            ("//Site.example:8080/x?y", Some("/x?y")),
            ("HTTP://site.example:8080", Some("/")),
            ("http://site.example:8080?y", Some("/?y")),
            ("http://site.example:8080.evil.example/x", None),
            ("http://site.example/x", None),
            ("https://site.example:8080/x", None),
            ("//other.example/x", None),
            ("http:x", None),
            ("mailto:a@site.example", None),
        ] {
            let found = resolve(base, reference, "http", "site.example:8080");
            assert_eq!(found.as_deref(), target, "{reference:?}");
        }
    }
}
