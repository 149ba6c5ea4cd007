//! TLS on both sides.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::support::backend::{Backend, Page};
use crate::support::client;
use crate::support::program::Scratch;
use crate::support::sidecar::Sidecar;
use crate::support::{eventually, within};

/// A certificate authority of this test's own.
struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    fn issue(&self, name: &str) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        (certificate, key)
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        roots
    }
}

fn write(scratch: &Scratch, name: &str, (certificate, key): &(Certificate, KeyPair)) -> (String, String) {
    (
        scratch.write(&format!("{name}.pem"), &certificate.pem()),
        scratch.write(&format!("{name}.key"), &key.serialize_pem()),
    )
}

fn private_key(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()))
}

/// Connects as a client that trusts `authority`. Returns the answer's head, the certificate, and the protocol chosen.
async fn get(
    address: SocketAddr,
    authority: &Authority,
    alpn: &[&str],
    path: &str,
) -> (String, CertificateDer<'static>, Option<String>) {
    let mut config = ClientConfig::builder().with_root_certificates(authority.roots()).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("site.example").unwrap();
    let mut tls = within("the handshake", TlsConnector::from(Arc::new(config)).connect(name, tcp)).await.unwrap();
    let (_, session) = tls.get_ref();
    let shown = session.peer_certificates().unwrap()[0].clone().into_owned();
    let chosen = session.alpn_protocol().map(|name| String::from_utf8(name.to_vec()).unwrap());
    let mut text = Vec::new();
    if chosen.as_deref() != Some("h2") {
        tls.write_all(format!("GET {path} HTTP/1.1\r\nHost: site.example\r\nConnection: close\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let _ = within("the answer", tls.read_to_end(&mut text)).await;
    }
    (String::from_utf8_lossy(&text).into_owned(), shown, chosen)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_public_listener_speaks_tls_and_reads_its_certificate_again() {
    let backend = Backend::start().await;
    backend.handle("/a", |seen| Page::text(&format!("{:?}", seen.header("x-forwarded-proto"))));
    let (scratch, authority) = (Scratch::new("tls"), Authority::new());
    let first = authority.issue("site.example");
    let (cert, key) = write(&scratch, "site", &first);
    let sidecar = Sidecar::with(&format!(
        "[server]\ntls = {{ cert = \"{cert}\", key = \"{key}\" }}\n[upstream]\nurl = \"{}\"\n",
        backend.url()
    ));
    let (text, shown, chosen) = get(sidecar.address, &authority, &["http/1.1"], "/a").await;
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("Some(\"https\")"), "{text}");
    assert_eq!((&shown, chosen.as_deref()), (first.0.der(), Some("http/1.1")));
    assert_eq!(get(sidecar.address, &authority, &["h2", "http/1.1"], "/a").await.2.as_deref(), Some("h2"));
    // Half of a new pair is not used; the whole pair is.
    let second = authority.issue("site.example");
    scratch.write("site.pem", &second.0.pem());
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(&get(sidecar.address, &authority, &[], "/a").await.1, first.0.der());
    scratch.write("site.key", &second.1.serialize_pem());
    within("the new certificate", async {
        while &get(sidecar.address, &authority, &[], "/a").await.1 != second.0.der() {}
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_over_tls_says_end_and_a_client_that_leaves_is_noticed() {
    let backend = Backend::start().await;
    backend.set("/a", Page::text("one"));
    let (scratch, authority) = (Scratch::new("tls-stream"), Authority::new());
    let (cert, key) = write(&scratch, "site", &authority.issue("site.example"));
    let sidecar = Sidecar::with(&format!(
        "[server]\ntls = {{ cert = \"{cert}\", key = \"{key}\" }}\n[upstream]\nurl = \"{}\"\n[[route]]\npath = \"/a\"\nevery = \"50ms\"\n",
        backend.url()
    ));
    let config = ClientConfig::builder().with_root_certificates(authority.roots()).with_no_client_auth();
    let tcp = TcpStream::connect(sidecar.address).await.unwrap();
    let mut tls =
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("site.example").unwrap(), tcp).await.unwrap();
    tls.write_all(b"GET /a HTTP/1.1\r\nHost: site.example\r\nAccept: text/event-stream\r\n\r\n").await.unwrap();
    let mut text = String::new();
    while !text.contains("data: one") {
        let mut piece = [0; 1024];
        let read = within("the stream", tls.read(&mut piece)).await.unwrap();
        text.push_str(std::str::from_utf8(&piece[..read]).unwrap());
    }
    assert_eq!(sidecar.held(), 1);
    drop(tls);
    eventually("the client's leaving to be noticed", || sidecar.held() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_clients_are_sent_to_the_listener_that_speaks_tls() {
    let (scratch, authority) = (Scratch::new("tls-redirect"), Authority::new());
    let (cert, key) = write(&scratch, "site", &authority.issue("site.example"));
    let sidecar = Sidecar::with(&format!(
        "[server]\ntls = {{ cert = \"{cert}\", key = \"{key}\" }}\nredirect = \"127.0.0.1:0\"\n[upstream]\nurl = \"http://127.0.0.1:1\"\n"
    ));
    let redirect = sidecar.server.redirect().unwrap();
    let answer = client::get(redirect, "/a?b=c", &[("Host", "site.example:80")]).await;
    let place = format!("https://site.example:{}/a?b=c", sidecar.address.port());
    assert_eq!((answer.status, answer.header("location")), (308, Some(place.as_str())));
    assert_eq!(client::get(redirect, "/", &[("Host", "a/b")]).await.status, 400);
    sidecar.server.stop().await;
    eventually("it to listen no more", || std::net::TcpStream::connect(redirect).is_err()).await;
}

/// A backend that speaks TLS and, with `clients`, asks who is there.
async fn tls_backend(authority: &Authority, name: &str, clients: Option<&Authority>) -> SocketAddr {
    let (certificate, key) = authority.issue(name);
    let config = match clients {
        Some(clients) => {
            let verifier = WebPkiClientVerifier::builder(Arc::new(clients.roots())).build().unwrap();
            ServerConfig::builder().with_client_cert_verifier(verifier)
        }
        None => ServerConfig::builder().with_no_client_auth(),
    };
    let config = config.with_single_cert(vec![certificate.der().clone()], private_key(&key)).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut tls) = acceptor.accept(tcp).await else { return };
                let mut request = [0; 4096];
                while let Ok(1..) = tls.read(&mut request).await {
                    let _ = tls
                        .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\n\r\nsecret")
                        .await;
                }
            });
        }
    });
    address
}

fn toml(address: SocketAddr, tls: &str) -> String {
    format!(
        "[upstream]\nurl = \"https://localhost:{}\"\n{tls}\n[[route]]\npath = \"/a\"\nevery = \"50ms\"\n",
        address.port()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_is_verified_by_the_authority_and_the_name_that_are_configured() {
    let (scratch, authority) = (Scratch::new("tls-upstream"), Authority::new());
    let ca = scratch.write("ca.pem", &authority.certificate.pem());
    let address = tls_backend(&authority, "backend.example", None).await;
    for (tls, outcome) in [
        (String::new(), Err("not signed by an authority that is known here: name that with tls = { ca = ")),
        (format!("tls = {{ ca = \"{ca}\" }}"), Err("not for this name (but for backend.example)")),
        (format!("tls = {{ ca = \"{ca}\", server_name = \"backend.example\" }}"), Ok(())),
        ("tls = { verify = false }".to_owned(), Ok(())),
    ] {
        let (status, reason) = outcome.map_or_else(|reason| (502, reason), |()| (200, ""));
        let sidecar = Sidecar::with(&toml(address, &tls));
        assert_eq!(sidecar.get("/a", &[]).await.status, status, "{tls}");
        if status == 200 {
            assert_eq!(sidecar.events("/a").await.snapshot().await.data, "secret");
        }
        // Operators are told why, also where nothing was fetched.
        let state = sidecar.admin("/api/state").await;
        let state = state.text().replace("\\\"", "\"");
        assert!(state.contains(reason), "{tls}: {state}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_is_shown_to_an_upstream_that_asks_for_one() {
    let (scratch, servers, clients) = (Scratch::new("mtls"), Authority::new(), Authority::new());
    let ca = scratch.write("ca.pem", &servers.certificate.pem());
    let (cert, key) = write(&scratch, "client", &clients.issue("sidecar"));
    let address = tls_backend(&servers, "localhost", Some(&clients)).await;
    let without = Sidecar::with(&toml(address, &format!("tls = {{ ca = \"{ca}\" }}")));
    assert_eq!(without.get("/a", &[]).await.status, 502);
    let with = Sidecar::with(&toml(address, &format!("tls = {{ ca = \"{ca}\", cert = \"{cert}\", key = \"{key}\" }}")));
    assert_eq!(with.get("/a", &[]).await.text(), "secret");
    assert_eq!(with.events("/a").await.snapshot().await.data, "secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_used_are_named_before_anything_starts() {
    let (scratch, authority) = (Scratch::new("tls-wrong"), Authority::new());
    let (cert, _) = write(&scratch, "one", &authority.issue("site.example"));
    let (_, other_key) = write(&scratch, "two", &authority.issue("site.example"));
    let junk = scratch.write("junk.pem", "no PEM at all");
    for (toml, expected) in [
        (format!("tls = {{ cert = \"{cert}\", key = \"{other_key}\" }}"), "it is not the key of the certificate"),
        (format!("tls = {{ cert = \"{junk}\", key = \"{other_key}\" }}"), "it holds no certificate in PEM"),
        (format!("tls = {{ cert = \"{cert}\", key = \"/no/such/key\" }}"), "/no/such/key"),
    ] {
        let text = format!("[server]\n{toml}\n[upstream]\nurl = \"http://127.0.0.1:1\"\n");
        let found = sungrazer::config::parse("t.toml", &text, &sungrazer::config::Overrides::default())
            .unwrap_err()
            .to_string();
        assert!(found.contains(expected), "{found}");
    }
    assert!(Path::new(&cert).exists());
}
