//! Whether something can be written behind a page without being seen: not where an element that holds text alone, a comment
//! or a tag is still open.

/// Reads a page as a browser divides it into tags and text (HTML Living Standard section 13.2.5), as far as that matters to
/// its end.
#[derive(Debug, Default)]
pub(super) struct Ending {
    at: At,
    /// How many `<svg>` and `<math>` are open, in which elements may close themselves.
    foreign: usize,
    /// Whether escapes switch to other character sets, in which a byte may be anything.
    unsure: bool,
}

#[derive(Debug, Default)]
enum At {
    #[default]
    Text,
    /// Behind `<`, with what has come since: a name, or `!` and more.
    Open(Vec<u8>),
    Tag(Tag),
    /// Behind `<!--`, with the last bytes.
    Comment([u8; 3]),
    /// A declaration or the like: it ends with `>`.
    Declaration,
    Raw(Raw),
    /// Behind `<plaintext>`, which nothing ends.
    Plain,
}

#[derive(Debug)]
struct Tag {
    name: Vec<u8>,
    value: Value,
    /// Whether the last byte was `/`.
    slash: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    None,
    /// Behind `=`.
    Next,
    Bare,
    Quoted(u8),
}

/// In an element whose content is text up to its end tag.
#[derive(Debug)]
struct Raw {
    name: &'static [u8],
    /// The last bytes, in lower case: enough for the longest end tag.
    last: Vec<u8>,
    /// In a script, whether a `<!--` is open; and in that, a `<script>`, whose end tag is not the end.
    escaped: bool,
    twice: bool,
}

/// Elements that hold text alone, where scripts run.
const RAW: [&[u8]; 9] =
    [b"title", b"textarea", b"style", b"script", b"xmp", b"iframe", b"noembed", b"noframes", b"noscript"];

/// Longer names are none that matter.
const LONGEST_NAME: usize = 16;

const ESCAPE: u8 = 0x1b;

impl Ending {
    /// Takes in a piece of the page.
    pub(super) fn push(&mut self, piece: &[u8]) {
        let mut rest = piece;
        while let Some((&byte, behind)) = rest.split_first() {
            rest = match &self.at {
                // Most of a page is this.
                At::Text if byte != b'<' && byte != ESCAPE => {
                    let next = rest.iter().position(|byte| matches!(byte, b'<' | &ESCAPE)).unwrap_or(rest.len());
                    &rest[next..]
                }
                At::Plain => return,
                _ => {
                    self.unsure |= byte == ESCAPE;
                    let at = std::mem::take(&mut self.at);
                    self.at = self.step(at, byte);
                    behind
                }
            };
        }
    }

    /// Whether what is written now is outside of everything.
    pub(super) fn is_clear(&self) -> bool {
        matches!(self.at, At::Text) && !self.unsure
    }

    fn step(&mut self, at: At, byte: u8) -> At {
        match at {
            At::Text if byte == b'<' => At::Open(Vec::new()),
            At::Text => At::Text,
            At::Plain => At::Plain,
            At::Open(name) => self.open(name, byte),
            At::Tag(tag) => self.tag(tag, byte),
            At::Comment([_, b'-', b'-']) if byte == b'>' => At::Text,
            At::Comment([b'-', b'-', b'!']) if byte == b'>' => At::Text,
            At::Comment([_, b, c]) => At::Comment([b, c, byte]),
            At::Declaration if byte == b'>' => At::Text,
            At::Declaration => At::Declaration,
            At::Raw(raw) => raw.step(byte),
        }
    }

    fn open(&mut self, mut name: Vec<u8>, byte: u8) -> At {
        match (name.as_slice(), byte) {
            ([], b'a'..=b'z' | b'A'..=b'Z' | b'/' | b'!') => {}
            ([], b'?') | ([b'/'], b'!' | b'?' | b'0'..=b'9') => return At::Declaration,
            ([b'!'], b'-') => {}
            // `<!-->` is a comment, too.
            ([b'!', b'-'], b'-') => return At::Comment([0, b'-', b'-']),
            ([b'!', ..], b'>') => return At::Text,
            ([b'!', ..], _) => return At::Declaration,
            ([], b'<') => return At::Open(name),
            ([] | [b'/'], b'>') => return At::Text,
            ([], _) => return At::Text,
            (_, b'>' | b'/' | b' ' | b'\t' | b'\n' | b'\r' | 0x0c) => {
                return self.tag(Tag { name, value: Value::None, slash: false }, byte);
            }
            _ => {}
        }
        if name.len() < LONGEST_NAME {
            name.push(byte.to_ascii_lowercase());
        }
        At::Open(name)
    }

    fn tag(&mut self, mut tag: Tag, byte: u8) -> At {
        let blank = byte.is_ascii_whitespace();
        tag.value = match (tag.value, byte) {
            (Value::Quoted(quote), byte) => {
                let open = if byte == quote { Value::None } else { tag.value };
                return At::Tag(Tag { value: open, slash: false, ..tag });
            }
            (_, b'>') => return self.content(&tag),
            (Value::Next, b'"' | b'\'') => Value::Quoted(byte),
            (Value::Next, _) if blank => Value::Next,
            (Value::Next, _) => Value::Bare,
            (Value::Bare, _) if !blank => Value::Bare,
            (_, b'=') => Value::Next,
            _ => Value::None,
        };
        tag.slash = byte == b'/' && tag.value == Value::None;
        At::Tag(tag)
    }

    /// What is behind this tag.
    fn content(&mut self, tag: &Tag) -> At {
        let closed = tag.slash && self.foreign > 0;
        match tag.name.as_slice() {
            b"svg" | b"math" if !tag.slash => self.foreign += 1,
            b"/svg" | b"/math" => self.foreign = self.foreign.saturating_sub(1),
            b"plaintext" => return At::Plain,
            name => {
                if let Some(name) = RAW.iter().find(|raw| **raw == name && !closed) {
                    return At::Raw(Raw { name, last: Vec::new(), escaped: false, twice: false });
                }
            }
        }
        At::Text
    }
}

impl Raw {
    fn step(mut self, byte: u8) -> At {
        let ends = matches!(byte, b'>' | b'/') || byte.is_ascii_whitespace();
        let end = ends && self.last.strip_prefix(b"</") == Some(self.name);
        let is_script = self.name == b"script";
        if end && !self.twice {
            let tag = Tag { name: Vec::new(), value: Value::None, slash: false };
            return if byte == b'>' { At::Text } else { At::Tag(tag) };
        }
        self.twice = (self.twice && !end) || (is_script && self.escaped && ends && self.last == b"<script");
        if byte == b'<' {
            self.last.clear();
        }
        if self.last.len() > LONGEST_NAME {
            self.last.remove(0);
        }
        self.last.push(byte.to_ascii_lowercase());
        if is_script && self.last.ends_with(b"<!--") {
            self.escaped = true;
        } else if self.last.ends_with(b"-->") {
            (self.escaped, self.twice) = (false, false);
        }
        At::Raw(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_clear(page: &str) -> bool {
        let whole = {
            let mut ending = Ending::default();
            ending.push(page.as_bytes());
            ending.is_clear()
        };
        let mut ending = Ending::default();
        page.as_bytes().iter().for_each(|byte| ending.push(&[*byte]));
        assert_eq!(ending.is_clear(), whole, "byte by byte: {page}");
        whole
    }

    #[test]
    fn pages_that_end_outside_of_everything() {
        for page in [
            "",
            "text",
            "<!doctype html><title>t</title><p>text",
            "<html><body></body></html>\n",
            "<textarea><p></textarea><!-- <textarea> --><p>",
            "<!--><p>",
            "<!---><p>",
            "<!-- --!><p>",
            "<p title=\"<textarea>\" class='<!--' id=<title>x",
            "<p x\">y",
            "<p a= \"<title>\">",
            "<p a=b/><title >t</title\n>",
            "a < b <3 </> <! x > <? y > </1 >",
            "<script>'<!--' </script>",
            "<script><!-- <script> </script> --></script>x",
            "<script><!-- <script> </script> </script>x",
            "<script>'</scripty>'</SCRIPT >",
            "<svg><title/><script/></svg>x",
            "<textarea></textarea/>x",
            "<style></p></style>",
        ] {
            assert!(is_clear(page), "{page}");
        }
    }

    #[test]
    fn pages_that_do_not() {
        for page in [
            "<textarea>tail",
            "<textarea></p></body></html>",
            "<title>t hello",
            "<title/>t",
            "<plaintext></plaintext>",
            "<p><a href=\"x",
            "<a href=\"x>y",
            "<",
            "<!-- x",
            "<!-- x ->",
            "<!doctype",
            "<script>\"x",
            "<script><!-- <script> </script>",
            "<XMP>",
            "<noscript><p></p>",
            "<iframe></p>",
            "<style>p { }",
            "<p>\u{1b}$B",
        ] {
            assert!(!is_clear(page), "{page}");
        }
    }
}
