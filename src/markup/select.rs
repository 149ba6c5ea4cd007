//! Matches selectors against an outline.

use std::collections::HashMap;

use super::outline::{Element, Outline};
use super::selector::{Combinator, Complex, Compound, Operator, Selectors, Test};

impl Selectors {
    /// Returns the matching elements of `outline`, ordered by start tag.
    pub fn select<'o>(&self, outline: &'o Outline<'_>) -> Vec<Element<'o>> {
        let types = self.counts_types().then(|| places_by_name(outline));
        let mut chosen = vec![false; outline.nodes.len()];
        for complex in &self.0 {
            complex.mark(outline, types.as_deref(), &mut chosen);
        }
        let chosen = chosen.into_iter().enumerate().filter(|(_, chosen)| *chosen);
        chosen.map(|(at, _)| Element { outline, at: at as u32 }).collect()
    }

    fn counts_types(&self) -> bool {
        fn any(compound: &Compound) -> bool {
            compound.0.iter().any(|test| match test {
                Test::Nth { of_type, .. } => *of_type,
                Test::Not(compounds) => compounds.iter().any(any),
                _ => false,
            })
        }
        self.0.iter().flat_map(|complex| &complex.0).any(|(_, compound)| any(compound))
    }
}

/// How far a selector has matched at one element: one bit per compound.
#[derive(Clone, Copy, Default)]
struct Reach {
    /// The compounds that this element matches.
    here: u32,
    /// The compounds that this element or an ancestor matches.
    around: u32,
    /// The compounds that this element or a previous sibling matches.
    before: u32,
}

impl Complex {
    /// Marks the matching elements. Each element is visited once, whatever the combinators: match state is passed on
    /// from parents and siblings.
    fn mark(&self, outline: &Outline<'_>, types: Option<&[u32]>, chosen: &mut [bool]) {
        let last = 1u32 << (self.0.len() - 1);
        // A single compound needs no state of other elements.
        if let [(_, compound)] = self.0.as_slice() {
            for element in outline.elements() {
                if !chosen[element.index()] && compound.fits(&element, types) {
                    chosen[element.index()] = true;
                }
            }
            return;
        }
        let mut reached: Vec<Reach> = Vec::with_capacity(outline.nodes.len());
        for element in outline.elements() {
            let of =
                |element: Option<Element<'_>>| element.map_or(Reach::default(), |element| reached[element.index()]);
            let (parent, previous) = (of(element.parent()), of(element.previous()));
            let mut here = 0;
            for (index, (combinator, compound)) in self.0.iter().enumerate() {
                let needed = (1u32 << index) >> 1;
                let open = index == 0
                    || needed
                        & match combinator {
                            Combinator::Descendant => parent.around,
                            Combinator::Child => parent.here,
                            Combinator::Next => previous.here,
                            Combinator::Later => previous.before,
                        }
                        != 0;
                if open && compound.fits(&element, types) {
                    here |= 1 << index;
                }
            }
            reached.push(Reach { here, around: here | parent.around, before: here | previous.before });
            if here & last != 0 {
                chosen[element.index()] = true;
            }
        }
    }
}

impl Compound {
    fn fits(&self, element: &Element<'_>, types: Option<&[u32]>) -> bool {
        self.0.iter().all(|test| test.holds(element, types))
    }
}

impl Test {
    fn holds(&self, element: &Element<'_>, types: Option<&[u32]>) -> bool {
        match self {
            Self::Name(name) => is_named(element.name(), name),
            Self::Id(id) => element.value("id").is_some_and(|value| value == id),
            Self::Class(class) => element.classes().any(|known| known == class),
            Self::Attribute { name, operator, value, any_case } => {
                element.value(name).is_some_and(|found| operator.holds(found, value, *any_case))
            }
            Self::Nth { a, b, of_type } => {
                let place = match types {
                    Some(places) if *of_type => places[element.index()],
                    _ => element.node().nth,
                };
                is_place(i64::from(place), i64::from(*a), i64::from(*b))
            }
            Self::Not(compounds) => !compounds.iter().any(|compound| compound.fits(element, types)),
        }
    }
}

/// Compares names case-insensitively, in XML too. A selector without a prefix matches any prefix.
fn is_named(written: &str, name: &str) -> bool {
    written.eq_ignore_ascii_case(name)
        || written.split_once(':').is_some_and(|(_, local)| local.eq_ignore_ascii_case(name))
}

fn is_place(place: i64, a: i64, b: i64) -> bool {
    let steps = place - b;
    if a == 0 { steps == 0 } else { steps % a == 0 && steps / a >= 0 }
}

impl Operator {
    fn holds(self, found: &str, value: &str, any_case: bool) -> bool {
        if any_case {
            return self.holds(&found.to_ascii_lowercase(), &value.to_ascii_lowercase(), false);
        }
        match self {
            Self::Exists => true,
            Self::Equals => found == value,
            Self::Word => found.split_ascii_whitespace().any(|word| word == value),
            Self::Dash => found.strip_prefix(value).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')),
            Self::Prefix => !value.is_empty() && found.starts_with(value),
            Self::Suffix => !value.is_empty() && found.ends_with(value),
            Self::Substring => !value.is_empty() && found.contains(value),
        }
    }
}

/// Returns the position of each element among its siblings of the same name, from 1.
fn places_by_name(outline: &Outline<'_>) -> Vec<u32> {
    let mut counts: HashMap<(u32, String), u32> = HashMap::new();
    let place = |element: Element<'_>| {
        let count = counts.entry((element.node().parent, element.name().to_ascii_lowercase())).or_default();
        *count += 1;
        *count
    };
    outline.elements().map(place).collect()
}
