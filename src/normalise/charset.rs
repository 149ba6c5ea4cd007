//! Decodes bodies to text.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};

use crate::model::{Kind, MediaType, Representation};

/// Decodes the body to text. The charset comes from the byte order mark, the `charset` parameter, or a declaration in
/// the body; the default is UTF-8. Returns `None` for a binary type whose bytes are not UTF-8.
///
/// Bytes that are invalid in the charset become U+FFFD.
pub fn text_of(representation: &Representation) -> Option<Cow<'_, str>> {
    let media_type = representation.media_type();
    let body = &representation.body[..];
    match encoding_of(&media_type, body) {
        Ok(_) if is_bytes(&media_type) => std::str::from_utf8(without_mark(body)).ok().map(Cow::Borrowed),
        Ok(encoding) => Some(encoding.decode(body).0),
        Err(_) => Some(String::from_utf8_lossy(without_mark(body))),
    }
}

/// Decodes the body to text if that is lossless.
pub(super) fn exact_text<'r>(media_type: &MediaType, body: &'r [u8]) -> Result<Cow<'r, str>, CharsetError> {
    let encoding = encoding_of(media_type, body)?;
    let (text, encoding, wrong) = encoding.decode(body);
    if wrong { Err(CharsetError::Malformed(encoding.name())) } else { Ok(text) }
}

/// The reason why a body cannot be decoded to text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CharsetError {
    #[error("its charset, {0:?}, is not known")]
    Unknown(String),
    #[error("it is not valid {0}")]
    Malformed(&'static str),
}

/// Returns whether nothing indicates that a body is text.
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
    // Clients read such text as browsers do: a page that is not UTF-8 either declares its charset or is windows-1252.
    let sniffed = match media_type.kind() {
        Kind::Html | Kind::Xml | Kind::Text if std::str::from_utf8(body).is_err() => {
            declared(body).or(Some(WINDOWS_1252))
        }
        _ => None,
    };
    Ok(sniffed.unwrap_or(UTF_8))
}

/// How far into a page the charset declaration is searched, in bytes, as in browsers.
const PRESCAN: usize = 1024;

/// Returns the charset declared in a `<meta>` element or in the XML declaration.
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
    // The declaration was readable as ASCII, so the page cannot be in UTF-16, whatever it declares.
    encoding.is_ascii_compatible().then_some(encoding)
}

fn without_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
}

/// Returns the body as UTF-8 text if encoding that text again yields the same bytes. Returns `None` if the body is not
/// UTF-8 or the charset says otherwise.
pub fn plain_utf8(representation: &Representation) -> Option<&str> {
    let charset = representation.media_type().charset;
    // A byte order mark belongs to the bytes but not to the text.
    std::str::from_utf8(&representation.body)
        .ok()
        .filter(|text| charset.is_none_or(|charset| charset == "utf-8") && !text.starts_with('\u{feff}'))
}
