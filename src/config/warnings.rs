//! Warnings about valid settings that most likely do not have the intended effect.

use super::diagnostic::{Diagnostic, Diagnostics, Severity};
use super::file::{File, Mode, Route, Shim};
use super::read::{Step, Tree};
use crate::route::{ByPath, Pattern};

/// Inspects a `file` without mistakes.
pub(super) fn inspect(file: &File, tree: &Tree<'_>, found: &mut Diagnostics) {
    if file.server.mode == Mode::Observe && !file.route.is_empty() {
        found.push(Diagnostic {
            severity: Severity::Warning,
            message: "mode = \"observe\" puts all routes out of force: nothing is pushed".to_owned(),
            span: tree.span(&[Step::Key("server"), Step::Key("mode")]),
            label: "here".to_owned(),
            help: Some("leave mode out, or write mode = \"push\", to put them in force".to_owned()),
        });
    }
    inspect_upstreams(file, tree, found);
    for (index, route) in file.route.iter().enumerate() {
        let mut warn = |key: &'static str, message: String, help: String| {
            found.push(Diagnostic {
                severity: Severity::Warning,
                message,
                span: tree.span(&[Step::Key("route"), Step::Index(index), Step::Key(key)]),
                label: "here".to_owned(),
                help: Some(help),
            });
        };
        let Some(path) = &route.path else { continue };
        let takers = takers(&file.route[..index], route, &path.value);
        if !takers.is_empty() {
            let takers: Vec<String> = takers.iter().map(|pattern| format!("{:?}", pattern.as_str())).collect();
            let takes = if takers.len() == 1 { "takes" } else { "take" };
            warn(
                "path",
                format!("this route is never used: {} above {takes} all of {:?}", takers.join(" and "), path.text),
                "the first route that matches wins: move the narrower route above the wider one".to_owned(),
            );
        }
        if !route.fetch {
            let is_written = |key: &&&str| tree.has(&[Step::Key("route"), Step::Index(index), Step::Key(key)]);
            for key in OF_FETCHES.iter().filter(is_written) {
                warn(
                    key,
                    format!("{key} has no effect on a route with fetch = false: Sungrazer never asks for it"),
                    "leave it out, or fetch = false".to_owned(),
                );
            }
        } else if !route.tick_on.is_empty() {
            warn(
                "tick_on",
                "tick_on has no effect on a route that is fetched: its clients are sent what changed".to_owned(),
                "write fetch = false if only the page may ask for this, or leave tick_on out".to_owned(),
            );
        }
        if let Some((segment, pattern)) = placeholder(&path.text) {
            warn(
                "path",
                format!("{segment:?} takes only the segment that is spelled {segment:?}"),
                format!("if it stands for any segment, write {pattern:?}"),
            );
        }
        if !matches!(route.shim, Shim::Given(false)) && is_data(&path.text) {
            warn(
                "shim",
                format!("the browser script goes into HTML pages, and {:?} looks like what pages poll", path.text),
                "write shim on the route of the page: a route with path = \"/**\" below this one, for example"
                    .to_owned(),
            );
        }
    }
}

/// Inspects which paths the applications are for.
fn inspect_upstreams(file: &File, tree: &Tree<'_>, found: &mut Diagnostics) {
    let all = file.upstream.iter();
    let special: Vec<_> = all.filter_map(|(number, upstream)| Some((number?, upstream.path.as_ref()?))).collect();
    let choice = ByPath::new(None, special.iter().map(|(number, path)| (path.value.clone(), Some(*number))).collect());
    let mut warn = |number: usize, message: String, help: String| {
        found.push(Diagnostic {
            severity: Severity::Warning,
            message,
            span: tree.span(&[Step::Key("upstream"), Step::Index(number), Step::Key("path")]),
            label: "here".to_owned(),
            help: Some(help),
        });
    };
    for (number, path) in special {
        let before = choice.special().take_while(|(_, other)| **other != Some(number));
        if let Some((taker, _)) = before.into_iter().find(|(other, _)| other.covers(&path.value)) {
            let taker = taker.as_str();
            warn(
                number,
                format!("this application is never asked: the one for {taker:?} is asked for all of {:?}", path.text),
                "the most specific path wins; among equals the first one".to_owned(),
            );
        } else if path.value.covers_everything() {
            warn(
                number,
                format!("{:?} leaves nothing to the application without a path", path.text),
                "make this the one without a path, and leave out the other".to_owned(),
            );
        } else if path.text.ends_with('/') {
            let below = format!("{}**", path.text);
            warn(
                number,
                format!("{:?} is this one path alone, not what is below it", path.text),
                format!("write {below:?} for all of that"),
            );
        }
    }
}

/// Keys that only affect fetched resources.
const OF_FETCHES: &[&str] = &["cohorts", "every", "every_max", "history", "hold", "ignore", "max_body", "noise"];

/// Returns the patterns of the routes `above` that together shadow `route` completely, whose pattern is `path`: for
/// each method, the first route that covers the path.
fn takers<'a>(above: &'a [Route], route: &Route, path: &Pattern) -> Vec<&'a Pattern> {
    let mut found: Vec<&Pattern> = Vec::new();
    for method in &route.methods {
        let taker = above.iter().find_map(|above| {
            let pattern = &above.path.as_ref()?.value;
            let takes = above.methods.iter().any(|other| other.value.0 == method.value.0);
            (takes && pattern.covers(path)).then_some(pattern)
        });
        let Some(taker) = taker else { return Vec::new() };
        if !found.contains(&taker) {
            found.push(taker);
        }
    }
    found
}

/// Returns a segment of `path` that is a placeholder in other programs, and the path in the syntax of this program.
fn placeholder(path: &str) -> Option<(&str, String)> {
    let is_one = |segment: &&str| {
        let enclosed = [('{', '}'), ('<', '>'), ('[', ']'), ('(', ')')];
        let name = segment.strip_prefix([':', '$']).is_some_and(|name| name.starts_with(|c: char| c.is_alphabetic()));
        name || enclosed.iter().any(|(open, close)| segment.starts_with(*open) && segment.ends_with(*close))
    };
    let segment = path.split('/').find(is_one)?;
    let pattern: Vec<&str> = path.split('/').map(|segment| if is_one(&segment) { "*" } else { segment }).collect();
    Some((segment, pattern.join("/")))
}

/// Segments below which there are hardly ever pages.
const DATA_SEGMENTS: &[&str] = &["ajax", "api", "graphql", "rest", "rpc"];

/// File extensions of resources other than pages.
const DATA_ENDINGS: &[&str] = &["csv", "css", "js", "json", "png", "rss", "svg", "txt", "xml"];

/// Returns whether the resource at `path` is most likely not a page.
fn is_data(path: &str) -> bool {
    let last = path.rsplit('/').next().unwrap_or_default();
    let ending = last.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    path.split('/').any(|segment| DATA_SEGMENTS.contains(&segment))
        || ending.is_some_and(|ending| DATA_ENDINGS.contains(&ending.as_str()))
}

#[cfg(test)]
mod tests {
    use crate::config::{Overrides, parse};

    /// Returns the warnings about these routes, one line each.
    fn warnings(routes: &[&str]) -> Vec<String> {
        let routes: String = routes.iter().map(|route| format!("[[route]]\n{route}\n")).collect();
        let text = format!("[upstream]\nurl = \"http://127.0.0.1:8000\"\n{routes}");
        let config = parse("test.toml", &text, &Overrides::default()).unwrap_or_else(|found| panic!("{found}"));
        config
            .warnings
            .iter()
            .flat_map(crate::config::Diagnostics::iter)
            .map(|warning| format!("{} ({:?})", warning.message, warning.help))
            .collect()
    }

    #[test]
    fn routes_that_are_out_of_force_are_warned_of() {
        let file = |mode: &str, route: &str| {
            let text = format!("[server]\nmode = \"{mode}\"\n[upstream]\nurl = \"http://a\"\n{route}");
            let config = parse("test.toml", &text, &Overrides::default()).unwrap_or_else(|found| panic!("{found}"));
            (config.observes, config.warnings.map_or_else(String::new, |found| found.to_string()))
        };
        let route = "[[route]]\npath = \"/a\"\n";
        let (observes, said) = file("observe", route);
        assert!(observes && said.contains("puts all routes out of force"), "{said}");
        assert_eq!(file("observe", ""), (true, String::new()));
        assert_eq!(file("push", route), (false, String::new()));
    }

    #[test]
    fn a_route_that_is_never_reached_is_warned_of() {
        let jobs = "path = \"/api/jobs\"";
        for wide in
            ["path = \"/**\"", "path = \"/api/**\"", "path = \"/api/*\"", "path = \"/*/j*\"\nmethods = [\"GET\"]"]
        {
            let said = warnings(&[wide, jobs]);
            assert!(
                said.len() == 1 && said[0].contains("never used") && said[0].contains("/api/jobs"),
                "{wide}: {said:?}"
            );
            assert_eq!(warnings(&[jobs, wide]), [""; 0], "{wide}");
        }
        let posts = "path = \"/api/jobs\"\nmethods = [\"GET\", \"POST\"]\nfetch = false";
        assert_eq!(warnings(&["path = \"/api/*\"", posts]), [""; 0], "POST is left to it");
        assert_eq!(warnings(&["path = \"/api/*/x\"", jobs]), [""; 0]);
        let post = "path = \"/**\"\nmethods = [\"POST\"]\nfetch = false";
        let said = warnings(&["path = \"/api/*\"", post, posts]);
        assert!(said.len() == 1 && said[0].contains("\"/api/*\" and \"/**\" above take all"), "{said:?}");
    }

    #[test]
    fn keys_that_cannot_have_an_effect_are_warned_of() {
        for (line, key) in [
            ("fetch = false\nhold = \"25s\"", "hold"),
            ("fetch = false\nignore = { json = [\"/t\"] }", "ignore"),
            ("fetch = false\nevery = \"5s\"", "every"),
            ("fetch = false\nhistory = { versions = 2 }", "history"),
            ("tick_on = [\"/b\"]", "tick_on"),
        ] {
            let said = warnings(&[&format!("path = \"/a\"\n{line}")]);
            assert!(said.len() == 1 && said[0].starts_with(&format!("{key} has no effect")), "{line}: {said:?}");
        }
        for line in ["fetch = false", "fetch = false\ntick_on = [\"/b\"]\nrefresh_gap = \"1s\"", "hold = \"25s\""] {
            assert_eq!(warnings(&[&format!("path = \"/a\"\n{line}")]), [""; 0], "{line}");
        }
    }

    #[test]
    fn placeholders_of_other_programs_are_warned_of() {
        for (path, meant) in [
            ("/api/:id", "/api/*"),
            ("/api/{id}/x", "/api/*/x"),
            ("/users/<name>", "/users/*"),
            ("/[slug]/:part", "/*/*"),
            ("/$id", "/*"),
        ] {
            let said = warnings(&[&format!("path = {path:?}")]);
            assert!(said.len() == 1 && said[0].contains(&format!("write \\\"{meant}\\\"")), "{path}: {said:?}");
        }
        for path in ["/time/12:30", "/a:b", "/price/$5", "/wiki/(x", "/wiki/Category:Ports"] {
            assert_eq!(warnings(&[&format!("path = {path:?}")]), [""; 0], "{path}");
        }
    }

    #[test]
    fn a_script_that_no_page_gets_is_warned_of() {
        for path in ["/api/jobs", "/status.json", "/v1/api/**"] {
            let said = warnings(&[&format!("path = {path:?}\nshim = true")]);
            assert!(said.len() == 1 && said[0].contains("HTML pages"), "{path}: {said:?}");
            assert_eq!(warnings(&[&format!("path = {path:?}")]), [""; 0], "{path}");
        }
        for path in ["/**", "/", "/jobs", "/jobs/*", "/index.html", "/index.php"] {
            assert_eq!(warnings(&[&format!("path = {path:?}\nshim = \"learn\"")]), [""; 0], "{path}");
        }
    }
}
