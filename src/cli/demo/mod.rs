//! `sungrazer demo`: a legacy page that polls, and a sidecar in front of it.
//!
//! ```text
//! polled link ───────────────▶ wiki ◀── edits now and then
//! pushed link ──▶ sidecar ──────┘ └──▶ board: requests by each way
//! ```
//!
//! The sidecar is configured by the very file that `examples/wiki` shows.

mod board;
mod readers;
mod wiki;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, interval_at, sleep};

use self::board::{Board, Cast, Links};
use self::readers::{Delays, Reader};
use self::wiki::{INTERVAL, Way, Wiki};
use super::{say, usage};
use crate::clock;
use crate::config::{self, Config, ListenAddress, Overrides, Period, Switch};
use crate::server::{Inherited, Server, Source, StartError};

/// `demo`
#[derive(Clone, Debug, Args)]
pub(super) struct DemoArgs {
    /// Where the pushed page is [default: 127.0.0.1:8080, or a free port]
    #[arg(long, value_name = "ADDR")]
    listen: Option<ListenAddress>,
    /// Where the polled page is [default: 127.0.0.1:8000, or a free port]
    #[arg(long, value_name = "ADDR")]
    backend: Option<ListenAddress>,
    /// Where the sidecar's operators come in, or "off" [default: 127.0.0.1:9090, or a free port]
    #[arg(long, value_name = "ADDR")]
    admin: Option<Switch<ListenAddress>>,
    /// How many readers follow each of the two, beside the pages that you open
    #[arg(long, value_name = "NUMBER", default_value_t = 20, value_parser = clap::value_parser!(u16).range(..=1000))]
    readers: u16,
    /// How often the demo edits the text, or "off"
    #[arg(long, value_name = "TIME", default_value = "10s")]
    edits: Switch<Period>,
    /// Stop after this long [default: at Ctrl-C]
    #[arg(long = "for", value_name = "TIME")]
    time: Option<Period>,
}

/// The example's own configuration.
const CONFIG: &str = include_str!("../../../examples/wiki/sungrazer.toml");

/// Nobody wants to wait for the end of a demo.
const DRAIN: Duration = Duration::from_secs(1);

/// One of the two ways, as the board shows it.
#[derive(Debug)]
struct Side {
    way: Way,
    wiki: Arc<Wiki>,
    delays: Arc<Delays>,
}

impl Side {
    fn asked(&self) -> u64 {
        self.wiki.asked(self.way)
    }
}

/// Runs until Ctrl-C, or for as long as was asked.
pub(super) fn demo(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let code = runtime.block_on(show(args))?;
    // Whatever still runs has had its time.
    runtime.shutdown_background();
    Ok(code)
}

async fn show(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let began = clock::now();
    let listener = bind(args.backend).await?;
    let backend = listener.local_addr().context("the wiki has no address")?;
    let config = match configure(backend, args) {
        Ok(config) => config,
        Err(found) => return Ok(usage(&found.to_string())),
    };
    let server = start(config, args)?;
    let pushed = server.listen().first().copied().context("the sidecar has no address")?;
    let wiki = Arc::new(Wiki::new(began));
    // All of them end with this set.
    let mut going = JoinSet::new();
    going.spawn(wiki::serve(listener, Arc::clone(&wiki)));
    let readers = usize::from(args.readers);
    let sides = [(Way::Polled, backend), (Way::Pushed, pushed)].map(|(way, address)| {
        let side = Side { way, wiki: Arc::clone(&wiki), delays: Arc::default() };
        for number in 0..readers {
            let (wiki, delays) = (Arc::clone(&side.wiki), Arc::clone(&side.delays));
            let reader = Reader { address, way, number, wiki, delays };
            // People do not open a page all at once.
            let pause = INTERVAL.mul_f64(number as f64 / readers as f64);
            going.spawn(reader.run(pause));
        }
        side
    });
    let edits = match args.edits {
        Switch::Off => None,
        Switch::On(period) => Some(period.0.max(Duration::from_millis(100))),
    };
    if let Some(period) = edits {
        going.spawn(edit(Arc::clone(&wiki), period));
    }
    say(&board::introduction(&Links { polled: backend, pushed, admin: server.admin() }, &Cast { readers, edits }));
    let mut board = Board::new();
    let mut shown = interval(board.every());
    shown.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let time_is_up = async {
        match args.time {
            Some(time) => sleep(time.0).await,
            None => std::future::pending().await,
        }
    };
    let live = async {
        loop {
            let now = shown.tick().await;
            board.show(&board::table(&sides, now.saturating_duration_since(began)));
        }
    };
    tokio::select! {
        () = live => {}
        () = time_is_up => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    board.show(&board::table(&sides, clock::now().saturating_duration_since(began)));
    tokio::select! {
        () = server.stop() => {}
        // Asked again: at once.
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes a line into the wiki now and then.
async fn edit(wiki: Arc<Wiki>, period: Duration) {
    let mut due = interval_at(clock::now() + period, period);
    for number in 1_u64.. {
        due.tick().await;
        let time = humantime::format_rfc3339_seconds(clock::wall()).to_string();
        let time = time.split_once('T').map_or(time.as_str(), |(_, time)| time.trim_end_matches('Z'));
        wiki.edit(&format!("edit {number}, at {time} UTC"), clock::now());
    }
}

/// The usual ports, taken where nobody said otherwise and nobody else is there.
fn usual(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

async fn bind(asked: Option<ListenAddress>) -> anyhow::Result<TcpListener> {
    let address = asked.map_or_else(|| usual(8000), |asked| asked.0);
    match TcpListener::bind(address).await {
        Err(_) if asked.is_none() => TcpListener::bind(ANY).await.context("cannot listen on a free port"),
        bound => bound.with_context(|| format!("cannot listen on {address} (--backend chooses another address)")),
    }
}

fn configure(backend: SocketAddr, args: &DemoArgs) -> Result<Config, config::Diagnostics> {
    let listen = args.listen.map_or_else(|| usual(8080), |listen| listen.0);
    let admin = match args.admin {
        None => usual(9090).to_string(),
        Some(Switch::Off) => "off".to_owned(),
        Some(Switch::On(admin)) => admin.0.to_string(),
    };
    let overrides =
        Overrides { upstream: Some(format!("http://{backend}")), listen: Some(listen.to_string()), admin: Some(admin) };
    let mut config = config::parse("examples/wiki/sungrazer.toml", CONFIG, &overrides)?;
    config.server.drain = DRAIN;
    Ok(config)
}

/// Starts the sidecar; where a usual port is taken, on a free one.
fn start(mut config: Config, args: &DemoArgs) -> Result<Server, StartError> {
    loop {
        match Server::start(config.clone(), &Source::default(), Inherited::default()) {
            Err(StartError::Listen { address, .. }) if args.listen.is_none() && address == usual(8080) => {
                config.server.listen = vec![ANY];
            }
            Err(StartError::Listen { address, .. }) if args.admin.is_none() && address == usual(9090) => {
                config.server.admin.iter_mut().for_each(|admin| admin.listen = ANY);
            }
            started => return started,
        }
    }
}
