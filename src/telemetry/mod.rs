//! What operators see: log lines and metrics.

mod delays;
mod log;
mod metrics;

pub use log::{Format, init};
pub use metrics::{Held, Metrics, RouteMetrics};
