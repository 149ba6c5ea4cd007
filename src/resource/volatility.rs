//! Notices when changes are most likely no news: a clock, a counter, two backends that disagree.

use std::collections::VecDeque;

use crate::explain::{Explanation, Rule};
use crate::model::Digest;

/// So many fetches in a row that were all changes are remarkable.
const STREAK: usize = 10;

/// How many of the last changes are remembered, to see whether one leads back.
const MEMORY: usize = 16;

/// So many of those that lead back to a state that was there before are remarkable.
const MAX_RETURNS: usize = 4;

/// How many rules are worth reading.
const MAX_RULES: usize = 6;

/// Watches what fetches mean. Nothing is ever ignored because of it; it only speaks, once.
#[derive(Debug, Default)]
pub(super) struct VolatilityMonitor {
    /// Changes since the last fetch that was none.
    streak: usize,
    /// What would have made each of those no change.
    streak_rules: Option<Vec<Rule>>,
    /// The meanings of the last changes, and whether each had been there before.
    meanings: VecDeque<(Digest, bool)>,
    /// What would have made each change no change that led back.
    return_rules: Option<Vec<Rule>>,
    spoken: bool,
}

impl VolatilityMonitor {
    /// A fetch was no change.
    pub(super) fn unchanged(&mut self) {
        self.streak = 0;
        self.streak_rules = None;
    }

    /// A fetch was a change to `meaning`, for the reasons in `why`. Returns what an operator should know.
    pub(super) fn changed(&mut self, meaning: Digest, why: &Explanation) -> Option<String> {
        let mut rules: Vec<Rule> = Vec::new();
        for rule in why.rules() {
            // What was added and what was changed may be covered by one.
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
        self.streak += 1;
        narrow(&mut self.streak_rules, &rules);
        let returned = self.meanings.iter().any(|(known, _)| *known == meaning);
        if returned {
            narrow(&mut self.return_rules, &rules);
        }
        if self.meanings.len() == MEMORY {
            self.meanings.pop_front();
        }
        self.meanings.push_back((meaning, returned));
        if self.spoken {
            return None;
        }
        let returns = self.meanings.iter().filter(|(_, returned)| *returned).count();
        let advice = if returns >= MAX_RETURNS {
            let what = format!(
                "{returns} of the last {} changes led back to a state that was there before",
                self.meanings.len()
            );
            advice(&what, self.return_rules.as_deref())
        } else if self.streak >= STREAK {
            advice(&format!("each of the last {STREAK} fetches was a change"), self.streak_rules.as_deref())
        } else {
            return None;
        };
        self.spoken = true;
        Some(advice)
    }
}

/// Keeps of `rules` what is also in `new`.
fn narrow(rules: &mut Option<Vec<Rule>>, new: &[Rule]) {
    match rules {
        Some(rules) => rules.retain(|rule| new.contains(rule)),
        None => *rules = Some(new.to_vec()),
    }
}

fn advice(what: &str, rules: Option<&[Rule]>) -> String {
    let rules = rules.unwrap_or_default();
    if rules.is_empty() {
        return format!(
            "{what}, in no place in particular: if that is no news, `sungrazer probe URL` finds what to ignore"
        );
    }
    let keys = ["json", "css", "regex"].into_iter().filter_map(|key| {
        let texts = rules.iter().filter(|rule| rule.key() == key).take(MAX_RULES);
        let texts: Vec<String> = texts.map(|rule| format!("{:?}", rule.text())).collect();
        (!texts.is_empty()).then(|| format!("{key} = [{}]", texts.join(", ")))
    });
    let ignore = keys.collect::<Vec<_>>().join(", ");
    format!("{what}, always there: if that is no news, {NEEDS}ignore = {{ {ignore} }}")
}

/// Comes before what the route should say.
const NEEDS: &str = "the route needs ";

/// A complete route for `path` that does what `advice` says. With `learns`, pages there are given the browser script. `None` if
/// the advice names nothing to write, or no route can name that path.
pub fn route_to_paste(advice: &str, path: &str, learns: bool) -> Option<String> {
    let (_, line) = advice.split_once(NEEDS)?;
    let shim = if learns { "shim = \"learn\"\n" } else { "" };
    // A star would stand for more than itself.
    (!path.contains('*')).then(|| format!("[[route]]\npath = {path:?}\n{line}\n{shim}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(rules: &[&str]) -> Explanation {
        Explanation::of_rules(rules.iter().map(|rule| Rule::Json((*rule).to_owned())))
    }

    #[test]
    fn a_rule_is_named_once() {
        let mut observer = VolatilityMonitor::default();
        let why = why(&["/a", "/now", "/a"]);
        let said = (0..10).find_map(|n| observer.changed(meaning(n), &why)).expect("advice");
        assert!(said.ends_with("{ json = [\"/a\", \"/now\"] }"), "{said}");
    }

    fn meaning(n: usize) -> Digest {
        Digest::of(&n.to_le_bytes())
    }

    #[test]
    fn a_streak_is_told_once_with_what_was_always_there() {
        let mut observer = VolatilityMonitor::default();
        let mut said = Vec::new();
        for n in 0..30 {
            let places = if n % 2 == 0 { ["/now", "/a"] } else { ["/b", "/now"] };
            said.extend(observer.changed(meaning(n), &why(&places)));
        }
        assert_eq!(
            said,
            [
                "each of the last 10 fetches was a change, always there: if that is no news, the route needs ignore = { json = [\"/now\"] }"
            ]
        );
    }

    #[test]
    fn changes_with_rests_are_no_streak() {
        let mut observer = VolatilityMonitor::default();
        for n in 0..100 {
            if n % 9 == 0 {
                observer.unchanged();
            }
            assert_eq!(observer.changed(meaning(n), &why(&["/now"])), None);
        }
    }

    #[test]
    fn advice_can_be_pasted() {
        let mut observer = VolatilityMonitor::default();
        let said = (0..10).find_map(|n| observer.changed(meaning(n), &why(&["/now"]))).expect("advice");
        let route = "[[route]]\npath = \"/api/jobs\"\nignore = { json = [\"/now\"] }\n";
        assert_eq!(route_to_paste(&said, "/api/jobs", false).as_deref(), Some(route));
        assert_eq!(route_to_paste(&said, "/api/jobs", true), Some(format!("{route}shim = \"learn\"\n")));
        assert_eq!(route_to_paste(&said, "/api/*", false), None);
        assert_eq!(route_to_paste(&advice("each was a change", None), "/api/jobs", false), None);
    }

    #[test]
    fn going_back_and_forth_is_told_once() {
        let mut observer = VolatilityMonitor::default();
        let mut said = Vec::new();
        for n in 0..20 {
            said.extend(observer.changed(meaning(n % 2), &why(&["/node"])));
            observer.unchanged();
        }
        assert_eq!(said.len(), 1);
        assert!(said[0].contains("led back") && said[0].contains("\"/node\""), "{said:?}");
    }

    #[test]
    fn changes_that_have_nothing_in_common_are_left_to_the_probe() {
        let mut observer = VolatilityMonitor::default();
        let places = ["/a", "/b", "/c"];
        let said: Vec<_> = (0..10).filter_map(|n| observer.changed(meaning(n), &why(&places[n % 3..][..1]))).collect();
        assert!(said.len() == 1 && said[0].contains("sungrazer probe"), "{said:?}");
    }
}
