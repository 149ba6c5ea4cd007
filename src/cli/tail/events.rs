//! A client-side parser of server-sent events (HTML Living Standard, section 9.2).

use std::time::Duration;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// The name; empty if it has none.
    pub(super) name: String,
    pub(super) data: String,
    /// The last event id when it is dispatched.
    pub(super) id: Option<String>,
}

/// Parses a stream.
#[derive(Debug, Default)]
pub(super) struct Parser {
    buffer: Vec<u8>,
    event: Event,
    has_data: bool,
    /// Whether the last byte of the previous input was a carriage return.
    after_return: bool,
    /// The last event id, for reconnecting.
    pub(super) last_id: Option<String>,
    /// The reconnection delay.
    pub(super) retry: Option<Duration>,
}

/// The maximum length of a line.
const MAX_LINE_LEN: usize = 256 << 20;

/// A line exceeds the maximum length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line of the event stream is longer than {MAX_LINE_LEN} bytes")]
pub(super) struct TooLong;

impl Parser {
    /// Creates a parser for a stream that continues after the event with `last_id`.
    pub(super) fn after(last_id: Option<String>) -> Self {
        Self { last_id, ..Self::default() }
    }

    /// Parses a piece and adds the completed events.
    pub(super) fn push(&mut self, piece: &[u8], events: &mut Vec<Event>) -> Result<(), TooLong> {
        for part in piece.split_inclusive(|byte| *byte == b'\n' || *byte == b'\r') {
            let mut part = part;
            if self.after_return && part.first() == Some(&b'\n') {
                self.after_return = false;
                part = &part[1..];
            }
            let Some(last) = part.last() else { continue };
            self.after_return = *last == b'\r';
            if matches!(last, b'\n' | b'\r') {
                self.buffer.extend_from_slice(&part[..part.len() - 1]);
                let line = std::mem::take(&mut self.buffer);
                self.line(&String::from_utf8_lossy(&line), events);
            } else {
                self.buffer.extend_from_slice(part);
            }
            if self.buffer.len() + self.event.data.len() > MAX_LINE_LEN {
                return Err(TooLong);
            }
        }
        Ok(())
    }

    fn line(&mut self, line: &str, events: &mut Vec<Event>) {
        let line = line.strip_prefix('\u{feff}').unwrap_or(line);
        if line.is_empty() {
            let mut event = std::mem::take(&mut self.event);
            if std::mem::take(&mut self.has_data) {
                event.data.pop();
                event.id = self.last_id.clone();
                events.push(event);
            }
            return;
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut self.event.name),
            "data" => {
                self.has_data = true;
                self.event.data.push_str(value);
                self.event.data.push('\n');
            }
            "id" if !value.contains('\0') => self.last_id = Some(value.to_owned()),
            "retry" => self.retry = value.parse().ok().map(Duration::from_millis).or(self.retry),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_read_wherever_they_are_divided() {
        let text = "\u{feff}retry: 50\n: aside\n\nid: 1\ndata: a\ndata:  b\r\ndata\r\r\nevent: end\ndata: {}\n\nid: 2\n\ndata: last\n\ndata: lost";
        for size in [1, 2, 3, 7, 1000] {
            let (mut parser, mut events) = (Parser::default(), Vec::new());
            for piece in text.as_bytes().chunks(size) {
                parser.push(piece, &mut events).expect("short");
            }
            let event =
                |name: &str, data: &str, id: &str| Event { name: name.into(), data: data.into(), id: Some(id.into()) };
            assert_eq!(events, [event("", "a\n b\n", "1"), event("end", "{}", "1"), event("", "last", "2")], "{size}");
            assert_eq!(parser.retry, Some(Duration::from_millis(50)));
        }
    }
}
