//! Generates documentation from the schema: a reference in Markdown, and an example file with all defaults.

use std::fmt::Write;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::Value;

use super::file;
use super::read::object_of;
use super::schema;

/// Keys whose description is not fully implemented yet, and the missing part.
const PENDING: &[(&str, &str, &str)] = &[];

/// A table of the file.
pub(super) struct Section {
    pub(super) name: &'static str,
    /// The header of the table in the file.
    pub(super) header: &'static str,
    /// The schema of the table.
    table: Value,
    defaults: Value,
}

/// One key of a table.
pub(super) struct Key<'a> {
    pub(super) section: &'static str,
    pub(super) name: &'a str,
    schema: &'a Value,
    /// The default value.
    pub(super) default: Option<&'a Value>,
    pending: Option<&'static str>,
}

impl Section {
    pub(super) fn all() -> Vec<Self> {
        let schema = schema();
        [("server", "[server]"), ("upstream", "[upstream]"), ("route", "[[route]]")]
            .into_iter()
            .map(|(name, header)| {
                let property = &schema["properties"][name];
                let table = property.get("items").unwrap_or_else(|| object_of(property));
                let mut table = table.clone();
                // A list of routes is described by the description of a route.
                table["description"] = property["description"].clone();
                let defaults = match property.get("items") {
                    Some(_) => serde_json::to_value(file::Route::default()).unwrap_or_default(),
                    None => property["default"].clone(),
                };
                Self { name, header, table, defaults }
            })
            .collect()
    }

    /// Returns its keys in the order of declaration.
    pub(super) fn keys(&self) -> Vec<Key<'_>> {
        let order = match self.name {
            "server" => declared::<file::Server>(),
            "upstream" => declared::<file::Upstream>(),
            _ => declared::<file::Route>(),
        };
        let pending = |name| PENDING.iter().find(|(section, key, _)| (*section, *key) == (self.name, name));
        order
            .iter()
            .map(|name| Key {
                section: self.name,
                name,
                schema: &self.table["properties"][name],
                default: self.defaults.get(name),
                pending: pending(*name).map(|(_, _, what)| *what),
            })
            .collect()
    }
}

impl Key<'_> {
    fn meaning(&self) -> String {
        self.schema["description"].as_str().unwrap_or_default().replace('\n', " ")
    }

    /// Returns the keys of a table value in the order of declaration.
    pub(super) fn order(&self) -> &'static [&'static str] {
        match (self.section, self.name) {
            ("server", "tls") => declared::<file::TlsFiles>(),
            ("upstream", "tls") => declared::<file::UpstreamTls>(),
            (_, "request_headers" | "response_headers") => declared::<super::headers::Headers>(),
            (_, "audience") => declared::<file::SelectedAudience>(),
            (_, "post") => declared::<super::post::Post>(),
            (_, "ignore") => declared::<file::Ignore>(),
            (_, "history") => declared::<file::History>(),
            _ => &[],
        }
    }

    fn inner(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        let choices = self.schema.get("anyOf").and_then(Value::as_array).into_iter().flatten();
        let table = std::iter::once(self.schema).chain(choices).find(|schema| schema.get("properties").is_some());
        self.order().iter().filter_map(move |name| Some((*name, table?["properties"].get(name)?)))
    }

    /// Returns the default in TOML syntax, if there is one.
    fn written(&self) -> Option<String> {
        match self.default? {
            Value::Object(table) => Some(self.table(|name, _| toml_of(&table[name]))),
            other => Some(toml_of(other)),
        }
    }

    /// Returns an example value for a key without a default.
    fn example(&self) -> String {
        match self.schema.get("examples").and_then(|examples| examples.get(0)) {
            Some(example) => toml_of(example),
            None => self.table(|_, schema| toml_of(schema.get("default").unwrap_or(&schema["examples"][0]))),
        }
    }

    fn table(&self, value: impl Fn(&str, &Value) -> String) -> String {
        let pairs: Vec<String> =
            self.inner().map(|(name, schema)| format!("{name} = {}", value(name, schema))).collect();
        format!("{{ {} }}", pairs.join(", "))
    }

    /// Describes the possible values.
    fn value(&self) -> String {
        match (kind(self.schema), self.inner().next()) {
            (Some("object"), Some(_)) => format!("a table: `{}`", self.table(|_, _| "…".to_owned())),
            _ => value(self.schema),
        }
    }
}

/// Returns a Markdown reference of every key with its default and description.
pub fn reference() -> String {
    let mut text = String::new();
    for section in Section::all() {
        let description = section.table["description"].as_str().unwrap_or_default();
        let _ = writeln!(text, "## `{}`\n\n{description}\n", section.header);
        text.push_str("| key | default | value | meaning |\n| --- | --- | --- | --- |\n");
        for key in section.keys() {
            let mut meaning = key.meaning();
            if let Some(pending) = key.pending {
                let _ = write!(meaning, " *{pending}*");
            }
            row(&mut text, key.name, key.written(), &key.value(), &meaning);
            for (name, schema) in key.inner() {
                let meaning = schema["description"].as_str().unwrap_or_default();
                let default = schema.get("default").map(toml_of);
                row(&mut text, &format!("{}.{name}", key.name), default, &value(schema), meaning);
            }
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn row(text: &mut String, key: &str, default: Option<String>, value: &str, meaning: &str) {
    let default = default.map_or_else(|| "none".to_owned(), |default| format!("`{default}`"));
    let cell = |text: &str| text.replace('\n', " ").replace('|', "\\|");
    let _ = writeln!(text, "| `{key}` | {} | {} | {} |", cell(&default), cell(value), cell(meaning));
}

/// Describes the values that `schema` allows.
fn value(schema: &Value) -> String {
    if let Some(title) = schema["title"].as_str() {
        // The introduction of the reference explains how such values are written.
        return title.split(" such as ").next().unwrap_or(title).to_owned();
    }
    if let Some(only) = schema.get("const") {
        return format!("`{}`", toml_of(only));
    }
    if let Some(choices) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array) {
        return choices.iter().map(value).collect::<Vec<_>>().join(", ");
    }
    match kind(schema) {
        Some("boolean") => "`true`, `false`".to_owned(),
        Some("integer") => "a whole number".to_owned(),
        Some("array") => format!("a list, each {}", value(&schema["items"])),
        Some("object") => "a table".to_owned(),
        _ => "a text".to_owned(),
    }
}

/// Returns the JSON type of a value other than null.
fn kind(schema: &Value) -> Option<&str> {
    match &schema["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null"),
        kind => kind.as_str(),
    }
}

/// Returns a complete file in which every key has its default, with its description above it. Keys without a default
/// have an example: the application's address and one route are active, optional keys are commented out.
pub fn example() -> String {
    let mut text = String::from(
        "#:schema sungrazer.schema.json\n\
         # Every key of Sungrazer's configuration, with its default. Only the two that are marked as examples must be\n\
         # written; leave out what you do not change.\n",
    );
    for section in Section::all() {
        let description = section.table["description"].as_str().unwrap_or_default();
        let _ = writeln!(text, "\n{}{}", comment(description), section.header);
        for key in section.keys() {
            text.push('\n');
            let pending = key.pending.unwrap_or_default();
            text.push_str(&comment(&format!("{} {pending}", key.meaning()).replace('`', "")));
            let is_required = matches!((key.section, key.name), ("upstream", "url") | ("route", "path"));
            let _ = match (key.written(), is_required) {
                (Some(default), _) => writeln!(text, "{} = {default}", key.name),
                (None, true) => writeln!(text, "{} = {}    # an example", key.name, key.example()),
                (None, false) => writeln!(text, "# {} = {}", key.name, key.example()),
            };
        }
    }
    text
}

const WIDTH: usize = 110;

/// Formats `text` as comment lines.
fn comment(text: &str) -> String {
    let mut lines = String::from("#");
    let mut width = 1;
    for word in text.split_whitespace() {
        if width + 1 + word.chars().count() > WIDTH {
            lines.push_str("\n#");
            width = 1;
        }
        lines.push(' ');
        lines.push_str(word);
        width += 1 + word.chars().count();
    }
    lines.push('\n');
    lines
}

pub(super) fn toml_of(value: &Value) -> String {
    match value {
        // JSON does not escape this character, but TOML must.
        Value::String(text) if text.contains('\u{7f}') => value.to_string().replace('\u{7f}', "\\u007f"),
        Value::Array(array) => format!("[{}]", array.iter().map(toml_of).collect::<Vec<_>>().join(", ")),
        Value::Object(table) if table.is_empty() => "{}".to_owned(),
        Value::Object(table) => {
            let pairs =
                table.iter().map(|(key, value)| format!("{} = {}", toml_of(&key.as_str().into()), toml_of(value)));
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// Returns the names of a struct's fields in the order of declaration, as `serde` passes them to a deserializer.
fn declared<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    // The names are captured on the call; there is no value to read.
    let _ = T::deserialize(Fields(&mut names));
    names
}

struct Fields<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Fields<'_> {
    type Error = de::value::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("only the names of fields are of interest"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Overrides, parse};

    #[test]
    fn every_key_is_told_of_in_the_order_of_the_file() {
        assert_eq!(declared::<file::File>(), ["server", "upstream", "route"]);
        for section in Section::all() {
            let keys = section.keys();
            let known = section.table["properties"].as_object().expect("a table");
            assert_eq!(keys.len(), known.len(), "{}", section.header);
            for key in keys {
                assert!(!key.meaning().is_empty(), "{} {}", section.header, key.name);
                assert!(key.default.is_some() || key.example() != "{  }", "{} {}", section.header, key.name);
                let tables = serde_json::to_string(key.schema).expect("a schema").matches("\"properties\"").count();
                assert_eq!(tables > 0, key.inner().count() > 0, "{} {}", section.header, key.name);
            }
        }
    }

    #[test]
    fn pending_keys_exist() {
        for (section, key, _) in PENDING {
            let known = Section::all().into_iter().find(|known| known.name == *section).expect("a section");
            assert!(known.keys().iter().any(|known| known.name == *key), "{section} {key}");
        }
    }

    #[test]
    fn the_example_is_a_good_file_and_says_what_is_so_without_it() {
        let text = example();
        let written = parse("example", &text, &Overrides::default()).expect("a good file");
        let short = "[upstream]\nurl = \"http://127.0.0.1:8000\"\n[[route]]\npath = \"/api/messages\"\n";
        let mut unwritten = parse("short", short, &Overrides::default()).expect("a good file");
        // The texts themselves differ.
        unwritten.written = written.written;
        assert_eq!(format!("{written:?}"), format!("{unwritten:?}"));
    }
}
