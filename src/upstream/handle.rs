//! The configured applications, and the choice of the one that a request is for.
//!
//! ```text
//! the path of a request or a fetch ─▶ UpstreamHandle::at ─▶ Application ─▶ Replicas, FetchLimiter, Effort
//! ```
//!
//! The path alone decides, so a resource always belongs to one application: its key contains its path.

use std::ops::Deref;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;

use super::{Replicas, ReplicasOptions};
use crate::model::HeaderEdits;
use crate::poll::{BudgetOptions, Effort, FetchLimiter, FetchRequest, Fetcher, ScheduleOptions, WatchConfig};
use crate::resource::FetchOutcome;
use crate::route::{ByPath, Pattern};

/// The settings of one application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplicationOptions {
    /// Its replicas.
    pub replicas: ReplicasOptions,
    /// The limits on fetches from it.
    pub budget: BudgetOptions,
    /// The effort of fetches from it.
    pub effort: Effort,
}

/// The settings of all applications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplicationsOptions {
    /// The application for all paths that no other one is for.
    pub general: ApplicationOptions,
    /// The applications for some paths.
    pub special: Vec<(Pattern, ApplicationOptions)>,
}

/// One application, and the limits on fetches from it.
#[derive(Debug)]
pub struct Application {
    /// The pattern of its paths as written; empty for the general one.
    name: Arc<str>,
    replicas: Arc<Replicas>,
    limiter: Arc<FetchLimiter>,
    effort: Effort,
}

/// All applications.
pub type Applications = ByPath<Arc<Application>>;

/// Holds the applications and allows replacing them. Requests that began with the previous ones finish with them.
#[derive(Debug)]
pub struct UpstreamHandle(ArcSwap<Applications>);

impl ApplicationsOptions {
    /// Returns the settings of all applications, the general one first.
    pub fn iter(&self) -> impl Iterator<Item = &ApplicationOptions> {
        std::iter::once(&self.general).chain(self.special.iter().map(|(_, options)| options))
    }

    /// The same for changes.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut ApplicationOptions> {
        std::iter::once(&mut self.general).chain(self.special.iter_mut().map(|(_, options)| options))
    }
}

impl Application {
    /// Creates the application called `name`. What is unchanged is kept from the one `before`: connections, health, and
    /// the limiter, so that a reload does not admit more fetches than the limits allow.
    fn new(name: Arc<str>, options: &ApplicationOptions, before: Option<&Self>) -> Self {
        let replicas = match before.filter(|before| *before.replicas.options() == options.replicas) {
            Some(before) => Arc::clone(&before.replicas),
            None => Arc::new(Replicas::new(options.replicas.clone())),
        };
        let limiter = match before {
            Some(before) => {
                before.limiter.set_options(options.budget);
                Arc::clone(&before.limiter)
            }
            None => FetchLimiter::new(options.budget),
        };
        Self { name, replicas, limiter, effort: options.effort }
    }

    /// Returns the pattern of its paths as written; empty for the general one.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Returns the limiter of fetches from it.
    pub fn limiter(&self) -> &Arc<FetchLimiter> {
        &self.limiter
    }

    /// Returns the changes to the headers of its responses.
    pub fn response_headers(&self) -> &HeaderEdits {
        const NONE: &HeaderEdits = &HeaderEdits::NONE;
        self.replicas.options().replicas.first().map_or(NONE, |replica| &replica.response_headers)
    }

    /// Returns `config` with the effort of this application in place of the general one's.
    pub fn paced(&self, config: &Arc<WatchConfig>) -> Arc<WatchConfig> {
        if config.schedule.effort.is_none_or(|effort| effort == self.effort) {
            return Arc::clone(config);
        }
        let schedule = ScheduleOptions { effort: Some(self.effort), ..config.schedule };
        Arc::new(WatchConfig { schedule, ..WatchConfig::clone(config) })
    }
}

impl Deref for Application {
    type Target = Replicas;

    fn deref(&self) -> &Replicas {
        &self.replicas
    }
}

fn applications(options: &ApplicationsOptions, before: Option<&Applications>) -> Applications {
    let known = |name: &str| before?.values().find(|known| &*known.name == name).map(|known| &**known);
    let create = |name: &str, options| Arc::new(Application::new(name.into(), options, known(name)));
    let special = options.special.iter().map(|(pattern, options)| (pattern.clone(), create(pattern.as_str(), options)));
    ByPath::new(create("", &options.general), special.collect())
}

impl UpstreamHandle {
    /// Creates a handle to applications without connections. Must be called within a runtime, where the health checks
    /// run.
    pub fn new(options: &ApplicationsOptions) -> Self {
        Self(ArcSwap::from_pointee(applications(options, None)))
    }

    /// Returns all applications.
    pub fn load(&self) -> Arc<Applications> {
        self.0.load_full()
    }

    /// Returns the application that a request of `path` is for.
    pub fn at(&self, path: &str) -> Arc<Application> {
        Arc::clone(self.0.load().at(path))
    }

    /// Replaces the applications. Must be called within a runtime.
    pub fn replace(&self, options: &ApplicationsOptions) {
        let new = applications(options, Some(&self.load()));
        self.0.store(Arc::new(new));
    }
}

#[async_trait]
impl Fetcher for UpstreamHandle {
    async fn fetch(&self, request: &FetchRequest<'_>) -> FetchOutcome {
        self.at(request.key.path()).fetch_pinned(request).await
    }
}
