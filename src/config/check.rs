//! Checks constraints between several values.

use std::collections::{HashMap, HashSet};

use super::Overrides;
use super::diagnostic::{Diagnostic, Diagnostics, Severity};
use super::file::{Audience, File, Route, Shim, Upstream};
use super::headers::Of;
use super::post::{Post, PostKind};
use super::read::{Step, Tree};
use super::value::{Every, Parsed, Switch};
use crate::normalise::Token;
use crate::post::FormRead;
use crate::route::{Pattern, QUERY};

/// Checks the rules for bodies that only read.
fn check_post(post: &Post, mut report: impl FnMut(&str, String, &str)) {
    if post.kind != PostKind::Whole && post.reads.is_empty() {
        let example = match post.kind {
            PostKind::JsonRpc => "reads = [\"torrent-get\"]",
            PostKind::Graphql => "reads = [\"queries\"]",
            PostKind::Form | PostKind::Whole => "reads = [\"action=list\"]",
        };
        report("reads", "nothing that is posted here only reads".to_owned(), &format!("write {example}"));
    }
    if post.kind == PostKind::Whole && !post.reads.is_empty() {
        let help = "leave it out if whatever is posted here only reads, or name another kind";
        report("reads", "kind = \"whole\" takes all bodies for reads".to_owned(), help);
    }
    if post.kind == PostKind::Form {
        for read in &post.reads {
            if let Err(error) = read.parse::<FormRead>() {
                report("reads", format!("{read:?} is no field of a form"), &error.to_string());
            }
        }
    }
    for pointer in post.echo.iter().flatten() {
        if pointer.value.tokens().contains(&Token::Any) {
            let help = "name each of them; in a batch it is looked for in each member";
            report("echo", format!("{:?} may be many values, and one is given back", pointer.text), help);
        }
    }
}

/// Checks `file` as a whole. Consequences of mistakes that are already in `found` are not reported again.
pub(super) fn check(file: &File, overrides: &Overrides, tree: &Tree<'_>, found: &mut Diagnostics) {
    let suspects = tree.suspects(found);
    let mut report = |path: &[Step<'_>], message: String, help: &str| {
        found.push(Diagnostic {
            severity: Severity::Mistake,
            message,
            span: tree.span(path),
            label: "here".to_owned(),
            help: (!help.is_empty()).then(|| help.to_owned()),
        });
    };
    check_upstreams(file, overrides, tree, &mut report);
    if let Switch::On(admin) = &file.server.admin.value
        && !admin.0.ip().is_loopback()
        && file.server.admin_token.is_none()
    {
        let path = [Step::Key("server"), Step::Key("admin")];
        report(
            &path,
            format!("the admin listener at {} can be reached from other machines, and asks for no token", admin.0),
            "write admin_token = \"env:NAME\" under [server], or let admin listen on 127.0.0.1",
        );
    }
    for (name, value) in [
        ("max_streams", file.server.max_streams),
        ("max_streams_per_address", file.server.max_streams_per_address),
        ("max_request_rate_per_address", file.server.max_request_rate_per_address.unwrap_or(1)),
        ("max_resources", file.server.max_resources),
        ("max_resources_per_identity", file.server.max_resources_per_identity),
        ("max_resources_per_address", file.server.max_resources_per_address),
    ] {
        if value == 0 {
            report(&[Step::Key("server"), Step::Key(name)], format!("{name} must be at least 1"), "");
        }
    }
    if matches!(file.server.redirect.value, Switch::On(_)) && file.server.tls.is_none() {
        let path = [Step::Key("server"), Step::Key("redirect")];
        report(
            &path,
            "there is nothing to redirect to: listen does not speak TLS".to_owned(),
            "write tls = { cert = \"cert.pem\", key = \"key.pem\" } under [server], or redirect = \"off\"",
        );
    }
    let mut seen = HashSet::new();
    for (index, route) in file.route.iter().enumerate() {
        let base = [Step::Key("route"), Step::Index(index)];
        let at = |key| [base[0], base[1], Step::Key(key)];
        match &route.path {
            None if !tree.has(&at("path")) => report(
                &base,
                "this route has no path".to_owned(),
                "write path = \"/api/messages\", with * for one segment and ** for any rest",
            ),
            None => {}
            Some(path) => {
                let methods: Vec<&str> = route.methods.iter().map(|method| method.text.as_str()).collect();
                if !seen.insert((path.text.clone(), methods)) {
                    report(
                        &at("path"),
                        format!("an earlier route already takes all of {:?}, so this one is never used", path.text),
                        "the first route that matches wins: remove one, or write the narrower one first",
                    );
                }
            }
        }
        if let Some(post) = &route.post {
            check_post(post, |key, message, help| {
                report(&[base[0], base[1], Step::Key("post"), Step::Key(key)], message, help);
            });
        }
        for name in &route.ignore_headers {
            if ["authorization", "cookie", "proxy-authorization"].contains(&name.value.0.as_str()) {
                report(
                    &at("ignore_headers"),
                    format!(
                        "{:?} holds credentials: without it one person would be shown what is another's",
                        name.text
                    ),
                    "write audience = \"public\" if everybody may see the same, or audience = { cookies = [...], headers = [...] }",
                );
            }
        }
        if let Some(path) = route.path.as_ref().filter(|path| is_own(path, file)) {
            report(
                &at("path"),
                format!(
                    "{:?} is never asked of the application: all at and below prefix is Sungrazer's own",
                    path.text
                ),
                "write a path of the application's, or another prefix under [server]",
            );
        }
        let is_suspect = suspects.contains(&index);
        check_route(route, is_suspect, &mut |key, message, help| report(&at(key), message, help));
    }
}

/// Returns whether `path` is at or below the prefix, so that it is never asked of an application.
fn is_own(path: &Parsed<Pattern>, file: &File) -> bool {
    format!("{}/", path.text).starts_with(&format!("{}/", file.server.prefix.text))
}

/// Checks the applications: each by itself, and which paths they are for.
fn check_upstreams(
    file: &File,
    overrides: &Overrides,
    tree: &Tree<'_>,
    report: &mut impl FnMut(&[Step<'_>], String, &str),
) {
    let mut paths: HashMap<Option<&str>, usize> = HashMap::new();
    for (number, upstream) in file.upstream.iter() {
        let base: Vec<_> = [Some(Step::Key("upstream")), number.map(Step::Index)].into_iter().flatten().collect();
        let at = |key| [&base[..], &[Step::Key(key)]].concat();
        // A value that was given but could not be parsed has already been reported.
        let is_given = |key| tree.has(&at(key));
        let path = upstream.path.as_ref();
        let is_named = path.is_none() && overrides.upstream.is_some() || is_given("url");
        if upstream.url.is_none() && !is_named {
            let help = match number {
                None => {
                    "write url = \"http://127.0.0.1:8000\" under [upstream], or name it with --upstream or SUNGRAZER_UPSTREAM"
                }
                Some(_) => "write url = \"http://127.0.0.1:8000\" under each [[upstream]]",
            };
            report(&base, "no application to stand in front of".to_owned(), help);
        }
        check_upstream(upstream, |key, message, help| report(&at(key), message, help));
        for (key, headers, of) in [
            ("request_headers", &upstream.request_headers, Of::Requests),
            ("response_headers", &upstream.response_headers, Of::Responses),
        ] {
            headers.check(of, |place, message, help| report(&[&at(key)[..], place].concat(), message, help));
        }
        if is_given("path") && path.is_none() {
            continue;
        }
        let earlier = paths.insert(path.map(|path| path.text.as_str()), paths.len()).is_some();
        match path {
            Some(_) if number.is_none() => report(
                &at("path"),
                "path chooses between several applications, and this is the only one".to_owned(),
                "leave it out; or write [[upstream]], with two brackets, here and for the application of all other paths",
            ),
            Some(path) if is_own(path, file) => report(
                &at("path"),
                format!("{:?} is never asked of an application: all at and below prefix is Sungrazer's own", path.text),
                "write a path of the application's, or another prefix under [server]",
            ),
            Some(path) if earlier => report(
                &at("path"),
                format!("an earlier [[upstream]] has the path {:?} already", path.text),
                "write the addresses of an application that runs several times as a list: url = [\"..\", \"..\"]",
            ),
            None if earlier => report(
                &base,
                "an earlier [[upstream]] has no path either".to_owned(),
                "one is for all paths that the others do not name: write a path, such as \"/api/**\", for this one",
            ),
            _ => {}
        }
    }
    let is_several = file.upstream.iter().any(|(number, _)| number.is_some());
    if is_several && file.upstream.general().is_none() {
        report(
            &[Step::Key("upstream"), Step::Index(0)],
            "no application for all paths that no [[upstream]] names".to_owned(),
            "write one [[upstream]] without a path",
        );
    }
}

/// Checks one application by itself.
fn check_upstream(upstream: &Upstream, mut report: impl FnMut(&'static str, String, &str)) {
    for (name, value) in [("max_fetches", upstream.max_fetches), ("max_fetch_rate", upstream.max_fetch_rate)] {
        if !(1..=100_000).contains(&value) {
            report(name, format!("{name} must be between 1 and 100000"), "");
        }
    }
    if let Some(tls) = &upstream.tls
        && tls.cert.is_some() != tls.key.is_some()
    {
        report(
            "tls",
            "a certificate and its key are shown together, or neither is".to_owned(),
            "write both cert and key, or leave both out",
        );
    }
    if upstream.health_every.value.0 < std::time::Duration::from_millis(100) {
        report("health_every", "health_every must be at least 100ms".to_owned(), "");
    }
}

/// Checks one route. In a suspect route, which contains a value that could not be parsed, values are not compared with
/// one another, since one of them may be a default.
fn check_route(route: &Route, is_suspect: bool, report: &mut impl FnMut(&'static str, String, &str)) {
    let every_max = route.every_max.value.0;
    let every = match route.every.value {
        Every::Auto => every_max,
        Every::At(period) => period.0,
    };
    if every < std::time::Duration::from_millis(10) {
        report(
            "every",
            "looking more often than every 10ms is a load test, not a watch".to_owned(),
            "write 100ms or more; refresh_on and watch_files bring news sooner than any interval",
        );
    }
    if every_max < every && !is_suspect {
        report(
            "every_max",
            format!("every_max ({}) is shorter than every ({})", route.every_max.text, route.every.text),
            "write an every_max that is at least as long",
        );
    }
    for (key, period) in [("heartbeat", &route.heartbeat), ("max_age", &route.max_age)] {
        if period.value.0 < std::time::Duration::from_millis(100) {
            report(key, format!("{key} must be at least 100ms"), "");
        }
    }
    if let Switch::On(hold) = &route.hold.value
        && hold.0.is_zero()
    {
        report("hold", "a hold of no time is none".to_owned(), "write hold = \"off\", or a duration such as \"25s\"");
    }
    if route.methods.is_empty() {
        report(
            "methods",
            "a route without methods takes no request".to_owned(),
            "write methods = [\"GET\"], or leave it out",
        );
    }
    let is_read = |method: &str| method == "GET" || method == QUERY || method == "POST" && route.post.is_some();
    if route.fetch && !route.methods.iter().all(|method| is_read(&method.text)) {
        report(
            "methods",
            "only GET, QUERY, and POST as far as post allows, are ever asked by Sungrazer itself".to_owned(),
            "write fetch = false for polls by other methods: the page then asks itself, at the right moment",
        );
    }
    if route.history.versions == 0 {
        report(
            "history",
            "a history of no versions cannot even hold the newest".to_owned(),
            "write versions = 1 or more",
        );
    }
    if let Audience::Selected(selected) = &route.audience
        && selected.cookies.is_empty()
        && selected.headers.is_empty()
    {
        report(
            "audience",
            "an audience that is told apart by nothing is everybody".to_owned(),
            "name cookies or headers, or write audience = \"public\"",
        );
    }
    if !route.fetch
        && !matches!(route.shim, Shim::Given(false))
        && route.methods.iter().all(|method| method.value.0 != http::Method::GET)
    {
        report(
            "shim",
            "the browser script goes into pages, which are got by GET".to_owned(),
            "write shim on the route of the page",
        );
    }
}
