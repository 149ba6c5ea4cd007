//! Parses a text into nodes, without recursion.

use super::Kind;
use super::document::{Document, Node};

/// The maximum nesting depth of arrays and objects. Many parsers allow no more, and the recursive code of this crate
/// relies on it.
pub const MAX_DEPTH: usize = 128;

/// The text cannot be parsed as a JSON document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It breaks the grammar.
    #[error("it is not valid JSON (at byte {0})")]
    Syntax(usize),
    /// It is nested too deeply.
    #[error("it is nested more than {MAX_DEPTH} levels deep")]
    Depth,
    /// Its positions do not fit into 32 bits.
    #[error("it is longer than 4 GiB")]
    Length,
}

pub(super) struct Parser<'t> {
    bytes: &'t [u8],
    at: usize,
    nodes: Vec<Node>,
    /// The open containers, by node index.
    open: Vec<u32>,
}

impl<'t> Document<'t> {
    /// Parses `text`, one JSON value with optional white space around it.
    ///
    /// # Errors
    /// As [`ParseError`] describes. Duplicate keys are allowed.
    pub fn parse(text: &'t str) -> Result<Self, ParseError> {
        if u32::try_from(text.len()).is_err() {
            return Err(ParseError::Length);
        }
        // Real documents have about one value per ten to twenty bytes.
        let mut parser = Parser {
            bytes: text.as_bytes(),
            at: 0,
            nodes: Vec::with_capacity(text.len() / 12 + 1),
            open: Vec::with_capacity(16),
        };
        parser.run()?;
        Ok(Self::new(text, parser.nodes))
    }
}

impl Parser<'_> {
    fn run(&mut self) -> Result<(), ParseError> {
        loop {
            self.space();
            let start = self.at;
            match self.peek() {
                Some(b'{') => {
                    self.enter(Kind::Object)?;
                    self.space();
                    if self.peek() != Some(b'}') {
                        self.key()?;
                        continue;
                    }
                    self.leave();
                }
                Some(b'[') => {
                    self.enter(Kind::Array)?;
                    self.space();
                    if self.peek() != Some(b']') {
                        continue;
                    }
                    self.leave();
                }
                Some(b'"') => self.string()?,
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.literal(start, b"true", Kind::Bool)?,
                Some(b'f') => self.literal(start, b"false", Kind::Bool)?,
                Some(b'n') => self.literal(start, b"null", Kind::Null)?,
                _ => return Err(self.invalid()),
            }
            if !self.follow()? {
                return Ok(());
            }
        }
    }

    /// Reads the separator or the closing brackets after a value. Returns `true` if another value follows, `false` at
    /// the end of the text.
    fn follow(&mut self) -> Result<bool, ParseError> {
        loop {
            self.space();
            let Some(&container) = self.open.last() else {
                return if self.at == self.bytes.len() { Ok(false) } else { Err(self.invalid()) };
            };
            let object = self.nodes[container as usize].kind == Kind::Object;
            match self.peek() {
                Some(b',') => {
                    self.at += 1;
                    if object {
                        self.space();
                        self.key()?;
                    }
                    return Ok(true);
                }
                Some(b'}') if object => self.leave(),
                Some(b']') if !object => self.leave(),
                _ => return Err(self.invalid()),
            }
        }
    }

    fn enter(&mut self, kind: Kind) -> Result<(), ParseError> {
        if self.open.len() == MAX_DEPTH {
            return Err(ParseError::Depth);
        }
        self.open.push(self.nodes.len() as u32);
        self.node(self.at, self.at, kind, true);
        self.at += 1;
        Ok(())
    }

    fn leave(&mut self) {
        self.at += 1;
        let next = self.nodes.len() as u32;
        if let Some(container) = self.open.pop().and_then(|index| self.nodes.get_mut(index as usize)) {
            container.end = self.at as u32;
            container.next = next;
        }
    }

    fn key(&mut self) -> Result<(), ParseError> {
        if self.peek() != Some(b'"') {
            return Err(self.invalid());
        }
        self.string()?;
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.invalid());
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Result<(), ParseError> {
        let start = self.at;
        let mut plain = true;
        self.at += 1;
        loop {
            self.skip_plain();
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    plain = false;
                    self.escape()?;
                }
                _ => return Err(self.invalid()),
            }
        }
        self.at += 1;
        self.node(start, self.at, Kind::String, plain);
        Ok(())
    }

    /// Moves to the next quote, backslash or control character, eight bytes at a time where possible.
    fn skip_plain(&mut self) {
        const ONES: u64 = u64::from_le_bytes([1; 8]);
        const HIGH: u64 = u64::from_le_bytes([0x80; 8]);
        let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
        while let Some(chunk) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<8>()) {
            let word = u64::from_le_bytes(*chunk);
            let special = zero(word ^ (ONES * u64::from(b'"')))
                | zero(word ^ (ONES * u64::from(b'\\')))
                | (word.wrapping_sub(ONES * 0x20) & !word & HIGH);
            if special != 0 {
                // The lowest mark is exact; higher marks may be carries.
                self.at += special.trailing_zeros() as usize / 8;
                return;
            }
            self.at += 8;
        }
        while self.peek().is_some_and(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
            self.at += 1;
        }
    }

    fn escape(&mut self) -> Result<(), ParseError> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                let digits = self.bytes.get(self.at..self.at + 4).unwrap_or_default();
                if digits.len() < 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
                    return Err(self.invalid());
                }
                self.at += 4;
            }
            _ => return Err(self.invalid()),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), ParseError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        self.node(start, self.at, Kind::Number, true);
        Ok(())
    }

    fn digits(&mut self) -> Result<(), ParseError> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(self.invalid()) } else { Ok(()) }
    }

    fn literal(&mut self, start: usize, word: &[u8], kind: Kind) -> Result<(), ParseError> {
        if !self.bytes[start..].starts_with(word) {
            return Err(self.invalid());
        }
        self.at += word.len();
        self.node(start, self.at, kind, true);
        Ok(())
    }

    fn node(&mut self, start: usize, end: usize, kind: Kind, plain: bool) {
        let next = self.nodes.len() as u32 + 1;
        self.nodes.push(Node { start: start as u32, end: end as u32, next, kind, plain });
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn invalid(&self) -> ParseError {
        ParseError::Syntax(self.at)
    }
}
