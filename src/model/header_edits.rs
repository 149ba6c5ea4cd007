//! Changes of header fields that the configuration asks for: the same for all messages of an application.

use std::sync::Arc;

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// Fields to set and to remove. Cheap to clone; most applications have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits(Option<Arc<Vec<HeaderEdit>>>);

/// One field, and its new value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderEdit {
    /// The field.
    pub name: HeaderName,
    /// The name as written.
    pub written: String,
    /// The value; `None` if the field is removed.
    pub value: Option<HeaderValue>,
}

impl HeaderEdits {
    /// No changes.
    pub const NONE: Self = Self(None);

    /// Creates a list of changes.
    pub fn new(edits: Vec<HeaderEdit>) -> Self {
        Self((!edits.is_empty()).then(|| Arc::new(edits)))
    }

    /// Returns whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the changes.
    pub fn iter(&self) -> impl Iterator<Item = &HeaderEdit> {
        self.0.iter().flat_map(|edits| edits.iter())
    }

    /// Applies all changes to `headers`.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for HeaderEdit { name, value, .. } in self.iter() {
            match value {
                Some(value) => drop(headers.insert(name, value.clone())),
                None => drop(headers.remove(name)),
            }
        }
    }
}
