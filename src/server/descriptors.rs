//! File descriptors: how many this process may have, and how many of them are for whom.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use crate::config::Config;
use crate::deliver::StreamsOptions;

/// No more are asked for, whatever the system would give.
const MIN_DESCRIPTORS: u64 = 1 << 20;

/// Listeners, logs, the configuration, what the runtime has, and operators.
const OWN_DESCRIPTORS: u64 = 128;

/// Who may have how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FdBudget {
    /// Of the process.
    limit: u64,
    /// Clients that are held.
    streams: usize,
    /// Connections of clients.
    pub(super) connections: usize,
    /// Connections of operators and of those who collect metrics.
    pub(super) operators: usize,
    /// Clients that are told at a time to speak TLS.
    pub(super) redirects: usize,
}

impl FdBudget {
    /// Takes as many descriptors as the system gives without being asked for a privilege, and shares them out.
    pub(super) fn acquire(config: &Config) -> Self {
        let mut limit = getrlimit(Resource::Nofile);
        let wanted = limit.maximum.unwrap_or(MIN_DESCRIPTORS).min(MIN_DESCRIPTORS);
        if limit.current.is_some_and(|current| current < wanted) {
            let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
            if setrlimit(Resource::Nofile, raised).is_ok() {
                limit = raised;
            }
        }
        let allowance = Self::split(limit.current.unwrap_or(MIN_DESCRIPTORS), config);
        if let Some(complaint) = allowance.warning(config.streams.max_streams) {
            warn!("{complaint}");
        }
        allowance
    }

    /// Of `limit` descriptors, a part is kept for ourselves and for fetches. Most of the rest are for clients that connect, and
    /// most of these may be held; what is left is for the connections by which their requests are proxied.
    fn split(limit: u64, config: &Config) -> Self {
        let pools: usize = config.upstream.replicas.iter().map(|replica| replica.keepalive).sum();
        let own = OWN_DESCRIPTORS + (config.budget.max_fetches + pools) as u64;
        let rest = limit - own.min(limit / 4);
        let part = |of: u64| usize::try_from(of).unwrap_or(usize::MAX).max(1);
        Self {
            limit,
            streams: part(rest / 4 * 3),
            connections: part(rest / 8 * 7),
            operators: part(limit / 16).min(256),
            redirects: part(rest / 32).min(1024),
        }
    }

    /// `options`, no further than there are descriptors.
    pub(super) fn clamp(&self, options: StreamsOptions) -> StreamsOptions {
        StreamsOptions { max_streams: options.max_streams.min(self.streams), ..options }
    }

    /// What is wrong if so many are to be held, and what to do about it.
    fn warning(&self, max_streams: usize) -> Option<String> {
        let Self { limit, streams, .. } = self;
        if max_streams <= *streams {
            return None;
        }
        let needed = (max_streams as u64 * 2).next_multiple_of(1024);
        Some(format!(
            "max_streams is {max_streams}, but this process may open only {limit} files: no more than {streams} clients are \
             held. Allow it more (ulimit -n {needed}; LimitNOFILE={needed} in a unit of systemd; --ulimit \
             nofile={needed}:{needed} for a container), or write max_streams = {streams} under [server]"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, parse};

    #[test]
    fn there_is_room_for_fetches_however_few_there_are() {
        let config = parse("test", "[upstream]\nurl = \"http://a\"\n", &Overrides::default()).expect("a configuration");
        for limit in [64, 200, 1024, 4096, 65_536, MIN_DESCRIPTORS] {
            let FdBudget { streams, connections, redirects, .. } = FdBudget::split(limit, &config);
            assert!(streams < connections && streams * 2 > limit as usize, "{limit}: {streams} of {connections}");
            assert!(connections + redirects + limit as usize / 16 < limit as usize, "{limit}: {connections}");
        }
        let allowance = FdBudget::split(1024, &config);
        let complaint = allowance.warning(10_000).expect("a complaint");
        assert!(complaint.contains("ulimit -n 20480") && complaint.contains("only 1024 files"), "{complaint}");
        let needed = FdBudget::split(20_480, &config);
        assert_eq!((needed.warning(10_000), needed.clamp(config.streams)), (None, config.streams));
    }
}
