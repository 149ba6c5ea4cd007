//! The comments of `src` are plain technical English: they name the noun. This test counts the words that stand in for nouns
//! ("who is held" for "held clients").

use std::fs;
use std::path::Path;

use regex::Regex;

/// The most such words per 100 words of comments. The comments of comparable projects have 0.04 to 0.16.
const MAX_PER_HUNDRED: f64 = 0.4;

/// The comments in the sources below `folder`, one per line, with the place of each.
fn comments(folder: &Path, found: &mut Vec<(String, String)>) {
    let comment = Regex::new(r"^\s*(?://[/!]?|/\*\*|\*) (.*)$|\S\s+// (.*)$").unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            comments(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs" || extension == "js") {
            for (number, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
                if let Some(text) = comment.captures(line).and_then(|parts| parts.get(1).or(parts.get(2))) {
                    found.push((format!("{}:{}", path.display(), number + 1), text.as_str().to_owned()));
                }
            }
        }
    }
}

#[test]
fn comments_name_their_nouns() {
    let mut found = Vec::new();
    comments(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut found);
    let code = Regex::new(r"`[^`]*`").unwrap();
    let word = Regex::new(r"[A-Za-z][A-Za-z'’-]*").unwrap();
    let pronoun =
        Regex::new(r"(?i)\b(who|whom|whose|whoever|what|whatever|nobody|somebody|anybody|of which|of whom)\b").unwrap();
    let (mut words, mut pronouns) = (0, Vec::new());
    for (place, text) in &found {
        let text = code.replace_all(text, "");
        words += word.find_iter(&text).count();
        pronouns.extend(pronoun.find_iter(&text).map(|pronoun| format!("{place}: {}", pronoun.as_str())));
    }
    assert!(words > 10_000, "the comments are elsewhere");
    let share = 100.0 * pronouns.len() as f64 / words as f64;
    assert!(share <= MAX_PER_HUNDRED, "{share:.2} per 100 words of comments, name the noun:\n{}", pronouns.join("\n"));
}
