//! Request fields by which tracing agents, load balancers and networks for delivery follow a request on its way.
//!
//! Their values are new with each request, or with each hop, and say nothing of whoever asks: were they part of an identity, no two
//! requests would have the same. A name is listed only if no application takes what it holds for somebody's credentials; whatever
//! tells an address, a user, or a certificate is none of them, however often it changes.

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

/// How the names of whole families begin.
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

/// How names end that say which of all requests this is.
const ENDINGS: [&str; 5] = ["-request-id", "-correlation-id", "-trace-id", "-traceid", "-span-id"];

/// Whether a field of this name follows requests on their way.
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
