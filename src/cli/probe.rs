//! `sungrazer probe`: looks at a URL again and again, and says what of it changes by itself.
//!
//! ```text
//! looks in direct succession ─┐
//! looks with pauses ──────────┼─▶ probe::examine ─▶ Report ─┐
//! heads, one conditional look ┘   probe::Hazards ───────────┴─▶ comments and a [[route]], as TOML, on stdout
//! ```

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ACCEPT_ENCODING, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::protocols::Stream;
use tokio::time::{Instant, sleep_until};

use super::request::{RequestArgs, refuse};
use super::{print, usage};
use crate::clock;
use crate::config::{Period, default_max_body};
use crate::model::{MediaType, Representation, Validators};
use crate::normalise::Rules;
use crate::probe::{Facts, Hazards, Sample, Without, examine, route_block};
use crate::route::is_plain;
use crate::upstream::{Exchanged, Upstream};

/// `probe`
#[derive(Clone, Debug, Args)]
pub(super) struct ProbeArgs {
    #[command(flatten)]
    request: RequestArgs,
    /// How many looks in direct succession, and then how many with pauses
    #[arg(long, value_name = "NUMBER", default_value_t = 8, value_parser = clap::value_parser!(u16).range(3..=1000))]
    times: u16,
    /// How long the pauses are
    #[arg(long, value_name = "TIME", default_value = "2s")]
    every: Period,
}

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Larger answers are not read.
const MOST_BYTES: u64 = 256 << 20;

/// Looks without the answer to which nothing can be said.
const FEWEST: usize = 3;

/// Looks, says what they showed, and ends.
pub(super) fn probe(args: &ProbeArgs) -> anyhow::Result<ExitCode> {
    if !is_plain(&args.request.url.path) {
        return Ok(usage(&format!(
            "{} has a path that servers read differently (\"..\", \"//\", \";\", \"\\\" or encoded separators): no route takes it, it is always proxied",
            args.request.url.shown()
        )));
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let block = runtime.block_on(run(args)).with_context(|| format!("cannot probe {}", args.request.url.shown()))?;
    print(&block)?;
    Ok(ExitCode::SUCCESS)
}

async fn run(args: &ProbeArgs) -> anyhow::Result<String> {
    let mut prober = Prober {
        args,
        upstream: args.request.upstream(PATIENCE)?,
        kept: None,
        begun: clock::now(),
        samples: Vec::new(),
        failed: 0,
        failure: None,
    };
    prober.first().await?;
    prober.looks().await;
    if prober.samples.len() < FEWEST {
        bail!(
            "of {} looks, {} failed: {}",
            prober.samples.len() + prober.failed,
            prober.failed,
            prober.failure.unwrap_or_default()
        );
    }
    let conditional = prober.conditional().await;
    let encoded = prober.encoded().await;
    let without = prober.without_credentials().await;
    let Prober { samples, failed, failure, .. } = prober;
    let hazards = Hazards::of(&samples, conditional);
    let report = examine(&samples);
    let body = samples.last().map(|sample| sample.representation.body.clone()).unwrap_or_default();
    let when = humantime::format_rfc3339_seconds(clock::wall()).to_string();
    let facts = Facts {
        url: &args.request.url.shown(),
        path: &args.request.url.path,
        query: args.request.url.query.as_deref(),
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
    /// A connection for those looks that share one.
    kept: Option<Stream>,
    begun: Instant,
    samples: Vec<Sample>,
    failed: usize,
    failure: Option<String>,
}

impl Prober<'_> {
    async fn ask(&self, ours: &[(HeaderName, HeaderValue)], credentials: bool) -> anyhow::Result<Exchanged> {
        let head = self.args.request.get(ours, credentials)?;
        self.upstream.exchange_once(head, Bytes::new(), MOST_BYTES).await.map_err(anyhow::Error::msg)
    }

    /// The look that decides whether there is anything to probe.
    async fn first(&mut self) -> anyhow::Result<()> {
        let incoming = self.upstream.open(self.args.request.get(&[], true)?).await.map_err(anyhow::Error::msg)?;
        refuse(incoming.status, &incoming.headers)?;
        if MediaType::of(&incoming.headers).is_event_stream() {
            bail!(
                "the application answers text/event-stream: it pushes this by itself, and Sungrazer passes it through"
            );
        }
        Ok(())
    }

    async fn looks(&mut self) {
        let times = usize::from(self.args.times);
        for at in 0..2 * times {
            let spaced = at >= times;
            if spaced {
                sleep_until(clock::now() + self.args.every.0).await;
            }
            progress(at, 2 * times);
            match self.look(spaced, keeps(at, times)).await {
                Ok(sample) => self.samples.push(sample),
                Err(error) => {
                    self.failed += 1;
                    self.failure = Some(error.to_string());
                }
            }
        }
        progress(2 * times, 2 * times);
    }

    async fn look(&mut self, spaced: bool, keep: bool) -> anyhow::Result<Sample> {
        let began = clock::now();
        let head = self.args.request.get(&[], true)?;
        let exchanged = if keep {
            self.upstream.exchange_kept(&mut self.kept, head, MOST_BYTES).await
        } else {
            self.kept = None;
            self.upstream.exchange_once(head, Bytes::new(), MOST_BYTES).await
        };
        let Exchanged { status, headers, body } = exchanged.map_err(anyhow::Error::msg)?;
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

    /// What a look that asks with the validators of the last answer is answered.
    async fn conditional(&self) -> Option<u16> {
        let last = &self.samples.last()?.headers;
        let with: Vec<(HeaderName, HeaderValue)> = [(ETAG, IF_NONE_MATCH), (LAST_MODIFIED, IF_MODIFIED_SINCE)]
            .into_iter()
            .filter_map(|(held, asked)| Some((asked, last.get(held)?.clone())))
            .collect();
        if with.is_empty() {
            return None;
        }
        Some(self.ask(&with, true).await.ok()?.status.as_u16())
    }

    /// The head of the answer to who takes compressed bodies.
    async fn encoded(&self) -> Option<HeaderMap> {
        let takes = (ACCEPT_ENCODING, HeaderValue::from_static("gzip, deflate, br, zstd"));
        let incoming = self.upstream.open(self.args.request.get(&[takes], true).ok()?).await.ok()?;
        Some(incoming.headers)
    }

    async fn without_credentials(&self) -> Option<Without> {
        if !self.args.request.has_credentials() {
            return None;
        }
        let answer = self.ask(&[], false).await.ok()?;
        if !answer.status.is_success() {
            return Some(Without::Refused(answer.status.as_u16()));
        }
        let last = &self.samples.last()?.representation;
        let other =
            Representation { status: answer.status, headers: answer.headers, body: answer.body, ..last.clone() };
        let rules = Rules::default();
        let meaning = |one: &Representation| rules.meaning(one, one.digest()).digest;
        Some(if meaning(last) == meaning(&other) { Without::Same } else { Without::Other })
    }
}

/// Whether the look `at`, of twice `times`, goes over the connection of the one before. Some applications count
/// connections as well as requests, and a watch has both: it keeps its connection for as long as the application does.
/// So do the first half of the looks in direct succession and the last half of those with pauses.
fn keeps(at: usize, times: usize) -> bool {
    at < times.div_ceil(2) || at >= times + times / 2
}

fn gzipped(body: &[u8]) -> anyhow::Result<usize> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body)?;
    Ok(encoder.finish()?.len())
}

/// How far it is, for whoever waits at a terminal.
fn progress(done: usize, all: usize) {
    let mut stderr = std::io::stderr();
    if stderr.is_terminal() {
        let end = if done == all { "\r\x1b[K" } else { "" };
        let _ = write!(stderr, "\rlook {} of {all} …{end}", (done + 1).min(all));
        let _ = stderr.flush();
    }
}
