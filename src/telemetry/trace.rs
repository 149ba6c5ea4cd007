//! Trace contexts (W3C Trace Context).

use std::fmt;

use crate::clock;

/// The trace of a request, and our span in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    trace: u128,
    /// The parent span, if there is one.
    parent: Option<u64>,
    /// Our own span; before it exists, the parent's.
    span: u64,
    /// Whether the originator of the trace wants it to be recorded.
    sampled: bool,
}

impl Trace {
    /// Parses `traceparent`, version 00; later versions begin with the same four fields.
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.trim().split('-');
        let (version, trace, span, flags) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let lower = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        let well_formed = [(version, 2), (trace, 32), (span, 16), (flags, 2)]
            .iter()
            .all(|(field, length)| field.len() == *length && lower(field));
        if !well_formed || version == "ff" || (version == "00" && fields.next().is_some()) {
            return None;
        }
        let (trace, span) = (u128::from_str_radix(trace, 16).ok()?, u64::from_str_radix(span, 16).ok()?);
        let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        (trace != 0 && span != 0).then_some(Self { trace, parent: None, span, sampled })
    }

    /// Creates a span within `context`, or a new trace.
    pub fn within(context: Option<Self>) -> Self {
        // Zero means "no span".
        let span = clock::seed().max(1);
        match context {
            Some(context) => Self { parent: Some(context.span), span, ..context },
            None => {
                let trace = (u128::from(clock::seed()) << 64) | u128::from(clock::seed().max(1));
                Self { trace, parent: None, span, sampled: true }
            }
        }
    }

    /// Returns the trace's id in its text form.
    pub fn id(&self) -> String {
        format!("{:032x}", self.trace)
    }

    /// Returns the id of our span.
    pub fn span_id(&self) -> String {
        format!("{:016x}", self.span)
    }

    /// Returns the id of the parent span.
    pub fn parent_id(&self) -> Option<String> {
        self.parent.map(|parent| format!("{parent:016x}"))
    }

    /// Returns whether the trace is to be recorded.
    pub fn is_sampled(&self) -> bool {
        self.sampled
    }
}

/// Formats as `traceparent`.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.id(), self.span_id(), u8::from(self.sampled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_context_is_read_as_it_is_written() {
        let trace = Trace::parse(PARENT).expect("a context");
        assert_eq!(trace.to_string(), PARENT);
        assert!(trace.is_sampled());
        let ours = Trace::within(Some(trace.clone()));
        assert_eq!((ours.id(), ours.parent_id().as_deref()), (trace.id(), Some("00f067aa0ba902b7")));
        assert_ne!(ours.span_id(), trace.span_id());
        assert_eq!(Trace::parse(&ours.to_string()).map(|again| again.id()), Some(trace.id()));
    }

    #[test]
    fn what_is_no_context_begins_none() {
        for wrong in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        ] {
            assert_eq!(Trace::parse(wrong), None, "{wrong}");
        }
        assert!(Trace::parse("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-more").is_some());
    }
}
