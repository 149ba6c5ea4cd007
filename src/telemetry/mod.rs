//! What operators see: log lines and metrics.

mod delays;
mod log;
mod metrics;
mod replaced;
mod tail;

pub use log::{Format, init};
pub use metrics::{Figures, Held, Metrics, RouteMetrics};
pub use tail::Happening;
