//! Detects changes that are most likely noise: a clock, a counter, two backends that disagree.

use std::collections::VecDeque;

use crate::explain::{Explanation, Rule};
use crate::model::Digest;
use crate::probe::quoted;

/// How many consecutive changed fetches are suspicious.
const STREAK: usize = 10;

/// How many recent meanings are remembered, to detect a return to an earlier state.
const MEMORY: usize = 16;

/// How many returns to an earlier state are suspicious.
const MAX_RETURNS: usize = 4;

/// The maximum number of suggested rules.
const MAX_RULES: usize = 6;

/// Monitors the verdicts of fetches. It ignores nothing; it only gives advice, once.
#[derive(Debug, Default)]
pub(super) struct VolatilityMonitor {
    /// The number of changes since the last unchanged fetch.
    streak: usize,
    /// The rules that would have made each of those changes insignificant.
    streak_rules: Option<Vec<Rule>>,
    /// The meanings of the last changes, and whether each had occurred before.
    meanings: VecDeque<(Digest, bool)>,
    /// The rules that would have made each return to an earlier state insignificant.
    return_rules: Option<Vec<Rule>>,
    spoken: bool,
}

impl VolatilityMonitor {
    /// Records an unchanged fetch.
    pub(super) fn unchanged(&mut self) {
        self.streak = 0;
        self.streak_rules = None;
    }

    /// Records a change to `meaning`, explained by `why`. Returns advice for operators, if any.
    pub(super) fn changed(&mut self, meaning: Digest, why: &Explanation) -> Option<String> {
        let mut rules: Vec<Rule> = Vec::new();
        for rule in why.rules() {
            // One rule may cover both an addition and a change.
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

/// Keeps the rules that are also in `new`.
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

/// The text before the suggested configuration.
const NEEDS: &str = "the route needs ";

/// A complete route for `path` that ignores what `rules` mean. With `learns`, pages there are given the browser script. `None` if
/// there is no rule, or no route can name that path.
pub fn route_of_rules(rules: &[&Rule], path: &str, learns: bool) -> Option<String> {
    let keys = ["json", "css", "regex"].into_iter().filter_map(|key| {
        let texts = rules.iter().filter(|rule| rule.key() == key);
        let texts: Vec<String> = texts.map(|rule| quoted(rule.text())).collect();
        (!texts.is_empty()).then(|| format!("ignore.{key} = [{}]\n", texts.join(", ")))
    });
    let ignore: String = keys.collect();
    let shim = if learns { "shim = \"learn\"\n" } else { "" };
    let path_text = quoted(path);
    (!path.contains('*') && !ignore.is_empty()).then(|| format!("[[route]]\npath = {path_text}\n{ignore}{shim}"))
}

/// Returns a complete route for `path` that follows `advice`. With `learns`, its pages receive the browser script.
/// Returns `None` if the advice contains no configuration, or if no route can name that path.
pub fn route_to_paste(advice: &str, path: &str, learns: bool) -> Option<String> {
    let (_, line) = advice.split_once(NEEDS)?;
    let shim = if learns { "shim = \"learn\"\n" } else { "" };
    // A star in the path would be a wildcard.
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
