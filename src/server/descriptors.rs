//! The budget of file descriptors: the process limit and its division.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use crate::config::Config;
use crate::deliver::StreamsOptions;

/// The maximum number of descriptors to request.
const MIN_DESCRIPTORS: u64 = 1 << 20;

/// Descriptors for listeners, logs, the configuration, the runtime, and operators.
const OWN_DESCRIPTORS: u64 = 128;

/// The division of file descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FdBudget {
    /// The limit of the process.
    limit: u64,
    /// The maximum number of held clients.
    streams: usize,
    /// The maximum number of client connections.
    pub(super) connections: usize,
    /// The maximum number of connections of operators and metrics collectors.
    pub(super) operators: usize,
    /// The maximum number of concurrent clients that are redirected to TLS.
    pub(super) redirects: usize,
}

impl FdBudget {
    /// Raises the limit as far as possible without privileges, and divides it.
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

    /// Divides `limit` descriptors. A part is reserved for the process itself and for fetches. Most of the rest is for
    /// client connections, most of which may be held; the remainder is for upstream connections of proxied requests.
    fn split(limit: u64, config: &Config) -> Self {
        let upstream: usize = config
            .upstream
            .iter()
            .map(|application| {
                let pools = application.replicas.replicas.iter().map(|replica| replica.keepalive);
                application.budget.max_fetches + pools.sum::<usize>()
            })
            .sum();
        let own = OWN_DESCRIPTORS + upstream as u64;
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

    /// Limits `options` to the available descriptors.
    pub(super) fn clamp(&self, options: StreamsOptions) -> StreamsOptions {
        StreamsOptions { max_streams: options.max_streams.min(self.streams), ..options }
    }

    /// Returns a warning with a remedy if `max_streams` exceeds the available descriptors.
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
