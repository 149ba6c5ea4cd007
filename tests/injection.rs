//! The browser script on its way into pages.

use std::io::{Read, Write};
use std::time::Duration;

use crate::support::backend::{Backend, Page};
use crate::support::client::{Connection, Response};
use crate::support::sidecar::Sidecar;

const SHIM: &str = "[[route]]\npath = \"/**\"\nshim = \"learn\"\n";

const PAGE: &str =
    "<!doctype html><html><head><meta charset=utf-8><title>t</title></head><body><p>\u{e9}</p></body></html>";

const XHTML: &str = "<html xmlns=\"http://www.w3.org/1999/xhtml\"><head><title>t</title></head><body/></html>";

/// What a browser says of a navigation.
const NAVIGATION: &[(&str, &str)] = &[
    ("accept", "text/html,application/xhtml+xml,*/*;q=0.8"),
    ("sec-fetch-dest", "document"),
    ("sec-fetch-mode", "navigate"),
];

fn page() -> Page {
    Page::new("text/html", PAGE)
}

fn has_script(body: &[u8]) -> bool {
    String::from_utf8_lossy(body).contains("<script src=\"/.sungrazer/shim.js?")
}

async fn navigate(sidecar: &Sidecar, target: &str, more: &[(&str, &str)]) -> Response {
    sidecar.get(target, &[NAVIGATION, more].concat()).await
}

async fn injected(page: Page, more: &[(&str, &str)]) -> Response {
    let backend = Backend::start().await;
    backend.set("/page", page);
    navigate(&Sidecar::start(&backend, SHIM), "/page", more).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_given_the_script_and_nothing_else_is_changed() {
    let answer = injected(page().header("content-md5", "x").header("accept-ranges", "bytes"), &[]).await;
    let text = answer.text();
    let (before, rest) = text.split_once("<script src=\"/.sungrazer/shim.js?").unwrap();
    assert_eq!(before, "<!doctype html><html><head><meta charset=utf-8>");
    let (_, after) = rest.split_once("></script>").unwrap();
    assert_eq!(after, "<title>t</title></head><body><p>\u{e9}</p></body></html>");
    assert_eq!(answer.status, 200);
    for gone in ["content-length", "content-md5", "accept-ranges"] {
        assert_eq!(answer.header(gone), None, "{gone}");
    }
    assert!(answer.all("vary").join(",").to_ascii_lowercase().contains("sec-fetch-dest, sec-fetch-mode"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_script_is_what_the_tag_names() {
    let backend = Backend::start().await;
    backend.set("/page", page());
    let sidecar = Sidecar::start(&backend, SHIM);
    let text = navigate(&sidecar, "/page", &[]).await.text().to_owned();
    let source = text.split_once("<script src=\"").unwrap().1.split('"').next().unwrap().to_owned();
    let plain = sidecar.get(&source, &[]).await;
    assert_eq!(plain.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert!(plain.header("cache-control").unwrap().contains("immutable"));
    let packed = sidecar.get(&source, &[("accept-encoding", "gzip")]).await;
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&packed.body[..]).read_to_end(&mut unpacked).unwrap();
    assert!(unpacked == plain.body);
    // Under any other name it is checked each time.
    let named = sidecar.get("/.sungrazer/shim.js", &[]).await;
    assert_eq!(named.header("cache-control"), Some("no-cache"));
    let again = sidecar.get("/.sungrazer/shim.js", &[("if-none-match", named.header("etag").unwrap())]).await;
    assert_eq!(again.status, 304);
    assert_eq!(sidecar.get(&source, &[("sec-fetch-site", "cross-site")]).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_whole_pages_that_are_navigated_to_are_given_it() {
    let backend = Backend::start().await;
    let sidecar = Sidecar::start(&backend, SHIM);
    for (n, (page, headers, expected)) in [
        (page(), vec![("accept", "text/html"), ("sec-fetch-dest", "iframe")], true),
        // To hosts that browsers do not trust the way to they say no more of a navigation than this.
        (page(), vec![("accept", "text/html"), ("upgrade-insecure-requests", "1")], true),
        (page(), vec![("accept", "text/html")], false),
        // Scripts get data by way of frames, too.
        (Page::new("text/html", "OK<br>3 rows"), vec![("accept", "text/html"), ("sec-fetch-dest", "iframe")], false),
        (Page::new("text/html", "OK<br>3 rows"), NAVIGATION.to_vec(), true),
        (page(), vec![("accept", "text/html"), ("sec-fetch-dest", "empty"), ("sec-fetch-mode", "cors")], false),
        // A page's service worker has passed it on.
        (page(), vec![("accept", "text/html"), ("sec-fetch-dest", "empty"), ("sec-fetch-mode", "navigate")], true),
        (page(), vec![("accept", "*/*"), ("sec-fetch-dest", "empty"), ("sec-fetch-mode", "navigate")], false),
        (page(), vec![("accept", "*/*")], false),
        (
            page(),
            vec![("accept", "text/html"), ("upgrade-insecure-requests", "1"), ("x-requested-with", "XMLHttpRequest")],
            false,
        ),
        (page(), vec![("accept", "text/html"), ("upgrade-insecure-requests", "1"), ("hx-request", "true")], false),
        (page(), vec![("accept", "text/html"), ("upgrade-insecure-requests", "1"), ("turbo-frame", "f")], false),
        (page(), vec![("accept", "text/html"), ("upgrade-insecure-requests", "1"), ("sungrazer-poll", "/")], false),
        (page(), [NAVIGATION, &[("range", "bytes=0-9")]].concat(), false),
        (page().header("content-disposition", "attachment; filename=a.html"), NAVIGATION.to_vec(), false),
        (page().header("cache-control", "public, no-transform"), NAVIGATION.to_vec(), false),
        (Page::new("text/plain", PAGE), NAVIGATION.to_vec(), false),
        (Page::new("application/xhtml+xml", PAGE), NAVIGATION.to_vec(), false),
        (Page::new("application/xhtml+xml", XHTML), NAVIGATION.to_vec(), true),
        (Page::new("text/html", "{\"a\":[1,2]}"), NAVIGATION.to_vec(), false),
        (page().status(404), NAVIGATION.to_vec(), false),
        (Page::new("text/html; charset=utf-16", PAGE), NAVIGATION.to_vec(), false),
    ]
    .into_iter()
    .enumerate()
    {
        let target = format!("/page{n}");
        let sent = page.body.clone();
        backend.set(&target, page);
        let answer = sidecar.get(&target, &headers).await;
        assert_eq!(has_script(&answer.body), expected, "{n}: {headers:?}");
        assert!(expected || answer.body == sent, "{n}: {headers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_without_it_are_left_alone() {
    let backend = Backend::start().await;
    backend.set("/page", page().etag());
    let sidecar = Sidecar::start(&backend, "[[route]]\npath = \"/**\"\n");
    let answer = navigate(&sidecar, "/page", &[]).await;
    assert!(answer.body == PAGE.as_bytes() && answer.header("content-length").is_some());
}

/// `body` in a content coding.
fn coded(coding: &str, body: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        "deflate" => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        "br" => {
            let mut out = Vec::new();
            brotli::CompressorWriter::new(&mut out, 4096, 5, 18).write_all(body).unwrap();
            out
        }
        "zstd" => zstd::encode_all(body, 1).unwrap(),
        _ => body.to_vec(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_come_in_any_content_coding() {
    for coding in ["gzip", "deflate", "br", "zstd"] {
        let sent = Page::new("text/html", coded(coding, PAGE.as_bytes())).header("content-encoding", coding);
        let plain = injected(sent.clone(), &[]).await;
        assert_eq!(plain.header("content-encoding"), None, "{coding}");
        assert!(has_script(&plain.body) && plain.text().contains("<p>\u{e9}</p>"), "{coding}");
        let packed = injected(sent, &[("accept-encoding", "gzip, br")]).await;
        assert_eq!(packed.header("content-encoding"), Some("gzip"), "{coding}");
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&packed.body[..]).read_to_end(&mut unpacked).unwrap();
        assert!(unpacked == plain.body, "{coding}");
    }
    // A name that is no coding means nothing to browsers either.
    for coding in ["utf-8", "none", "odd"] {
        let odd = injected(Page::new("text/html", PAGE).header("content-encoding", coding), &[]).await;
        assert!(has_script(&odd.body) && odd.text().contains("<p>\u{e9}</p>"), "{coding}");
    }
    // What nobody can read passes as it is.
    let odd = injected(Page::new("text/html", "??").header("content-encoding", "compress"), &[]).await;
    assert_eq!((odd.body.as_slice(), odd.header("content-encoding")), (&b"??"[..], Some("compress")));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_page_that_is_cut_off_comes_what_there_is() {
    let whole: String = PAGE.to_owned() + &(0..5000).map(|n| format!("<p>text {n}</p>")).collect::<String>();
    // Decoders of the others give out less than they have read.
    for coding in ["gzip", "deflate"] {
        let mut cut = coded(coding, whole.as_bytes());
        cut.truncate(cut.len() - 9);
        for sent in [cut.clone(), [&cut[..], &[0xff; 400]].concat()] {
            let page = Page::new("text/html", sent).header("content-encoding", coding);
            let plain = injected(page.clone(), &[]).await;
            let text = String::from_utf8_lossy(&plain.body);
            assert_eq!((plain.status, has_script(&plain.body)), (200, true), "{coding}");
            assert!(text.contains("<p>text 7</p>"), "{coding}");
            let packed = injected(page, &[("accept-encoding", "gzip")]).await;
            let mut unpacked = Vec::new();
            let end = flate2::read::GzDecoder::new(&packed.body[..]).read_to_end(&mut unpacked);
            assert!(end.is_err(), "{coding}: it breaks off for the client, too");
            assert!(String::from_utf8_lossy(&unpacked).contains("<p>text 7</p>"), "{coding}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_policy_would_report_is_not_caused() {
    for (policy, expected) in [
        ("default-src 'self'; worker-src 'none'; report-uri /report", "data-worker=\"no\""),
        ("script-src 'nonce-abc'; connect-src 'self'", "nonce=\"abc\""),
        ("require-trusted-types-for 'script'", "data-worker=\"no\""),
        ("script-src 'none'", ""),
    ] {
        let page = page().header("content-security-policy-report-only", policy).header("refresh", "5");
        let answer = injected(page, &[]).await;
        assert_eq!(answer.header("content-security-policy-report-only"), Some(policy));
        assert_eq!(has_script(&answer.body), !expected.is_empty(), "{policy}");
        assert!(answer.text().contains(expected), "{policy}");
        assert_eq!(answer.header("refresh"), Some("5"), "{policy}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_passed_on_as_it_comes() {
    let backend = Backend::start().await;
    let head = "<html><head><title>t</title></head><body><p>first</p>";
    for (target, coding) in [("/plain", "identity"), ("/packed", "gzip")] {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(head.as_bytes()).unwrap();
        encoder.flush().unwrap();
        let first = if coding == "gzip" { encoder.get_ref().clone() } else { head.as_bytes().to_vec() };
        let mut page = Page::new("text/html", "").piece(Duration::ZERO, first).linger();
        if coding == "gzip" {
            page = page.header("content-encoding", "gzip");
        }
        backend.set(target, page);
        let sidecar = Sidecar::start(&backend, SHIM);
        let mut connection = Connection::open(sidecar.address).await;
        connection.send(crate::support::client::head("GET", target, NAVIGATION, b"")).await;
        connection.head().await;
        let mut seen = Vec::new();
        // The backend goes on for ever: what is there has to come without its end.
        while !String::from_utf8_lossy(&seen).contains("<p>first</p>") {
            seen.extend(connection.chunk().await.unwrap());
        }
        assert!(has_script(&seen), "{coding}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn validators_are_of_the_page_with_the_script() {
    let backend = Backend::start().await;
    backend.set("/page", page().etag());
    let sidecar = Sidecar::start(&backend, SHIM);
    let first = navigate(&sidecar, "/page", &[]).await;
    let own = backend.seen("/page").len();
    let tag = first.header("etag").unwrap().to_owned();
    assert!(tag.starts_with("W/\""), "{tag}");
    let again = navigate(&sidecar, "/page", &[("if-none-match", &tag)]).await;
    assert_eq!((again.status, again.header("etag")), (304, Some(tag.as_str())));
    let asked = backend.seen("/page")[own].header("if-none-match").unwrap().to_owned();
    assert!(tag.contains(asked.trim_matches('"')), "the backend is asked with its own tag: {asked}");
    // Whoever holds the page without the script is given it.
    let other = navigate(&sidecar, "/page", &[("if-none-match", &asked)]).await;
    assert!(other.status == 200 && has_script(&other.body));
    backend.set("/page", Page::new("text/html", PAGE.replace('t', "T")).etag());
    assert_eq!(navigate(&sidecar, "/page", &[("if-none-match", &tag)]).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_request_is_told_what_a_get_is() {
    let backend = Backend::start().await;
    backend.set("/page", page().etag());
    let sidecar = Sidecar::start(&backend, SHIM);
    let got = navigate(&sidecar, "/page", &[]).await;
    let mut connection = Connection::open(sidecar.address).await;
    let head = connection.request("HEAD", "/page", NAVIGATION, b"").await;
    assert_eq!((head.status, head.header("etag")), (200, got.header("etag")));
    assert_eq!(head.header("content-length"), None);
    assert!(head.body.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_are_kept_to_and_what_they_forbid_is_told() {
    let backend = Backend::start().await;
    let sidecar = Sidecar::start(&backend, SHIM);
    for (n, (policy, expected)) in [
        ("script-src 'self'", "shim.js?"),
        ("script-src 'nonce-abc' 'strict-dynamic'", "nonce=\"abc\""),
        ("worker-src 'none'", "data-worker=\"no\""),
        ("script-src 'none'", ""),
        ("script-src cdn.example", ""),
        ("connect-src 'none'; worker-src 'none'", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let target = format!("/page{n}");
        backend.set(&target, page().header("content-security-policy", policy));
        let answer = navigate(&sidecar, &target, &[]).await;
        assert_eq!(answer.header("content-security-policy"), Some(policy));
        assert_eq!(has_script(&answer.body), !expected.is_empty(), "{policy}");
        assert!(answer.text().contains(expected), "{policy}");
        let why = sidecar.admin(&format!("/api/why?url={target}")).await;
        let told = why.text().contains("obstacles") && why.text().contains(policy.split(';').next().unwrap());
        assert_eq!(told, n >= 1, "{policy}: {}", why.text());
    }
    let all = sidecar.admin("/api/resources").await;
    let all: serde_json::Value = serde_json::from_slice(&all.body).unwrap();
    assert_eq!(all["shim"]["pages"], 3);
    assert_eq!(all["shim"]["obstacles"].as_array().unwrap().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_refresh_of_a_page_stays_and_the_script_is_told_of_it() {
    for refresh in ["5", "5; url=/other"] {
        let answer = injected(page().header("refresh", refresh), &[]).await;
        assert_eq!(answer.header("refresh"), Some(refresh));
        assert!(answer.text().contains(&format!("data-refresh=\"{refresh}\"></script><title>")), "{refresh}");
    }
    assert!(!injected(page(), &[]).await.text().contains("data-refresh"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_demands_digests_is_given_the_scripts() {
    for name in ["integrity-policy", "integrity-policy-report-only"] {
        let answer = injected(page().header(name, "blocked-destinations=(script), endpoints=(e)"), &[]).await;
        let (_, rest) = answer.text().split_once(" integrity=\"sha256-").unwrap();
        // What it is a digest of is for browsers to say (tests/browser/pages-inject.test.mjs).
        assert_eq!(rest.find("=\" crossorigin=\"anonymous\""), Some(43), "{name}");
    }
    assert!(
        !injected(page().header("integrity-policy", "blocked-destinations=(style)"), &[])
            .await
            .text()
            .contains("integrity=")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watched_page_is_given_the_script_though_it_is_in_memory() {
    let backend = Backend::start().await;
    backend.set("/page", page());
    let sidecar = Sidecar::start(&backend, "[[route]]\npath = \"/**\"\nevery = \"10s\"\nshim = \"learn\"\n");
    let mut events = sidecar.events("/page").await;
    events.snapshot().await;
    assert!(has_script(&navigate(&sidecar, "/page", &[]).await.body));
    let fetched =
        sidecar.get("/page", &[("accept", "text/html"), ("sec-fetch-dest", "empty"), ("sec-fetch-mode", "cors")]).await;
    assert_eq!(fetched.body, PAGE.as_bytes());
}
