//! `sungrazer probe`: fetches a URL repeatedly and detects which parts change by themselves.
//!
//! ```text
//! fetches in direct succession ─┐
//! fetches with pauses ──────────┼─▶ probe::examine ─▶ Report ─┐
//! heads, one conditional fetch ┘   probe::Hazards ───────────┤
//! a second URL, fetches without what differs: probe::varying ┴─▶ a configuration with comments: stdout, or a file
//! ```

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, bail};
use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use pingora::protocols::Stream;
use tokio::time::{Instant, sleep_until};

use super::request::{BodyArgs, RequestArgs, Url, refuse};
use super::write::{Target, WriteError};
use super::{print, say, usage};
use crate::clock;
use crate::config::{Period, default_max_body};
use crate::model::{MediaType, Representation, Validators};
use crate::normalise::Rules;
use crate::post::FormRead;
use crate::probe::{AnonymousResult, CachingFindings, Facts, Sample, Varying, examine, route_block, varying};
use crate::route::is_unambiguous;
use crate::upstream::{FullResponse, Upstream};

/// `probe`
#[derive(Clone, Debug, Args)]
pub(super) struct ProbeArgs {
    #[command(flatten)]
    request: RequestArgs,
    #[command(flatten)]
    body: BodyArgs,
    /// Another URL of the same poll: parameters that differ may only be cache busters
    other: Option<Url>,
    /// Write the configuration into this file, or add the route to it if it exists
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Number of fetches in direct succession, and of fetches with pauses
    #[arg(long, value_name = "NUMBER", default_value_t = 8, value_parser = clap::value_parser!(u16).range(3..=1000))]
    times: u16,
    /// Length of the pauses
    #[arg(long, value_name = "TIME", default_value = "2s")]
    every: Period,
}

/// The timeout of a response.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);

/// The maximum size of a response.
const MAX_BYTES: u64 = 256 << 20;

/// The minimum number of successful fetches.
const MIN_FETCHES: usize = 3;

/// Probes the URL and prints the result.
pub(super) fn probe(args: &ProbeArgs) -> anyhow::Result<ExitCode> {
    let args = &ProbeArgs { request: args.request.clone().with(&args.body), ..args.clone() };
    if !is_unambiguous(&args.request.url.path) {
        return Ok(usage(&format!(
            "{} has a path that servers read differently (\"..\", \"//\", \";\", \"\\\" or encoded separators): no route takes it, it is always proxied",
            args.request.url.shown()
        )));
    }
    if let Some(other) = &args.other
        && (other.origin(), &other.path) != (args.request.url.origin(), &args.request.url.path)
    {
        return Ok(usage(&format!(
            "{} and {} differ in more than their queries: a poll that is the same has one path",
            args.request.url.shown(),
            other.shown()
        )));
    }
    let target = match args.write.as_deref().map(|path| Target::open(path, &args.request.url.path)).transpose() {
        Ok(target) => target,
        Err(error) => return Ok(usage(&format!("{:#}", anyhow::Error::from(error)))),
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let names_upstream = target.as_ref().is_some_and(Target::names_upstream);
    let block = runtime.block_on(run(args, names_upstream));
    let block = block.with_context(|| format!("cannot probe {}", args.request.url.shown()))?;
    match target {
        None => print(&block)?,
        Some(target) => match target.write(&block) {
            Ok(done) => say(&format!("sungrazer: {done}")),
            Err(error @ WriteError::Write { .. }) => return Err(error.into()),
            Err(error) => return Ok(usage(&format!("{:#}", anyhow::Error::from(error)))),
        },
    }
    Ok(ExitCode::SUCCESS)
}

async fn run(args: &ProbeArgs, names_upstream: bool) -> anyhow::Result<String> {
    let mut prober = Prober {
        args,
        upstream: args.request.upstream(FETCH_TIMEOUT)?,
        kept: None,
        begun: clock::now(),
        samples: Vec::new(),
        failed: 0,
        failure: None,
    };
    prober.first().await?;
    prober.fetch_all().await;
    if prober.samples.len() < MIN_FETCHES {
        bail!(
            "of {} fetches, {} failed: {}",
            prober.samples.len() + prober.failed,
            prober.failed,
            prober.failure.unwrap_or_default()
        );
    }
    let conditional = prober.conditional().await;
    let encoded = prober.encoded().await;
    let hazards = CachingFindings::of(&prober.samples, conditional);
    let report = examine(&prober.samples);
    let rules = report.rules();
    let without = prober.without_credentials(&rules).await;
    let varying = prober.varying(&rules, report.is_silent()).await;
    let Prober { samples, failed, failure, .. } = prober;
    let body = samples.last().map(|sample| sample.representation.body.clone()).unwrap_or_default();
    let when = humantime::format_rfc3339_seconds(clock::wall()).to_string();
    let origin = args.request.url.origin();
    let post = (args.request.method() != Method::GET).then(|| post_rules(&args.request.body()));
    let facts = Facts {
        url: &args.request.url.shown(),
        upstream: (!names_upstream).then_some(&origin),
        insecure: args.request.insecure,
        path: &args.request.url.path,
        query: args.request.url.query.as_deref(),
        post: post.as_deref(),
        varying: varying.as_deref(),
        when: &when,
        every: args.every.0,
        samples: &samples,
        failed: (failed, failure.as_deref()),
        gzipped: gzipped(&body)?,
        encoded: encoded.as_ref(),
        without_credentials: without,
        max_body: default_max_body(),
    };
    Ok(route_block(&facts, &report, &hazards))
}

struct Prober<'a> {
    args: &'a ProbeArgs,
    upstream: Upstream,
    /// The connection of fetches that share one.
    kept: Option<Stream>,
    begun: Instant,
    samples: Vec<Sample>,
    failed: usize,
    failure: Option<String>,
}

impl Prober<'_> {
    async fn ask(&self, ours: &[(HeaderName, HeaderValue)], credentials: bool) -> anyhow::Result<FullResponse> {
        let head = self.args.request.head(ours, credentials)?;
        Ok(self.upstream.exchange_once(head, self.args.request.body(), MAX_BYTES).await?)
    }

    /// Makes the first fetch, which decides whether there is anything to probe.
    async fn first(&mut self) -> anyhow::Result<()> {
        let (head, body) = (self.args.request.head(&[], true)?, self.args.request.body());
        let incoming = self.upstream.open(head, body).await?;
        refuse(incoming.status, &incoming.headers)?;
        if MediaType::of(&incoming.headers).is_event_stream() {
            bail!(
                "the application answers text/event-stream: it pushes this by itself, and Sungrazer passes it through"
            );
        }
        Ok(())
    }

    async fn fetch_all(&mut self) {
        let times = usize::from(self.args.times);
        for at in 0..2 * times {
            let spaced = at >= times;
            if spaced {
                sleep_until(clock::now() + self.args.every.0).await;
            }
            progress(at, 2 * times, self.args.every.0);
            match self.fetch(spaced, keeps(at, times)).await {
                Ok(sample) => self.samples.push(sample),
                Err(error) => {
                    self.failed += 1;
                    self.failure = Some(error.to_string());
                }
            }
        }
        progress(2 * times, 2 * times, Duration::ZERO);
    }

    async fn fetch(&mut self, spaced: bool, keep: bool) -> anyhow::Result<Sample> {
        let began = clock::now();
        let (head, body) = (self.args.request.head(&[], true)?, self.args.request.body());
        let exchanged = if keep {
            self.upstream.exchange_keepalive(&mut self.kept, head, body, MAX_BYTES).await
        } else {
            self.kept = None;
            self.upstream.exchange_once(head, body, MAX_BYTES).await
        };
        let FullResponse { status, headers, body } = exchanged?;
        refuse(status, &headers)?;
        let representation = Representation {
            status,
            headers: headers.clone(),
            body,
            validators: Validators::default(),
            coded: None,
            sets_cookie: false,
            ahead: 0,
        };
        let now = clock::now();
        Ok(Sample {
            representation,
            headers,
            at: now.saturating_duration_since(self.begun),
            wall: clock::wall().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            took: now.saturating_duration_since(began),
            spaced,
        })
    }

    /// Returns the status of a fetch with the validators of the last response.
    async fn conditional(&self) -> Option<u16> {
        let last = &self.samples.last()?.headers;
        let with: Vec<(HeaderName, HeaderValue)> = [(ETAG, IF_NONE_MATCH), (LAST_MODIFIED, IF_MODIFIED_SINCE)]
            .into_iter()
            .filter_map(|(held, asked)| Some((asked, last.get(held)?.clone())))
            .collect();
        // A condition on a method other than GET is a condition on performing it.
        if with.is_empty() || self.args.request.method() != Method::GET {
            return None;
        }
        Some(self.ask(&with, true).await.ok()?.status.as_u16())
    }

    /// Returns the head of the response to a request that accepts compressed bodies.
    async fn encoded(&self) -> Option<HeaderMap> {
        let takes = (ACCEPT_ENCODING, HeaderValue::from_static("gzip, deflate, br, zstd"));
        let head = self.args.request.head(&[takes], true).ok()?;
        let incoming = self.upstream.open(head, self.args.request.body()).await.ok()?;
        Some(incoming.headers)
    }

    async fn without_credentials(&self, rules: &Rules) -> Option<AnonymousResult> {
        if !self.args.request.has_credentials() {
            return None;
        }
        self.compare(self.ask(&[], false).await.ok()?, rules)
    }

    /// Returns the differences between the queries of the two URLs, if there are two, and tests the response without
    /// each of them. That is only possible if all responses to the first URL have the same meaning under `rules`.
    async fn varying(&self, rules: &Rules, is_silent: bool) -> Option<Vec<Varying>> {
        let Url { path, query, .. } = &self.args.request.url;
        let mut found = varying(query.as_deref(), self.args.other.as_ref()?.query.as_deref());
        for varying in &mut found {
            let target = match varying.rest.as_str() {
                "" => path.clone(),
                rest => format!("{path}?{rest}"),
            };
            let Ok(head) = self.args.request.head_of(&target, &[], true) else { continue };
            let body = self.args.request.body();
            if let (true, Ok(answer)) = (is_silent, self.upstream.exchange_once(head, body, MAX_BYTES).await) {
                varying.trial = self.compare(answer, rules);
            }
        }
        Some(found)
    }

    /// Compares the meaning of `answer` under `rules` with the last response to the complete request.
    fn compare(&self, answer: FullResponse, rules: &Rules) -> Option<AnonymousResult> {
        if !answer.status.is_success() {
            return Some(AnonymousResult::Refused(answer.status.as_u16()));
        }
        let last = &self.samples.last()?.representation;
        let other =
            Representation { status: answer.status, headers: answer.headers, body: answer.body, ..last.clone() };
        let meaning = |one: &Representation| rules.meaning(one, one.digest()).digest;
        Some(if meaning(last) == meaning(&other) { AnonymousResult::Same } else { AnonymousResult::Other })
    }
}

/// Returns whether fetch `at`, of twice `times`, uses the connection of the previous one. Some applications count
/// connections as well as requests, and a watched resource has both: its connection is kept as long as the application
/// keeps it. The first half of the fetches in direct succession and the last half of those with pauses share a
/// connection.
fn keeps(at: usize, times: usize) -> bool {
    at < times.div_ceil(2) || at >= times + times / 2
}

fn gzipped(body: &[u8]) -> anyhow::Result<usize> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body)?;
    Ok(encoder.finish()?.len())
}

/// Guesses the value of `post` with which a route would treat `body` as a body that only reads.
fn post_rules(body: &[u8]) -> String {
    let rules = |kind: &str, names: Vec<&str>| {
        let names: Vec<String> = names.iter().map(|name| serde_json::Value::from(*name).to_string()).collect();
        format!("{{ kind = \"{kind}\", reads = [{}] }}", names.join(", "))
    };
    let said = serde_json::from_slice(body).unwrap_or(serde_json::Value::Null);
    let calls = said.as_array().map_or(std::slice::from_ref(&said), Vec::as_slice);
    let mut methods: Vec<&str> = calls.iter().filter_map(|call| call["method"].as_str()).collect();
    methods.dedup();
    let text = std::str::from_utf8(body).unwrap_or_default();
    let field = text.split('&').next().filter(|field| field.parse::<FormRead>().is_ok());
    match field {
        _ if !methods.is_empty() => rules("json-rpc", methods),
        _ if said["query"].is_string() => rules("graphql", vec!["queries"]),
        Some(field) if said.is_null() => rules("form", vec![field]),
        _ => "{ kind = \"whole\" }".to_owned(),
    }
}

/// Prints the progress if stderr is a terminal. The second half of all fetches has pauses of `every`.
fn progress(done: usize, all: usize, every: Duration) {
    let mut stderr = std::io::stderr();
    if !stderr.is_terminal() {
        return;
    }
    let left = every * u32::try_from((all - done).min(all / 2)).unwrap_or(u32::MAX);
    let text = match (done == all, left.as_secs()) {
        (true, _) => "\r\x1b[K".to_owned(),
        (false, 0) => format!("\r\x1b[Kfetch {} of {all}", done + 1),
        (false, left) => format!("\r\x1b[Kfetch {} of {all}, about {left} s left", done + 1),
    };
    let _ = write!(stderr, "{text}");
    let _ = stderr.flush();
}
