//! Bodies that are compared, explained and probed.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use sungrazer::explain::explain;
use sungrazer::model::{Representation, Validators};
use sungrazer::normalise::Rules;
use sungrazer::probe::{CachingFindings, Facts, Sample, examine, route_block};

const TYPES: [&str; 8] = [
    "application/json",
    "text/html; charset=utf-8",
    "text/html",
    "application/xml",
    "text/plain; charset=utf-16le",
    "text/plain; charset=no-such-thing",
    "application/octet-stream",
    "text/plain",
];

static RULES: LazyLock<[Rules; 2]> = LazyLock::new(|| {
    let ignoring = Rules::new(
        vec!["/a".parse().unwrap(), "/*/b".parse().unwrap(), "/a~1/*/*".parse().unwrap()],
        vec!["#a".parse().unwrap(), "td:nth-child(2)@b".parse().unwrap(), "a b > c".parse().unwrap()],
        vec![r"\d+ s".parse().unwrap(), "x(?<cut>y+)z".parse().unwrap()],
    );
    [Rules::default(), ignoring]
});

fn representation(kind: u8, body: &[u8]) -> Representation {
    let media_type = TYPES[usize::from(kind) % TYPES.len()];
    Representation {
        status: StatusCode::OK,
        headers: HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media_type))]),
        body: Bytes::copy_from_slice(body),
        validators: Validators::default(),
        coded: None,
        sets_cookie: false,
        ahead: 0,
    }
}

/// Two bodies, divided by the bytes `\n--\n`, of the type that the first byte names.
fn two(data: &[u8]) -> Option<(Representation, Representation)> {
    let (kind, rest) = data.split_first()?;
    let at = rest.windows(4).position(|window| window == b"\n--\n")?;
    Some((representation(*kind, &rest[..at]), representation(*kind, &rest[at + 4..])))
}

/// Equal bytes have equal meanings, and white space around JSON has none.
pub fn normalise(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else { return };
    for rules in &*RULES {
        let one = representation(*kind, body);
        let meaning = rules.meaning(&one, one.digest());
        assert_eq!(meaning, rules.meaning(&one, one.digest()));
        if kind % 8 == 0 && meaning.fallback.is_none() && !body.starts_with(b"\xef\xbb\xbf") {
            let other = representation(*kind, &[b" \n", body, b"\t"].concat());
            assert_eq!(meaning.digest, rules.meaning(&other, other.digest()).digest);
        }
    }
}

/// Whatever differs can be explained, within bounds.
pub fn explained(data: &[u8]) {
    let Some((one, other)) = two(data) else { return };
    for rules in &*RULES {
        assert!(explain(&one, &other, rules).to_string().len() < 4000);
    }
}

/// What is found between fetches can be written into a configuration that can be read.
pub fn probed(data: &[u8]) {
    let Some((one, other)) = two(data) else { return };
    let samples: Vec<Sample> = [&one, &other, &one, &other]
        .into_iter()
        .enumerate()
        .map(|(at, representation)| Sample {
            representation: representation.clone(),
            headers: representation.headers.clone(),
            at: Duration::from_millis(700 * at as u64),
            wall: 1_763_809_200.0 + at as f64,
            took: Duration::from_millis(3),
            spaced: at > 2,
        })
        .collect();
    let (report, hazards) = (examine(&samples), CachingFindings::of(&samples, Some(200)));
    let facts = Facts {
        url: "http://127.0.0.1:1/a",
        upstream: Some("http://127.0.0.1:1"),
        insecure: false,
        path: "/a",
        query: Some("_=1&x"),
        post: None,
        varying: None,
        when: "now",
        every: Duration::from_secs(1),
        samples: &samples,
        failed: (0, None),
        gzipped: 1,
        encoded: None,
        without_credentials: None,
        max_body: 1 << 20,
    };
    let text = route_block(&facts, &report, &hazards);
    if let Err(found) = sungrazer::config::parse("probe.toml", &text, &Default::default()) {
        panic!("{found}\n{text}");
    }
}
