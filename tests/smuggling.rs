//! Requests that two servers might take apart differently: none of them may hide another one from us.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Duration, timeout};

use crate::support::backend::{Backend, Page};
use crate::support::peers::{self, Peer};
use crate::support::sidecar::Sidecar;
use crate::support::{eventually, within};

/// What a server made of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Made {
    /// It answered this, and went on or closed.
    Answered(u16),
    /// It closed without a word.
    Closed,
}

struct Case {
    name: &'static str,
    /// What is sent, `\n` for CRLF; `¶` stands for a lone line feed, `¬` for a lone carriage return.
    sent: &'static str,
    /// Whether the request is a good one, and so is what is hidden in it: then two requests are no surprise.
    good: bool,
}

/// `GET /hidden` must not reach the application as a request of its own, unless the case is two good requests.
const CASES: &[Case] = &[
    Case {
        name: "one request after another",
        sent: "GET /a HTTP/1.1\nHost: x\n\nGET /hidden HTTP/1.1\nHost: x\n\n",
        good: true,
    },
    Case {
        name: "Content-Length and Transfer-Encoding (CL.TE)",
        sent: "POST /a HTTP/1.1\nHost: x\nContent-Length: 4\nTransfer-Encoding: chunked\n\n0\n\nGET /hidden HTTP/1.1\nHost: x\n\n",
        good: false,
    },
    Case {
        name: "Transfer-Encoding and Content-Length (TE.CL)",
        sent: "POST /a HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\nContent-Length: 46\n\n1f\nGET /hidden HTTP/1.1\nHost: x\n\n\n0\n\n",
        good: false,
    },
    Case {
        name: "two Content-Lengths that differ",
        sent: "POST /a HTTP/1.1\nHost: x\nContent-Length: 0\nContent-Length: 33\n\nGET /hidden HTTP/1.1\nHost: x\n\n",
        good: false,
    },
    Case {
        name: "a list of Content-Lengths",
        sent: "POST /a HTTP/1.1\nHost: x\nContent-Length: 0, 33\n\nGET /hidden HTTP/1.1\nHost: x\n\n",
        good: false,
    },
    Case {
        name: "a signed Content-Length",
        sent: "POST /a HTTP/1.1\nHost: x\nContent-Length: +31\n\nGET /hidden HTTP/1.1\nHost: x\n\n",
        good: false,
    },
    Case {
        name: "a Content-Length in hexadecimal",
        sent: "POST /a HTTP/1.1\nHost: x\nContent-Length: 0x1f\n\nGET /hidden HTTP/1.1\nHost: x\n\n",
        good: false,
    },
    Case {
        name: "a negative Content-Length",
        sent: "POST /a HTTP/1.1\nHost: x\nContent-Length: -1\n\nGET /hidden HTTP/1.1\nHost: x\n\n",
        good: false,
    },
    Case {
        name: "a Content-Length beyond 64 bits",
        sent: "POST /a HTTP/1.1\nHost: x\nContent-Length: 18446744073709551647\n\nGET /hidden HTTP/1.1\nHost: x\n\n",
        good: false,
    },
    Case {
        name: "a GET with a body by Content-Length",
        sent: "GET /a HTTP/1.1\nHost: x\nContent-Length: 33\n\nGET /hidden HTTP/1.1\nHost: x\n\n",
        good: false,
    },
    Case {
        name: "a coding behind chunked",
        sent: "POST /a HTTP/1.1\nHost: x\nTransfer-Encoding: chunked, identity\n\n0\n\nGET /hidden HTTP/1.1\nHost: x\n\n",
        good: false,
    },
    Case {
        name: "an unknown transfer coding",
        sent: "POST /a HTTP/1.1\nHost: x\nTransfer-Encoding: xchunked\n\n0\n\nGET /hidden HTTP/1.1\nHost: x\n\n",
        good: false,
    },
    Case {
        name: "a coding before chunked",
        sent: "POST /a HTTP/1.1\nHost: x\nTransfer-Encoding: gzip, chunked\n\n0\n\nGET /hidden HTTP/1.1\nHost: x\nConnection: close\n\n",
        good: false,
    },
    Case {
        name: "white space before the colon",
        sent: "POST /a HTTP/1.1\nHost: x\nTransfer-Encoding : chunked\nContent-Length: 5\n\n0\n\nGET /hidden HTTP/1.1\nHost: x\n\n",
        good: false,
    },
    Case {
        name: "a folded header line",
        sent: "POST /a HTTP/1.1\nHost: x\nX: y\n Transfer-Encoding: chunked\nContent-Length: 5\n\n0\n\nGET /hidden HTTP/1.1\nHost: x\n\n",
        good: false,
    },
    Case {
        name: "a folded Transfer-Encoding",
        sent: "POST /a HTTP/1.1\nHost: x\nTransfer-Encoding:\n chunked\nContent-Length: 5\n\n0\n\nGET /hidden HTTP/1.1\nHost: x\n\n",
        good: false,
    },
    Case {
        name: "a vertical tab before chunked",
        sent: "POST /a HTTP/1.1\nHost: x\nTransfer-Encoding: \u{b}chunked\nContent-Length: 5\n\n0\n\nGET /hidden HTTP/1.1\nHost: x\n\n",
        good: false,
    },
    Case { name: "a lone line feed ends a line", sent: "GET /a HTTP/1.1\nHost: x¶X: y\n\n", good: false },
    Case {
        name: "a lone carriage return in a value",
        sent: "GET /a HTTP/1.1\nHost: x\nX: y¬Content-Length: 33\n\nGET /hidden HTTP/1.1\nHost: x\n\n",
        good: false,
    },
    Case { name: "a NUL in a value", sent: "GET /a HTTP/1.1\nHost: x\nX: y\0z\nConnection: close\n\n", good: false },
    Case { name: "a line without a colon", sent: "GET /a HTTP/1.1\nHost: x\nnonsense\n\n", good: false },
    Case { name: "an empty header name", sent: "GET /a HTTP/1.1\nHost: x\n: y\n\n", good: false },
    Case { name: "two Hosts", sent: "GET /a HTTP/1.1\nHost: x\nHost: y\n\n", good: false },
    Case { name: "no Host", sent: "GET /a HTTP/1.1\n\n", good: false },
    Case { name: "a Host that is none", sent: "GET /a HTTP/1.1\nHost: x/../y\n\n", good: false },
    Case {
        name: "a target in absolute form",
        sent: "GET http://x/a HTTP/1.1\nHost: x\nConnection: close\n\n",
        good: true,
    },
    Case {
        name: "a target in absolute form, of another host",
        sent: "GET http://y/a HTTP/1.1\nHost: x\nConnection: close\n\n",
        good: true,
    },
    Case { name: "a target without a slash", sent: "GET a HTTP/1.1\nHost: x\n\n", good: false },
    Case { name: "a space in the target", sent: "GET /a HTTP/1.1 /hidden HTTP/1.1\nHost: x\n\n", good: false },
    Case { name: "a fragment in the target", sent: "GET /a#b HTTP/1.1\nHost: x\nConnection: close\n\n", good: false },
    Case { name: "a method that is no token", sent: "GE T /a HTTP/1.1\nHost: x\n\n", good: false },
    Case {
        name: "HTTP/1.0 with chunks",
        sent: "POST /a HTTP/1.0\nHost: x\nTransfer-Encoding: chunked\n\n0\n\nGET /hidden HTTP/1.1\nHost: x\n\n",
        good: false,
    },
    Case { name: "a version that there is not", sent: "GET /a HTTP/1.9\nHost: x\nConnection: close\n\n", good: true },
    Case { name: "the preface of HTTP/2", sent: "PRI * HTTP/2.0\n\nSM\n\n", good: false },
    Case {
        name: "a chunk size with a sign",
        sent: "POST /a HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n+0\n\nGET /hidden HTTP/1.1\nHost: x\n\n",
        good: false,
    },
    Case {
        name: "a chunk size beyond 64 bits",
        sent: "POST /a HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n10000000000000000\n\nGET /hidden HTTP/1.1\nHost: x\n\n",
        good: false,
    },
    Case {
        name: "a chunk that is longer than it says",
        sent: "POST /a HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n1\nabc\n0\n\nGET /hidden HTTP/1.1\nHost: x\n\n",
        good: false,
    },
    Case {
        name: "a chunk ended by a lone line feed",
        sent: "POST /a HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n0¶¶GET /hidden HTTP/1.1\nHost: x\n\n",
        good: false,
    },
    Case {
        name: "a lone line feed in an extension of a chunk",
        sent: "POST /a HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n2;¶xx\n45\n0\n\nGET /hidden HTTP/1.1\nHost: x\nX: 123456789012345678\n\n0\n\n",
        good: false,
    },
    Case {
        name: "a lone line feed in an extension of the last chunk",
        sent: "POST /a HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n0;¶\n\nGET /hidden HTTP/1.1\nHost: x\n\n",
        good: false,
    },
    Case {
        name: "a request hidden in an upgrade that is refused",
        sent: "GET /a HTTP/1.1\nHost: x\nConnection: Upgrade\nUpgrade: websocket\n\nGET /hidden HTTP/1.1\nHost: x\n\n",
        good: false,
    },
    Case {
        name: "a Content-Length that Connection names",
        sent: "POST /a HTTP/1.1\nHost: x\nConnection: Content-Length\nContent-Length: 31\n\nGET /hidden HTTP/1.1\nHost: x\n\n",
        good: false,
    },
];

fn bytes(sent: &str) -> Vec<u8> {
    sent.replace('\n', "\r\n").replace('¶', "\n").replace('¬', "\r").into_bytes()
}

/// Sends a case. Returns what was made of the first request, and the connection.
async fn send(address: SocketAddr, case: &Case) -> (Made, TcpStream) {
    let mut stream = within("a connection", TcpStream::connect(address)).await.unwrap();
    stream.write_all(&bytes(case.sent)).await.unwrap();
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    // Whoever waits for more of a body than there is waits until we leave; the first head is enough.
    while let Ok(Ok(read @ 1..)) = timeout(Duration::from_secs(2), stream.read(&mut piece)).await {
        answer.extend_from_slice(&piece[..read]);
        if answer.windows(4).any(|window| window == b"\r\n\r\n") {
            break;
        }
    }
    let status = std::str::from_utf8(answer.get(9..12).unwrap_or_default()).ok().and_then(|status| status.parse().ok());
    (status.map_or(Made::Closed, Made::Answered), stream)
}

async fn backend() -> Backend {
    let backend = Backend::start().await;
    backend.set("/a", Page::text("a"));
    backend.set("/hidden", Page::text("hidden"));
    backend
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_hides_another() {
    for routes in ["", "[[route]]\npath = \"/**\"\nevery = \"50ms\"\n"] {
        for case in CASES {
            let backend = backend().await;
            let sidecar = Sidecar::start(&backend, routes);
            let (made, _connection) = send(sidecar.address, case).await;
            if case.name == "one request after another" {
                eventually("the second request", || backend.hits("/hidden") == 1).await;
                continue;
            }
            // Whatever was left of it would be answered before this is.
            assert_eq!(sidecar.get("/a", &[]).await.status, 200);
            assert_eq!(backend.hits("/hidden"), 0, "{}: a request was hidden; {made:?}", case.name);
            for seen in backend.seen("/a") {
                let framed = [seen.all("content-length").len(), seen.all("transfer-encoding").len()];
                assert!(framed.iter().sum::<usize>() <= 1, "{}: {seen:?}", case.name);
                assert_eq!(seen.all("host").len(), 1, "{}: {seen:?}", case.name);
            }
        }
    }
}

/// nginx in front of `backend`, as people configure it.
async fn nginx(backend: &Backend) -> Peer {
    let location = "location / { proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ''; }";
    peers::nginx(&format!("upstream app {{ server {}; keepalive 8; }}", backend.address), location).await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs nginx; writes docs/internals/smuggling.md"]
async fn beside_nginx() {
    let mut table = String::from(
        "# Ambiguous requests\n\nWhat is answered to requests that servers may take apart differently, beside nginx as Debian has \
         it, and whether\na request that hides in them reaches the application. Written by\n`cargo test --test integration -- --ignored \
         smuggling::beside_nginx`; that nothing hides is tested with every change\n(`tests/smuggling.rs`).\n\n\
         | request | Sungrazer | hidden one arrives | nginx | hidden one arrives |\n| --- | --- | --- | --- | --- |\n",
    );
    for case in CASES {
        let _ = write!(table, "| {} ", case.name);
        for peer in 0..2 {
            let backend = backend().await;
            let sidecar = Sidecar::start(&backend, "");
            let nginx = if peer == 0 { None } else { Some(nginx(&backend).await) };
            let address = nginx.as_ref().map_or(sidecar.address, |nginx| nginx.address);
            let (made, _connection) = send(address, case).await;
            let made = match made {
                Made::Answered(status) => status.to_string(),
                Made::Closed => "closed, or waits for more".to_owned(),
            };
            let arrives = async {
                while backend.hits("/hidden") == 0 {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            };
            let hidden = match (timeout(Duration::from_millis(500), arrives).await, case.good) {
                (Ok(()), true) => "yes, as it should",
                (Ok(()), false) => "**yes**",
                (Err(_), _) => "no",
            };
            let _ = write!(table, "| {made} | {hidden} ");
        }
        table.push_str("|\n");
    }
    std::fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/internals/smuggling.md"), table).unwrap();
}
