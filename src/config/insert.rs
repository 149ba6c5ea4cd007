//! Inserts a route into the text of a file, above all existing routes.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Returns whether `text` names an application.
pub fn names_upstream(text: &str) -> bool {
    DeTable::parse(text).is_ok_and(|root| root.get_ref().contains_key("upstream"))
}

/// Returns whether `text` contains a route with exactly this `path`.
pub fn has_route(text: &str, path: &str) -> bool {
    let Ok(root) = DeTable::parse(text) else { return false };
    routes(root.get_ref()).iter().any(|route| {
        let DeValue::Table(route) = route.get_ref() else { return false };
        route.get("path").and_then(|found| found.get_ref().as_str()) == Some(path)
    })
}

/// Returns `text` with `block` inserted above its first route and that route's comments, since the first matching route
/// wins.
pub fn with_route(text: &str, block: &str) -> String {
    let first = DeTable::parse(text).ok().and_then(|root| routes(root.get_ref()).first().map(Spanned::span));
    let at = first.map_or(text.len(), |header: Range<usize>| above_comments(text, header.start));
    let (before, behind) = text.split_at(at);
    let gap = |text: &str| match text {
        "" => "",
        text if text.ends_with("\n\n") => "",
        text if text.ends_with('\n') => "\n",
        _ => "\n\n",
    };
    let behind = if behind.is_empty() { String::new() } else { format!("\n{behind}") };
    format!("{before}{}{block}{behind}", gap(before))
}

fn routes<'t, 'i>(root: &'t DeTable<'i>) -> &'t [Spanned<DeValue<'i>>] {
    match root.get("route").map(Spanned::get_ref) {
        Some(DeValue::Array(routes)) => routes,
        _ => &[],
    }
}

/// Returns the beginning of the comments directly above the line of `at`.
fn above_comments(text: &str, at: usize) -> usize {
    let mut start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    while let Some(line) =
        text[..start].lines().next_back().filter(|line| line.starts_with('#') && !line.starts_with("#:"))
    {
        start = text[..start].trim_end_matches(['\n', '\r']).len() - line.trim_end_matches('\r').len();
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &str = "# probed\n[[route]]\npath = \"/b\"\n";

    #[test]
    fn a_route_is_added_above_all_others_and_their_comments() {
        for (text, expected) in [
            ("", "# probed\n[[route]]\npath = \"/b\"\n"),
            ("[upstream]\nurl = \"x\"", "[upstream]\nurl = \"x\"\n\n# probed\n[[route]]\npath = \"/b\"\n"),
            (
                "# top\n\n# Pages.\n# All.\n[[route]]\npath = \"/**\"\n",
                "# top\n\n# probed\n[[route]]\npath = \"/b\"\n\n# Pages.\n# All.\n[[route]]\npath = \"/**\"\n",
            ),
            (
                "[server]\nlisten = '''\n[[route]]'''\n[[route]]\npath = \"/c\"\n[[route]]\npath = \"/**\"\n",
                "[server]\nlisten = '''\n[[route]]'''\n\n# probed\n[[route]]\npath = \"/b\"\n\n[[route]]\npath = \"/c\"\n[[route]]\npath = \"/**\"\n",
            ),
            (
                "# all\r\n[[route]]\r\npath = \"/c\"\r\n",
                "# probed\n[[route]]\npath = \"/b\"\n\n# all\r\n[[route]]\r\npath = \"/c\"\r\n",
            ),
        ] {
            assert_eq!(with_route(text, BLOCK), expected, "{text}");
        }
    }

    #[test]
    fn what_a_file_says_already_is_found() {
        assert!(names_upstream("[upstream]\nurl = \"x\"\n") && !names_upstream("[server]\n# [upstream]\n"));
        let text = "[[route]]\npath = \"/a\"\n[[route]]\npath = \"/b\"\n";
        assert!(has_route(text, "/b") && !has_route(text, "/c") && !has_route("route = 7", "/a"));
    }
}
