//! Patches, applied by implementations that are not ours. They are installed by `tests/run`, so this is only run on
//! request: `tests/run interop`.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Map, Value, json};
use sungrazer::diff::delta;
use sungrazer::model::DeltaKind;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::support::within;

/// How many pairs of each kind there are.
const PAIRS: usize = 600;

/// JSON that every reader reads in the same way: no key twice, no number that a double cannot hold.
fn value(rng: &mut fastrand::Rng, depth: usize) -> Value {
    const TEXTS: [&str; 7] =
        ["", "a", "é", "😀 日本", "\"quoted\\\"", "line\nend\u{2028}", "a longer text, which it costs to repeat"];
    match rng.u8(..if depth == 0 { 5 } else { 9 }) {
        0 => Value::Null,
        1 => rng.bool().into(),
        2 => rng.i64(-(1 << 53)..1 << 53).into(),
        3 => json!(f64::from(rng.i32(-9999..9999)) / 8.0),
        4 => TEXTS[rng.usize(..TEXTS.len())].into(),
        5 | 6 => {
            let keyed = rng.bool();
            let items = (0..rng.usize(..7)).map(|n| match keyed {
                true => json!({"id": n * 7 + rng.usize(..3), "v": value(rng, depth - 1)}),
                false => value(rng, depth - 1),
            });
            items.collect::<Vec<_>>().into()
        }
        _ => object(rng, depth - 1),
    }
}

fn object(rng: &mut fastrand::Rng, depth: usize) -> Value {
    const KEYS: [&str; 9] = ["a", "b", "c/d", "e~f", "", "é", "id", "items", "0"];
    let members: Map<String, Value> =
        (0..rng.usize(..7)).map(|_| (KEYS[rng.usize(..KEYS.len())].to_owned(), value(rng, depth))).collect();
    members.into()
}

/// Changes a few things in `value`.
fn changed(value: &mut Value, rng: &mut fastrand::Rng) {
    match value {
        Value::Array(items) if !items.is_empty() && rng.u8(..4) > 0 => {
            let at = rng.usize(..items.len());
            match rng.u8(..5) {
                0 => drop(items.remove(at)),
                1 => items.insert(at, self::value(rng, 1)),
                2 => {
                    let item = items.remove(at);
                    items.insert(rng.usize(..=items.len()), item);
                }
                _ => changed(&mut items[at], rng),
            }
        }
        Value::Object(members) if !members.is_empty() && rng.u8(..4) > 0 => {
            let key = members.keys().nth(rng.usize(..members.len())).unwrap().clone();
            match rng.u8(..4) {
                0 => drop(members.remove(&key)),
                1 => drop(members.insert("new/~".to_owned(), self::value(rng, 1))),
                _ => changed(members.get_mut(&key).unwrap(), rng),
            }
        }
        other => *other = self::value(rng, 1),
    }
}

fn page(rng: &mut fastrand::Rng) -> String {
    let mut page = String::from("<!DOCTYPE html>\r\n<title>Jobs 😀</title>\n<table>\n");
    for n in 0..30 {
        let state = ["queued", "läuft", "完了", "😀"][rng.usize(..4)];
        let _ = writeln!(page, "<tr id=r{n}><td>job {n}</td><td class=state>{state}</td><td>{} s</td></tr>", n * 3);
    }
    page + "</table>\n"
}

/// All pairs that have a patch, one a line.
fn cases() -> String {
    let mut lines = String::new();
    let mut add = |kind: DeltaKind, base: &str, target: &str| {
        if let Ok(patch) = delta(kind, base, target) {
            let patch = String::from_utf8(patch).unwrap();
            let case = json!({"kind": kind.as_str(), "base": base, "target": target, "patch": patch});
            let _ = writeln!(lines, "{case}");
        }
    };
    let mut rng = fastrand::Rng::with_seed(11);
    for _ in 0..PAIRS {
        let keep = json!("what does not change, so that a patch is the smaller thing".repeat(3));
        let mut document = object(&mut rng, 4);
        document["keep"] = keep;
        let base = document.to_string();
        for _ in 0..rng.usize(1..5) {
            let Value::Object(members) = &mut document else { unreachable!("it was made as one") };
            let at = rng.usize(..members.len());
            changed(members.values_mut().nth(at).unwrap(), &mut rng);
        }
        let target = format!("{document:#}");
        add(DeltaKind::JsonPatch, &base, &target);
        add(DeltaKind::MergePatch, &base, &target);
        let (base, target) = (page(&mut rng), page(&mut rng));
        add(DeltaKind::Splice, &base, &target);
    }
    lines
}

/// Has the cases judged. Returns how many were right, by kind.
async fn judged(mut command: Command, cases: &str) -> Value {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let write = async {
        stdin.write_all(cases.as_bytes()).await.unwrap();
        drop(stdin);
    };
    let (output, ()) =
        within("the patches to be applied", async { tokio::join!(child.wait_with_output(), write) }).await;
    let output = output.unwrap();
    assert!(output.status.success(), "it says so above");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node.js, Python and packages: tests/run interop"]
async fn others_make_of_our_patches_what_they_were_made_for() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
    let cases = cases();
    let mut node = Command::new("node");
    node.arg(folder.join("apply.mjs"));
    let mut python = Command::new(std::env::var_os("INTEROP_PYTHON").unwrap_or_else(|| "python3".into()));
    python.arg(folder.join("apply.py"));
    let (node, python) = (judged(node, &cases).await, judged(python, &cases).await);
    println!("applied by Node.js: {node}; by Python: {python}");
    for (judge, kind) in [(&node, "json-patch"), (&node, "merge-patch"), (&node, "splice"), (&python, "json-patch")] {
        assert!(judge[kind].as_u64().is_some_and(|count| count > 100), "too few to mean anything: {judge}");
    }
}
