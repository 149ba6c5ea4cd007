//! Bodies as text.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};

use crate::model::{Kind, MediaType, Representation};

/// The body as text: by its byte order mark, its `charset`, or what it says of itself; else as UTF-8. `None` if it is no
/// text: a binary type whose bytes are not UTF-8.
///
/// A byte that is wrong in its charset becomes U+FFFD.
pub fn text_of(representation: &Representation) -> Option<Cow<'_, str>> {
    let media_type = representation.media_type();
    let body = &representation.body[..];
    match encoding_of(&media_type, body) {
        Ok(_) if is_bytes(&media_type) => std::str::from_utf8(without_mark(body)).ok().map(Cow::Borrowed),
        Ok(encoding) => Some(encoding.decode(body).0),
        Err(_) => Some(String::from_utf8_lossy(without_mark(body))),
    }
}

/// The body as text, if nothing of it is lost.
pub(super) fn exact_text<'r>(media_type: &MediaType, body: &'r [u8]) -> Result<Cow<'r, str>, CharsetError> {
    let encoding = encoding_of(media_type, body)?;
    let (text, encoding, wrong) = encoding.decode(body);
    if wrong { Err(CharsetError::Malformed(encoding.name())) } else { Ok(text) }
}

/// Why a body cannot be had as text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CharsetError {
    #[error("its charset, {0:?}, is not known")]
    Unknown(String),
    #[error("it is not valid {0}")]
    Malformed(&'static str),
}

/// Whether nothing says that a body is text.
fn is_bytes(media_type: &MediaType) -> bool {
    media_type.kind() == Kind::Binary && media_type.charset.is_none()
}

fn encoding_of(media_type: &MediaType, body: &[u8]) -> Result<&'static Encoding, CharsetError> {
    if is_bytes(media_type) {
        return Ok(UTF_8);
    }
    if let Some((encoding, _)) = Encoding::for_bom(body) {
        return Ok(encoding);
    }
    if let Some(label) = &media_type.charset {
        return Encoding::for_label(label.as_bytes()).ok_or_else(|| CharsetError::Unknown(label.clone()));
    }
    // What the client reads as text, it reads as browsers do: a page that is not UTF-8 says what it is, or is of the old
    // West.
    let sniffed = match media_type.kind() {
        Kind::Html | Kind::Xml | Kind::Text if std::str::from_utf8(body).is_err() => {
            declared(body).or(Some(WINDOWS_1252))
        }
        _ => None,
    };
    Ok(sniffed.unwrap_or(UTF_8))
}

/// How far into a page its own word about its charset is looked for, as by browsers.
const PRESCAN: usize = 1024;

/// The charset that a page names in a `<meta>` element or in its XML declaration.
fn declared(body: &[u8]) -> Option<&'static Encoding> {
    let head = body.get(..PRESCAN).unwrap_or(body).to_ascii_lowercase();
    let named = |marker: &[u8]| {
        let at = memchr::memmem::find(&head, marker)? + marker.len();
        let value = head[at..].trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
        let value = value.strip_prefix(b"\"").or_else(|| value.strip_prefix(b"'")).unwrap_or(value);
        let end = value.iter().position(|byte| b"\"' />;?".contains(byte))?;
        Encoding::for_label(&value[..end])
    };
    let encoding = named(b"charset").or_else(|| if head.starts_with(b"<?xml") { named(b"encoding") } else { None })?;
    // A page that could be read so far cannot be in UTF-16, whatever it says.
    encoding.is_ascii_compatible().then_some(encoding)
}

fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// The body as text of which it is the UTF-8: what is written as that text and encoded again is the same bytes. `None` if
/// there is none, or if the charset says that something else is meant by them.
pub fn plain_utf8(representation: &Representation) -> Option<&str> {
    let charset = representation.media_type().charset;
    // A mark at the beginning is no part of the text, but one of the bytes.
    std::str::from_utf8(&representation.body)
        .ok()
        .filter(|text| charset.is_none_or(|charset| charset == "utf-8") && !text.starts_with('\u{feff}'))
}
