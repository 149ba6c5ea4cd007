//! Bodies as text.

use std::borrow::Cow;

use encoding_rs::Encoding;

use crate::model::{Kind, Representation};

/// The body as text, by its `charset`, else as UTF-8. `None` if it is no text: a binary type whose bytes are not UTF-8.
///
/// A byte that is wrong in its charset becomes U+FFFD.
pub fn text_of(representation: &Representation) -> Option<Cow<'_, str>> {
    let media_type = representation.media_type();
    let body = &representation.body[..];
    match media_type.charset.as_deref().and_then(|label| Encoding::for_label(label.as_bytes())) {
        Some(encoding) => Some(encoding.decode(body).0),
        None => match String::from_utf8_lossy(body) {
            Cow::Borrowed(text) => Some(Cow::Borrowed(text)),
            Cow::Owned(_) if media_type.kind() == Kind::Binary => None,
            Cow::Owned(text) => Some(Cow::Owned(text)),
        },
    }
}
