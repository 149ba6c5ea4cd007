//! Request fields that tracing agents, load balancers and CDNs use to follow a request.
//!
//! Their values change with each request or hop and do not identify the client. If they were part of an identity, no
//! two requests would share one. A name is listed only if no application uses its value as a credential. Fields that
//! carry an address, a user or a certificate are never listed, however often they change.

/// Sorted.
const NAMES: [&str; 72] = [
    "adrum",
    "adrum_0",
    "adrum_1",
    "akamai-origin-hop",
    "amz-sdk-invocation-id",
    "amz-sdk-request",
    "b3",
    "baggage",
    "cdn-loop",
    "cf-ew-via",
    "cf-ray",
    "cf-request-id",
    "connect-time",
    "correlation-context",
    "correlation-id",
    "downlink",
    "ect",
    "elastic-apm-traceparent",
    "fastly-ff",
    "fly-request-id",
    "fly-traceparent",
    "fly-tracestate",
    "function-execution-id",
    "grpc-trace-bin",
    "jaeger-debug-id",
    "newrelic",
    "ot-span-context",
    "request-id",
    "rndr-id",
    "rtt",
    "sentry-trace",
    "singularityheader",
    "span-id",
    "sw3",
    "sw6",
    "sw8",
    "sw8-correlation",
    "sw8-x",
    "total-route-time",
    "trace-id",
    "traceid",
    "traceparent",
    "tracestate",
    "uber-trace-id",
    "x-amz-cf-id",
    "x-amz-request-id",
    "x-amzn-requestid",
    "x-amzn-trace-id",
    "x-appengine-request-log-id",
    "x-arr-log-id",
    "x-azure-ref",
    "x-azure-requestchain",
    "x-b3",
    "x-cloud-trace-context",
    "x-correlationid",
    "x-dynatrace",
    "x-envoy-attempt-count",
    "x-envoy-expected-rq-timeout-ms",
    "x-github-request-id",
    "x-honeycomb-trace",
    "x-ms-request-root-id",
    "x-newrelic-id",
    "x-nf-trace-id",
    "x-ot-span-context",
    "x-parent-span-id",
    "x-queue-start",
    "x-request-start",
    "x-requestid",
    "x-span-id",
    "x-timer",
    "x-varnish",
    "x-vercel-id",
];

/// Prefixes of whole families of names.
const FAMILIES: [&str; 12] = [
    "eagleeye-",
    "elastic-apm-",
    "ot-tracer-",
    "pinpoint-",
    "x-b3-",
    "x-datadog-",
    "x-dtpc",
    "x-instana-",
    "x-newrelic-",
    "x-ruxit-",
    "x-splunk-trace",
    "x-tingyun",
];

/// Suffixes of names that identify one request.
const ENDINGS: [&str; 5] = ["-request-id", "-correlation-id", "-trace-id", "-traceid", "-span-id"];

/// Returns whether a field of this name is for tracing.
pub(super) fn is_tracing(name: &str) -> bool {
    NAMES.binary_search(&name).is_ok()
        || FAMILIES.iter().any(|family| name.starts_with(family))
        || ENDINGS.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_requests_is_told_from_what_tells_clients_apart() {
        assert!(NAMES.is_sorted());
        for name in [
            "sentry-trace",
            "newrelic",
            "x-datadog-parent-id",
            "request-id",
            "x-ms-client-request-id",
            "x-b3-traceid",
            "uber-trace-id",
            "x-cloud-trace-context",
            "cf-ray",
            "x-amz-cf-id",
            "x-request-start",
            "fly-request-id",
            "x-kong-request-id",
            "x-vercel-id",
            "x-azure-ref",
        ] {
            assert!(is_tracing(name), "{name}");
        }
        for name in [
            "x-api-key",
            "x-tenant",
            "x-session-id",
            "x-device-id",
            "x-user-id",
            "x-transaction",
            "cf-access-jwt-assertion",
            "cf-connecting-ip",
            "x-envoy-external-address",
            "x-appengine-user-email",
            "fly-client-ip",
            "x-trace",
            "x-request-idp",
            "true-client-ip",
        ] {
            assert!(!is_tracing(name), "{name}");
        }
    }
}
