//! A model of pages that poll a route with `hold`, under a paused clock.
//!
//! The model has any number of pages with identical requests; chained polling and intervals; validators of the page's
//! own, from a cache that pages share, or none; pages that come and go; changes at any time. In all combinations, a
//! poll of a page that lacks the newest state is answered at once, up to the small delay that distinguishes pages, and
//! a waiting poll is answered when the change happens. No page therefore learns of a change later than it would without
//! holding.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::*;
use crate::deliver::rhythm::window;
use crate::model::Digest;

const HOLD: Duration = Duration::from_secs(25);

/// The maximum delay of a response that serves to distinguish pages.
fn slack(rest: Duration) -> Duration {
    window(rest) * 4
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The validators that polls carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Validator {
    None,
    Own,
    /// The validator in the cache that all pages share.
    Cache,
}

/// The polling scheme of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A fixed time after each response.
    Chained,
    /// At a fixed interval, even if the previous poll was not answered.
    Interval,
    /// At a fixed interval, skipped while a poll is waiting.
    Skipping,
}

#[derive(Clone, Copy, Debug)]
struct Page {
    way: Way,
    rest: Duration,
    validator: Validator,
    created_at: Duration,
    dies: Duration,
}

struct World {
    habits: Arc<PollClients>,
    state: watch::Sender<u64>,
    cache: AtomicU64,
    /// The number of polls held for a second or longer.
    held: AtomicU64,
}

fn version(state: u64) -> Version {
    let digest = Digest::of(&state.to_le_bytes());
    Version { position: state + 1, content: digest, meaning: digest }
}

impl World {
    fn new() -> Arc<Self> {
        let state = watch::channel(0).0;
        Arc::new(Self { habits: Arc::default(), state, cache: AtomicU64::new(0), held: AtomicU64::new(0) })
    }

    /// Answers one poll like the proxy.
    async fn poll(&self, says: Option<u64>) -> u64 {
        let now = clock::now();
        let poll = self.habits.ask(None, &HeaderMap::new(), 1, now);
        let mut changes = self.state.subscribe();
        let newest = *changes.borrow_and_update();
        let longest = match poll.treatment() {
            Treatment::AtOnce | Treatment::Meet => Duration::ZERO,
            Treatment::Delay(longest) | Treatment::Hold(longest) => longest.min(HOLD),
        };
        let knows = says.is_none_or(|says| says == newest) && poll.known() == Some(version(newest));
        if longest > Duration::ZERO && knows {
            let notify = Arc::default();
            poll.waits(&notify);
            tokio::select! {
                biased;
                changed = changes.changed() => changed.expect("the world is still there"),
                () = notify.notified() => {}
                () = sleep(longest) => {}
            }
        }
        if clock::now() - now >= ms(1000) {
            self.held.fetch_add(1, Ordering::Relaxed);
        }
        let newest = *self.state.borrow();
        poll.answer(version(newest));
        newest
    }
}

/// The state that a page has seen, and its longest wait.
#[derive(Debug, Default)]
struct Seen {
    state: Option<u64>,
    asking: u32,
    /// The longest wait of a poll whose page did not have the newest state.
    kept: Duration,
}

async fn ask(world: &World, page: &Page, seen: &Mutex<Seen>) {
    let (began, before) = (clock::now(), seen.lock().unwrap().state);
    let lacks = before != Some(*world.state.borrow());
    seen.lock().unwrap().asking += 1;
    let says = match page.validator {
        Validator::None => None,
        Validator::Own => before,
        Validator::Cache => Some(world.cache.load(Ordering::Relaxed)),
    };
    let state = world.poll(says).await;
    world.cache.fetch_max(state, Ordering::Relaxed);
    let mut seen = seen.lock().unwrap();
    seen.asking -= 1;
    seen.state = seen.state.max(Some(state));
    if lacks {
        seen.kept = seen.kept.max(clock::now() - began);
    }
}

/// Simulates a page. Returns the longest time that one of its polls waited although the page lacked the newest state.
async fn live(world: Arc<World>, page: Page, seed: u64) -> Duration {
    let mut rng = fastrand::Rng::with_seed(seed);
    sleep(page.created_at).await;
    let (seen, end) = (Arc::<Mutex<Seen>>::default(), clock::now() + (page.dies - page.created_at));
    let mut asking = JoinSet::new();
    while clock::now() < end {
        if page.way == Way::Chained {
            tokio::select! {
                () = ask(&world, &page, &seen) => {}
                () = sleep_until(end) => break,
            }
        } else if page.way == Way::Interval || seen.lock().unwrap().asking == 0 {
            let (world, seen) = (Arc::clone(&world), Arc::clone(&seen));
            asking.spawn(async move { ask(&world, &page, &seen).await });
        }
        sleep(page.rest + ms(rng.u64(0..4))).await;
    }
    seen.lock().unwrap().kept
}

/// Simulates `pages` while the state changes at `changes`. Returns the world and the longest such wait of each page.
async fn run(pages: &[Page], mut changes: Vec<Duration>, seed: u64) -> (Arc<World>, Vec<Duration>) {
    let world = World::new();
    let start = clock::now();
    let lives: Vec<_> =
        (seed..).zip(pages).map(|(seed, page)| tokio::spawn(live(Arc::clone(&world), *page, seed))).collect();
    changes.sort_unstable();
    for at in changes {
        sleep_until(start + at).await;
        let was = clock::now();
        world.state.send_modify(|state| *state += 1);
        assert_eq!(was, clock::now());
    }
    let mut kept = Vec::new();
    for life in lives {
        kept.push(life.await.unwrap());
    }
    (world, kept)
}

fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// Generates pages; `mortal` pages may leave before the others.
fn pages(rng: &mut fastrand::Rng, mortal: bool) -> (Vec<Page>, Vec<Duration>) {
    let life = ms(240_000);
    // Many pages are of one kind, and began at regular distances or all at once.
    let rests: Vec<u64> = (0..rng.u64(1..4)).map(|_| rng.u64(4..200) * 50).collect();
    let step = [0, rng.u64(1..2000), rests[0] / 2, rests[0] / 4][rng.usize(0..4)];
    let ways: &[Way] = match rng.u32(0..3) {
        0 => &[Way::Chained],
        1 => &[Way::Interval, Way::Skipping],
        _ => &[Way::Chained, Way::Interval, Way::Skipping],
    };
    let pages = (0..rng.u64(1..12)).map(|number| Page {
        way: ways[rng.usize(0..ways.len())],
        rest: ms(rests[rng.usize(0..rests.len())]),
        validator: [Validator::None, Validator::Own, Validator::Cache][rng.usize(0..3)],
        created_at: if rng.bool() { ms(number * step) } else { ms(rng.u64(0..60_000)) },
        dies: if mortal && rng.bool() { ms(60_000) + ms(rng.u64(0..180_000)) } else { life },
    });
    let pages: Vec<Page> = pages.collect();
    let often = rng.u64(1..60);
    let changes = (0..rng.u64(0..often)).map(|_| ms(rng.u64(0..240_000))).collect();
    (pages, changes)
}

#[test]
fn no_page_is_kept_from_what_it_does_not_have_however_many_there_are() {
    let (mut held, mut alone) = (0, 0);
    for seed in 0..150 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (pages, changes) = pages(&mut rng, false);
        let (world, kept) = paused().block_on(run(&pages, changes, seed));
        for (page, kept) in pages.iter().zip(kept) {
            // The delay depends on the estimated rest of a page, so the maximum is that of the page with the longest
            // rest.
            let most = pages.iter().map(|page| slack(page.rest)).max().unwrap();
            assert!(kept <= most, "seed {seed}: {kept:?} of {page:?} among {pages:#?}");
        }
        if pages.len() == 1 && pages[0].way == Way::Chained && pages[0].rest >= ms(250) {
            alone += 1;
            held += u64::from(world.held.load(Ordering::Relaxed) > 0);
        }
    }
    assert!(alone > 5 && held == alone, "{held} of {alone} pages that polled alone were ever held");
}

/// Tests the undetectable case: the page whose poll was expected has gone, and another page polls at that very moment.
#[test]
fn pages_that_leave_keep_others_waiting_no_longer_than_they_would_have_been_held() {
    let mut late = 0;
    for seed in 0..150 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (pages, changes) = pages(&mut rng, true);
        let (_, kept) = paused().block_on(run(&pages, changes, seed));
        let most = pages.iter().map(|page| slack(page.rest)).max().unwrap();
        late += kept.iter().filter(|kept| **kept > most).count();
        assert!(kept.iter().all(|kept| *kept <= HOLD), "seed {seed}");
    }
    assert!(late <= 2, "{late} of some 900 pages");
}

/// Tests the usual dashboard: one page that polls some seconds after each response.
#[test]
fn a_page_that_polls_alone_hears_of_most_changes_at_once() {
    for rest in [1000, 3000, 5000] {
        let page = Page {
            way: Way::Chained,
            rest: ms(rest),
            validator: Validator::None,
            created_at: Duration::ZERO,
            dies: ms(1_200_000),
        };
        let world = World::new();
        let delays = paused().block_on(async {
            let life = tokio::spawn(live(Arc::clone(&world), page, 1));
            let mut rng = fastrand::Rng::with_seed(rest);
            let mut delays = Vec::new();
            sleep(ms(rest * 20)).await;
            for _ in 0..20 {
                sleep(ms(30_000 + rng.u64(0..20_000))).await;
                world.state.send_modify(|state| *state += 1);
                let (changed, newest) = (clock::now(), *world.state.borrow());
                while world.cache.load(Ordering::Relaxed) < newest {
                    sleep(ms(1)).await;
                }
                delays.push(clock::now() - changed);
            }
            life.abort();
            delays
        });
        let late = delays.iter().filter(|delay| **delay > ms(50)).count();
        assert!(late <= 8, "{late} of 20 changes were heard of late at rests of {rest} ms: {delays:?}");
        assert!(delays.iter().all(|delay| *delay <= ms(rest + 150)), "{delays:?}");
    }
}

#[test]
fn a_page_that_is_loaded_again_is_another() {
    paused().block_on(async {
        let world = World::new();
        for _ in 0..20 {
            world.poll(None).await;
            sleep(ms(1000)).await;
        }
        assert!(world.held.load(Ordering::Relaxed) > 0);
        world.habits.navigates(None, &HeaderMap::new());
        let began = clock::now();
        world.poll(None).await;
        assert_eq!(clock::now(), began);
    });
}
