//! Watches files whose change triggers a fetch.
//!
//! ```text
//! inotify ─▶ hint ─┐
//! every 2 s ───────┴▶ fingerprint all matching files ─▶ other than before? ─▶ WatchedFiles::changed
//! ```
//!
//! An event is only a hint: only a different fingerprint counts as a change. This rule covers files that are rewritten,
//! replaced by rename, appended to or created later, SQLite's journals, and the symlink swaps of Kubernetes. Where the
//! system sends no events (NFS, some container mounts), the rescan finds the change and logs that once.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use globset::{Glob, GlobMatcher};
use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, warn};

use crate::clock;

/// The callback for changed files.
type Changed = Arc<dyn Fn() + Send + Sync>;

/// Files and the callback for their changes.
pub struct WatchedFiles {
    /// Files or globs.
    pub globs: Vec<Glob>,
    /// Called after each change, from a task.
    pub changed: Arc<dyn Fn() + Send + Sync>,
}

/// A change often causes several events, which are gathered for this time.
const DEBOUNCE: Duration = Duration::from_millis(10);

/// The interval of scans without a hint.
const RESCAN_INTERVAL: Duration = Duration::from_secs(2);

/// The maximum number of files that are scanned, in order.
const MAX_FILES: usize = 10_000;

/// The maximum number of directories below a pattern's fixed part that are scanned.
const MAX_FOLDERS: usize = 1_000;

/// The suffixes of SQLite's journals beside a database.
const JOURNALS: [&str; 2] = ["-wal", "-journal"];

/// Watches files.
pub struct FileWatch {
    watched: Vec<Files>,
    hint: Arc<Notify>,
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
    told_silent: bool,
    stands: bool,
}

struct Files {
    patterns: Vec<(PathBuf, GlobMatcher)>,
    changed: Changed,
    known: Fingerprint,
}

/// The metadata of each file that identifies its content.
type Fingerprint = BTreeMap<PathBuf, (u64, u64, i64, i64)>;

impl FileWatch {
    /// Prepares to watch; returns `None` if there is nothing to watch.
    pub fn new(watched: Vec<WatchedFiles>) -> Option<Self> {
        let watched: Vec<Files> = watched
            .into_iter()
            .filter(|watched| !watched.globs.is_empty())
            .map(|watched| Files {
                patterns: watched.globs.iter().map(|glob| (fixed_part(glob.glob()), glob.compile_matcher())).collect(),
                changed: watched.changed,
                known: Fingerprint::new(),
            })
            .collect();
        if watched.is_empty() {
            return None;
        }
        let hint = Arc::new(Notify::new());
        let watcher = notify::recommended_watcher({
            let hint = Arc::clone(&hint);
            // After an error, hints may have been lost.
            move |event: notify::Result<Event>| {
                if event.is_ok_and(|event| !may_be_a_change(event.kind)) {
                    return;
                }
                hint.notify_one();
            }
        });
        let watcher =
            watcher.inspect_err(|error| warn!("files are scanned every {RESCAN_INTERVAL:?} only: {error}")).ok();
        Some(Self { watched, hint, watcher, folders: BTreeSet::new(), told_silent: false, stands: false })
    }

    /// Records the current state of the files; [`FileWatch::run`] reports later changes.
    pub async fn take_baseline(self) -> Option<Self> {
        let (this, _) = tokio::task::spawn_blocking(move || self.scan()).await.ok()?;
        Some(Self { stands: true, ..this })
    }

    /// Watches as long as it is polled. Files are scanned on a blocking thread.
    pub async fn run(mut self) {
        let mut hinted_at: Option<Instant> = None;
        if !self.stands {
            let Some(this) = self.take_baseline().await else { return };
            self = this;
        }
        loop {
            if timeout(RESCAN_INTERVAL, self.hint.notified()).await.is_ok() {
                hinted_at = Some(clock::now());
                // The exact time does not matter, because a later event is another hint.
                sleep(DEBOUNCE).await;
            }
            let Ok((this, changed)) = tokio::task::spawn_blocking(move || self.scan()).await else { return };
            self = this;
            let announced =
                hinted_at.is_some_and(|hinted| clock::now().saturating_duration_since(hinted) < RESCAN_INTERVAL);
            for (tell, folder) in changed {
                debug!(folder = %folder.display(), "a watched file changed");
                tell();
                if !announced && self.watcher.is_some() && !self.told_silent {
                    self.told_silent = true;
                    warn!(folder = %folder.display(), "the system does not announce changes here: files are scanned every {RESCAN_INTERVAL:?}");
                }
            }
        }
    }

    /// Scans all files. Returns the callbacks of changed files.
    fn scan(mut self) -> (Self, Vec<(Changed, PathBuf)>) {
        let mut changed = Vec::new();
        let mut folders = BTreeSet::new();
        for files in &mut self.watched {
            let mut now = Fingerprint::new();
            for (base, matcher) in &files.patterns {
                let mut walk = Walk { matcher, found: &mut now, folders: &mut folders, entered: 0 };
                walk.enter(base);
            }
            if now != files.known {
                let folder = files.patterns.first().map(|(base, _)| base.clone()).unwrap_or_default();
                changed.push((Arc::clone(&files.changed), folder));
                files.known = now;
            }
        }
        self.follow(folders);
        (self, changed)
    }

    /// Subscribes to system events in exactly `folders`.
    fn follow(&mut self, folders: BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        for gone in self.folders.difference(&folders) {
            // The folder may have been removed, and then is not watched anyway.
            let _ = watcher.unwatch(gone);
        }
        let mut followed = BTreeSet::new();
        for folder in folders {
            if self.folders.contains(&folder) || watcher.watch(&folder, RecursiveMode::NonRecursive).is_ok() {
                followed.insert(folder);
            }
        }
        self.folders = followed;
    }
}

/// The walk over the files of one pattern.
struct Walk<'a> {
    matcher: &'a GlobMatcher,
    found: &'a mut Fingerprint,
    folders: &'a mut BTreeSet<PathBuf>,
    entered: usize,
}

impl Walk<'_> {
    fn enter(&mut self, path: &Path) {
        self.announce(path);
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => self.folder(path),
            Ok(metadata) => self.file(path, &metadata),
            Err(_) => {}
        }
        for journal in JOURNALS {
            let mut beside = path.as_os_str().to_owned();
            beside.push(journal);
            if let Ok(metadata) = fs::metadata(&beside) {
                self.record(PathBuf::from(beside), &metadata);
            }
        }
    }

    fn folder(&mut self, path: &Path) {
        self.entered += 1;
        if self.entered > MAX_FOLDERS {
            return;
        }
        self.folders.insert(path.to_owned());
        let Ok(entries) = fs::read_dir(path) else { return };
        let mut entries: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        entries.sort();
        for entry in entries {
            if self.found.len() >= MAX_FILES {
                return;
            }
            match fs::metadata(&entry) {
                // A link to a parent folder would cause an endless walk.
                Ok(metadata) if metadata.is_dir() && !entry.is_symlink() => self.folder(&entry),
                Ok(metadata) if metadata.is_file() => self.file(&entry, &metadata),
                _ => {}
            }
        }
    }

    fn file(&mut self, path: &Path, metadata: &fs::Metadata) {
        let text = path.to_string_lossy();
        let journal = JOURNALS.iter().find_map(|suffix| text.strip_suffix(suffix));
        if self.matcher.is_match(path) || journal.is_some_and(|database| self.matcher.is_match(database)) {
            self.record(path.to_owned(), metadata);
            if let Ok(real) = fs::canonicalize(path)
                && real != path
            {
                self.announce(&real);
            }
        }
    }

    fn record(&mut self, path: PathBuf, metadata: &fs::Metadata) {
        self.found.insert(path, (metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec()));
    }

    /// Subscribes to changes of `path` itself through its folder, or the nearest existing ancestor.
    fn announce(&mut self, path: &Path) {
        if let Some(folder) = path.ancestors().skip(1).find(|folder| folder.is_dir()) {
            self.folders.insert(folder.to_owned());
        }
    }
}

/// Returns whether an event may be a change rather than a read. Our own scans read the files and would cause events
/// forever.
fn may_be_a_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

/// Returns the path before a pattern's first special character, up to a complete segment.
fn fixed_part(glob: &str) -> PathBuf {
    let special =
        |component: &Component<'_>| component.as_os_str().to_string_lossy().contains(['*', '?', '[', '{', '\\']);
    Path::new(glob).components().take_while(|component| !special(component)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn to_fetch_is_no_reason_to_fetch_again() {
        let folder = std::env::temp_dir().join(format!("sungrazer-looks-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let file = folder.join("state");
        fs::write(&file, "1").expect("written");
        let (told, tells) = channel();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let _ = told.send(event.expect("an event").kind);
        })
        .expect("a watcher");
        watcher.watch(&folder, RecursiveMode::NonRecursive).expect("watched");
        fs::read_dir(&folder).expect("a folder").for_each(drop);
        fs::read(&file).expect("read");
        fs::write(&file, "2").expect("written");
        let mut kinds = Vec::new();
        while kinds.last() != Some(&EventKind::Access(AccessKind::Close(AccessMode::Write))) {
            kinds.push(tells.recv_timeout(Duration::from_secs(10)).expect("an event"));
        }
        let news = kinds.iter().position(|kind| may_be_a_change(*kind)).expect("news");
        assert!(news > 0 && kinds[..news].iter().all(EventKind::is_access), "{kinds:?}");
        assert!(matches!(kinds[news], EventKind::Modify(_)), "{kinds:?}");
        fs::remove_dir_all(&folder).expect("removed");
    }
}
