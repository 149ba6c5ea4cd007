//! Finds the differences between two texts: by lines first, then by pieces of the lines that differ, then by words of
//! those pieces.

use std::ops::Range;

use super::common::{common, interned};
use super::{Budget, Exhausted};

/// A stretch of the old text and the stretch of the new text that replaces it. One of them may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hunk {
    /// Byte range in the old text.
    pub old: Range<usize>,
    /// Byte range in the new text.
    pub new: Range<usize>,
}

/// Returns the hunks that turn `old` into `new`, in order. Between and around hunks the texts are equal.
///
/// # Errors
/// Returns [`Exhausted`] if the comparison takes more steps than `budget` has.
pub fn hunks(old: &str, new: &str, budget: &mut Budget) -> Result<Vec<Hunk>, Exhausted> {
    budget.read(old.len().min(new.len()))?;
    let mut rough = Vec::new();
    let whole = trimmed(old, new, &Hunk { old: 0..old.len(), new: 0..new.len() });
    divide(old, new, whole, lines, &mut rough, budget)?;
    // Single-line pages and tables of values are divided at the ends of tags and values.
    let mut closer = Vec::new();
    for hunk in rough {
        divide(old, new, hunk, pieces, &mut closer, budget)?;
    }
    let mut fine = Vec::new();
    for hunk in closer {
        divide(old, new, hunk, words, &mut fine, budget)?;
    }
    Ok(fine)
}

/// Divides `hunk` into smaller hunks, by the tokens that its two sides have in common.
fn divide<'t, T: Iterator<Item = &'t str>>(
    old: &'t str,
    new: &'t str,
    hunk: Hunk,
    tokens: impl Fn(&'t str) -> T,
    found: &mut Vec<Hunk>,
    budget: &mut Budget,
) -> Result<(), Exhausted> {
    if hunk.old.is_empty() || hunk.new.is_empty() {
        if !hunk.old.is_empty() || !hunk.new.is_empty() {
            found.push(hunk);
        }
        return Ok(());
    }
    let (one, other) = (&old[hunk.old.clone()], &new[hunk.new.clone()]);
    budget.read(one.len() + other.len())?;
    let (a, b) = interned(tokens(one), tokens(other), budget)?;
    let (mut one, mut other) = (Places::new(tokens(one), hunk.old.start), Places::new(tokens(other), hunk.new.start));
    for run in common(&a, &b, budget)? {
        let gap = Hunk { old: one.up_to(run.a), new: other.up_to(run.b) };
        push(old, new, &gap, found);
        one.up_to(run.a + run.len);
        other.up_to(run.b + run.len);
    }
    push(old, new, &Hunk { old: one.up_to(a.len()), new: other.up_to(b.len()) }, found);
    Ok(())
}

fn push(old: &str, new: &str, hunk: &Hunk, found: &mut Vec<Hunk>) {
    let hunk = trimmed(old, new, hunk);
    if !hunk.old.is_empty() || !hunk.new.is_empty() {
        found.push(hunk);
    }
}

/// Tracks the byte position of each token in a text.
struct Places<T> {
    tokens: T,
    token: usize,
    at: usize,
}

impl<'t, T: Iterator<Item = &'t str>> Places<T> {
    fn new(tokens: T, at: usize) -> Self {
        Self { tokens, token: 0, at }
    }

    /// Returns the stretch from the current position up to the beginning of `token`.
    fn up_to(&mut self, token: usize) -> Range<usize> {
        let from = self.at;
        self.at += self.tokens.by_ref().take(token - self.token).map(str::len).sum::<usize>();
        self.token = token;
        from..self.at
    }
}

/// Returns the hunk without equal text at its ends. Never divides a character.
fn trimmed(old: &str, new: &str, hunk: &Hunk) -> Hunk {
    let (one, other) = (&old.as_bytes()[hunk.old.clone()], &new.as_bytes()[hunk.new.clone()]);
    let mut head = equal_bytes(one, other);
    while !old.is_char_boundary(hunk.old.start + head) {
        head -= 1;
    }
    let (one, other) = (&one[head..], &other[head..]);
    let mut tail = equal_bytes_behind(one, other);
    while !old.is_char_boundary(hunk.old.end - tail) {
        tail -= 1;
    }
    Hunk { old: hunk.old.start + head..hunk.old.end - tail, new: hunk.new.start + head..hunk.new.end - tail }
}

/// The number of bytes compared at once before single bytes are compared.
const PIECE: usize = 64;

/// Returns the length of the common prefix in bytes.
fn equal_bytes(one: &[u8], other: &[u8]) -> usize {
    let pieces = one.chunks_exact(PIECE).zip(other.chunks_exact(PIECE)).take_while(|(x, y)| x == y).count() * PIECE;
    pieces + one[pieces..].iter().zip(&other[pieces..]).take_while(|(x, y)| x == y).count()
}

/// Returns the length of the common suffix in bytes.
fn equal_bytes_behind(one: &[u8], other: &[u8]) -> usize {
    let pieces = one.rchunks_exact(PIECE).zip(other.rchunks_exact(PIECE)).take_while(|(x, y)| x == y).count() * PIECE;
    let (one, other) = (&one[..one.len() - pieces], &other[..other.len() - pieces]);
    pieces + one.iter().rev().zip(other.iter().rev()).take_while(|(x, y)| x == y).count()
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive('\n')
}

fn pieces(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(['>', ',', ';', '\n'])
}

/// Splits `text` into runs of letters and digits, runs of white space, and single other characters.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let end = match Class::of(first) {
            Class::Other => first.len_utf8(),
            class => rest.find(|c| Class::of(c) != class).unwrap_or(rest.len()),
        };
        let (word, behind) = rest.split_at(end);
        rest = behind;
        Some(word)
    })
}

#[derive(PartialEq, Eq)]
enum Class {
    Word,
    Space,
    Other,
}

impl Class {
    fn of(c: char) -> Self {
        if c.is_alphanumeric() {
            Self::Word
        } else if c.is_whitespace() {
            Self::Space
        } else {
            Self::Other
        }
    }
}
