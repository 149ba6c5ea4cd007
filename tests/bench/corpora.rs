//! Documents as applications answer them, made by seed: the same everywhere, at any size.

use std::fmt::Write as _;

/// A list of things, as JSON of about `bytes`.
pub fn json(bytes: usize, seed: u64) -> String {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut text = String::from(r#"{"generated":"2026-11-22T09:00:00Z","total":600,"items":["#);
    let mut id = 1000;
    while text.len() < bytes {
        id += rng.u32(1..9);
        item(&mut text, id, &mut rng);
        text.push(',');
    }
    text.pop();
    text.push_str("]}");
    text
}

fn item(text: &mut String, id: u32, rng: &mut fastrand::Rng) {
    let status = ["queued", "started", "finished", "failed"][rng.usize(..4)];
    let _ = write!(
        text,
        r#"{{"id":{id},"name":"job {} of {}","status":"{status}","progress":{:.4},"tags":["{}","{}"],"owner":{{"id":{},"name":"{}"}},"note":"{}","done":{}}}"#,
        rng.u32(..9999),
        word(rng),
        rng.f64(),
        word(rng),
        word(rng),
        rng.u32(..50),
        word(rng),
        sentence(rng, 6),
        rng.bool(),
    );
}

/// `count` items in one array, and the same with one more at its head.
pub fn head_insert(count: usize, seed: u64) -> (String, String) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut items = Vec::new();
    for n in 0..=count {
        let mut text = String::new();
        item(&mut text, 5000 - n as u32, &mut rng);
        items.push(text);
    }
    (format!("[{}]", items[1..].join(",")), format!("[{}]", items.join(",")))
}

/// A page with a table, of about `bytes`.
pub fn html(bytes: usize, seed: u64) -> String {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut text = String::from(
        "<!DOCTYPE html>\n<html><head><title>Status</title><link rel=stylesheet href=/s.css></head>\n<body class=\"page wide\">\n<p id=clock>09:00:00</p>\n<form action=/save><input type=hidden name=csrf value=0123456789abcdef></form>\n<table class=jobs>\n",
    );
    while text.len() < bytes {
        let _ = writeln!(
            text,
            "<tr class=\"row {}\"><td class=id>{}</td><td><a href=\"/job/{}?tab=1\">{}</a></td><td class=age title=\"since {}\">{} s</td><td>{}</td></tr>",
            word(&mut rng),
            rng.u32(..99999),
            rng.u32(..99999),
            word(&mut rng),
            rng.u32(..99999),
            rng.u32(..999),
            sentence(&mut rng, 5),
        );
    }
    text.push_str("</table>\n<p>generated in 12 ms</p>\n</body></html>\n");
    text
}

/// Lines of text, about `bytes`.
pub fn text(bytes: usize, seed: u64) -> String {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut text = String::new();
    while text.len() < bytes {
        let _ = writeln!(text, "{:>8} {:<10} {}", rng.u32(..999_999), word(&mut rng), sentence(&mut rng, 9));
    }
    text
}

const WORDS: [&str; 16] = [
    "alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hôtel", "india", "juliett", "kilo", "lima",
    "mike", "november", "oscar", "papa",
];

fn word(rng: &mut fastrand::Rng) -> &'static str {
    WORDS[rng.usize(..WORDS.len())]
}

fn sentence(rng: &mut fastrand::Rng, words: usize) -> String {
    (0..words).map(|_| word(rng)).collect::<Vec<_>>().join(" ")
}
