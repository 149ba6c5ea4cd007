//! A trie of pointers, so that one walk through a document checks it against all of them.

use std::ops::Range;
use std::rc::Rc;

use super::{IgnoredRanges, Pointer, Token};
use crate::json::{self, Filter, Value};

/// A trie of the steps of several pointers.
#[derive(Clone, Debug)]
pub(super) struct PointerTrie {
    /// The first step is the root.
    steps: Vec<Step>,
}

#[derive(Clone, Debug, Default)]
struct Step {
    /// The target of any key or index.
    any: Option<u32>,
    /// The targets of specific keys and indices, in canonical spelling.
    names: Vec<(Box<str>, u32)>,
    /// Whether a pointer ends here.
    end: bool,
}

/// The steps that the walk has reached; usually none.
#[derive(Clone, Debug)]
pub(super) enum TrieState {
    Nowhere,
    At(u32),
    AtMany(Rc<[u32]>),
}

impl PointerTrie {
    pub(super) fn new(pointers: &[Pointer]) -> Self {
        let mut places = Self { steps: vec![Step::default()] };
        for pointer in pointers {
            let end = pointer.tokens().iter().fold(0, |at, token| places.step(at, token));
            places.steps[end as usize].end = true;
        }
        places
    }

    /// Returns the step that `token` leads to from `at`, creating it if necessary.
    fn step(&mut self, at: u32, token: &Token) -> u32 {
        let made = self.steps.len() as u32;
        let step = &mut self.steps[at as usize];
        let known = match token {
            Token::Any => *step.any.get_or_insert(made),
            Token::Name(name) => {
                let name = json::escape(name);
                match step.names.iter().find(|(known, _)| **known == *name) {
                    Some((_, known)) => *known,
                    None => {
                        step.names.push((name.into(), made));
                        made
                    }
                }
            }
        };
        if known == made {
            self.steps.push(Step::default());
        }
        known
    }

    pub(super) fn root(&self) -> TrieState {
        let root = &self.steps[0];
        if root.any.is_none() && root.names.is_empty() { TrieState::Nowhere } else { TrieState::At(0) }
    }

    /// Follows `name`. Returns `None` if a pointer ends there.
    fn enter(&self, standing: &TrieState, name: &str) -> Option<TrieState> {
        let from = match standing {
            TrieState::Nowhere => return Some(TrieState::Nowhere),
            TrieState::At(one) => std::slice::from_ref(one),
            TrieState::AtMany(many) => many,
        };
        let mut to: Vec<u32> = Vec::new();
        for step in from.iter().map(|at| &self.steps[*at as usize]) {
            let named = step.names.iter().find(|(known, _)| **known == *name).map(|(_, to)| *to);
            for next in step.any.into_iter().chain(named) {
                if self.steps[next as usize].end {
                    return None;
                }
                to.push(next);
            }
        }
        Some(match to.as_slice() {
            [] => TrieState::Nowhere,
            [one] => TrieState::At(*one),
            _ => TrieState::AtMany(to.into()),
        })
    }

    /// Returns whether a pointer matches `path`, in canonical spelling, or one of its ancestors.
    pub(super) fn hold<'p>(&self, path: impl IntoIterator<Item = &'p str>) -> bool {
        let mut standing = self.root();
        for name in path {
            match self.enter(&standing, name) {
                Some(next) => standing = next,
                None => return true,
            }
        }
        false
    }
}

/// The filter for a document: excludes the locations of the pointers and the ranges that patterns cut.
pub(super) struct IgnoreFilter<'r> {
    pub(super) places: &'r PointerTrie,
    pub(super) cuts: &'r IgnoredRanges,
    pub(super) text: &'r str,
}

impl Filter for IgnoreFilter<'_> {
    type Place = TrieState;

    fn member(&self, place: &TrieState, key: &str) -> Option<TrieState> {
        self.places.enter(place, key)
    }

    fn item(&self, place: &TrieState, index: usize) -> Option<TrieState> {
        match place {
            TrieState::Nowhere => Some(TrieState::Nowhere),
            other => self.places.enter(other, &index.to_string()),
        }
    }

    fn write(&self, value: Value<'_>, out: &mut Vec<u8>) {
        let span: Range<usize> = value.span();
        if self.cuts.intersects(&span) {
            self.cuts.remaining(span).for_each(|kept| out.extend_from_slice(self.text[kept].as_bytes()));
        } else {
            json::write_scalar(value, out);
        }
    }
}
