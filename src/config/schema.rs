//! The file's JSON Schema, and the reference that is made of it.

use std::fmt::Write;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::file::File;

/// The JSON Schema (draft 2020-12) of the file, all in one piece.
pub fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<File>().to_value();
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".to_owned(), "sungrazer.toml".into());
    }
    schema
}

/// Every key with its default and its meaning, in Markdown.
pub fn reference() -> String {
    let schema = schema();
    let mut text = String::new();
    for (section, heading) in [("server", "`[server]`"), ("upstream", "`[upstream]`"), ("route", "`[[route]]`")] {
        let property = &schema["properties"][section];
        let table = if property.get("items").is_some() { &property["items"] } else { property };
        let defaults =
            if section == "route" { default_route() } else { schema["properties"][section]["default"].clone() };
        let _ = writeln!(
            text,
            "## {heading}\n\n{}\n\n| key | default | meaning |\n| --- | --- | --- |",
            property["description"].as_str().unwrap_or_default()
        );
        rows(&mut text, "", table, &defaults);
        text.push('\n');
    }
    text
}

fn rows(text: &mut String, prefix: &str, table: &Value, defaults: &Value) {
    for (key, property) in table["properties"].as_object().into_iter().flatten() {
        let default = defaults.get(key).map_or_else(|| "none".to_owned(), |value| format!("`{}`", toml_of(value)));
        let meaning = property["description"].as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|");
        let _ = writeln!(text, "| `{prefix}{key}` | {default} | {meaning} |");
        if property.get("properties").is_some() {
            rows(text, &format!("{prefix}{key}."), property, &defaults[key]);
        }
    }
}

fn default_route() -> Value {
    serde_json::to_value(super::file::Route::default()).unwrap_or_default()
}

fn toml_of(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let pairs: Vec<String> = object.iter().map(|(key, value)| format!("{key} = {}", toml_of(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        Value::Array(array) => format!("[{}]", array.iter().map(toml_of).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}
