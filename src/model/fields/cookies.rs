//! Cookies of requests, and the effect of responses on them (RFC 6265).

use std::collections::HashMap;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// The maximum number of cookies that count. Browsers keep no more than this for a site; a client that sends more is
/// not a browser.
pub const MAX_COOKIES: usize = 256;

/// The maximum number of cookies of one name that count; a browser sends several if their paths differ.
const MAX_NAMESAKES: usize = 4;

static CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");

/// The minimum length of a value that cannot be guessed.
const SECRET_LENGTH: usize = 16;

/// Substrings that are common in the names of session cookies.
const OF_SESSIONS: [&str; 9] = ["sess", "sid", "auth", "token", "user", "login", "jwt", "remember", "identity"];

/// A request cookie that the response replaced or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replaced<'a> {
    /// `name=value`, as it was sent.
    pub pair: &'a [u8],
    /// How well the cookie identifies its owner.
    pub telling: Telling,
}

/// How well a cookie identifies its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Telling {
    /// Many clients may have the same cookie (`lang=en`).
    Nothing,
    /// It looks like a session cookie, but its value may be guessed.
    Session,
    /// No other client can have it.
    Secret,
}

/// Returns the cookies of a request, each as `name=value`, in the order in which they were sent.
pub fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers.get_all(header::COOKIE).iter().flat_map(|line| pairs(line.as_bytes()))
}

/// Returns the cookies in one line.
pub fn pairs(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b';').map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty())
}

/// Returns the name of a cookie.
pub fn cookie_name(pair: &[u8]) -> &[u8] {
    pair.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii()
}

/// Returns whether a response with these headers sets or clears cookies.
pub fn changes_cookies(answer: &HeaderMap) -> bool {
    answer.contains_key(header::SET_COOKIE) || answer.contains_key(&CLEAR_SITE_DATA)
}

/// Returns the cookies of `sent` that `answer` sets to another value or removes.
pub fn replaced<'a>(sent: impl Iterator<Item = &'a [u8]>, answer: &HeaderMap) -> Vec<Replaced<'a>> {
    let lines = answer.get_all(header::SET_COOKIE).iter().map(HeaderValue::as_bytes);
    let mut set: HashMap<&[u8], Set<'_>> = HashMap::new();
    for line in lines {
        let pair = pairs(line).next().unwrap_or_default();
        let is_hidden = pairs(line).skip(1).any(|attribute| attribute.eq_ignore_ascii_case(b"httponly"));
        // The last one counts, as in a browser.
        set.insert(cookie_name(pair), Set { pair, is_hidden, namesakes: 0 });
    }
    let cleared = super::list(answer, &CLEAR_SITE_DATA).any(|what| matches!(what, "\"cookies\"" | "\"*\""));
    if set.is_empty() && !cleared {
        return Vec::new();
    }
    let replaced = |pair: &'a [u8]| {
        let found = set.get_mut(cookie_name(pair));
        let is_hidden = found.as_ref().is_some_and(|set| set.is_hidden);
        let is_replaced = found.is_some_and(|set| {
            set.namesakes += 1;
            set.pair != pair && set.namesakes <= MAX_NAMESAKES
        });
        (is_replaced || cleared).then(|| Replaced { pair, telling: telling(pair, is_hidden) })
    };
    sent.take(MAX_COOKIES).filter_map(replaced).collect()
}

/// A cookie as set by a response.
struct Set<'a> {
    pair: &'a [u8],
    is_hidden: bool,
    namesakes: usize,
}

/// Returns how well a cookie identifies its owner, judged by a random-looking value, its name, and `HttpOnly`.
fn telling(pair: &[u8], is_hidden: bool) -> Telling {
    let name = cookie_name(pair).to_ascii_lowercase();
    let value = pair.get(name.len() + 1..).unwrap_or_default();
    let is_named = OF_SESSIONS.iter().any(|part| name.windows(part.len()).any(|window| window == part.as_bytes()));
    let is_random = value.len() >= SECRET_LENGTH
        && value.iter().any(u8::is_ascii_digit)
        && value.iter().any(u8::is_ascii_alphabetic);
    match (is_random, !value.is_empty() && (is_named || is_hidden)) {
        (true, _) => Telling::Secret,
        (false, true) => Telling::Session,
        (false, false) => Telling::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use http::header::{COOKIE, SET_COOKIE};

    use super::*;

    fn of(request: &HeaderMap, lines: &[(HeaderName, &'static str)]) -> Vec<(String, Telling)> {
        let answer = lines.iter().map(|(name, line)| (name.clone(), HeaderValue::from_static(line))).collect();
        let text = |one: Replaced<'_>| (String::from_utf8_lossy(one.pair).into_owned(), one.telling);
        replaced(cookies(request), &answer).into_iter().map(text).collect()
    }

    #[test]
    fn only_cookies_that_get_another_value_are_replaced() {
        let sent = "sid=1; lang=en; theme=dark; r=a1b2c3d4e5f6a7b8; x=1";
        let request = HeaderMap::from_iter([(COOKIE, HeaderValue::from_static(sent))]);
        assert!(of(&request, &[]).is_empty());
        let set = |line| (SET_COOKIE, line);
        let lines = ["lang=en; Path=/", "new=1", "sid=2", "theme=; Max-Age=0", "r=b", "x=2; HttpOnly"].map(set);
        let known = |pair: &str, telling: Telling| (pair.to_owned(), telling);
        assert_eq!(
            of(&request, &lines),
            [
                known("sid=1", Telling::Session),
                known("theme=dark", Telling::Nothing),
                known("r=a1b2c3d4e5f6a7b8", Telling::Secret),
                known("x=1", Telling::Session)
            ]
        );
        let all = of(&request, &[(CLEAR_SITE_DATA.clone(), "\"cache\", \"cookies\"")]);
        assert_eq!(all.len(), 5);
        assert!(of(&request, &[(CLEAR_SITE_DATA.clone(), "\"cache\"")]).is_empty());
    }

    #[test]
    fn many_cookies_of_one_name_are_no_work() {
        let sent = "sid=x; ".repeat(4000);
        let request = HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(&sent).unwrap())]);
        assert_eq!(of(&request, &[(SET_COOKIE, "sid=new")]).len(), MAX_NAMESAKES);
    }
}
