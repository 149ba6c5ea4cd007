//! What one way to hold a client consists of.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{BodyForm, EncodingKey, Frame, Representation, Update};
use crate::normalise::text_of;

/// The URL by which a client follows a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// As the client wrote it.
    pub text: Arc<str>,
    /// Whether that is how the resource itself is called. Then what names it can be shared.
    pub canonical: bool,
    /// Whose its states are, for clients that have to know that; the same for all that follow one resource.
    pub identity: Option<Arc<str>>,
}

/// A way to hold a client: how updates look on the wire. Encoding is pure; the held loop does the rest.
pub trait StreamFormat: Send + Sync + 'static {
    /// Its name in `transports`, in metrics and in the admin API.
    fn name(&self) -> &'static str;

    /// What a client asks for it with in `Accept`.
    fn accept(&self) -> &'static str;

    /// The `Content-Type` of the stream.
    fn content_type(&self) -> &'static str;

    /// Whether it can carry this. Text forms cannot carry what is no text.
    fn supports(&self, representation: &Representation) -> bool {
        text_of(representation).is_some()
    }

    /// Whether a stream that is open has to end where this comes, since it must not be sent in this form at all. Most forms
    /// show as much of it as they can.
    fn must_end_at(&self, _representation: &Representation) -> bool {
        false
    }

    /// What every stream begins with.
    fn preamble(&self, _retry: Duration) -> Option<Frame> {
        None
    }

    /// One update; `None` if this form has no words for it. What depends on the snapshot alone is encoded once and shared.
    fn frame(&self, update: &Update, url: &Url) -> Option<Frame>;

    /// What clients hold of a body that was sent in this form, which is what their deltas are made for; `None` if it
    /// carries no deltas.
    fn body_form(&self) -> Option<BodyForm> {
        None
    }

    /// How this delivery looks to a client that takes deltas, if that is different.
    fn with_deltas(&self) -> Option<&'static dyn StreamFormat> {
        None
    }

    /// What breaks a long silence.
    fn heartbeat(&self) -> Option<Frame>;

    /// Tells the client where it stands when it has heard the frame that follows, so that it can resume: the versions that
    /// it holds then, one for each URL that it asked for.
    fn resume_marker(&self, _versions: &[Option<String>]) -> Option<Frame> {
        None
    }
}

/// A delivery that is the same for all, or one that was made for one client.
#[derive(Debug)]
pub enum FormatRef {
    /// For all.
    Static(&'static dyn StreamFormat),
    /// For one.
    Boxed(Box<dyn StreamFormat>),
}

impl Deref for FormatRef {
    type Target = dyn StreamFormat;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Static(delivery) => *delivery,
            Self::Boxed(delivery) => &**delivery,
        }
    }
}

impl fmt::Debug for dyn StreamFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The frame of `update` in the form called `form`, encoded by whoever needs it first if it leads to a snapshot, and by
/// each for itself otherwise. Nothing in it may depend on the client.
pub(super) fn encode_once(form: &'static str, update: &Update, encode: impl FnOnce() -> Frame) -> Frame {
    let (snapshot, delta) = match update {
        Update::Snapshot(snapshot) => (snapshot, None),
        Update::Patch { base, client_base: called, snapshot, delta, .. } if base == called => {
            (snapshot, Some((base.position, *delta)))
        }
        _ => return encode(),
    };
    snapshot.encodings.form(EncodingKey { form, delta }, encode)
}
