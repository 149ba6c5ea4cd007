//! Forms (`application/x-www-form-urlencoded`).

use std::ops::Range;
use std::str::FromStr;

use super::glob::Glob;

/// The fields that identify a form that only reads: all must be present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormRead(Vec<(String, Glob)>);

/// The text contains no named field with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a field and its value, such as \"action=list\"")]
pub struct ParseFormReadError;

impl FromStr for FormRead {
    type Err = ParseFormReadError;

    fn from_str(text: &str) -> Result<Self, ParseFormReadError> {
        let fields = fields(text).ok_or(ParseFormReadError)?;
        let named = fields.iter().all(|field| !field.name.is_empty() && field.has_value);
        let pairs: Vec<_> = fields.into_iter().map(|field| (field.name, Glob::new(&field.value))).collect();
        (named && !pairs.is_empty()).then_some(Self(pairs)).ok_or(ParseFormReadError)
    }
}

/// A field of a form.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) value: String,
    /// The range of the encoded value in the text.
    pub(super) range: Range<usize>,
    has_value: bool,
}

/// The maximum number of fields; frameworks accept no more.
const MAX_FIELDS: usize = 1000;

/// Parses the fields of `text`. Returns `None` if its encoding is not that of browsers, because other parsers might
/// then read it differently.
pub(super) fn fields(text: &str) -> Option<Vec<Field>> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"<>;\\^`{|}".contains(&byte);
    if text.is_empty() || !text.bytes().all(plain) || text.split('&').count() > MAX_FIELDS {
        return None;
    }
    let mut at = 0;
    text.split('&')
        .map(|pair| {
            let begin = at;
            at += pair.len() + 1;
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let end = begin + pair.len();
            Some(Field {
                name: decode(name)?,
                value: decode(value)?,
                range: end - value.len()..end,
                has_value: pair.contains('='),
            })
        })
        .collect()
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(decoded).ok().filter(|text| !text.contains('\0'))
}

/// Folds a name as the most lenient parsers do: PHP replaces dots, spaces and brackets by underscores, and makes arrays
/// from the text after a bracket.
fn alike(name: &str) -> String {
    let name = name.trim_start_matches(' ');
    let name = name.split_once('[').map_or(name, |(name, _)| name);
    name.chars().flat_map(char::to_lowercase).map(|c| if matches!(c, '.' | ' ' | '-') { '_' } else { c }).collect()
}

/// The fields that override the request method in many frameworks.
const OVERRIDES: [&str; 2] = ["_method", "_http_method"];

/// Returns whether `query` contains a parameter that could override the body: one of `names`, or another method.
pub(super) fn is_overridden(query: Option<&str>, names: &[&str]) -> bool {
    let Some(query) = query.filter(|query| !query.is_empty()) else { return false };
    let is_named = |name: &str| names.iter().chain(&OVERRIDES).any(|known| alike(known) == alike(name));
    match fields(query) {
        Some(fields) => fields.iter().any(|field| is_named(&field.name)),
        None => true,
    }
}

/// Returns the name of the read in `reads` that `fields` match: its fields occur exactly once, no other field could be
/// taken for them, and `query` overrides none of them.
pub(super) fn name(fields: &[Field], query: Option<&str>, reads: &[FormRead]) -> Option<String> {
    if fields.iter().any(|field| OVERRIDES.iter().any(|known| alike(known) == alike(&field.name))) {
        return None;
    }
    reads.iter().find_map(|FormRead(pairs)| {
        let names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
        let holds = pairs.iter().all(|(name, value)| {
            let mut found = fields.iter().filter(|field| alike(&field.name) == alike(name));
            let only = found.next().filter(|_| found.next().is_none());
            only.is_some_and(|field| field.name == *name && value.matches(&field.value))
        });
        let text = || {
            let said = fields.iter().filter(|field| names.contains(&field.name.as_str()));
            said.map(|field| format!("{}={}", field.name, field.value)).collect::<Vec<_>>().join("&")
        };
        (holds && !is_overridden(query, &names)).then(text)
    })
}
