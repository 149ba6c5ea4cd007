//! Configuration that makes streams work, by product.

/// A fault of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// Data is buffered.
    Buffering,
    /// Streams are compressed on the path.
    Compression,
    /// Idle connections are closed.
    Idle,
    /// Responses come from a cache.
    Caching,
    /// WebSockets do not work.
    WebSocket,
    /// Requests arrive as HTTP/1.0.
    OldHttp,
    /// Requests arrive with a different `Host`.
    Host,
}

impl Fault {
    /// Returns the purpose of the remedy in a few words.
    pub(super) fn purpose(self) -> &'static str {
        match self {
            Self::Buffering => "pass everything on at once",
            Self::Compression => "leave streams as they are",
            Self::Idle => "let connections be silent for longer",
            Self::Caching => "keep nothing below the prefix",
            Self::WebSocket => "pass WebSockets on",
            Self::OldHttp => "speak HTTP/1.1 to Sungrazer",
            Self::Host => "pass Host on",
        }
    }
}

/// The products with known configuration, in the order of output.
pub(super) const PRODUCTS: [&str; 8] =
    ["nginx", "Apache httpd", "HAProxy", "Caddy", "Traefik", "Envoy", "AWS ALB", "Cloudflare"];

/// Returns the configuration that repairs `fault` in `product`. `PREFIX` stands for Sungrazer's prefix, `SUNGRAZER` for
/// its address.
pub(super) fn lines(product: &str, fault: Fault) -> &'static [&'static str] {
    match product {
        "nginx" => nginx(fault),
        "Apache httpd" => apache(fault),
        "HAProxy" => haproxy(fault),
        "Caddy" => caddy(fault),
        "Traefik" => traefik(fault),
        "Envoy" => envoy(fault),
        "AWS ALB" => alb(fault),
        "Cloudflare" => cloudflare(fault),
        "Varnish" => varnish(fault),
        "Squid" => squid(fault),
        _ => &[],
    }
}

fn nginx(fault: Fault) -> &'static [&'static str] {
    match fault {
        Fault::Buffering => &[
            "proxy_buffering off;",
            "gzip off;                             # in location PREFIX/, if gzip_types has these types",
            "# and no: proxy_ignore_headers X-Accel-Buffering;",
        ],
        Fault::Compression => {
            &["gzip off;                             # in location PREFIX/; and brotli off; if that is there"]
        }
        Fault::Idle => &["proxy_read_timeout 1h;", "proxy_send_timeout 1h;", "send_timeout 1h;"],
        Fault::Caching => &[
            "proxy_cache off;                      # in location PREFIX/",
            "# and no: proxy_ignore_headers Cache-Control;",
        ],
        Fault::WebSocket => &[
            "map $http_upgrade $connection_upgrade { default upgrade; '' ''; }    # in http { }",
            "proxy_http_version 1.1;",
            "proxy_set_header Upgrade $http_upgrade;",
            "proxy_set_header Connection $connection_upgrade;",
        ],
        Fault::OldHttp => &["proxy_http_version 1.1;"],
        Fault::Host => &["proxy_set_header Host $host;"],
    }
}

fn apache(fault: Fault) -> &'static [&'static str] {
    match fault {
        Fault::Buffering => &[
            "ProxyPass / http://SUNGRAZER/ flushpackets=on",
            "SetEnvIf Request_URI \"^PREFIX/\" no-gzip dont-vary",
            "# and no SetOutputFilter BUFFER (mod_buffer)",
        ],
        Fault::Compression => &["SetEnvIf Request_URI \"^PREFIX/\" no-gzip no-brotli dont-vary"],
        Fault::Idle => &["ProxyTimeout 3600", "Timeout 3600"],
        Fault::Caching => &["CacheDisable PREFIX/"],
        Fault::WebSocket => &["ProxyPass / http://SUNGRAZER/ upgrade=websocket    # 2.4.47 or later"],
        Fault::OldHttp => &["# remove: SetEnv force-proxy-request-1.0 1"],
        Fault::Host => &["ProxyPreserveHost On"],
    }
}

fn haproxy(fault: Fault) -> &'static [&'static str] {
    match fault {
        Fault::Buffering => &[
            "option http-no-delay                  # or small pieces wait up to 200 ms for more",
            "# HAProxy keeps nothing back for longer: look for what else is on the way",
        ],
        Fault::Compression => {
            &["compression type text/html text/css application/javascript    # without the types of streams"]
        }
        Fault::Idle => &["timeout client 1h", "timeout server 1h", "timeout tunnel 1h"],
        Fault::Caching => &["http-request cache-use NAME unless { path_beg PREFIX/ }"],
        Fault::WebSocket => &["timeout tunnel 1h", "# and no: option httpclose, http-request del-header Upgrade"],
        Fault::OldHttp => &["# HAProxy speaks HTTP/1.1: look for what else is on the way"],
        Fault::Host => &["# remove: http-request set-header Host"],
    }
}

fn caddy(fault: Fault) -> &'static [&'static str] {
    match fault {
        Fault::Buffering => &["reverse_proxy SUNGRAZER {", "    flush_interval -1", "}", "# and no response_buffers"],
        Fault::Compression => &["@compressible not path PREFIX/*", "encode @compressible zstd gzip"],
        Fault::Idle => &[
            "reverse_proxy SUNGRAZER {",
            "    transport http {",
            "        response_header_timeout 1h",
            "        read_timeout 1h",
            "    }",
            "}",
            "# and in the global options: servers { timeouts { write 0 } }",
        ],
        Fault::Caching => &["@cached not path PREFIX/*    # and cache @cached"],
        Fault::WebSocket => &["# reverse_proxy passes WebSockets on: remove header_up -Upgrade or -Connection"],
        Fault::OldHttp => &["# remove: transport http { versions }"],
        Fault::Host => &["# remove: header_up Host"],
    }
}

fn traefik(fault: Fault) -> &'static [&'static str] {
    match fault {
        Fault::Buffering => &[
            "traefik.http.services.NAME.loadbalancer.responseforwarding.flushinterval=-1ms",
            "# and no buffering middleware on the router",
        ],
        Fault::Compression => {
            &["traefik.http.middlewares.NAME.compress.excludedcontenttypes=text/event-stream,application/x-ndjson"]
        }
        Fault::Idle => &[
            "--entrypoints.NAME.transport.respondingtimeouts.writetimeout=0",
            "--entrypoints.NAME.transport.respondingtimeouts.idletimeout=1h",
            "--serverstransport.forwardingtimeouts.responseheadertimeout=0",
        ],
        Fault::Caching => &["# Traefik has no cache: look for a plugin on the router"],
        Fault::WebSocket => &["# Traefik passes WebSockets on: remove customRequestHeaders for Upgrade and Connection"],
        Fault::OldHttp => &["# Traefik speaks HTTP/1.1: look for what else is on the way"],
        Fault::Host => &["traefik.http.services.NAME.loadbalancer.passhostheader=true"],
    }
}

fn envoy(fault: Fault) -> &'static [&'static str] {
    match fault {
        Fault::Buffering => {
            &["# remove filters that read whole responses (lua, ext_proc with BUFFERED, grpc_json_transcoder)"]
        }
        Fault::Compression => &[
            "# in the compressor filter:",
            "response_direction_config: { common_config: { content_type: [text/html, text/css, application/javascript] } }",
        ],
        Fault::Idle => &[
            "route: { timeout: 0s, idle_timeout: 0s }                # of the route",
            "stream_idle_timeout: 0s                                 # of the HttpConnectionManager",
        ],
        Fault::Caching => &["# take the route of PREFIX/ out of the cache filter: typed_per_filter_config"],
        Fault::WebSocket => &["upgrade_configs: [{ upgrade_type: websocket }]"],
        Fault::OldHttp => &["# Envoy speaks HTTP/1.1: look for what else is on the way"],
        Fault::Host => &["# remove: host_rewrite_literal, auto_host_rewrite"],
    }
}

fn alb(fault: Fault) -> &'static [&'static str] {
    match fault {
        Fault::Buffering => &["# targets of the types instance or ip: those of the type lambda are buffered whole"],
        Fault::Compression => &["# an ALB compresses nothing: look for what else is on the way"],
        Fault::Idle => &[
            "aws elbv2 modify-load-balancer-attributes --load-balancer-arn ARN \\",
            "    --attributes Key=idle_timeout.timeout_seconds,Value=3600",
        ],
        Fault::Caching => {
            &["# an ALB has no cache: CloudFront in front of it needs the policy CachingDisabled for PREFIX/*"]
        }
        Fault::WebSocket => &["# an ALB passes WebSockets on; a target group of protocol version HTTP1 is needed"],
        Fault::OldHttp => &["aws elbv2 create-target-group --protocol HTTP --protocol-version HTTP1 …"],
        Fault::Host => &[
            "aws elbv2 modify-load-balancer-attributes --load-balancer-arn ARN \\",
            "    --attributes Key=routing.http.preserve_host_header.enabled,Value=true",
        ],
    }
}

fn cloudflare(fault: Fault) -> &'static [&'static str] {
    match fault {
        Fault::Buffering => &[
            "Cache Rules: starts_with(http.request.uri.path, \"PREFIX/\") -> Bypass cache",
            "Configuration Rules, the same expression -> Response Body Buffering: none; Rocket Loader and Auto Minify off",
        ],
        Fault::Compression => {
            &["Compression Rules: starts_with(http.request.uri.path, \"PREFIX/\") -> Disable compression"]
        }
        Fault::Idle => &[
            "# Cloudflare waits 100 s for an answer, more only in the Enterprise plan: in sungrazer.toml",
            "hold = \"90s\"                          # at most",
            "heartbeat = \"30s\"                     # at most",
        ],
        Fault::Caching => &["Cache Rules: starts_with(http.request.uri.path, \"PREFIX/\") -> Bypass cache"],
        Fault::WebSocket => &["Network -> WebSockets: on"],
        Fault::OldHttp => &["# Cloudflare speaks HTTP/1.1: look for what else is on the way"],
        Fault::Host => &["Origin Rules: remove the Host Header override"],
    }
}

fn varnish(fault: Fault) -> &'static [&'static str] {
    match fault {
        Fault::Buffering => &["sub vcl_backend_response { set beresp.do_stream = true; }"],
        Fault::Compression => {
            &["sub vcl_backend_response { if (bereq.url ~ \"^PREFIX/\") { set beresp.do_gzip = false; } }"]
        }
        Fault::Idle => &[
            ".first_byte_timeout = 1h; .between_bytes_timeout = 1h;    # of the backend",
            "varnishd -p idle_send_timeout=3600 -p pipe_timeout=3600",
        ],
        Fault::Caching => &["sub vcl_recv { if (req.url ~ \"^PREFIX/\") { return (pass); } }"],
        Fault::WebSocket => &[
            "sub vcl_recv { if (req.http.Upgrade ~ \"(?i)websocket\") { return (pipe); } }",
            "sub vcl_pipe { set bereq.http.Upgrade = req.http.Upgrade; set bereq.http.Connection = req.http.Connection; }",
        ],
        Fault::OldHttp => &["# Varnish speaks HTTP/1.1: look for what else is on the way"],
        Fault::Host => &["# remove: .host_header of the backend, set bereq.http.Host"],
    }
}

fn squid(fault: Fault) -> &'static [&'static str] {
    match fault {
        Fault::Buffering => &["read_ahead_gap 0 KB"],
        Fault::Compression => &["# Squid compresses nothing: look for eCAP or ICAP modules"],
        Fault::Idle => &["read_timeout 1 hour", "client_lifetime 1 day"],
        Fault::Caching => &["acl sungrazer urlpath_regex ^PREFIX/", "cache deny sungrazer"],
        Fault::WebSocket => &["http_upgrade_request_protocols OTHER allow all"],
        Fault::OldHttp => &["# Squid speaks HTTP/1.1: look for what else is on the way"],
        Fault::Host => &["# remove: cache_peer … forceddomain"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_can_be_repaired_at_each_product() {
        for product in PRODUCTS.into_iter().chain(["Varnish", "Squid"]) {
            for fault in [
                Fault::Buffering,
                Fault::Compression,
                Fault::Idle,
                Fault::Caching,
                Fault::WebSocket,
                Fault::OldHttp,
                Fault::Host,
            ] {
                assert!(!lines(product, fault).is_empty(), "{product} {fault:?}");
            }
        }
    }
}
