//! The interface of stream formats.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{BodyForm, EncodingKey, Frame, Representation, Update};
use crate::normalise::text_of;

/// The URL that a client subscribes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// The URL as the client wrote it.
    pub text: Arc<str>,
    /// Whether the text is also the canonical name of the resource. Frames that contain it can then be shared.
    pub canonical: bool,
    /// The identity tag of its states, for clients that need it. It is the same for all subscribers of one resource.
    pub identity: Option<Arc<str>>,
}

/// A stream format: the encoding of updates on the wire. Encoding is pure; the held loop does the I/O.
pub trait StreamFormat: Send + Sync + 'static {
    /// Returns the format's name in `transports`, metrics and the admin API.
    fn name(&self) -> &'static str;

    /// Returns the media type by which clients request it in `Accept`.
    fn accept(&self) -> &'static str;

    /// Returns the `Content-Type` of the stream.
    fn content_type(&self) -> &'static str;

    /// Returns whether the format can carry this representation. Text formats cannot carry binary bodies.
    fn supports(&self, representation: &Representation) -> bool {
        text_of(representation).is_some()
    }

    /// Returns whether an open stream must end at this representation, because the format must not carry it at all.
    /// Most formats send it as well as they can instead.
    fn must_end_at(&self, _representation: &Representation) -> bool {
        false
    }

    /// Returns the frame at the beginning of every stream.
    fn preamble(&self, _retry: Duration) -> Option<Frame> {
        None
    }

    /// Encodes one update; `None` if the format does not represent it. Encodings that depend on the snapshot alone are
    /// shared.
    fn frame(&self, update: &Update, url: &Url) -> Option<Frame>;

    /// Returns the form in which clients hold a body received in this format, to which deltas apply. `None` if the
    /// format carries no deltas.
    fn body_form(&self) -> Option<BodyForm> {
        None
    }

    /// Returns the format's variant for clients that accept deltas, if it differs.
    fn with_deltas(&self) -> Option<&'static dyn StreamFormat> {
        None
    }

    /// Returns the frame sent after a long silence.
    fn heartbeat(&self) -> Option<Frame>;

    /// Returns a frame that tells the client its position after the frame that follows, so that it can resume: the
    /// versions that it then holds, one for each URL that it asked for.
    fn resume_marker(&self, _versions: &[Option<String>]) -> Option<Frame> {
        None
    }
}

/// A stream format that is shared by all clients, or was created for one client.
#[derive(Debug)]
pub enum FormatRef {
    /// Shared by all clients.
    Static(&'static dyn StreamFormat),
    /// Created for one client.
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

/// Returns the frame of `update` in the form called `form`. If the update leads to a snapshot, the frame is encoded
/// once and cached; otherwise each caller encodes it. The frame must not depend on the client.
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
