//! What operators see: log lines and metrics.

mod log;
mod metrics;

pub use log::{Format, init};
pub use metrics::{Held, Metrics, RouteMetrics};
