//! Pointers, arranged so that a document can be checked against all of them while it is walked once.

use std::ops::Range;
use std::rc::Rc;

use super::{IgnoredRanges, Pointer, Token};
use crate::json::{self, Filter, Value};

/// A tree of the steps that pointers have in common.
#[derive(Clone, Debug)]
pub(super) struct PointerTrie {
    /// The first is the root.
    steps: Vec<Step>,
}

#[derive(Clone, Debug, Default)]
struct Step {
    /// Where any key or index leads.
    any: Option<u32>,
    /// Where keys and indices lead, in canonical spelling.
    names: Vec<(Box<str>, u32)>,
    /// Whether a pointer ends here.
    end: bool,
}

/// The steps at which the walk stands: none of them any more, mostly.
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

    /// The step that `token` leads to from `at`, made if it is not there.
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

    /// Where `name` leads; `None` if a pointer ends there.
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

    /// Whether a pointer means the place that `path` leads to, in canonical spelling, or one that it lies in.
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

/// What is compared of a document: all but the places of the pointers and the stretches that patterns cut.
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
