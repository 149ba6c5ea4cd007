//! JSON strings: raw text, canonical spelling and decoded content.

use std::borrow::Cow;

/// Returns the content of a string in its canonical spelling: only `"`, `\`, control characters and unpaired surrogates
/// are escaped. `raw` is the text between the quotes of a valid JSON string. Two strings are equal exactly if their
/// canonical contents are equal.
pub fn content(raw: &str) -> Cow<'_, str> {
    if !raw.as_bytes().contains(&b'\\') {
        return Cow::Borrowed(raw);
    }
    let mut out = String::with_capacity(raw.len());
    for piece in Pieces(raw) {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Char(c) => push_escaped(&mut out, c),
            Piece::Lone(unit) => push_unit(&mut out, unit),
        }
    }
    Cow::Owned(out)
}

/// Returns `text` in the canonical spelling of [`content`].
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    text.chars().for_each(|c| push_escaped(&mut out, c));
    Cow::Owned(out)
}

/// Decodes a string. An unpaired surrogate, which no Rust string can hold, becomes U+FFFD.
pub fn unescape(raw: &str) -> Cow<'_, str> {
    if !raw.as_bytes().contains(&b'\\') {
        return Cow::Borrowed(raw);
    }
    let mut out = String::with_capacity(raw.len());
    for piece in Pieces(raw) {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Char(c) => out.push(c),
            Piece::Lone(_) => out.push(char::REPLACEMENT_CHARACTER),
        }
    }
    Cow::Owned(out)
}

fn push_escaped(out: &mut String, c: char) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\0'..='\x1f' => push_unit(out, c as u16),
        other => out.push(other),
    }
}

fn push_unit(out: &mut String, unit: u16) {
    out.push_str("\\u");
    for shift in [12, 8, 4, 0] {
        let digit = u32::from(unit >> shift & 0xf);
        out.push(char::from_digit(digit, 16).unwrap_or('0'));
    }
}

enum Piece<'t> {
    /// A run without escapes.
    Text(&'t str),
    /// One escape, or two that form a surrogate pair.
    Char(char),
    /// Half a surrogate pair.
    Lone(u16),
}

/// Splits the inside of a valid string into pieces.
struct Pieces<'t>(&'t str);

impl<'t> Iterator for Pieces<'t> {
    type Item = Piece<'t>;

    fn next(&mut self) -> Option<Piece<'t>> {
        let Some(escaped) = self.0.strip_prefix('\\') else {
            if self.0.is_empty() {
                return None;
            }
            let (text, rest) = self.0.split_at(self.0.find('\\').unwrap_or(self.0.len()));
            self.0 = rest;
            return Some(Piece::Text(text));
        };
        let mut chars = escaped.chars();
        let c = match chars.next()? {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => return self.unit(escaped),
            other => other,
        };
        self.0 = chars.as_str();
        Some(Piece::Char(c))
    }
}

impl<'t> Pieces<'t> {
    /// Reads `uXXXX`, and the following `\uXXXX` if both form one character.
    fn unit(&mut self, escaped: &'t str) -> Option<Piece<'t>> {
        let high = hex(escaped)?;
        self.0 = escaped.get(5..)?;
        if let Some(c) = char::from_u32(u32::from(high)) {
            return Some(Piece::Char(c));
        }
        let low = self.0.strip_prefix('\\').and_then(hex);
        match low.and_then(|low| char::decode_utf16([high, low]).next()?.ok()) {
            Some(c) => {
                self.0 = self.0.get(6..)?;
                Some(Piece::Char(c))
            }
            None => Some(Piece::Lone(high)),
        }
    }
}

fn hex(escaped: &str) -> Option<u16> {
    u16::from_str_radix(escaped.strip_prefix('u')?.get(..4)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_string_has_one_content_however_it_is_spelled() {
        for (one, other) in [
            (r"a", r"\u0061"),
            (r"/", r"\/"),
            (r"\n", r"\u000A"),
            (r"\u00e9", "é"),
            (r"\ud83d\ude00", "😀"),
            (r"\uD83D\uDE00", r"\ud83d\ude00"),
            (r#"\""#, r"\u0022"),
            (r"\\", r"\u005c"),
        ] {
            assert_eq!(content(one), content(other), "{one} {other}");
        }
    }

    #[test]
    fn contents_that_differ_are_told_apart() {
        for (one, other) in [
            (r"\ud83d", r"\ude00"),
            (r"\ud83d", r"\\ud83d"),
            (r"\ufffd", r"\ud83d"),
            (r"\ude00\ud83d", r"\ud83d\ude00"),
        ] {
            assert_ne!(content(one), content(other), "{one} {other}");
        }
        assert_eq!(content(r"x\ud83dy"), r"x\ud83dy");
        assert_eq!(content(r"\ud83d\u0041"), r"\ud83dA");
    }

    #[test]
    fn escapes_what_it_must_and_says_it_again() {
        for text in ["plain", "a\"b\\c\n\u{1}", "😀\u{2028}", ""] {
            assert_eq!(unescape(&escape(text)), text);
            assert_eq!(content(&escape(text)), escape(text));
        }
        assert_eq!(unescape(r"\ud83d!"), "\u{fffd}!");
    }
}
