//! Declarative refreshes: `<meta http-equiv="refresh">` and the `Refresh` header.

/// What a refresh says (HTML Living Standard, "shared declarative refresh steps").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refresh {
    /// After how many seconds.
    pub seconds: u32,
    /// To where; `None` is the page itself.
    pub url: Option<String>,
}

impl Refresh {
    /// Reads `5`, `5; url=/next` and the other ways in which browsers accept it. `None` if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_start();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = text.split_at(digits);
        if number.is_empty() && !rest.starts_with('.') {
            return None;
        }
        let seconds = if number.is_empty() { 0 } else { number.parse().unwrap_or(u32::MAX) };
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let separated = rest.trim_start();
        let Some(rest) = separated.strip_prefix([';', ',']).or_else(|| {
            // White space alone separates, too.
            (separated.len() < rest.len()).then_some(separated)
        }) else {
            return rest.is_empty().then_some(Self { seconds, url: None });
        };
        let rest = rest.trim();
        let url = match rest.get(..3).filter(|name| name.eq_ignore_ascii_case("url")) {
            Some(_) => rest[3..].trim_start().strip_prefix('=').map_or(rest, str::trim_start),
            None => rest,
        };
        let url = match url.chars().next() {
            Some(quote @ ('"' | '\'')) => url[1..].split(quote).next().unwrap_or_default(),
            _ => url,
        };
        Some(Self { seconds, url: (!url.is_empty()).then(|| url.to_owned()) })
    }

    /// Whether this loads the page at `target` on `host` again, rather than another one.
    pub fn is_of(&self, target: &str, host: &str) -> bool {
        let Some(url) = &self.url else { return true };
        let url = url.split('#').next().unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default();
        let after_scheme =
            url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")).or_else(|| url.strip_prefix("//"));
        if let Some(rest) = after_scheme {
            let at = rest.find(['/', '?']).unwrap_or(rest.len());
            return rest[..at].eq_ignore_ascii_case(host)
                && (&rest[at..] == target || (target == "/" && rest.len() == at));
        }
        match url.chars().next() {
            None => true,
            Some('/') => url == target,
            Some('?') => target.strip_prefix(path) == Some(url),
            Some(_) => {
                let folder = path.rfind('/').map_or("", |at| &path[..=at]);
                target.strip_prefix(folder) == Some(url)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refresh(seconds: u32, url: Option<&str>) -> Option<Refresh> {
        Some(Refresh { seconds, url: url.map(str::to_owned) })
    }

    #[test]
    fn is_read_as_browsers_read_it() {
        for (text, expected) in [
            ("5", refresh(5, None)),
            (" 5 ", refresh(5, None)),
            ("5;", refresh(5, None)),
            ("5.5", refresh(5, None)),
            (".5", refresh(0, None)),
            ("5; url=/next", refresh(5, Some("/next"))),
            ("5;URL='/a b'", refresh(5, Some("/a b"))),
            ("5, url = \"x\" y", refresh(5, Some("x"))),
            ("0;/next", refresh(0, Some("/next"))),
            ("5 /next", refresh(5, Some("/next"))),
            ("5;url", refresh(5, Some("url"))),
            ("99999999999", refresh(u32::MAX, None)),
            ("", None),
            ("soon", None),
            ("-5", None),
            ("5x", None),
        ] {
            assert_eq!(Refresh::parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn knows_the_page_by_any_of_its_names() {
        for (url, own) in [
            ("/a/b?c", true),
            ("b?c", true),
            ("?c", true),
            ("http://site.example/a/b?c", true),
            ("//SITE.example/a/b?c#top", true),
            ("#top", true),
            ("/a/b", false),
            ("b", false),
            ("?d", false),
            ("http://other.example/a/b?c", false),
            ("/a/b?c&d", false),
        ] {
            let refresh = Refresh { seconds: 5, url: Some(url.to_owned()) };
            assert_eq!(refresh.is_of("/a/b?c", "site.example"), own, "{url}");
        }
        assert!(Refresh { seconds: 5, url: Some("http://site.example".into()) }.is_of("/", "site.example"));
    }
}
