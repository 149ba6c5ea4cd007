//! Pointers, arranged so that a document can be checked against all of them while it is walked once.

use std::ops::Range;
use std::rc::Rc;

use super::{Cuts, Pointer, Token};
use crate::json::{self, Sieve, Value};

/// A tree of the steps that pointers have in common.
#[derive(Clone, Debug)]
pub(super) struct Places {
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
pub(super) enum Standing {
    Nowhere,
    At(u32),
    AtMany(Rc<[u32]>),
}

impl Places {
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

    pub(super) fn root(&self) -> Standing {
        let root = &self.steps[0];
        if root.any.is_none() && root.names.is_empty() { Standing::Nowhere } else { Standing::At(0) }
    }

    /// Where `name` leads; `None` if a pointer ends there.
    fn enter(&self, standing: &Standing, name: &str) -> Option<Standing> {
        let from = match standing {
            Standing::Nowhere => return Some(Standing::Nowhere),
            Standing::At(one) => std::slice::from_ref(one),
            Standing::AtMany(many) => many,
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
            [] => Standing::Nowhere,
            [one] => Standing::At(*one),
            _ => Standing::AtMany(to.into()),
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
pub(super) struct Rest<'r> {
    pub(super) places: &'r Places,
    pub(super) cuts: &'r Cuts,
    pub(super) text: &'r str,
}

impl Sieve for Rest<'_> {
    type Place = Standing;

    fn member(&self, place: &Standing, key: &str) -> Option<Standing> {
        self.places.enter(place, key)
    }

    fn item(&self, place: &Standing, index: usize) -> Option<Standing> {
        match place {
            Standing::Nowhere => Some(Standing::Nowhere),
            other => self.places.enter(other, &index.to_string()),
        }
    }

    fn write(&self, value: Value<'_>, out: &mut Vec<u8>) {
        let span: Range<usize> = value.span();
        if self.cuts.touch(&span) {
            self.cuts.kept(span).for_each(|kept| out.extend_from_slice(self.text[kept].as_bytes()));
        } else {
            json::write_scalar(value, out);
        }
    }
}
