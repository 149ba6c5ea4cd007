//! `sungrazer demo`: a legacy page that polls, and a sidecar in front of it.
//!
//! ```text
//! viewer ─┬─ frame, polled ────────────▶ wiki ◀── edits at random moments
//!         └─ frame, pushed ─▶ sidecar ───┘ └──▶ board: requests by each way
//! ```
//!
//! The sidecar has the configuration of `--upstream` alone: one route, `/**`, whose pages receive the browser script.

mod board;
mod host;
mod readers;
mod viewer;
mod wiki;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use self::board::{Board, Cast, Links};
use self::readers::{Delays, Reader};
use self::viewer::Viewer;
use self::wiki::{INTERVAL, Way, Wiki};
use super::{say, usage};
use crate::clock;
use crate::config::{self, Config, ListenAddress, Overrides, Period, Switch};
use crate::server::{ConfigSource, Inherited, Server, StartError};

/// `demo`
#[derive(Clone, Debug, Args)]
pub(super) struct DemoArgs {
    /// Address of the page that shows both sides [default: 127.0.0.1:8070, or a free port]
    #[arg(long, value_name = "ADDR")]
    page: Option<ListenAddress>,
    /// Address of the pushed page [default: 127.0.0.1:8080, or a free port]
    #[arg(long, value_name = "ADDR")]
    listen: Option<ListenAddress>,
    /// Address of the polled page, the application itself [default: 127.0.0.1:8000, or a free port]
    #[arg(long, value_name = "ADDR")]
    backend: Option<ListenAddress>,
    /// Address of the dashboard, or "off" [default: 127.0.0.1:9090, or a free port]
    #[arg(long, value_name = "ADDR")]
    admin: Option<Switch<ListenAddress>>,
    /// Number of readers that follow each side, besides the pages that you open
    #[arg(long, value_name = "NUMBER", default_value_t = 5, value_parser = clap::value_parser!(u16).range(..=1000))]
    readers: u16,
    /// How often the demo edits the text on average, or "off"
    #[arg(long, value_name = "TIME", default_value = "10s")]
    edits: Switch<Period>,
    /// Stop after this long [default: at Ctrl-C]
    #[arg(long = "for", value_name = "TIME")]
    time: Option<Period>,
}

/// The drain time, short because a user waits for the demo to end.
const DRAIN: Duration = Duration::from_secs(1);

/// One side, as shown by the board.
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

/// Runs until Ctrl-C, or for the given time.
pub(super) fn demo(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let code = runtime.block_on(show(args))?;
    // Remaining tasks have had their time.
    runtime.shutdown_background();
    Ok(code)
}

async fn show(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let began = clock::now();
    let page = bind(args.page, usual(8070), "--page").await?;
    let backend = bind(args.backend, usual(8000), "--backend").await?;
    let polled = backend.local_addr().context("the wiki has no address")?;
    let config = match configure(polled, args) {
        Ok(config) => config,
        Err(found) => return Ok(usage(&found.to_string())),
    };
    let server = start(config, args)?;
    let pushed = server.listen().first().copied().context("the sidecar has no address")?;
    let viewer = page.local_addr().context("the page has no address")?;
    let links = Links { viewer, polled, pushed, admin: server.admin() };
    let cast = Cast { readers: usize::from(args.readers), edits: edits(args) };
    say(&board::introduction(&links, &cast));
    // Dropping this set ends all tasks.
    let mut going = JoinSet::new();
    let sides = perform(&mut going, (page, backend), links, cast, began);
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
            board.show(&board::rows(&sides, began, now));
        }
    };
    tokio::select! {
        () = live => {}
        () = time_is_up => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    board.show(&board::rows(&sides, began, clock::now()));
    tokio::select! {
        () = server.stop() => {}
        // A second signal stops the demo at once.
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Starts the wiki, its page, the readers and the edits. Returns the measurements of both sides.
fn perform(
    going: &mut JoinSet<()>,
    (page, backend): (TcpListener, TcpListener),
    links: Links,
    cast: Cast,
    began: Instant,
) -> [Side; 2] {
    let wiki = Arc::new(Wiki::new(began));
    going.spawn(wiki::serve(backend, Arc::clone(&wiki)));
    let languages = watch::Sender::new(None);
    let spoken = languages.subscribe();
    let (polled, pushed) = (links.polled, links.pushed);
    if let Some(period) = cast.edits {
        going.spawn(edit(Arc::clone(&wiki), period));
    }
    let readers = cast.readers;
    going.spawn(viewer::serve(page, Arc::new(Viewer { wiki: Arc::clone(&wiki), links, cast, languages })));
    [(Way::Polled, polled), (Way::Pushed, pushed)].map(|(way, address)| {
        let side = Side { way, wiki: Arc::clone(&wiki), delays: Arc::default() };
        for number in 0..readers {
            let (wiki, delays) = (Arc::clone(&side.wiki), Arc::clone(&side.delays));
            let reader = Reader { address, way, number, wiki, delays, languages: spoken.clone() };
            // Readers do not all open the page at once.
            let pause = INTERVAL.mul_f64(number as f64 / readers as f64);
            going.spawn(reader.run(pause));
        }
        side
    })
}

fn edits(args: &DemoArgs) -> Option<Duration> {
    match args.edits {
        Switch::Off => None,
        Switch::On(period) => Some(period.0.max(Duration::from_millis(100))),
    }
}

/// The notes that the demo writes into the wiki, in turn.
const NOTES: &[&str] = &[
    "The tea is ready.",
    "Printer on floor 2: out of paper again.",
    "The build is green.",
    "Lunch is at one today.",
    "Who has the key to room 101?",
    "The ferry leaves ten minutes late.",
    "Backup finished.",
    "The printer has paper now.",
    "There is cake in the kitchen.",
    "The build is red.",
];

/// Writes a line into the wiki at random times, every `period` on average. The sidecar is not notified.
async fn edit(wiki: Arc<Wiki>, period: Duration) {
    let mut random = fastrand::Rng::with_seed(clock::seed());
    for note in NOTES.iter().cycle() {
        sleep(period.mul_f64(0.5 + random.f64())).await;
        wiki.save(wiki.with_note(note).into(), Way::Polled, clock::now());
    }
}

/// Returns the usual address for a port, which is used unless it is configured otherwise or taken.
fn usual(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

async fn bind(asked: Option<ListenAddress>, usual: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    let address = asked.map_or(usual, |asked| asked.0);
    match TcpListener::bind(address).await {
        Err(_) if asked.is_none() => TcpListener::bind(ANY).await.context("cannot listen on a free port"),
        bound => bound.with_context(|| format!("cannot listen on {address} ({flag} chooses another address)")),
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
    let mut config = config::parse("the demo", "", &overrides)?;
    config.server.drain = DRAIN;
    Ok(config)
}

/// Starts the sidecar; if a usual port is taken, on a free one.
fn start(mut config: Config, args: &DemoArgs) -> Result<Server, StartError> {
    loop {
        match Server::start(config.clone(), &ConfigSource::default(), Inherited::default()) {
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
