//! Displays the changes between two bodies: paths in JSON, lines in text.

use std::fmt::Write as _;
use std::ops::Range;

use super::show::{Paint, visible};
use crate::diff::{self, Budget, Edit, Edits, Exhausted, Hunk, Step, edits, hunks};
use crate::json::{Document, Value, unescape};
use crate::model::DeltaKind;

/// The changes, formatted for output.
pub(super) struct Painted {
    pub(super) title: String,
    pub(super) lines: String,
}

/// The step budget. It exceeds that of a stream, because only one user waits.
const MAX_STEPS: usize = 20_000_000;

/// The maximum number of lines.
const MAX_LINES: usize = 60;

/// The maximum length of a displayed value, and of the context on either side of a change.
const MAX_VALUE: usize = 100;
const MAX_CONTEXT: usize = 60;

pub(super) fn changes(old: &str, new: &str, paint: Paint) -> Painted {
    let mut budget = Budget::new(MAX_STEPS);
    let documents = (Document::parse(old), Document::parse(new));
    if let (Ok(one), Ok(other)) = &documents
        && (one.root().is_container() || other.root().is_container())
    {
        let mut list = List { paint, lines: String::new(), count: 0 };
        let complete = edits(one.root(), other.root(), &mut list, &mut budget).is_ok();
        return list.done("place", complete);
    }
    let Ok(hunks) = hunks(old, new, &mut budget) else {
        return Painted { title: format!("changed all over ({} bytes now)", new.len()), lines: String::new() };
    };
    let mut list = List { paint, lines: String::new(), count: 0 };
    let hunks: Vec<Hunk> = hunks.into_iter().map(|hunk| settled(old, new, hunk)).collect();
    for group in grouped(old, new, &hunks) {
        list.group(old, new, &group);
    }
    list.done("stretch", true)
}

/// Returns the patch in machine-readable form, and its kind.
pub(super) fn delta(old: &str, new: &str) -> Option<(DeltaKind, String)> {
    let json = Document::parse(old).is_ok() && Document::parse(new).is_ok();
    let kind = if json { DeltaKind::JsonPatch } else { DeltaKind::Splice };
    let patch = diff::delta(kind, old, new).ok()?;
    Some((kind, String::from_utf8(patch).ok()?))
}

struct List {
    paint: Paint,
    lines: String,
    count: usize,
}

impl List {
    fn done(mut self, what: &str, complete: bool) -> Painted {
        if self.count > MAX_LINES {
            let _ = writeln!(self.lines, "  … and {} more", self.count - MAX_LINES);
        }
        if !complete {
            self.lines.push_str("  … and more, too much to say where\n");
        }
        let plural = if what == "stretch" { "stretches" } else { "places" };
        let title = match self.count {
            0 if complete => "changed in spelling only".to_owned(),
            1 => format!("changed in 1 {what}"),
            count => format!("changed in {count} {plural}"),
        };
        Painted { title, lines: self.lines }
    }

    fn value(value: Value<'_>) -> String {
        let mut out = Vec::new();
        crate::json::minified(value, &mut out);
        clipped(&visible(&String::from_utf8_lossy(&out)))
    }

    /// Displays the lines that a few hunks touch, before and after.
    fn group(&mut self, old: &str, new: &str, hunks: &[Hunk]) {
        let (Some(first), Some(last)) = (hunks.first(), hunks.last()) else { return };
        self.count += 1;
        if self.count > MAX_LINES {
            return;
        }
        let number = new[..first.new.start].matches('\n').count() + 1;
        let _ = writeln!(self.lines, "  {}", self.paint.dim(&format!("@ line {number}")));
        let was: Vec<Range<usize>> = hunks.iter().map(|hunk| hunk.old.clone()).collect();
        let is: Vec<Range<usize>> = hunks.iter().map(|hunk| hunk.new.clone()).collect();
        self.side(old, &lines(old, &(first.old.start..last.old.end)), &was, ("- ", "31"));
        self.side(new, &lines(new, &(first.new.start..last.new.end)), &is, ("+ ", "32"));
    }

    fn side(&mut self, text: &str, range: &Range<usize>, marked: &[Range<usize>], (sign, code): (&str, &str)) {
        if marked.iter().all(Range::is_empty) && marked.len() > 1 {
            return;
        }
        let mut start = range.start;
        for line in text[range.clone()].split_inclusive('\n').take(MAX_LINES) {
            let end = start + line.trim_end_matches(['\n', '\r']).len();
            let painted = self.line(text, &(start..end), marked, code);
            let sign = self.sign(sign, code);
            let _ = writeln!(self.lines, "  {sign}{painted}");
            start += line.len();
        }
    }

    fn sign(&self, sign: &str, code: &str) -> String {
        if code == "31" { self.paint.red(sign) } else { self.paint.green(sign) }
    }

    /// Formats a line with its changes marked, and only the nearby context.
    fn line(&self, text: &str, line: &Range<usize>, marked: &[Range<usize>], code: &str) -> String {
        let plain = |text: &str| if code == "31" { self.paint.red(text) } else { self.paint.green(text) };
        let mut out = String::new();
        let mut at = line.start;
        let inside: Vec<Range<usize>> = marked
            .iter()
            .map(|range| range.start.clamp(line.start, line.end)..range.end.clamp(line.start, line.end))
            .filter(|range| !range.is_empty())
            .collect();
        for range in &inside {
            let before = &text[at..range.start];
            out.push_str(&plain(&visible(&middle(before, at > line.start, true))));
            out.push_str(&self.paint.marked(code, &clipped(&visible(&text[range.clone()]))));
            at = range.end;
        }
        out.push_str(&plain(&visible(&middle(&text[at..line.end], !inside.is_empty(), false))));
        out
    }
}

impl<'d> Edits<'d> for List {
    fn edit(&mut self, path: &[Step<'d>], edit: Edit<'d>) -> Result<(), Exhausted> {
        self.count += 1;
        if self.count > MAX_LINES {
            return Ok(());
        }
        let name = visible(&pointer(path));
        let name = if name.is_empty() { "(all of it)".to_owned() } else { name };
        let paint = self.paint;
        let _ = match edit {
            Edit::Add(value) => writeln!(self.lines, "  {}", paint.green(&format!("+ {name}  {}", Self::value(value)))),
            Edit::Remove(value) => {
                writeln!(self.lines, "  {}", paint.red(&format!("- {name}  {}", Self::value(value))))
            }
            Edit::Move(from, _) => {
                writeln!(self.lines, "  {}", paint.yellow(&format!("> {name}  was item {from} of the same list")))
            }
            Edit::Replace(old, new) => writeln!(
                self.lines,
                "  {} {name}  {} → {}",
                paint.yellow("~"),
                paint.red(&Self::value(old)),
                paint.green(&Self::value(new))
            ),
        };
        Ok(())
    }
}

/// Returns a JSON Pointer (RFC 6901).
fn pointer(path: &[Step<'_>]) -> String {
    path.iter()
        .map(|step| match step {
            Step::Key(key) => format!("/{}", unescape(&key.content()).replace('~', "~0").replace('/', "~1")),
            Step::Item(at) => format!("/{at}"),
        })
        .collect()
}

/// Shifts a hunk of whole lines so that it begins at the beginning of a line instead of at the end of the previous one.
fn settled(old: &str, new: &str, hunk: Hunk) -> Hunk {
    let begins_line = |text: &str, range: &Range<usize>| text[range.start..].starts_with('\n');
    let ends_line = |text: &str, range: &Range<usize>| text[range.end..].starts_with('\n');
    let longer = if hunk.old.is_empty() { (new, &hunk.new) } else { (old, &hunk.old) };
    let one_sided = hunk.old.is_empty() != hunk.new.is_empty();
    if one_sided && begins_line(longer.0, longer.1) && ends_line(old, &hunk.old) && ends_line(new, &hunk.new) {
        return Hunk { old: hunk.old.start + 1..hunk.old.end + 1, new: hunk.new.start + 1..hunk.new.end + 1 };
    }
    hunk
}

/// Groups hunks that touch the same lines.
fn grouped(old: &str, new: &str, hunks: &[Hunk]) -> Vec<Vec<Hunk>> {
    let mut groups: Vec<Vec<Hunk>> = Vec::new();
    for hunk in hunks {
        let joins = groups.last().and_then(|group| group.last()).is_some_and(|last| {
            !old[last.old.end..hunk.old.start].contains('\n') || !new[last.new.end..hunk.new.start].contains('\n')
        });
        match groups.last_mut() {
            Some(group) if joins => group.push(hunk.clone()),
            _ => groups.push(vec![hunk.clone()]),
        }
    }
    groups
}

/// Returns the complete lines that `range` touches; none for an empty range between lines.
fn lines(text: &str, range: &Range<usize>) -> Range<usize> {
    let start = text[..range.start].rfind('\n').map_or(0, |at| at + 1);
    if range.is_empty() && start == range.start && (start == text.len() || text[start..].starts_with('\n') || start > 0)
    {
        return start..start;
    }
    let end = if text[range.clone()].ends_with('\n') {
        range.end
    } else {
        text[range.end..].find('\n').map_or(text.len(), |at| range.end + at)
    };
    start..end
}

fn clipped(text: &str) -> String {
    match text.char_indices().nth(MAX_VALUE) {
        Some((end, _)) => format!("{}… ({} characters)", &text[..end], text.chars().count()),
        None => text.to_owned(),
    }
}

/// Returns the part of an unchanged text near the changes: its beginning, its end, or both.
fn middle(text: &str, begin: bool, end: bool) -> String {
    let count = text.chars().count();
    let most = MAX_CONTEXT * (usize::from(begin) + usize::from(end)).max(1);
    if count <= most {
        return text.to_owned();
    }
    let head: String = if begin { text.chars().take(MAX_CONTEXT).collect() } else { String::new() };
    let tail: String = if end { text.chars().skip(count - MAX_CONTEXT).collect() } else { String::new() };
    if !begin && !end {
        return text.chars().take(MAX_CONTEXT).collect::<String>() + "…";
    }
    format!("{head}…{tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(old: &str, new: &str) -> String {
        let found = changes(old, new, Paint(false));
        format!("{}\n{}", found.title, found.lines)
    }

    #[test]
    fn json_is_told_by_paths() {
        assert_eq!(
            plain(r#"{"a/b":1,"l":[{"id":1},{"id":2}],"x":true}"#, r#"{"a/b":2,"l":[{"id":3},{"id":1},{"id":2}]}"#),
            "changed in 3 places\n  - /x  true\n  ~ /a~1b  1 → 2\n  + /l/0  {\"id\":3}\n"
        );
        assert_eq!(plain(r#"{"a":1,"b":2}"#, r#"{ "b":2,"a":1 }"#), "changed in spelling only\n");
        assert_eq!(
            plain("{\"a\":\"x\"}", "{\"a\":\"\u{9b}31m\"}"),
            "changed in 1 place\n  ~ /a  \"x\" → \"\u{fffd}31m\"\n"
        );
    }

    #[test]
    fn text_is_told_by_lines() {
        assert_eq!(
            plain("a\nb 1 c 2\nd\n", "a\nb 3 c 4\nd\n"),
            "changed in 1 stretch\n  @ line 2\n  - b 1 c 2\n  + b 3 c 4\n"
        );
        assert_eq!(plain("a\nd\n", "a\nb\nc\nd\n"), "changed in 1 stretch\n  @ line 2\n  + b\n  + c\n");
        assert_eq!(plain("a\nb\nd\n", "a\nd\n"), "changed in 1 stretch\n  @ line 2\n  - b\n");
        assert_eq!(plain("1", "\u{1b}[2J"), "changed in 1 stretch\n  @ line 1\n  - 1\n  + \u{241b}[2J\n");
        let long = |n: u32| format!("{}<b>{n}</b>{}", "x".repeat(500), "y".repeat(500));
        let text = plain(&long(1), &long(2));
        assert!(text.len() < 400 && text.contains("<b>1</b>"), "{text}");
    }

    #[test]
    fn colours_mark_what_is_another() {
        let found = changes("a 1 b", "a 2 b", Paint(true));
        assert!(
            found.lines.contains("\u{1b}[7;31m1\u{1b}[0m") && found.lines.contains("\u{1b}[7;32m2\u{1b}[0m"),
            "{found:?}",
            found = found.lines
        );
    }

    #[test]
    fn any_two_texts_can_be_told_apart() {
        let mut rng = fastrand::Rng::with_seed(7);
        let mut text = || {
            (0..rng.usize(..30))
                .map(|_| rng.choice(['a', '\n', 'é', '😀', '<', ' ', '\r', '1']).unwrap_or('a'))
                .collect::<String>()
        };
        for _ in 0..2000 {
            let (old, new) = (text(), text());
            changes(&old, &new, Paint(true));
        }
    }
}
