//! `sungrazer probe`: what it prints makes a resource silent that changes by itself, and hides no change.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::backend::{Backend, Page};
use crate::support::program::{Scratch, run};
use crate::support::sidecar::Sidecar;
use crate::support::{eventually, within};

/// Probes a URL, and returns what was printed.
async fn probe(url: &str, more: &[&str]) -> String {
    let args: Vec<&str> =
        ["probe", url, "--times", "5", "--every", "400ms"].into_iter().chain(more.iter().copied()).collect();
    let output = run(&args).await;
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "there is nobody at a terminal");
    String::from_utf8(output.stdout).unwrap()
}

/// What the application says at a moment: with a clock, a counter of requests, a token, and a value that matters.
struct Legacy {
    begun: Instant,
    asked: AtomicU64,
    value: AtomicU64,
}

impl Legacy {
    fn fill(&self, body: &str) -> String {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        let now = std::time::SystemTime::now();
        let unix = now.duration_since(std::time::UNIX_EPOCH).unwrap();
        let token = format!("{:016x}", (asked + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        body.replace("CLOCK", &unix.as_millis().to_string())
            .replace("DATE", &humantime::format_rfc3339_millis(now).to_string())
            .replace("UPTIME", &format!("{:.1}", 5000.0 + self.begun.elapsed().as_secs_f64()))
            .replace("COUNT", &(90 + asked).to_string())
            .replace("TOKEN", &token)
            .replace("VALUE", &self.value.load(Ordering::SeqCst).to_string())
    }
}

/// Probes `body`, puts the answer in front of the application, and sees that it is silent until `VALUE` changes.
async fn is_calmed(content_type: &str, body: &str, rules: &[&str]) -> String {
    let backend = Backend::start().await;
    let legacy = Arc::new(Legacy { begun: Instant::now(), asked: AtomicU64::new(0), value: AtomicU64::new(100_000) });
    backend.handle("/a", {
        let (legacy, body, content_type) = (Arc::clone(&legacy), body.to_owned(), content_type.to_owned());
        move |_| Page::new(&content_type, legacy.fill(&body))
    });
    let block = probe(&format!("{}/a", backend.url()), &[]).await;
    let flat = block.split_whitespace().collect::<Vec<_>>().join(" ");
    for rule in rules {
        assert!(flat.contains(rule), "{rule} is missing in:\n{block}");
    }
    assert!(block.contains("with the rules below, none is a change"), "{block}");
    let quick = block.replace("every = \"1s\"", "every_max = \"50ms\"\nevery = \"50ms\"");
    assert_ne!(quick, block);
    let sidecar = Sidecar::with(&quick);
    let mut events = sidecar.events("/a").await;
    let first = events.snapshot().await;
    for value in [200_000_u64, 300_000] {
        let fetches = backend.hits("/a");
        eventually("more fetches", || backend.hits("/a") > fetches + 8).await;
        let silence = tokio::time::timeout(Duration::from_millis(100), events.next()).await;
        assert!(silence.is_err(), "{silence:?} after {first:?} with\n{block}");
        legacy.value.store(value, Ordering::SeqCst);
        assert!(within("the change", events.snapshot()).await.data.contains(&value.to_string()));
    }
    block
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_counters_and_tokens_in_json_are_found() {
    is_calmed(
        "application/json",
        r#"{"now":CLOCK,"meta":{"at":"DATE","up":UPTIME,"n":COUNT},"row":["x",CLOCK,VALUE,null],"items":[{"id":1,"etag":"TOKEN","v":VALUE},{"id":2,"etag":"2TOKEN","v":7}]}"#,
        &[
            "\"/now\", # a clock;",
            "\"/meta/at\", # a clock;",
            "\"/meta/up\", # an age or an uptime;",
            "\"/meta/n\", # counts the fetches;",
            "\"/row/1\", # a clock;",
            "\"/items/*/etag\", # made anew for each answer;",
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_ages_in_html_are_found() {
    is_calmed(
        "text/html; charset=utf-8",
        "<!DOCTYPE html><title>Jobs</title><form><input type=hidden name=csrf value=TOKEN><input name=job value=VALUE></form>\
         <p>VALUE jobs</p><p>DATE</p><table class=jobs><tr><td>VALUE<td>UPTIME s<tr><td>x<td>UPTIME s</table><em>up UPTIME s</em>\
         <div>This page was generated for you by a machine with pleasure as answer number COUNT, with VALUE jobs.</div>\
         <i>seen 3 hours ago</i><script>var token = 'TOKEN', jobs = VALUE;</script><!-- took COUNT ms -->",
        &[
            "input[name=\\\"csrf\\\"]@value",
            "p:nth-child(",
            "td:nth-child(2)",
            ">up (?<cut>",
            "as answer number (?<cut>",
            "(?<cut>",
            "hour|day",
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ages_and_counters_in_text_are_found() {
    is_calmed(
        "text/plain",
        "status ok\njobs VALUE\nuptime UPTIME s\nrequest COUNT took COUNT ms\nid=TOKEN\n",
        &["uptime (?<cut>", "request (?<cut>", "id=(?<cut>"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_news_is_not_ignored_but_named() {
    let backend = Backend::start().await;
    let begun = Instant::now();
    backend.handle("/a", move |_| {
        // New about once a second, and never in direct succession.
        let load = begun.elapsed().as_millis() / 700;
        Page::json(&format!(r#"{{"load":"{}","v":1}}"#, ["low", "high", "mean"][load as usize % 3]))
    });
    let block = probe(&format!("{}/a", backend.url()), &[]).await;
    assert!(block.contains("#   \"/load\",") && block.contains("undecided: changes;"), "{block}");
    assert!(block.contains("still are changes") && block.contains("Not decided"), "{block}");
    assert!(!block.contains("\nignore."), "{block}");
    Sidecar::with(&block);
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_tell_what_a_watch_has_to_mind() {
    let backend = Backend::start().await;
    let count = AtomicU64::new(0);
    backend.handle("/a", move |seen| {
        let n = count.fetch_add(1, Ordering::SeqCst);
        let signed_in = seen.header("cookie") == Some("sid=1");
        if !signed_in {
            return Page::text("who are you?").status(401);
        }
        Page::json(&format!("{{\"text\":\"{}\"}}", "x".repeat(4000)))
            .etag()
            .header("Cache-Control", "private, no-store")
            .header("Vary", "Accept-Encoding, X-Tenant, Cookie")
            .header("Set-Cookie", &format!("sid={n}; Path=/"))
    });
    let url = format!("{}/a?id=7&_=1763809200123&since=5#part", backend.url());
    let block = probe(&url, &["-H", "Cookie: sid=1", "-H", "X-Other: 2"]).await;
    for expected in [
        "200, application/json, 4.0 KB;",
        "ETag, and a fetch that asks with them is answered 304",
        "Cache-Control: private, no-store (never shared",
        "Set-Cookie (sid) on 10 of 10 answers, another one each time",
        "Vary: Cookie. Everybody may get another",
        "vary = [\"accept\", \"accept-language\", \"x-requested-with\", \"x-tenant\"]",
        "ignore_query = [\"_\"]",
        "fetch = false",
        "the answer was 401",
        "none: all 10 fetches brought the same bytes",
    ] {
        let flat = block.replace("\n#           ", " ").replace("\n#   ", " ");
        assert!(flat.contains(expected), "{expected:?} is missing in:\n{block}");
    }
    assert!(!block.contains("sid=1"), "a credential was repeated:\n{block}");
    assert!(backend.seen("/a").iter().all(|seen| seen.target == "/a?id=7&_=1763809200123&since=5"));
    Sidecar::with(&block);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_probed_is_refused_with_a_reason() {
    let backend = Backend::start().await;
    backend.set("/login", Page::text("").status(302).header("Location", "/sign-in?next=%2F"));
    backend.set("/basic", Page::text("").status(401).header("WWW-Authenticate", "Basic realm=\"x\""));
    backend.set("/events", Page::new("text/event-stream", "data: 1\n\n"));
    backend.set("/broken", Page::text("").status(503));
    backend.set("/cut", Page::text("a longer text").truncate(3));
    let base = backend.url();
    for (path, reason) in [
        ("/login", "/sign-in?next=%2F"),
        ("/basic", "Basic realm=\"x\""),
        ("/events", "pushes this by itself"),
        ("/broken", "503"),
        ("/missing", "nothing at this URL"),
        ("/cut", "of 10 fetches, 10 failed"),
    ] {
        let output = run(&["probe", &format!("{base}{path}"), "--times", "5", "--every", "1ms"]).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{path}: {stderr}");
        assert!(stderr.contains(reason) && stderr.contains("cannot probe http://"), "{path}: {stderr}");
        assert!(output.stdout.is_empty());
    }
    for (args, code, reason) in [
        (&["probe", "http://127.0.0.1:1/a"][..], 1, "cannot connect to http://127.0.0.1:1"),
        (&["probe", "http://no-such-name.invalid/a"], 1, "cannot resolve no-such-name.invalid"),
        (&["probe", "127.0.0.1:1/a"], 2, "write a whole URL"),
        (&["probe", "http://u:p@x/a"], 2, "-H 'Authorization"),
        (&["probe", "http://x/a", "-H", "nonsense"], 2, "Name: value"),
        (&["probe", "http://x/a/../b"], 2, "no route takes it"),
        (&["probe", "http://x/a", "--times", "1"], 2, "--times"),
        (&["probe", "http://x/a", "http://x/b"], 2, "differ in more than their queries"),
        (&["probe", "http://x/a", "http://y/a"], 2, "differ in more than their queries"),
        (&["probe", "http://x/a", "--write", "/"], 2, "cannot read /"),
    ] {
        let output = run(args).await;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        assert!(stderr.contains(reason), "{args:?}: {stderr}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fetches_that_fail_now_and_then_are_counted() {
    let backend = Backend::start().await;
    let count = AtomicU64::new(0);
    backend.handle("/a", move |_| match count.fetch_add(1, Ordering::SeqCst) % 4 {
        3 => Page::text("").status(500),
        _ => Page::json("1"),
    });
    let block = probe(&format!("{}/a", backend.url()), &[]).await;
    assert!(block.contains("fetches failed: the application answers 500"), "{block}");
}

/// An application whose page adds a token to what it asks for; "id" names what is meant, and "since" is needed.
async fn with_queries() -> Backend {
    let backend = Backend::start().await;
    let count = AtomicU64::new(0);
    backend.handle("/a", move |seen| {
        let query = seen.target.split_once('?').map_or("", |(_, query)| query);
        let id = query.split('&').find_map(|text| text.strip_prefix("id=")).unwrap_or("none");
        Page::json(&format!("{{\"id\":\"{id}\",\"n\":{}}}", count.fetch_add(1, Ordering::SeqCst)))
    });
    backend
}

#[tokio::test(flavor = "multi_thread")]
async fn cache_busters_are_found_in_two_urls_by_leaving_them_out() {
    let backend = with_queries().await;
    let url = |query: &str| format!("{}/a?{query}", backend.url());
    for (one, other, ignored) in [
        ("id=7&t=1763", "id=7&t=1764", "ignore_query = [\"_\", \"t\"]"),
        ("id=7&0.813", "id=7&0.54", "ignore_query = [\"_\", \"#.#\"]"),
        ("id=7&k=ab", "id=7&k=cd", "ignore_query = [\"_\", \"k\"]"),
        // It is another resource, whatever its name suggests.
        ("id=7&ts=1", "id=8&ts=1", ""),
    ] {
        let block = probe(&url(one), &[&url(other)]).await;
        match ignored {
            "" => assert!(!block.contains("ignore_query = ") && block.contains("\"id\" differs"), "{block}"),
            ignored => assert!(block.contains(ignored), "{ignored}\n{block}"),
        }
        assert!(block.contains("new EventSource(\"/a?id=7"), "{block}");
        Sidecar::with(&block);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_written_and_added_to() {
    let backend = with_queries().await;
    backend.set("/b*", Page::json("1"));
    let scratch = Scratch::new("probe-write");
    let file = scratch.path("new.toml").display().to_string();
    let args = |path: &str| {
        let url = format!("{}{path}", backend.url());
        ["probe", &url, "--times", "3", "--every", "1ms", "--write", &file].map(str::to_owned)
    };
    let probed = async |path: &str| {
        let args = args(path);
        let output = run(&args.each_ref().map(String::as_str)).await;
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let (code, said) = probed("/a").await;
    assert!(code == Some(0) && said.contains("wrote ") && said.contains("sungrazer -c "), "{said}");
    let first = std::fs::read_to_string(&file).unwrap();
    let last = "# Pages.\n[[route]]\npath = \"/**\"\nshim = \"learn\"\n";
    std::fs::write(&file, format!("{first}\n{last}")).unwrap();
    let (code, said) = probed("/b*").await;
    assert!(code == Some(0) && said.contains("added a route to "), "{said}");
    let second = std::fs::read_to_string(&file).unwrap();
    assert!(second.ends_with(last), "{second}");
    let output = run(&["check", "-c", &file]).await;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains(&format!("is good: {}, 3 routes", backend.url())), "{said}\n{second}");
    // What is there is neither written twice nor lost.
    let hits = backend.hits("/a");
    let (code, said) = probed("/a").await;
    assert!(code == Some(2) && said.contains("already"), "{said}");
    assert_eq!(backend.hits("/a"), hits, "nothing was asked in vain");
    std::fs::write(&file, format!("{second}\n[sever]\n")).unwrap();
    let (code, said) = probed("/c").await;
    assert!(code == Some(2) && said.contains("did you mean"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{second}\n[sever]\n"));
    assert_eq!(std::fs::read_dir(scratch.path("")).unwrap().count(), 1, "nothing is left behind");
}
