//! What operators see: log lines, metrics, and what was asked.

mod access;
mod delays;
mod failing;
mod log;
mod metrics;
mod plain;
mod process;
mod replaced;
mod requests;
mod route;
#[cfg(feature = "otel")]
mod spans;
mod tail;
mod throttle;
mod trace;

pub use access::{AccessLog, AccessLogTo, Export, ParseAccessLogError, Record, Visit};
pub use failing::Failing;
pub use log::{FilterError, Format, brief, init};
pub use metrics::{ALL as ALL_METRICS, Metrics};
pub use plain::plain as plain_metrics;
pub use route::{Figures, Held, RouteMetrics};
#[cfg(feature = "otel")]
pub use spans::{Resource as SpanResource, encode as encode_spans};
pub use tail::Happening;
pub use trace::Trace;
