//! What can be used as it is written, and most likely does not do what was meant.

use http::Method;

use super::diagnostic::{Diagnostic, Diagnostics, Severity};
use super::file::{File, Route, Shim};
use super::read::{Step, Tree};
use crate::route::Pattern;

/// Looks at a `file` in which nothing is wrong.
pub(super) fn look(file: &File, tree: &Tree<'_>, found: &mut Diagnostics) {
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
        if let Some(earlier) = file.route[..index].iter().find_map(|earlier| taker(earlier, route, &path.value)) {
            warn(
                "path",
                format!("this route is never used: {:?} above takes all of {:?}", earlier.as_str(), path.text),
                "the first route that matches wins: move the narrower route above the wider one".to_owned(),
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

/// The pattern of `earlier`, if it leaves nothing to `later`, whose pattern is `path`.
fn taker<'a>(earlier: &'a Route, later: &Route, path: &Pattern) -> Option<&'a Pattern> {
    let methods = |route: &Route| route.methods.iter().map(|method| method.value.0.clone()).collect::<Vec<Method>>();
    let (taken, wanted) = (methods(earlier), methods(later));
    let pattern = &earlier.path.as_ref()?.value;
    (wanted.iter().all(|method| taken.contains(method)) && pattern.covers(path)).then_some(pattern)
}

/// A segment of `path` that other programs would take for any, and the path as it is written here.
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

/// Segments below which there is hardly ever a page.
const DATA_SEGMENTS: &[&str] = &["ajax", "api", "graphql", "rest", "rpc"];

/// Endings of what is no page.
const DATA_ENDINGS: &[&str] = &["csv", "css", "js", "json", "png", "rss", "svg", "txt", "xml"];

/// Whether what is at `path` is most likely no page.
fn is_data(path: &str) -> bool {
    let last = path.rsplit('/').next().unwrap_or_default();
    let ending = last.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    path.split('/').any(|segment| DATA_SEGMENTS.contains(&segment))
        || ending.is_some_and(|ending| DATA_ENDINGS.contains(&ending.as_str()))
}

#[cfg(test)]
mod tests {
    use crate::config::{Overrides, parse};

    /// What is said of routes that are written like this, one line each.
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
