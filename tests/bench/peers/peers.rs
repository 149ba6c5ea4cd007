//! The servers that are compared, each started with a configuration of its own in a folder of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::bed::{Bed, vacant};
use crate::connection::Tls;
use crate::process::Process;
use crate::publisher::Way;
use crate::streams::Target;

/// A server that runs.
pub struct Peer {
    pub process: Process,
    /// Where clients come in.
    pub address: SocketAddr,
    /// Where it is told of news.
    pub control: SocketAddr,
}

/// Those that hold streams.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pusher {
    Sungrazer,
    Nchan,
    Pushpin,
    /// A program that does nothing but write to all sockets in turn.
    BareWrites,
}

impl Pusher {
    pub fn name(self) -> &'static str {
        match self {
            Self::Sungrazer => "Sungrazer",
            Self::Nchan => "nchan",
            Self::Pushpin => "pushpin",
            Self::BareWrites => "bare socket writes",
        }
    }

    pub fn start(self, bed: &Bed) -> Peer {
        match self {
            Self::Sungrazer => sungrazer(bed, Setup::default(), bed.backend.address),
            Self::Nchan => nchan(bed, 2),
            Self::Pushpin => pushpin(bed),
            Self::BareWrites => bare(bed, "bare-writes", None, &[]),
        }
    }

    /// Where streams of it are opened.
    pub fn target(self, peer: &Peer) -> Target {
        // pushpin asks the backend for each stream; with more at a time it answers some of them 502.
        let opening = if self == Self::Pushpin { 32 } else { 256 };
        let path = if self == Self::Sungrazer { WATCHED } else { "/sub" };
        Target { opening, ..Target::new(peer.address, path) }
    }

    pub fn way(self, bed: &Bed) -> Way<'_> {
        match self {
            Self::Sungrazer => Way::Hook(&bed.backend),
            Self::Pushpin => Way::Grip,
            Self::Nchan | Self::BareWrites => Way::Raw,
        }
    }
}

/// The path that is watched where there is only one.
pub const WATCHED: &str = "/r";

/// What is said to Sungrazer besides where things are.
pub struct Setup<'a> {
    /// Keys of `[server]`.
    pub server: String,
    /// Keys of `[upstream]`.
    pub upstream: &'a str,
    /// Routes.
    pub routes: String,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        // News comes by the hook, and at any rate.
        Self::route("every = \"30s\"\nrefresh_gap = \"0s\"")
    }
}

impl Setup<'_> {
    /// One route, of all that is watched, with these keys.
    pub fn route(keys: &str) -> Self {
        Self {
            server: String::new(),
            upstream: "max_fetch_rate = 100000",
            routes: format!("[[route]]\npath = \"{WATCHED}/**\"\naudience = \"public\"\n{keys}\n"),
        }
    }

    /// More keys of `[server]`.
    pub fn server(mut self, keys: &str) -> Self {
        self.server = format!("{keys}\n");
        self
    }

    /// The listener speaks TLS.
    pub fn tls(self, tls: &Tls, folder: &Path) -> Self {
        let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        fs::write(&cert, &tls.cert).unwrap();
        fs::write(&key, &tls.key).unwrap();
        self.server(&format!("tls = {{ cert = {cert:?}, key = {key:?} }}"))
    }
}

/// Sungrazer in front of `upstream`.
pub fn sungrazer(bed: &Bed, setup: Setup<'_>, upstream: SocketAddr) -> Peer {
    let (folder, address, control) = (bed.folder("sungrazer"), vacant(), vacant());
    let Setup { server, upstream: more, routes } = setup;
    let config = format!(
        "[server]\nlisten = \"{address}\"\nadmin = \"{control}\"\nmax_streams = 50000\n\
         max_streams_per_address = 50000\n{server}\n[upstream]\nurl = \"http://{upstream}\"\n{more}\n\n{routes}"
    );
    let path = folder.join("sungrazer.toml");
    fs::write(&path, config).unwrap();
    let mut command = Command::new(&bed.sungrazer);
    command.args(["run", "-c"]).arg(path).env("SUNGRAZER_LOG", "warn");
    let process = Process::start("sungrazer", &mut command, &folder, &[address, control]);
    Peer { process, address, control }
}

/// nginx with `servers` in its `http` block, listening at `address`.
fn nginx(bed: &Bed, name: &str, workers: usize, address: SocketAddr, main: &str, http: &str) -> Peer {
    let folder = bed.folder(name);
    let at = folder.display();
    let config = format!(
        "{main}\ndaemon off;\nuser root;\npid {at}/pid;\nerror_log {at}/error.log crit;\nworker_processes {workers};\n\
         worker_rlimit_nofile 20000;\nevents {{ worker_connections 16384; }}\nhttp {{\naccess_log off;\n\
         client_body_temp_path {at}/body;\nproxy_temp_path {at}/proxy;\nfastcgi_temp_path {at}/fastcgi;\n\
         uwsgi_temp_path {at}/uwsgi;\nscgi_temp_path {at}/scgi;\nkeepalive_requests 100000000;\ntcp_nodelay on;\n\
         sendfile on;\n{}\n}}\n",
        http.replace("{at}", &at.to_string())
    );
    let path = folder.join("nginx.conf");
    fs::write(&path, config).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-c").arg(path);
    let process = Process::start(name, &mut command, &folder, &[address]);
    Peer { process, address, control: address }
}

const NCHAN: &str = "load_module /usr/lib/nginx/modules/ngx_nchan_module.so;";

/// nginx with nchan.
pub fn nchan(bed: &Bed, workers: usize) -> Peer {
    nchan_that_listens(bed, workers, "")
}

/// nginx with nchan, which listens with these `options`: `http2` is without TLS.
pub fn nchan_that_listens(bed: &Bed, workers: usize, options: &str) -> Peer {
    let (address, control) = (vacant(), vacant());
    let http = format!(
        "nchan_shared_memory_size 256M;\nserver {{\nlisten {address} {options};\nlisten {control};\n\
         location = /pub {{ nchan_publisher; nchan_channel_id bench; nchan_message_buffer_length 4; }}\n\
         location = /sub {{ nchan_subscriber eventsource; nchan_channel_id bench; \
         nchan_subscriber_first_message newest; }}\n}}"
    );
    Peer { control, ..nginx(bed, "nchan", workers, address, NCHAN, &http) }
}

/// nginx as a server of files, to be proxied.
pub fn origin(bed: &Bed, files: &[(&str, usize)]) -> Peer {
    let address = vacant();
    let root = bed.folder("files");
    for (name, size) in files {
        fs::write(root.join(name), crate::document::document(1, *size)).unwrap();
    }
    let http = format!("open_file_cache max=100;\nserver {{ listen {address}; root {}; }}", root.display());
    nginx(bed, "origin", 1, address, "", &http)
}

const PROXIED: &str = "proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host;";

/// nginx as a proxy in front of `upstream`.
pub fn nginx_proxy(bed: &Bed, upstream: SocketAddr) -> Peer {
    let address = vacant();
    let http = format!(
        "upstream app {{ server {upstream}; keepalive 128; keepalive_requests 100000000; }}\n\
         server {{ listen {address}; location / {{ proxy_pass http://app; {PROXIED} }} }}"
    );
    nginx(bed, "nginx", 2, address, "", &http)
}

/// nginx that remembers answers for a second, and asks again in the background.
pub fn nginx_cache(bed: &Bed, upstream: SocketAddr) -> Peer {
    let address = vacant();
    let http = format!(
        "proxy_cache_path {{at}}/cache keys_zone=c:10m;\nupstream app {{ server {upstream}; keepalive 128; }}\n\
         server {{ listen {address}; location / {{ proxy_pass http://app; {PROXIED}\nproxy_cache c; \
         proxy_cache_valid 200 1s; proxy_cache_lock on; proxy_cache_background_update on; \
         proxy_cache_use_stale updating; }} }}"
    );
    nginx(bed, "nginx-cache", 2, address, "", &http)
}

/// haproxy in front of `upstream`.
pub fn haproxy(bed: &Bed, upstream: SocketAddr) -> Peer {
    let (folder, address) = (bed.folder("haproxy"), vacant());
    let config = format!(
        "global\n nbthread 2\n maxconn 8000\ndefaults\n mode http\n timeout connect 5s\n timeout client 60s\n \
         timeout server 60s\n http-reuse always\nfrontend f\n bind {address}\n default_backend b\nbackend b\n \
         server s {upstream}\n"
    );
    let path = folder.join("haproxy.cfg");
    fs::write(&path, config).unwrap();
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(path);
    let process = Process::start("haproxy", &mut command, &folder, &[address]);
    Peer { process, address, control: address }
}

/// pushpin in front of the backend, which asks it to hold whoever comes for `/sub`.
pub fn pushpin(bed: &Bed) -> Peer {
    let (folder, address, control) = (bed.folder("pushpin"), vacant(), vacant());
    bed.backend.put("/sub", 0, "text/event-stream", "Grip-Hold: stream\r\nGrip-Channel: bench\r\n", "");
    let at = folder.display();
    let config = format!(
        "[global]\ninclude={{libdir}}/internal.conf\nrundir={at}\nipc_prefix=p-\nport_offset=0\n\
         stats_connection_ttl=120\n[runner]\nservices=condure,zurl,pushpin-proxy,pushpin-handler\n\
         http_port={address}\nlogdir={at}\nlog_level=1\nclient_buffer_size=4096\nclient_maxconn=12000\n\
         condure_bin=condure\nzurl_bin=zurl\n\
         [proxy]\nzurl_out_specs=ipc://{at}/p-zurl-in\nzurl_out_stream_specs=ipc://{at}/p-zurl-in-stream\n\
         zurl_in_specs=ipc://{at}/p-zurl-out\nroutesfile={at}/routes\ndebug=false\nauto_cross_origin=false\naccept_x_forwarded_protocol=false\n\
         set_x_forwarded_protocol=proto-only\nx_forwarded_for=\nx_forwarded_for_trusted=\norig_headers_need_mark=\n\
         accept_pushpin_route=false\nlog_from=false\nlog_user_agent=false\n\
         [handler]\nipc_file_mode=777\npush_in_spec=ipc://{at}/p-pull\npush_in_sub_specs=ipc://{at}/p-sub\n\
         push_in_sub_connect=false\npush_in_http_addr=127.0.0.1\npush_in_http_port={}\npush_in_http_max_headers_size=10000\n\
         push_in_http_max_body_size=1000000\nstats_spec=ipc://{at}/p-stats\ncommand_spec=ipc://{at}/p-command\n\
         message_rate=100000000\nmessage_hwm=100000000\nmessage_block_size=\nmessage_wait=5000\nid_cache_ttl=60\n\
         connection_subscription_max=20\nsubscription_linger=60\nstats_report_interval=10\nstats_format=tnetstring\n",
        control.port()
    );
    fs::write(folder.join("pushpin.conf"), config).unwrap();
    fs::write(folder.join("routes"), format!("* {}\n", bed.backend.address)).unwrap();
    let mut command = Command::new("pushpin");
    command.arg("--config").arg(folder.join("pushpin.conf"));
    let process = Process::start("pushpin", &mut command, &folder, &[address, control]);
    Peer { process, address, control }
}

/// This program, as one of the bare servers, with these `options`.
pub fn bare(bed: &Bed, verb: &str, upstream: Option<SocketAddr>, options: &[&str]) -> Peer {
    let address = vacant();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(verb).arg(address.to_string()).args(upstream.map(|upstream| upstream.to_string())).args(options);
    let process = Process::start(verb, &mut command, &bed.folder(verb), &[address]);
    Peer { process, address, control: address }
}
