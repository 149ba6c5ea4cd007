//! Evaluates a page's Content Security Policy (CSP Level 3) for the script. Policies are read, never changed.

use std::fmt;

/// The site's address, and the URLs that the script needs.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The host as the browser knows it, with its port if that is not the scheme's own.
    pub host: &'a str,
    /// The path of the script.
    pub script: &'a str,
    /// The path of the stream.
    pub stream: &'a str,
}

/// A restriction by a policy, and its effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The directive as it was written.
    pub directive: String,
    /// The effect on the script.
    pub effect: Effect,
}

/// The effect of an obstacle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The page is not changed.
    NotInjected,
    /// Tabs cannot share a worker.
    NoWorker,
    /// No subscription is possible.
    NoStream,
    /// The policy is in the page's markup; the script must find out its effect itself.
    InMarkup,
}

impl Effect {
    /// Describes the effect.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotInjected => "the script is not put into the page",
            Self::NoWorker => "tabs cannot share a worker: one of them leads, or each has a stream of its own",
            Self::NoStream => "no stream: the page polls as it would without Sungrazer",
            Self::InMarkup => "the page states a policy in its markup: the script finds out what it may do",
        }
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The combined result of all policies of a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyDecision {
    /// The nonce that the script's tag must carry.
    pub nonce: Option<String>,
    /// The restrictions.
    pub obstacles: Vec<Obstacle>,
}

impl PolicyDecision {
    /// Returns whether the script may run.
    pub fn allows_script(&self) -> bool {
        self.obstacles.iter().all(|obstacle| obstacle.effect != Effect::NotInjected)
    }
}

/// The maximum length of a directive in reports; longer ones are cut.
const MAX_SHOWN_LEN: usize = 300;

impl Policy<'_> {
    /// Evaluates `policies`: the values of all `Content-Security-Policy` and `Content-Security-Policy-Report-Only`
    /// header lines. Each may contain several policies, and the script must satisfy every one, because a violation of a
    /// report-only policy would alert its owner.
    pub fn judge<'v>(&self, policies: impl IntoIterator<Item = &'v str>) -> PolicyDecision {
        let mut verdict = PolicyDecision::default();
        let policies = policies.into_iter().flat_map(|line| line.split(',')).map(Directives::parse);
        let policies: Vec<Directives<'_>> = policies.filter(|policy| !policy.0.is_empty()).collect();
        let mut refuse = |directive: &Directive<'_>, effect: Effect| {
            let directive = directive.to_string().chars().take(MAX_SHOWN_LEN).collect();
            verdict.obstacles.push(Obstacle { directive, effect });
        };
        for policy in &policies {
            if let Some(sandbox) = policy.find(&["sandbox"])
                && !(sandbox.has("allow-scripts") && sandbox.has("allow-same-origin"))
            {
                refuse(sandbox, Effect::NotInjected);
            }
        }
        let nonce = policies.iter().filter_map(|policy| policy.script()?.nonce()).next();
        for script in policies.iter().filter_map(Directives::script) {
            // One element carries one nonce: if two policies require different nonces, it cannot satisfy both.
            let by_nonce = nonce.is_some() && script.nonce() == nonce;
            let by_source = !script.has("'strict-dynamic'") && self.allows(script, self.script);
            if !(by_nonce || by_source) {
                refuse(script, Effect::NotInjected);
            }
        }
        let worker = policies.iter().filter_map(Directives::worker).find(|worker| !self.allows(worker, self.script));
        // With trusted types, creating a worker from a URL would be a violation, which is reported.
        let typed = policies.iter().filter_map(Directives::trusted_types).find(|typed| typed.has("'script'"));
        let worker = worker.or(typed);
        let connect = policies.iter().filter_map(Directives::connect).find(|to| !self.allows(to, self.stream));
        match (worker, connect) {
            (Some(_), Some(connect)) => refuse(connect, Effect::NoStream),
            (Some(worker), None) => refuse(worker, Effect::NoWorker),
            // A worker has a policy of its own, which arrives with its script.
            (None, _) => {}
        }
        verdict.nonce = nonce.map(str::to_owned);
        verdict
    }

    fn allows(&self, directive: &Directive<'_>, path: &str) -> bool {
        directive.sources().any(|source| self.matches(source, path))
    }

    /// Returns whether a source expression matches `path` on this site (CSP section 6.7.2.8).
    fn matches(&self, source: &str, path: &str) -> bool {
        if source == "*" || source.eq_ignore_ascii_case("'self'") {
            return true;
        }
        if source.starts_with('\'') {
            return false;
        }
        let upgrades = |scheme: &str| {
            scheme.eq_ignore_ascii_case(self.scheme) || (scheme.eq_ignore_ascii_case("http") && self.scheme == "https")
        };
        if let Some(scheme) = source.strip_suffix(':') {
            return upgrades(scheme);
        }
        let (scheme, rest) = source.split_once("://").map_or((None, source), |(scheme, rest)| (Some(scheme), rest));
        if !scheme.is_none_or(upgrades) {
            return false;
        }
        let (host, allowed_path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let path_fits = match allowed_path {
            "" | "/" => true,
            folder if folder.ends_with('/') => path.starts_with(folder),
            exact => path == exact,
        };
        path_fits && self.is_host(host)
    }

    fn is_host(&self, expression: &str) -> bool {
        let default_port = if self.scheme == "https" { "443" } else { "80" };
        let (host, port) = split_port(expression);
        let (own, own_port) = split_port(self.host);
        let own_port = own_port.unwrap_or(default_port);
        let port_fits = match port {
            Some("*") => true,
            Some("80") if self.scheme == "https" && own_port == "443" => true,
            Some(port) => port == own_port,
            None => own_port == default_port,
        };
        let host_fits = match host.strip_prefix('*') {
            Some(suffix) => {
                suffix.starts_with('.')
                    && own.len() > suffix.len()
                    && own.to_ascii_lowercase().ends_with(&suffix.to_ascii_lowercase())
            }
            None => host.eq_ignore_ascii_case(own),
        };
        port_fits && host_fits
    }
}

/// Returns whether an `Integrity-Policy`, enforced or report-only, requires scripts to state their digest (Subresource
/// Integrity, "integrity policy").
pub fn demands_integrity<'v>(policies: impl IntoIterator<Item = &'v str>) -> bool {
    policies.into_iter().any(|policy| {
        let destinations = policy.split_once("blocked-destinations").map_or("", |(_, rest)| rest);
        let list = destinations.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map_or("", |(list, _)| list);
        list.split_ascii_whitespace().any(|destination| destination == "script")
    })
}

fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    }
}

/// The directives of one policy. If a name occurs more than once, the first directive counts.
struct Directives<'a>(Vec<Directive<'a>>);

struct Directive<'a> {
    name: &'a str,
    value: &'a str,
}

impl<'a> Directives<'a> {
    fn parse(policy: &'a str) -> Self {
        let directives = policy.split(';').map(str::trim).filter(|directive| !directive.is_empty());
        Self(
            directives
                .map(|directive| {
                    let (name, value) =
                        directive.split_once(|c: char| c.is_ascii_whitespace()).unwrap_or((directive, ""));
                    Directive { name, value: value.trim() }
                })
                .collect(),
        )
    }

    /// Returns the first of `names` that is present.
    fn find(&self, names: &[&str]) -> Option<&Directive<'a>> {
        names.iter().find_map(|name| self.0.iter().find(|directive| directive.name.eq_ignore_ascii_case(name)))
    }

    fn script(&self) -> Option<&Directive<'a>> {
        self.find(&["script-src-elem", "script-src", "default-src"])
    }

    fn worker(&self) -> Option<&Directive<'a>> {
        self.find(&["worker-src", "child-src", "script-src", "default-src"])
    }

    fn trusted_types(&self) -> Option<&Directive<'a>> {
        self.find(&["require-trusted-types-for"])
    }

    fn connect(&self) -> Option<&Directive<'a>> {
        self.find(&["connect-src", "default-src"])
    }
}

impl<'a> Directive<'a> {
    fn sources(&self) -> impl Iterator<Item = &'a str> {
        self.value.split_ascii_whitespace()
    }

    fn has(&self, source: &str) -> bool {
        self.sources().any(|known| known.eq_ignore_ascii_case(source))
    }

    fn nonce(&self) -> Option<&'a str> {
        self.sources().find_map(|source| {
            let (name, nonce) = source.strip_suffix('\'')?.split_once('-')?;
            name.eq_ignore_ascii_case("'nonce").then_some(nonce)
        })
    }
}

impl fmt::Display for Directive<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy<'_> =
        Policy { scheme: "https", host: "app.example", script: "/.sungrazer/shim.js", stream: "/.sungrazer/stream" };

    fn effects(policy: &str) -> Vec<Effect> {
        POLICY.judge([policy]).obstacles.iter().map(|obstacle| obstacle.effect).collect()
    }

    #[test]
    fn policies_that_let_the_script_work() {
        for policy in [
            "",
            "img-src 'none'",
            "default-src 'self'",
            "script-src 'self' 'unsafe-eval'; object-src 'none'",
            "default-src https:",
            "default-src http:",
            "script-src app.example",
            "script-src https://app.example:443/.sungrazer/",
            "script-src *.example; worker-src *; connect-src *",
            "script-src-elem 'self'; script-src 'none'; worker-src 'self'",
            "connect-src 'none'; script-src 'self'",
        ] {
            assert_eq!(effects(policy), [], "{policy}");
        }
    }

    #[test]
    fn policies_that_do_not() {
        for (policy, effect) in [
            ("script-src 'none'", Effect::NotInjected),
            ("default-src 'none'", Effect::NotInjected),
            ("script-src cdn.example", Effect::NotInjected),
            ("script-src https://app.example/static/", Effect::NotInjected),
            ("script-src 'self' 'strict-dynamic' 'sha256-x'", Effect::NotInjected),
            ("sandbox allow-scripts", Effect::NotInjected),
            ("worker-src 'none'", Effect::NoWorker),
            ("require-trusted-types-for 'script'", Effect::NoWorker),
            ("worker-src 'none'; connect-src https://app.example/api/", Effect::NoStream),
        ] {
            assert_eq!(effects(policy).first(), Some(&effect), "{policy}");
        }
        assert_eq!(POLICY.judge(["script-src cdn.example 'x'"]).obstacles[0].directive, "script-src cdn.example 'x'");
    }

    #[test]
    fn the_pages_nonce_is_used() {
        for policy in
            ["script-src 'nonce-abc'", "script-src 'strict-dynamic' 'nonce-abc'", "default-src 'self' 'NONCE-abc'"]
        {
            let verdict = POLICY.judge([policy]);
            assert!(verdict.allows_script(), "{policy}");
            assert_eq!(verdict.nonce.as_deref(), Some("abc"), "{policy}");
        }
        let two = POLICY.judge(["script-src 'nonce-abc', script-src 'nonce-xyz'"]);
        assert!(!two.allows_script());
        assert!(POLICY.judge(["script-src 'nonce-abc', default-src 'self'"]).allows_script());
    }

    #[test]
    fn policies_that_demand_digests_of_scripts() {
        for (policies, expected) in [
            (&["blocked-destinations=(script), endpoints=(e)"][..], true),
            (&["endpoints=(script)", "sources=(inline), blocked-destinations = ( style script )"], true),
            (&["blocked-destinations=(style), endpoints=(script)"], false),
            (&["blocked-destinations=()", "blocked-destinations=(script"], false),
            (&[], false),
        ] {
            assert_eq!(demands_integrity(policies.iter().copied()), expected, "{policies:?}");
        }
    }

    #[test]
    fn every_policy_counts() {
        assert!(!POLICY.judge(["script-src 'self'", "script-src 'none'"]).allows_script());
        assert!(!POLICY.judge(["script-src 'self', script-src 'none'"]).allows_script());
    }
}
