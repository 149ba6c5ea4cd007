//! What is written for readers: it must say what the program does, and point at what is there.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Arg, Command, CommandFactory};
use sungrazer::cli::Cli;
use sungrazer::config::{self, Overrides};
use sungrazer::telemetry::ALL_METRICS;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// How to bring generated files up to date.
const UPDATE: &str = "UPDATE_DOCUMENTS=1 cargo test --test integration documents";

/// Sees to it that the file `name` holds `text`; writes it if that is asked for.
fn holds(name: &str, text: &str) {
    let path = root().join(name);
    if std::env::var_os("UPDATE_DOCUMENTS").is_some() {
        fs::write(&path, text).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "{name} is not what the program says of itself; to bring it up to date: {UPDATE}");
}

#[test]
fn the_shipped_file_says_all_defaults() {
    holds("config/sungrazer.toml", &config::example());
}

#[test]
fn editors_find_the_schema_that_the_shipped_file_names() {
    assert!(config::example().starts_with("#:schema sungrazer.schema.json\n"), "editors look for it in the first line");
    holds("config/sungrazer.schema.json", &format!("{:#}\n", config::schema()));
}

/// Replaces the generated part of `name`, which is everything after the line `begin`.
fn generated(name: &str, begin: &str, text: &str) {
    let found = fs::read_to_string(root().join(name)).unwrap();
    let (before, _) =
        found.split_once(begin).unwrap_or_else(|| panic!("{name} has lost the line behind which it is generated"));
    holds(name, &format!("{before}{begin}\n{text}"));
}

#[test]
fn the_reference_is_what_the_program_says_of_itself() {
    const BEGIN: &str = "<!-- What follows is made of the program's own schema. -->\n";
    generated("docs/reference/configuration.md", BEGIN, &config::reference());
}

#[test]
fn the_command_line_is_what_the_program_says_of_itself() {
    const BEGIN: &str = "<!-- Generated from the program's own help. -->\n";
    let root = Cli::command();
    let mut text = options(&root, "Options of every command", Arg::is_global_set);
    for command in root.get_subcommands() {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let title = format!("`sungrazer {}`\n\n{about}.", command.get_name());
        text += &options(command, &title, |argument| !argument.is_global_set());
    }
    generated("docs/reference/cli.md", BEGIN, text.trim_start());
}

const HEADS: &str = "\n| argument | environment | default | meaning |\n| --- | --- | --- | --- |\n";

/// A section about `command`: its arguments that are `wanted`, as a table.
fn options(command: &Command, title: &str, wanted: fn(&Arg) -> bool) -> String {
    let rows: Vec<String> = command.get_arguments().filter(|argument| wanted(argument)).map(option).collect();
    let heads = if rows.is_empty() { "" } else { HEADS };
    format!("\n## {title}\n{heads}{}", rows.concat())
}

/// The row of `argument`. A default that the program only finds at run time stands at the end of its help.
fn option(argument: &Arg) -> String {
    let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
    let values = argument.get_action().takes_values();
    let value = match argument.get_value_names() {
        Some([name, ..]) if values => format!(" <{name}>"),
        _ => String::new(),
    };
    let name = match (argument.get_short(), argument.get_long()) {
        (Some(short), Some(long)) => format!("`-{short}`, `--{long}{value}`"),
        (None, Some(long)) => format!("`--{long}{value}`"),
        _ => format!("`{}`", value.trim()),
    };
    let variable = code(&argument.get_env().unwrap_or_default().to_string_lossy());
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let (meaning, said) = help.split_once(" [default: ").unwrap_or((&help, ""));
    let mut default = said.trim_end_matches(']').to_owned();
    let mut meaning = meaning.to_owned();
    if values {
        if let [first, ..] = argument.get_default_values() {
            default = code(&first.to_string_lossy());
        }
        let words: Vec<String> = argument.get_possible_values().iter().map(|value| code(value.get_name())).collect();
        if !words.is_empty() {
            meaning = format!("{meaning}: {}", words.join(", "));
        }
    }
    format!("| {name} | {variable} | {default} | {meaning} |\n")
}

#[test]
fn the_table_of_metrics_is_what_there_is() {
    let text = fs::read_to_string(root().join("docs/reference/metrics.md")).unwrap();
    let (_, table) = text.split_once("| metric | |\n").expect("the table of metrics");
    let quoted = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let mut rows: Vec<(String, Vec<String>)> = table
        .lines()
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|row| {
            let mut all = quoted(row);
            let name = all.remove(0);
            (name, all)
        })
        .collect();
    for (name, values) in ALL_METRICS {
        let at = rows.iter().position(|(row, _)| row == name).unwrap_or_else(|| panic!("no row for {name}"));
        let (_, told) = rows.remove(at);
        for value in *values {
            assert!(told.contains(&(*value).to_owned()), "{name} can be {value:?}, which its row does not say");
        }
    }
    assert!(rows.is_empty(), "there are no such metrics: {rows:?}");
}

/// Every Markdown file that is written for readers.
fn documents() -> Vec<PathBuf> {
    fn visit(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("node_modules") && !path.ends_with("target") {
                visit(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    let mut found = vec![root().join("README.md"), root().join("CHANGELOG.md")];
    for folder in ["docs", "examples", "tests"] {
        visit(&root().join(folder), &mut found);
    }
    found
}

/// The blocks of `text` that are fenced as `language`, each with the line on which it begins.
pub fn blocks(text: &str, language: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if line.trim() == format!("```{language}") {
            let block = lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```");
            found.push((number + 2, block.map(|line| format!("{line}\n")).collect()));
        }
    }
    found
}

#[test]
fn every_configuration_that_is_shown_is_good() {
    let mut shown = 0;
    for path in documents() {
        let text = fs::read_to_string(&path).unwrap();
        for (line, block) in blocks(&text, "toml") {
            let name = format!("{}:{line}", path.display());
            // The certificates that are named are not here.
            let block: String =
                block.lines().filter(|line| !line.starts_with("tls = ")).map(|line| format!("{line}\n")).collect();
            // A block may show a part of a file.
            let upstream = (!block.contains("[upstream]")).then(|| "http://127.0.0.1:8000".to_owned());
            let overrides = Overrides { upstream, ..Overrides::default() };
            config::parse(&name, &block, &overrides).unwrap_or_else(|found| panic!("{name}\n{found}"));
            shown += 1;
        }
    }
    assert!(shown >= 3, "the blocks are fenced otherwise");
    for path in
        ["examples/wiki/sungrazer.toml", "examples/rq-dashboard/sungrazer.toml", "examples/gallery/sungrazer.toml"]
    {
        let text = fs::read_to_string(root().join(path)).unwrap();
        config::parse(path, &text, &Overrides::default()).unwrap_or_else(|found| panic!("{found}"));
    }
}

#[test]
fn links_lead_somewhere() {
    let mut lost = Vec::new();
    for path in documents() {
        let text = fs::read_to_string(&path).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            if file.contains("://") {
                continue;
            }
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let there = match fs::read_to_string(&target) {
                Ok(text) => anchor.is_empty() || headings(&text).iter().any(|heading| heading == anchor),
                Err(_) => anchor.is_empty() && target.exists(),
            };
            if !there {
                lost.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(lost.is_empty(), "{lost:#?}");
}

/// The anchors of a document's headings, as they are made of their texts.
fn headings(text: &str) -> Vec<String> {
    text.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            let kept = line.trim_start_matches('#').trim().to_lowercase();
            kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>().replace(' ', "-")
        })
        .collect()
}

/// Whether there is a test that is called so: a function or a file of the integration tests, a module with unit tests, or a
/// file.
fn is_a_test(name: &str) -> bool {
    let read = |path: String| fs::read_to_string(root().join(path)).ok();
    if name.contains('/') {
        return read(name.to_owned()).is_some();
    }
    match name.split_once("::") {
        None => read(format!("tests/{name}.rs")).is_some_and(|text| text.contains("fn ")),
        Some((file, function)) => match read(format!("tests/{file}.rs")) {
            Some(text) => text.contains(&format!("fn {function}(")),
            None => read(format!("src/{}.rs", name.replace("::", "/"))).is_some_and(|text| text.contains("mod tests")),
        },
    }
}

#[test]
fn every_threat_has_a_test_that_exists() {
    let text = fs::read_to_string(root().join("docs/internals/threats.md")).unwrap();
    let (_, table) = text.split_once("| threat | what stands against it | test |\n").expect("the table of threats");
    let rows: Vec<&str> = table.lines().skip(1).take_while(|line| line.starts_with('|')).collect();
    assert!(rows.len() > 10, "the table has lost its rows");
    for row in rows {
        let tests = row.trim_end_matches('|').rsplit('|').next().unwrap();
        let named: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "no test covers this: {row}");
        for name in named {
            assert!(is_a_test(name), "docs/internals/threats.md names {name}, and there is no such test");
        }
    }
    assert!(!is_a_test("security::nothing") && !is_a_test("nothing") && !is_a_test("proxy::nothing"));
}

#[test]
fn what_is_shown_of_the_examples_is_what_they_are() {
    for (example, document) in [
        ("examples/wiki/sungrazer.toml", "examples/wiki/README.md"),
        ("examples/rq-dashboard/sungrazer.toml", "examples/rq-dashboard/README.md"),
        ("examples/gallery/sungrazer.toml", "examples/gallery/README.md"),
    ] {
        let file = fs::read_to_string(root().join(example)).unwrap();
        let text = fs::read_to_string(root().join(document)).unwrap();
        let said = |text: &str| -> Vec<String> {
            let code = text.lines().map(|line| line.split(" #").next().unwrap_or_default().trim().to_owned());
            code.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
        };
        for (line, block) in blocks(&text, "toml") {
            for shown in said(&block) {
                assert!(said(&file).contains(&shown), "{document}:{line} shows {shown:?}, which is not in {example}");
            }
        }
    }
}
