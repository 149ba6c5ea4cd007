//! Detects whether a difference between fetches may be a side effect of fetching.

/// Examines three consecutive responses to fetches, where `found` and `again` differ; `last` is `None` if it equals
/// `again`.
///
/// A difference only in numbers is a measured value (a time, a load), unless one of the numbers is a counter: a counter
/// of requests increases by one with each of them.
pub(super) fn has_side_effects(found: &[u8], again: &[u8], last: Option<&[u8]>) -> bool {
    let Some(first) = steps(found, again) else { return true };
    let Some(last) = last else { return false };
    let Some(second) = steps(again, last) else { return true };
    first.iter().zip(&second).any(|steps| matches!(steps, (Some(1), Some(1))))
}

/// Returns whether two responses differ only in numbers.
pub(super) fn differ_in_numbers(one: &[u8], other: &[u8]) -> bool {
    steps(one, other).is_some()
}

/// Returns whether a fetch received the same response as the client itself, except for numbers, which may be times. A
/// token in a form does not count as such a number.
pub(super) fn are_alike(found: &[u8], own: &[u8]) -> bool {
    let hidden = |body: &[u8]| -> Vec<Vec<u8>> {
        let tags =
            body.split(|byte| *byte == b'<').map(|tag| tag.split(|byte| *byte == b'>').next().unwrap_or_default());
        let is_hidden = |tag: &&[u8]| {
            let tag = tag.to_ascii_lowercase();
            [&b"hidden"[..], b"csrf", b"token", b"nonce"]
                .iter()
                .any(|word| tag.windows(word.len()).any(|part| part == *word))
        };
        tags.filter(is_hidden).map(<[u8]>::to_vec).collect()
    };
    found == own || (differ_in_numbers(found, own) && hidden(found) == hidden(own))
}

/// Returns by how much each number increased; `None` for a number that did not, or is too long for a counter. Returns
/// `None` if the texts differ in more than numbers.
fn steps(before: &[u8], after: &[u8]) -> Option<Vec<Option<u64>>> {
    let (mut before, mut after) = (before, after);
    let mut steps = Vec::new();
    loop {
        let same = before.iter().zip(after).take_while(|(one, other)| one == other && !one.is_ascii_digit()).count();
        (before, after) = (&before[same..], &after[same..]);
        let (old, new) = (number(&mut before), number(&mut after));
        match (old, new) {
            (None, None) => return (before.is_empty() && after.is_empty()).then_some(steps),
            (Some(old), Some(new)) => {
                steps.push(count(new).zip(count(old)).and_then(|(new, old)| new.checked_sub(old)));
            }
            _ => return None,
        }
    }
}

/// Takes the leading digits of `text`.
fn number<'a>(text: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (digits, rest) = text.split_at(text.iter().take_while(|byte| byte.is_ascii_digit()).count());
    *text = rest;
    (!digits.is_empty()).then_some(digits)
}

fn count(digits: &[u8]) -> Option<u64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_was_taken() {
        for (found, again, last) in [
            ("[\"m\"]", "[]", None),
            ("[1,2]", "[3]", Some("[]")),
            ("{\"token\":\"a\"}", "{\"token\":\"b\"}", Some("{\"token\":\"c\"}")),
            ("x", "xy", None),
            ("1", "", None),
        ] {
            assert!(
                has_side_effects(found.as_bytes(), again.as_bytes(), last.map(str::as_bytes)),
                "{found} {again} {last:?}"
            );
        }
    }

    #[test]
    fn who_counts_goes_up_by_one() {
        assert!(has_side_effects(b"{\"n\":9,\"at\":17}", b"{\"n\":10,\"at\":17}", Some(b"{\"n\":11,\"at\":18}")));
        assert!(!has_side_effects(b"{\"n\":9}", b"{\"n\":10}", None), "it has stayed");
        assert!(!has_side_effects(b"{\"n\":9}", b"{\"n\":10}", Some(b"{\"n\":12}")));
        let long = "9".repeat(40);
        assert!(!has_side_effects(b"1", long.as_bytes(), Some(b"3")));
    }

    #[test]
    fn a_clock_is_alike_and_a_token_is_not() {
        for (found, own, alike) in [
            ("{\"at\":17}", "{\"at\":2018}", true),
            ("[]", "[]", true),
            ("[]", "[1]", false),
            ("<p>at 10:00", "<p>at 9:59", true),
            ("<p>1<input type=hidden value=17>", "<p>2<input type=hidden value=17>", true),
            ("<p>1<input type=hidden value=17>", "<p>1<input type=hidden value=18>", false),
            ("<meta name=csrf-token content=1>", "<meta name=csrf-token content=2>", false),
            ("Your browser", "Welcome", false),
        ] {
            assert_eq!(are_alike(found.as_bytes(), own.as_bytes()), alike, "{found} {own}");
        }
    }

    #[test]
    fn measures_are_fetched() {
        assert!(!has_side_effects(
            b"load 0.31 at 12:00:01.100",
            b"load 0.35 at 12:00:01.104",
            Some(b"load 0.3 at 12:00:01.109")
        ));
        assert!(!has_side_effects(b"{\"free\":1200}", b"{\"free\":800}", Some(b"{\"free\":801}")));
    }
}
