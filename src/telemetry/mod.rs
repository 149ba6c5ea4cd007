//! What operators see: log lines, metrics, and what was asked.

mod access;
mod delays;
mod log;
mod metrics;
mod replaced;
#[cfg(feature = "otel")]
mod spans;
mod tail;
mod trace;

pub use access::{AccessLog, AccessLogTo, Export, ParseAccessLogError, Record, Visit};
pub use log::{FilterError, Format, init};
pub use metrics::{ALL as ALL_METRICS, Figures, Held, Metrics, RouteMetrics, plain as plain_metrics};
#[cfg(feature = "otel")]
pub use spans::{Resource as SpanResource, encode as encode_spans};
pub use tail::Happening;
pub use trace::Trace;
