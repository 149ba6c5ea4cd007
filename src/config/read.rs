//! Parses a text into a [`File`] and reports all mistakes, not only the first.

use std::collections::HashSet;
use std::mem;
use std::ops::Range;

use serde::Deserialize;
use serde_json::Value;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer};

use super::diagnostic::{Diagnostic, Diagnostics, Severity};
use super::file::{File, LearnWord, Route, Shim, Transport, Upstreams};
use super::value::{OneOrMany, Parsed};
use super::{Overrides, schema};

/// The parsed text, used to locate mistakes.
#[derive(Debug)]
pub(super) struct Tree<'a> {
    root: Spanned<DeTable<'a>>,
}

/// A step in the path to a value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

impl Tree<'_> {
    /// Returns the span of the value at `path`, or of the longest existing prefix of the path.
    pub(super) fn span(&self, path: &[Step<'_>]) -> Range<usize> {
        let mut span = self.root.span();
        let mut here = Node::Table(self.root.get_ref());
        for step in path {
            let Some(next) = here.step(*step) else { break };
            span = next.span();
            here = Node::of(next.get_ref());
        }
        span
    }

    /// Returns the numbers of the routes that contain one of the `found` mistakes: between a route's header and the
    /// next.
    pub(super) fn suspects(&self, found: &Diagnostics) -> HashSet<usize> {
        let root = self.root.get_ref();
        let routes = match root.get("route").map(Spanned::get_ref) {
            Some(DeValue::Array(routes)) => &routes[..],
            _ => &[],
        };
        let tables = root.iter().map(|(key, value)| (key.span().start.min(value.span().start), None));
        let mut headers: Vec<(usize, Option<usize>)> =
            tables.chain(routes.iter().enumerate().map(|(index, route)| (route.span().start, Some(index)))).collect();
        headers.sort_unstable();
        let within = |at: usize| headers[..headers.partition_point(|(begin, _)| *begin <= at)].last()?.1;
        found.iter().filter_map(|mistake| within(mistake.span.start)).collect()
    }

    /// Returns whether the file has a value at `path`.
    pub(super) fn has(&self, path: &[Step<'_>]) -> bool {
        let mut here = Node::Table(self.root.get_ref());
        for step in path {
            match here.step(*step) {
                Some(next) => here = Node::of(next.get_ref()),
                None => return false,
            }
        }
        true
    }
}

enum Node<'t, 'i> {
    Table(&'t DeTable<'i>),
    Array(&'t [Spanned<DeValue<'i>>]),
    Leaf,
}

impl<'t, 'i> Node<'t, 'i> {
    fn of(value: &'t DeValue<'i>) -> Self {
        match value {
            DeValue::Table(table) => Self::Table(table),
            DeValue::Array(array) => Self::Array(array),
            _ => Self::Leaf,
        }
    }

    fn step(&self, step: Step<'_>) -> Option<&'t Spanned<DeValue<'i>>> {
        match (self, step) {
            (Self::Table(table), Step::Key(key)) => table.get(key),
            (Self::Array(array), Step::Index(index)) => array.get(index),
            _ => None,
        }
    }
}

/// Parses `text`. Invalid values are reported and replaced by their defaults, so that the rest can be checked too.
/// Returns `None` if the text is not TOML at all.
pub(super) fn read<'a>(text: &'a str, found: &mut Diagnostics) -> Option<(Tree<'a>, File)> {
    let (mut root, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        found.push(Diagnostic {
            severity: Severity::Mistake,
            message: format!("this is not TOML: {}", error.message()),
            span: error.span().unwrap_or(0..0),
            label: "here".to_owned(),
            help: None,
        });
    }
    let tree = Tree { root: root.clone() };
    if !found.is_empty() {
        return None;
    }
    let one = root.get_mut().get_mut("route").and_then(|route| match route.get_ref() {
        DeValue::Table(_) => Some((route.span(), mem::replace(route.get_mut(), DeValue::Array(DeArray::new())))),
        _ => None,
    });
    if let Some((span, one)) = one {
        found.push(Diagnostic {
            severity: Severity::Mistake,
            message: "there can be many routes, so each is an item of a list".to_owned(),
            span: span.clone(),
            label: "one table".to_owned(),
            help: Some("write [[route]], with two brackets".to_owned()),
        });
        // Its content is still checked.
        if let Some(DeValue::Array(routes)) = root.get_mut().get_mut("route").map(Spanned::get_mut) {
            routes.push(Spanned::new(span, one));
        }
    }
    if let Some(upstream) = root.get_ref().get("upstream")
        && let DeValue::Array(items) = upstream.get_ref()
        && !items.iter().all(|item| matches!(item.get_ref(), DeValue::Table(_)))
    {
        found.push(Diagnostic {
            severity: Severity::Mistake,
            message: "an application is a table".to_owned(),
            span: upstream.span(),
            label: "not this".to_owned(),
            help: Some("write url = [\"..\", \"..\"] under [upstream] if it has several addresses".to_owned()),
        });
        root.get_mut().remove("upstream");
    }
    unknown_keys(root.get_mut(), &schema(), "", found);
    // Each route is read separately, so that a mistake in one does not require reading all others again.
    let routes = take_tables(root.get_mut(), "route");
    let upstreams = take_tables(root.get_mut(), "upstream").filter(|upstreams| !upstreams.is_empty());
    let mut file: File = without_mistakes(root, found);
    if let Some(upstreams) = upstreams {
        let upstreams = upstreams.into_iter().map(|upstream| without_mistakes(upstream, found));
        file.upstream = Upstreams::Several(upstreams.collect());
    }
    if let Some(routes) = routes {
        file.route = routes.into_iter().map(|route| without_mistakes(route, found)).collect();
    }
    Some((tree, file))
}

/// Takes the tables of the list `name` out of `root`, if it is one.
fn take_tables<'i>(root: &mut DeTable<'i>, name: &str) -> Option<Vec<Spanned<DeTable<'i>>>> {
    let DeValue::Array(array) = root.get(name)?.get_ref() else { return None };
    if !array.iter().all(|item| matches!(item.get_ref(), DeValue::Table(_))) {
        return None;
    }
    let tables = array.iter().filter_map(|item| match item.get_ref() {
        DeValue::Table(table) => Some(Spanned::new(item.span(), table.clone())),
        _ => None,
    });
    let tables = tables.collect();
    root.remove(name);
    Some(tables)
}

/// Deserialises `root` without its invalid values.
fn without_mistakes<'de, T: Deserialize<'de> + Default>(mut root: Spanned<DeTable<'de>>, found: &mut Diagnostics) -> T {
    loop {
        let error = match T::deserialize(Deserializer::from(root.clone())) {
            Ok(read) => return read,
            Err(error) => error,
        };
        let span = error.span().unwrap_or_else(|| root.span());
        found.push(Diagnostic {
            severity: Severity::Mistake,
            message: sentence(error.message()),
            span: span.clone(),
            label: "not this".to_owned(),
            help: meant(error.message()),
        });
        if found.is_full() || !remove(root.get_mut(), &span) {
            return T::default();
        }
    }
}

fn sentence(message: &str) -> String {
    if let Some(word) = message.strip_prefix("unknown variant ") {
        return format!("this cannot be {}", word.replace('`', "\""));
    }
    let mut text = message
        .replace("invalid type: ", "this cannot be ")
        .replace("invalid value: ", "this cannot be ")
        .replace('`', "");
    for (theirs, ours) in [
        ("map, expected", "a table, expected"),
        ("sequence, expected", "a list, expected"),
        ("expected a sequence", "expected a list such as [\"..\"]"),
        ("expected a string", "expected a text in quotes"),
        ("expected usize", "expected a whole number"),
        ("expected u16", "expected a whole number up to 65535"),
        ("expected a boolean", "expected true or false"),
    ] {
        text = text.replace(theirs, ours);
    }
    match text.split_once("expected struct ") {
        Some((before, _)) => format!("{before}expected a table such as {{ key = \"..\" }}"),
        None => text,
    }
}

/// Words that users write in place of the correct ones.
const SYNONYMS: &[(&str, &str)] = &[
    ("all", "public"),
    ("anonymous", "public"),
    ("any", "public"),
    ("anybody", "public"),
    ("anyone", "public"),
    ("everybody", "public"),
    ("everyone", "public"),
    ("shared", "public"),
    ("cookie", "credentials"),
    ("cookies", "credentials"),
    ("private", "credentials"),
    ("session", "credentials"),
    ("user", "credentials"),
    ("users", "credentials"),
    ("event-stream", "sse"),
    ("eventsource", "sse"),
    ("longpoll", "long-poll"),
    ("polling", "long-poll"),
    ("socket", "websocket"),
    ("ws", "websocket"),
];

/// Guesses the intended variant from the message about an unknown one.
fn meant(message: &str) -> Option<String> {
    let (found, known) = message.strip_prefix("unknown variant ")?.split_once(", expected ")?;
    let found = found.trim_matches('`').to_lowercase();
    let known: Vec<String> = known.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    let synonym = SYNONYMS.iter().find(|(word, other)| *word == found && known.iter().any(|known| known == other));
    match synonym {
        Some((_, other)) => Some(format!("did you mean {other:?}?")),
        None => Some(suggest(&found, known.iter())).filter(|text| text.starts_with("did you")),
    }
}

/// Removes the smallest element that contains `span` from `table`, so that the next mistake can be found: one item of a
/// list, unless it is the last one. The span of a table with its own header covers only the header, so all tables are
/// searched.
fn remove(table: &mut DeTable<'_>, span: &Range<usize>) -> bool {
    let holds = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end;
    let inside = table.iter_mut().any(|(_, value)| match value.get_mut() {
        DeValue::Table(inner) => remove(inner, span),
        DeValue::Array(array) => {
            let in_item = array.iter_mut().any(|item| match item.get_mut() {
                DeValue::Table(inner) => remove(inner, span),
                _ => false,
            });
            let is_item = array.len() > 1 && array.iter().any(|item| holds(item.span()));
            if !in_item && is_item {
                let all = mem::replace(array, DeArray::new());
                all.into_iter().filter(|item| !holds(item.span())).for_each(|item| array.push(item));
            }
            in_item || is_item
        }
        _ => false,
    });
    let mut entries = table.iter();
    let key = entries.find(|(key, value)| holds(key.span()) || holds(value.span())).map(|(key, _)| key.clone());
    inside || key.is_some_and(|key| table.remove(&key).is_some())
}

/// Reports and removes the keys of `table` that `schema` does not define.
fn unknown_keys(table: &mut DeTable<'_>, schema: &Value, path: &str, found: &mut Diagnostics) {
    let Some(known) = schema.get("properties").and_then(Value::as_object) else { return };
    let unknown: Vec<_> =
        table.iter().map(|(key, _)| key.clone()).filter(|key| !known.contains_key(key.get_ref().as_ref())).collect();
    for key in unknown {
        if found.is_full() {
            return;
        }
        let name = key.get_ref().to_string();
        let place = if path.is_empty() { "at the top of the file".to_owned() } else { format!("in {path}") };
        found.push(Diagnostic {
            severity: Severity::Mistake,
            message: format!("there is no key {name:?} {place}"),
            span: key.span(),
            label: "unknown".to_owned(),
            help: Some(suggest(&name, known.keys())),
        });
        table.remove(&key);
    }
    for (key, value) in table.iter_mut() {
        let name = key.get_ref().to_string();
        let Some(below) = known.get(&name) else { continue };
        match value.get_mut() {
            DeValue::Table(inner) => unknown_keys(inner, object_of(below), &format!("[{name}]"), found),
            DeValue::Array(array) => {
                let items = items_of(below).map_or(below, object_of);
                for item in array.iter_mut() {
                    if let DeValue::Table(inner) = item.get_mut() {
                        unknown_keys(inner, items, &format!("[[{name}]]"), found);
                    }
                }
            }
            _ => {}
        }
    }
}

/// Returns the schema of the table among the alternatives for a key.
pub(super) fn object_of(schema: &Value) -> &Value {
    choice_with("properties", schema).unwrap_or(schema)
}

/// Returns the schema of the items of the list among the alternatives for a key.
fn items_of(schema: &Value) -> Option<&Value> {
    schema.get("items").or_else(|| choice_with("items", schema)?.get("items"))
}

fn choice_with<'a>(key: &str, schema: &'a Value) -> Option<&'a Value> {
    let choices = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array)?;
    choices.iter().find(|choice| choice.get(key).is_some())
}

fn suggest<'a>(name: &str, known: impl Iterator<Item = &'a String> + Clone) -> String {
    let nearest = known.clone().map(|key| (strsim::damerau_levenshtein(name, key), key)).min();
    match nearest {
        Some((distance, key)) if distance <= 1 + name.len() / 3 => format!("did you mean {key:?}?"),
        _ => format!("known here: {}", known.map(String::as_str).collect::<Vec<_>>().join(", ")),
    }
}

/// Applies the overrides from the command line and the environment. Without a file, an upstream alone implies one route
/// that matches everything and lets the browser script detect polls.
pub(super) fn apply(file: &mut File, overrides: &Overrides, no_file: bool, found: &mut Diagnostics) {
    let mut refuse = |flag: &str, variable: &str, text: &str, error: String| {
        let name = if std::env::var(variable).is_ok_and(|value| value == text) { variable } else { flag };
        found.push(Diagnostic {
            severity: Severity::Mistake,
            message: format!("{name} {text:?}: {error}"),
            span: 0..0,
            label: String::new(),
            help: None,
        });
    };
    if let Some(url) = &overrides.upstream {
        match url.split(',').map(|url| Parsed::parse(url.trim())).collect() {
            Ok(urls) => file.upstream.general_mut().url = Some(OneOrMany(urls)),
            Err(error) => {
                refuse("--upstream", super::UPSTREAM, url, crate::upstream::ParseAddressError::to_string(&error));
            }
        }
        if no_file && file.route.is_empty() {
            file.route.push(Route {
                path: Parsed::parse("/**").ok(),
                transports: vec![Transport::Websocket, Transport::Iframe],
                shim: Shim::Learn(LearnWord::Learn),
                ..Route::default()
            });
        }
    }
    if let Some(listen) = &overrides.listen {
        match listen.split(',').map(|address| Parsed::parse(address.trim())).collect() {
            Ok(addresses) => file.server.listen.0 = addresses,
            Err(error) => refuse("--listen", super::LISTEN, listen, super::value::ValueError::to_string(&error)),
        }
    }
    if let Some(admin) = &overrides.admin {
        match Parsed::parse(admin) {
            Ok(admin) => file.server.admin = admin,
            Err(error) => refuse("--admin", super::ADMIN, admin, super::value::ValueError::to_string(&error)),
        }
    }
}
