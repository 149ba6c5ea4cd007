//! What patches do, by the letter of their specifications and by no code of the program: JSON that keeps the spelling of
//! numbers and the halves of surrogate pairs, JSON Patch (RFC 6902), JSON Merge Patch (RFC 7396), and splices.

use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Json {
    Null,
    Bool(bool),
    Number(String),
    String(Vec<u16>),
    Array(Vec<Json>),
    Object(BTreeMap<Vec<u16>, Json>),
}

/// Which of two members with one key counts: parsers disagree.
#[derive(Clone, Copy, Debug)]
pub enum Reader {
    FirstWins,
    LastWins,
}

impl Json {
    /// Reads a text that must be valid.
    pub fn read(text: &str, reader: Reader) -> Self {
        let mut rest: Vec<char> = text.chars().collect();
        rest.reverse();
        let value = value(&mut rest, reader);
        space(&mut rest);
        assert!(rest.is_empty(), "something stands behind the value: {text}");
        value
    }

    fn member(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.get(&name.encode_utf16().collect::<Vec<_>>()),
            _ => None,
        }
    }

    fn text(&self) -> &[u16] {
        match self {
            Self::String(text) => text,
            other => panic!("{other:?} is no string"),
        }
    }
}

fn space(rest: &mut Vec<char>) {
    while let Some(' ' | '\n' | '\r' | '\t') = rest.last() {
        rest.pop();
    }
}

fn expect(rest: &mut Vec<char>, word: &str) {
    for c in word.chars() {
        assert_eq!(rest.pop(), Some(c));
    }
}

fn value(rest: &mut Vec<char>, reader: Reader) -> Json {
    space(rest);
    match *rest.last().expect("a value") {
        'n' => {
            expect(rest, "null");
            Json::Null
        }
        't' => {
            expect(rest, "true");
            Json::Bool(true)
        }
        'f' => {
            expect(rest, "false");
            Json::Bool(false)
        }
        '"' => Json::String(string(rest)),
        '[' => {
            rest.pop();
            let mut items = Vec::new();
            space(rest);
            if rest.last() == Some(&']') {
                rest.pop();
                return Json::Array(items);
            }
            loop {
                items.push(value(rest, reader));
                space(rest);
                match rest.pop() {
                    Some(',') => {}
                    Some(']') => return Json::Array(items),
                    other => panic!("{other:?} in an array"),
                }
            }
        }
        '{' => {
            rest.pop();
            let mut members = BTreeMap::new();
            space(rest);
            if rest.last() == Some(&'}') {
                rest.pop();
                return Json::Object(members);
            }
            loop {
                space(rest);
                let key = string(rest);
                space(rest);
                expect(rest, ":");
                let value = value(rest, reader);
                match reader {
                    Reader::FirstWins => {
                        members.entry(key).or_insert(value);
                    }
                    Reader::LastWins => {
                        members.insert(key, value);
                    }
                }
                space(rest);
                match rest.pop() {
                    Some(',') => {}
                    Some('}') => return Json::Object(members),
                    other => panic!("{other:?} in an object"),
                }
            }
        }
        _ => {
            let mut number = String::new();
            while rest.last().is_some_and(|c| c.is_ascii_digit() || "+-.eE".contains(*c)) {
                number.extend(rest.pop());
            }
            assert!(!number.is_empty(), "{:?} begins no value", rest.last());
            Json::Number(number)
        }
    }
}

fn string(rest: &mut Vec<char>) -> Vec<u16> {
    expect(rest, "\"");
    let mut text = Vec::new();
    loop {
        let c = match rest.pop().expect("the end of a string") {
            '"' => return text,
            '\\' => match rest.pop().expect("an escape") {
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'u' => {
                    let digits: String = (0..4).filter_map(|_| rest.pop()).collect();
                    text.push(u16::from_str_radix(&digits, 16).expect("four digits"));
                    continue;
                }
                other => other,
            },
            c => {
                assert!(c >= ' ', "a control character in a string");
                c
            }
        };
        text.extend_from_slice(c.encode_utf16(&mut [0; 2]));
    }
}

/// Applies a JSON Patch.
pub fn json_patch(mut document: Json, patch: &Json) -> Result<Json, String> {
    let Json::Array(operations) = patch else { return Err("a patch is an array".to_owned()) };
    for operation in operations {
        let member = |name| operation.member(name).ok_or(format!("{operation:?} has no {name}"));
        let path = pointer(member("path")?.text())?;
        match String::from_utf16_lossy(member("op")?.text()).as_str() {
            "add" => add(&mut document, &path, member("value")?.clone())?,
            "remove" => drop(remove(&mut document, &path)?),
            "replace" => {
                let value = member("value")?.clone();
                *find(&mut document, &path)? = value;
            }
            "move" => {
                let from = pointer(member("from")?.text())?;
                let value = remove(&mut document, &from)?;
                add(&mut document, &path, value)?;
            }
            other => return Err(format!("no such operation here: {other}")),
        }
    }
    Ok(document)
}

fn pointer(text: &[u16]) -> Result<Vec<Vec<u16>>, String> {
    let unit = |c: char| c as u16;
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let tokens = text.strip_prefix(&[unit('/')]).ok_or("a pointer begins with a slash")?.split(|u| *u == unit('/'));
    let mut pointer = Vec::new();
    for token in tokens {
        let mut units = token.iter();
        let mut name = Vec::new();
        while let Some(next) = units.next() {
            name.push(match *next {
                u if u == unit('~') => match units.next() {
                    Some(u) if *u == unit('0') => unit('~'),
                    Some(u) if *u == unit('1') => unit('/'),
                    other => return Err(format!("~{other:?} in a pointer")),
                },
                other => other,
            });
        }
        pointer.push(name);
    }
    Ok(pointer)
}

fn index(token: &[u16], below: usize) -> Result<usize, String> {
    let text = String::from_utf16_lossy(token);
    if text.len() > 1 && text.starts_with('0') {
        return Err(format!("{text:?} is no index"));
    }
    let index: usize = text.parse().map_err(|_| format!("{text:?} is no index"))?;
    if index < below { Ok(index) } else { Err(format!("{index} is not below {below}")) }
}

fn find<'d>(document: &'d mut Json, path: &[Vec<u16>]) -> Result<&'d mut Json, String> {
    path.iter().try_fold(document, |at, token| match at {
        Json::Object(members) => members.get_mut(token).ok_or_else(|| format!("no member {token:?}")),
        Json::Array(items) => {
            let index = index(token, items.len())?;
            Ok(&mut items[index])
        }
        other => Err(format!("nothing is inside of {other:?}")),
    })
}

fn add(document: &mut Json, path: &[Vec<u16>], value: Json) -> Result<(), String> {
    let Some((last, parent)) = path.split_last() else {
        *document = value;
        return Ok(());
    };
    match find(document, parent)? {
        Json::Object(members) => drop(members.insert(last.clone(), value)),
        Json::Array(items) => {
            let index = index(last, items.len() + 1)?;
            items.insert(index, value);
        }
        other => return Err(format!("nothing can be added to {other:?}")),
    }
    Ok(())
}

fn remove(document: &mut Json, path: &[Vec<u16>]) -> Result<Json, String> {
    let (last, parent) = path.split_last().ok_or("the whole document cannot be removed")?;
    match find(document, parent)? {
        Json::Object(members) => members.remove(last).ok_or_else(|| format!("no member {last:?}")),
        Json::Array(items) => {
            let index = index(last, items.len())?;
            Ok(items.remove(index))
        }
        other => Err(format!("nothing can be removed from {other:?}")),
    }
}

/// Applies a JSON Merge Patch: the pseudocode of RFC 7396, section 2.
pub fn merge_patch(target: Json, patch: &Json) -> Json {
    let Json::Object(changes) = patch else { return patch.clone() };
    let mut members = match target {
        Json::Object(members) => members,
        _ => BTreeMap::new(),
    };
    for (name, value) in changes {
        if *value == Json::Null {
            members.remove(name);
        } else {
            let before = members.remove(name).unwrap_or(Json::Null);
            members.insert(name.clone(), merge_patch(before, value));
        }
    }
    Json::Object(members)
}

/// Applies splices.
pub fn splice(text: &str, patch: &Json) -> Result<String, String> {
    let mut units: Vec<u16> = text.encode_utf16().collect();
    let Json::Array(splices) = patch else { return Err("splices are an array".to_owned()) };
    for splice in splices {
        let Json::Array(parts) = splice else { return Err("a splice is an array".to_owned()) };
        let [Json::Number(start), Json::Number(delete), Json::String(insert)] = parts.as_slice() else {
            return Err(format!("{parts:?} is no splice"));
        };
        let (start, delete): (usize, usize) = (start.parse().unwrap(), delete.parse().unwrap());
        if start + delete > units.len() {
            return Err(format!("{start} and {delete} reach beyond {}", units.len()));
        }
        units.splice(start..start + delete, insert.iter().copied());
    }
    String::from_utf16(&units).map_err(|error| error.to_string())
}
