//! JSON Pointers (RFC 6901) in which `*` stands for any key or index.

use std::fmt;
use std::str::FromStr;

/// One location, or many, in a JSON document.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pointer {
    tokens: Vec<Token>,
}

/// One step of a pointer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Token {
    /// Any key or index.
    Any,
    /// A key, or an index in decimal.
    Name(String),
}

impl Pointer {
    /// Returns the steps from the root.
    pub fn tokens(&self) -> &[Token] {
        &self.tokens
    }
}

/// The text is not a JSON Pointer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParsePointerError {
    /// It does not begin with a slash.
    #[error("a JSON Pointer begins with \"/\": write \"/{0}\"")]
    NoSlash(String),
    /// The whole document would be ignored.
    #[error("an empty JSON Pointer is the whole document: nothing would ever be a change")]
    Whole,
    /// A tilde that is neither `~0` nor `~1`.
    #[error("\"~\" must be written \"~0\", and \"/\" inside a key \"~1\" (RFC 6901)")]
    BadEscape,
}

impl FromStr for Pointer {
    type Err = ParsePointerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(ParsePointerError::Whole);
        }
        let Some(rest) = text.strip_prefix('/') else {
            return Err(ParsePointerError::NoSlash(text.to_owned()));
        };
        let tokens =
            rest.split('/').map(|token| if token == "*" { Ok(Token::Any) } else { unescape(token).map(Token::Name) });
        Ok(Self { tokens: tokens.collect::<Result<_, _>>()? })
    }
}

fn unescape(token: &str) -> Result<String, ParsePointerError> {
    let mut name = String::with_capacity(token.len());
    let mut chars = token.chars();
    while let Some(c) = chars.next() {
        name.push(match c {
            '~' => match chars.next() {
                Some('0') => '~',
                Some('1') => '/',
                _ => return Err(ParsePointerError::BadEscape),
            },
            other => other,
        });
    }
    Ok(name)
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for token in &self.tokens {
            match token {
                Token::Any => f.write_str("/*")?,
                Token::Name(name) => write!(f, "/{}", name.replace('~', "~0").replace('/', "~1"))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_writes() {
        for text in ["/a", "/a/*/b", "/", "/a~1b/m~0n", "/0/-"] {
            assert_eq!(text.parse::<Pointer>().map(|p| p.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn says_what_to_write_instead() {
        assert_eq!("".parse::<Pointer>(), Err(ParsePointerError::Whole));
        assert_eq!(
            "a".parse::<Pointer>().map_err(|e| e.to_string()),
            Err("a JSON Pointer begins with \"/\": write \"/a\"".into())
        );
        assert_eq!("/a~2".parse::<Pointer>(), Err(ParsePointerError::BadEscape));
        assert_eq!("/a~".parse::<Pointer>(), Err(ParsePointerError::BadEscape));
    }
}
