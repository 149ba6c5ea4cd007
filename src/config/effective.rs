//! The effective configuration: every key with its value and the source of the value.

use std::fmt::Write;
use std::path::Path;

use serde_json::Value;

use super::file::File;
use super::reference::{Key, Section, toml_of};
use super::{Error, Overrides, diagnostic, read};

/// Returns the configuration that `run` would use with the file at `path` and `overrides`, as TOML with every key.
/// Tokens in it are redacted.
///
/// # Errors
/// As [`super::load`].
pub fn effective(path: Option<&Path>, overrides: &Overrides) -> Result<String, Error> {
    let (name, text) = super::source(path)?;
    super::parse(&name, &text, overrides).map_err(Error::Wrong)?;
    let mut found = diagnostic::Diagnostics::new(&name, &text);
    let Some((_, mut file)) = read::read(&text, &mut found) else { return Err(Error::Wrong(found)) };
    read::apply(&mut file, overrides, text.trim().is_empty(), &mut found);
    hide_token(&mut file);
    Ok(written(&file, overrides))
}

fn hide_token(file: &mut File) {
    if let Some(token) = &mut file.server.admin_token
        && !token.starts_with("env:")
        && !token.starts_with("file:")
    {
        "(not shown)".clone_into(token);
    }
}

fn written(file: &File, overrides: &Overrides) -> String {
    let values = serde_json::to_value(file).unwrap_or_default();
    let mut text = String::new();
    for section in Section::all() {
        let (tables, header) = match &values[section.name] {
            Value::Array(tables) => (tables.iter().collect(), format!("[[{}]]", section.name)),
            table => (vec![table], format!("[{}]", section.name)),
        };
        for table in tables {
            let gap = if text.is_empty() { "" } else { "\n" };
            let _ = writeln!(text, "{gap}{header}");
            for key in section.keys() {
                line(&mut text, &key, table, overrides);
            }
        }
    }
    text
}

/// The column of trailing comments.
const COLUMN: usize = 48;

fn line(text: &mut String, key: &Key<'_>, table: &Value, overrides: &Overrides) {
    let Some(value) = table.get(key.name) else { return };
    let code = format!("{} = {}", key.name, of(key, value));
    let flag = match (key.section, key.name) {
        ("upstream", "url") if table.get("path").is_none() => {
            overrides.upstream.as_ref().map(|_| "--upstream or SUNGRAZER_UPSTREAM")
        }
        ("server", "listen") => overrides.listen.as_ref().map(|_| "--listen or SUNGRAZER_LISTEN"),
        ("server", "admin") => overrides.admin.as_ref().map(|_| "--admin or SUNGRAZER_ADMIN"),
        _ => None,
    };
    let _ = match flag {
        Some(flag) => writeln!(text, "{code:<COLUMN$} # {flag}"),
        None if key.default == Some(value) => writeln!(text, "{code:<COLUMN$} # default"),
        None => writeln!(text, "{code}"),
    };
}

fn of(key: &Key<'_>, value: &Value) -> String {
    let Value::Object(table) = value else { return toml_of(value) };
    let pairs: Vec<String> =
        key.order().iter().filter_map(|name| Some(format!("{name} = {}", toml_of(table.get(*name)?)))).collect();
    format!("{{ {} }}", pairs.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn effective_of(text: &str, overrides: &Overrides) -> String {
        let mut found = diagnostic::Diagnostics::new("test", text);
        let (_, mut file) = read::read(text, &mut found).expect("TOML");
        read::apply(&mut file, overrides, text.is_empty(), &mut found);
        hide_token(&mut file);
        written(&file, overrides)
    }

    #[test]
    fn what_is_printed_means_the_same() {
        let full = "[server]\nlisten = [\"127.0.0.1:1\", \"[::1]:1\"]\nadmin = \"off\"\ntrusted_proxies = [\"10.0.0.0/8\"]\n\
            [upstream]\nurl = [\"http://a\", \"unix:/run/x\"]\ntls = { server_name = \"b\", verify = false }\n\
            [[route]]\npath = \"/a\"\naudience = { cookies = [\"sid\"] }\nignore.json = [\"/a\\\\\\\"\\u007f\"]\nshim = \"learn\"\n\
            [[route]]\npath = \"/b\"\nignore.regex = ['\\d\"']\nhold = \"25s\"\naudience = \"public\"\nhistory = { versions = 2 }\n";
        let several = "[[upstream]]\npath = \"/b/**\"\nurl = \"http://b\"\neffort = \"2%\"\n[[upstream]]\nurl = \"http://a\"\n\
            [[route]]\npath = \"/b/x\"\n";
        let upstream = Overrides { upstream: Some("http://c:1,http://d".into()), ..Overrides::default() };
        for (text, overrides) in [
            (full, Overrides::default()),
            (full, upstream.clone()),
            (several, Overrides::default()),
            (several, upstream.clone()),
            ("", upstream),
        ] {
            let printed = effective_of(text, &overrides);
            let mut one = parse("one", text, &overrides).expect("a good file");
            let mut other =
                parse("other", &printed, &Overrides::default()).unwrap_or_else(|found| panic!("{found}\n{printed}"));
            for config in [&mut one, &mut other] {
                config.written = crate::model::Digest::of_parts([]);
                config.warnings = None;
            }
            assert_eq!(format!("{one:?}"), format!("{other:?}"), "{printed}");
        }
    }

    #[test]
    fn what_nobody_said_is_marked_and_tokens_are_not_shown() {
        let text = "[server]\nadmin_token = \"hush\"\ndrain = \"1s\"\n[[route]]\npath = \"/a\"\n";
        let overrides = Overrides { upstream: Some("http://c".into()), ..Overrides::default() };
        let printed = effective_of(text, &overrides);
        let line = |begin: &str| printed.lines().find(|line| line.starts_with(begin)).unwrap_or_default();
        assert!(!printed.contains("hush"), "{printed}");
        assert_eq!(line("drain"), "drain = \"1s\"");
        assert!(line("every ").ends_with("# default"), "{printed}");
        assert!(line("url").ends_with("# --upstream or SUNGRAZER_UPSTREAM"), "{printed}");
    }
}
