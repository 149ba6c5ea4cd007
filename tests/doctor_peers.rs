//! `sungrazer doctor` through real proxies, set up as somebody does who knows nothing of streams, and then repaired. They must be
//! installed, so these are only run on request: `tests/run clients`.

use std::net::SocketAddr;

use serde_json::Value;

use crate::doctor::{examined, faults, trial};
use crate::support::backend::Backend;
use crate::support::peers::{self, Peer};
use crate::support::sidecar::Sidecar;

/// A server on which the proxies stand, and the doctor's verdict on one of them.
struct Bed {
    sidecar: Sidecar,
    _backend: Backend,
}

impl Bed {
    async fn new() -> Self {
        let backend = Backend::start().await;
        Self { sidecar: Sidecar::start(&backend, ""), _backend: backend }
    }

    /// `text` with the address of Sungrazer in place of UPSTREAM.
    fn filled(&self, text: &str) -> String {
        let address = self.sidecar.address;
        text.replace("UPSTREAM", &address.to_string()).replace("UPPORT", &address.port().to_string())
    }
}

/// Examines the way by `peer` and sees to it that these faults are among what is found, and these lines among what is advised.
async fn is_found(peer: &Peer, silence: &str, expected: &[&str], lines: &[&str]) -> Value {
    let (_, read, text) = examined(peer.address, &["--for", silence]).await;
    for fault in expected {
        assert!(faults(&read).contains(fault), "{fault} is not found: {read:#}");
    }
    for line in lines {
        assert!(text.contains(line), "{line:?} is not advised: {text}");
    }
    read
}

async fn is_good(address: SocketAddr, silence: &str) -> Value {
    let (code, read, _) = examined(address, &["--for", silence]).await;
    assert_eq!((code, faults(&read)), (0, vec![]), "{read:#}");
    read
}

/// HTTP/1.0, everything kept back whatever is said, compressed, and impatient.
const NGINX_WRONG: &str = "
    proxy_pass http://UPSTREAM;
    proxy_ignore_headers X-Accel-Buffering;
    proxy_read_timeout 6s;
    gzip on; gzip_types *; gzip_proxied any; gzip_min_length 1; gzip_http_version 1.0;
";

/// With lines that the doctor prints.
const NGINX_RIGHT: [&str; 6] = [
    "proxy_buffering off;",
    "gzip off;",
    "proxy_read_timeout 1h;",
    "proxy_http_version 1.1;",
    "proxy_set_header Upgrade $http_upgrade;",
    "proxy_set_header Connection $connection_upgrade;",
];

const NGINX_MAP: &str = "map $http_upgrade $connection_upgrade { default upgrade; '' ''; }";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx; tests/run sees to it"]
async fn nginx() {
    let bed = Bed::new().await;
    let site = |location: &str| bed.filled(&format!("location / {{ {location} }}"));
    let wrong = peers::nginx(NGINX_MAP, &site(NGINX_WRONG)).await;
    let expected = ["buffering", "websocket", "http10", "host", "idle", "compression"];
    let read = is_found(&wrong, "8s", &expected, &NGINX_RIGHT).await;
    assert_eq!(read["path"][0]["name"], "nginx", "{read:#}");
    let right = format!("proxy_pass http://UPSTREAM; proxy_set_header Host $http_host; {}", NGINX_RIGHT.join("\n"));
    is_good(peers::nginx(NGINX_MAP, &site(&right)).await.address, "8s").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs HAProxy; tests/run sees to it"]
async fn haproxy() {
    let bed = Bed::new().await;
    let site = |options: &str| {
        bed.filled(&format!("{options}\nlisten site\n    bind ADDRESS\n    server sungrazer UPSTREAM\n"))
    };
    let times = |time: &str| ["client", "server", "tunnel"].map(|what| format!("    timeout {what} {time}")).join("\n");
    let lines = ["option http-no-delay", "timeout client 1h", "timeout server 1h", "timeout tunnel 1h"];
    // It joins small pieces with what comes within 200 ms, which is late and no reason to do without streams.
    let read = is_found(&peers::haproxy(&site(&times("4s"))).await, "7s", &["buffering", "idle"], &lines).await;
    assert_eq!(read["verdict"], "streams", "{read:#}");
    let cut = trial(&read, "SSE")["cut_after"].as_f64().unwrap();
    assert!((3.5..6.5).contains(&cut), "{cut}");
    let right = format!("    option http-no-delay\n{}", times("1h"));
    is_good(peers::haproxy(&site(&right)).await.address, "7s").await;
}

const APACHE: &str = "
ServerRoot FOLDER
PidFile FOLDER/pid
ErrorLog FOLDER/error
Listen ADDRESS
ServerName localhost
User www-data
Group www-data
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule filter_module /usr/lib/apache2/modules/mod_filter.so
LoadModule deflate_module /usr/lib/apache2/modules/mod_deflate.so
LoadModule setenvif_module /usr/lib/apache2/modules/mod_setenvif.so
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Apache httpd; tests/run sees to it"]
async fn apache() {
    let bed = Bed::new().await;
    let start = async |site: &str| {
        let text = bed.filled(&format!("{APACHE}{site}"));
        peers::serve("apache2", &text, |_, config, _| vec!["-X".into(), "-f".into(), config]).await
    };
    let wrong = start("Timeout 5\nSetOutputFilter DEFLATE\nProxyPass / http://UPSTREAM/\n").await;
    let lines = ["ProxyPreserveHost On", "ProxyTimeout 3600", "no-gzip", "upgrade=websocket"];
    let read = is_found(&wrong, "8s", &["compression", "host", "websocket"], &lines).await;
    assert_eq!(read["path"][0]["name"], "Apache httpd", "{read:#}");
    let right = "Timeout 3600\nProxyTimeout 3600\nProxyPreserveHost On\nSetEnvIf Request_URI \"^/.sungrazer/\" no-gzip dont-vary\n\
        SetOutputFilter DEFLATE\nProxyPass / http://UPSTREAM/ flushpackets=on upgrade=websocket\n";
    is_good(start(right).await.address, "8s").await;
}

const CADDY: &str = "{\n    admin off\n    auto_https off\n    storage file_system FOLDER\n}\nhttp://ADDRESS {\n";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Caddy; tests/run sees to it"]
async fn caddy() {
    let bed = Bed::new().await;
    let start = async |site: &str| {
        let text = bed.filled(&format!("{CADDY}{site}}}\n"));
        let args = |_: String, config: String, _: SocketAddr| {
            ["run", "--adapter", "caddyfile", "--config", &config].map(str::to_owned).to_vec()
        };
        peers::serve("caddy", &text, args).await
    };
    // It heeds no-transform, and keeps nothing back.
    let impatient = "    encode gzip\n    reverse_proxy UPSTREAM {\n        transport http {\n            response_header_timeout 5s\n        }\n    }\n";
    let wrong = start(impatient).await;
    let read = is_found(&wrong, "8s", &["idle"], &["response_header_timeout 1h"]).await;
    assert_eq!(read["path"][0]["name"], "Caddy", "{read:#}");
    let right = "    @compressible not path /.sungrazer/*\n    encode @compressible zstd gzip\n    reverse_proxy UPSTREAM {\n        flush_interval -1\n    }\n";
    is_good(start(right).await.address, "8s").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Squid; tests/run sees to it"]
async fn squid() {
    let bed = Bed::new().await;
    let start = async |more: &str| {
        let text = bed.filled(&format!(
            "http_port ADDRESS accel defaultsite=site vhost\ncache_peer 127.0.0.1 parent UPPORT 0 no-query originserver\n\
             http_access allow all\npid_filename FOLDER/pid\ncache_log FOLDER/log\naccess_log none\ncoredump_dir FOLDER\n{more}\n"
        ));
        peers::serve("squid", &text, |_, config, _| ["-N", "-f", &config].map(str::to_owned).to_vec()).await
    };
    let lines = ["read_timeout 1 hour", "http_upgrade_request_protocols OTHER allow all"];
    let read = is_found(&start("read_timeout 5 seconds").await, "8s", &["idle", "websocket"], &lines).await;
    assert_eq!(read["path"][0]["name"], "Squid", "{read:#}");
    is_good(start("read_timeout 1 hour\nhttp_upgrade_request_protocols OTHER allow all").await.address, "8s").await;
}

/// Keeps what says that it is not to be kept, and is impatient.
const VARNISH_WRONG: &str = "vcl 4.1;
backend default { .host = \"127.0.0.1\"; .port = \"UPPORT\"; .first_byte_timeout = 5s; .between_bytes_timeout = 5s; }
sub vcl_recv { unset req.http.Cookie; return (hash); }
sub vcl_backend_response { unset beresp.http.Set-Cookie; set beresp.ttl = 1m; set beresp.uncacheable = false; return (deliver); }
";

/// With lines that the doctor prints.
const VARNISH_RIGHT: &str = "vcl 4.1;
backend default { .host = \"127.0.0.1\"; .port = \"UPPORT\"; .first_byte_timeout = 1h; .between_bytes_timeout = 1h; }
sub vcl_recv { if (req.http.Upgrade ~ \"(?i)websocket\") { return (pipe); } if (req.url ~ \"^/.sungrazer/\") { return (pass); } }
sub vcl_pipe { set bereq.http.Upgrade = req.http.Upgrade; set bereq.http.Connection = req.http.Connection; }
";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Varnish; tests/run sees to it"]
async fn varnish() {
    let bed = Bed::new().await;
    let start = async |text: &str| {
        let filled = bed.filled(text);
        let args = |folder: String, config: String, address: SocketAddr| {
            let address = address.to_string();
            let args = ["-F", "-j", "none", "-n", &folder, "-f", &config, "-a", &address, "-s", "malloc,16m"];
            args.map(str::to_owned).to_vec()
        };
        peers::serve("varnishd", &filled, args).await
    };
    let read =
        is_found(&start(VARNISH_WRONG).await, "8s", &["caching", "websocket"], &["return (pass)", "vcl_pipe"]).await;
    assert_eq!(read["path"][0]["name"], "Varnish", "{read:#}");
    is_good(start(VARNISH_RIGHT).await.address, "8s").await;
}
