//! Which room may know of which: imports run one way.

use std::fs;
use std::path::Path;

/// A room, and the rooms that it may use.
const EDGES: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("files", &[]),
    ("json", &[]),
    ("markup", &[]),
    ("model", &[]),
    ("proto", &[]),
    ("telemetry", &["clock"]),
    ("normalise", &["json", "markup", "model"]),
    ("diff", &["json", "model"]),
    ("post", &["json", "model", "normalise"]),
    ("explain", &["diff", "json", "markup", "model", "normalise"]),
    ("probe", &["diff", "explain", "json", "markup", "model", "normalise"]),
    ("observe", &["explain", "json", "markup", "model", "probe"]),
    ("resource", &["model", "normalise", "diff", "explain", "probe"]),
    ("poll", &["clock", "model", "normalise", "post", "resource", "telemetry"]),
    ("hub", &["model", "resource"]),
    ("deliver", &["clock", "model", "normalise", "diff", "resource", "telemetry"]),
    ("shim", &["model"]),
    ("tls", &["files"]),
    ("upstream", &["clock", "model", "poll", "proto", "resource", "route", "tls"]),
    ("route", &["clock", "deliver", "model", "poll", "post", "resource", "telemetry"]),
    (
        "proxy",
        &[
            "clock",
            "deliver",
            "hub",
            "model",
            "normalise",
            "observe",
            "poll",
            "post",
            "proto",
            "resource",
            "route",
            "shim",
            "telemetry",
            "upstream",
        ],
    ),
    (
        "config",
        &[
            "deliver",
            "files",
            "hub",
            "model",
            "normalise",
            "poll",
            "post",
            "proxy",
            "resource",
            "route",
            "telemetry",
            "tls",
            "upstream",
        ],
    ),
    (
        "admin",
        &[
            "clock",
            "deliver",
            "hub",
            "model",
            "normalise",
            "observe",
            "poll",
            "probe",
            "proxy",
            "resource",
            "route",
            "shim",
            "telemetry",
            "upstream",
        ],
    ),
    (
        "server",
        &[
            "admin",
            "clock",
            "config",
            "deliver",
            "files",
            "hub",
            "observe",
            "poll",
            "proxy",
            "resource",
            "route",
            "shim",
            "telemetry",
            "tls",
            "upstream",
        ],
    ),
    (
        "cli",
        &[
            "clock",
            "config",
            "diff",
            "files",
            "json",
            "model",
            "normalise",
            "observe",
            "post",
            "probe",
            "route",
            "server",
            "telemetry",
            "tls",
            "upstream",
        ],
    ),
];

/// The folders of `proxy`, and which of the others each may use. What a connection's task needs of the listener's state
/// comes through the gateway.
const PROXY_EDGES: &[(&str, &[&str])] = &[
    ("connection", &["gateway", "passthrough", "request", "watched"]),
    ("passthrough", &["connection", "gateway", "request", "watched"]),
    ("request", &["gateway", "passthrough", "watched"]),
    ("watched", &["gateway", "request"]),
    ("gateway", &["request", "watched"]),
];

/// Rooms without I/O: whatever they need of the world comes in as an argument.
const PURE: &[&str] = &["json", "markup", "model", "proto", "normalise", "diff", "explain", "probe", "observe"];

fn files(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).unwrap();
            found.push((name.display().to_string(), fs::read_to_string(&path).unwrap()));
        }
    }
}

fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    files(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut found);
    assert!(found.len() > 50, "the sources are elsewhere");
    found
}

fn room(file: &str) -> &str {
    file.split('/').next().unwrap().trim_end_matches(".rs")
}

#[test]
fn imports_run_one_way() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let room = room(&file);
        if matches!(room, "main" | "lib") {
            continue;
        }
        let (_, allowed) =
            EDGES.iter().find(|(known, _)| *known == room).unwrap_or_else(|| panic!("{file} is in no known room"));
        for used in text.split("crate::").skip(1) {
            let used = used.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
            if used != room
                && !used.is_empty()
                && EDGES.iter().any(|(known, _)| *known == used)
                && !allowed.contains(&used)
            {
                wrong.push(format!("{file} uses crate::{used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_rooms_have_no_cycle() {
    fn visit<'a>(room: &'a str, path: &mut Vec<&'a str>) {
        assert!(!path.contains(&room), "{path:?} leads back to {room}");
        path.push(room);
        for next in EDGES.iter().find(|(known, _)| *known == room).map_or(&[][..], |(_, next)| next) {
            visit(next, path);
        }
        path.pop();
    }
    for (room, _) in EDGES {
        visit(room, &mut Vec::new());
    }
}

#[test]
fn pure_rooms_touch_neither_sockets_nor_files() {
    let forbidden = [
        "tokio::net",
        "tokio::fs",
        "std::fs",
        "std::net::Tcp",
        "std::process",
        "std::env",
        "tokio::spawn",
        "crate::clock",
    ];
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        if PURE.contains(&room(&file)) {
            wrong.extend(
                forbidden.iter().filter(|used| text.contains(**used)).map(|used| format!("{file} uses {used}")),
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_file_outgrows_its_reader() {
    let long: Vec<_> = sources()
        .into_iter()
        .map(|(file, text)| (text.lines().count(), file))
        .filter(|(lines, _)| *lines > 500)
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn folders_of_the_proxy_use_each_other_as_listed() {
    let mut wrong = Vec::new();
    for (file, text) in sources() {
        let Some(inside) = file.strip_prefix("proxy/") else { continue };
        let folder = room(inside);
        if folder == "mod" {
            continue;
        }
        let (_, allowed) = PROXY_EDGES
            .iter()
            .find(|(known, _)| *known == folder)
            .unwrap_or_else(|| panic!("{file} is in no known folder"));
        for used in text.split("crate::proxy::").skip(1) {
            let used = used.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
            let is_folder = PROXY_EDGES.iter().any(|(known, _)| *known == used);
            if is_folder && used != folder && !allowed.contains(&used) {
                wrong.push(format!("{file} uses crate::proxy::{used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
