//! Telemetry for operators: log lines, metrics, the access log, and traces.

mod access;
mod avoided_polls;
mod event_log;
mod failing;
mod latency;
mod log;
mod metrics;
mod plain;
mod process;
mod requests;
mod route;
#[cfg(feature = "otel")]
mod spans;
mod throttle;
mod trace;

pub use access::{AccessGuard, AccessLog, AccessLogTarget, Export, ParseAccessLogError, Record};
pub use event_log::Event;
pub use failing::Failing;
pub use log::{FilterError, Format, brief, init};
pub use metrics::{ALL as ALL_METRICS, Metrics};
pub use plain::plain as plain_metrics;
pub use route::{HeldGuard, RouteMetrics, RouteStats};
#[cfg(feature = "otel")]
pub use spans::{Resource as SpanResource, encode as encode_spans};
pub use trace::Trace;
