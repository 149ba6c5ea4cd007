//! HTTP/2 as bytes: a client that says what no library would.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::within;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;

pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const INITIAL_WINDOW_SIZE: u16 = 4;

/// One frame (RFC 9113 section 4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Answered(u16),
    Reset(u32),
    /// The connection ended, with this reason if one was given.
    Ended(Option<u32>),
}

/// A connection.
pub struct Frames {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

impl Frames {
    /// Connects, and says these settings.
    pub async fn open(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let stream = within("a connection", TcpStream::connect(address)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut frames = Self { stream, buffer: Vec::new() };
        frames.stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let settings: Vec<u8> = settings
            .iter()
            .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        assert!(frames.send(&frame(SETTINGS, 0, 0, &settings)).await);
        frames
    }

    /// Sends bytes; `false` if the server does not take them any more.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        within("bytes to be taken", self.stream.write_all(bytes)).await.is_ok()
    }

    /// The next frame; `None` at the end of the connection.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(head) = self.buffer.get(..9) {
                let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
                if self.buffer.len() >= 9 + length {
                    let rest = self.buffer.split_off(9 + length);
                    let whole = std::mem::replace(&mut self.buffer, rest);
                    return Some(Frame {
                        kind: whole[3],
                        flags: whole[4],
                        stream: u32::from_be_bytes(whole[5..9].try_into().unwrap()) & 0x7fff_ffff,
                        payload: whole[9..].to_vec(),
                    });
                }
            }
            let mut piece = [0; 16 * 1024];
            match within("a frame", self.stream.read(&mut piece)).await {
                Ok(read @ 1..) => self.buffer.extend_from_slice(&piece[..read]),
                _ => return None,
            }
        }
    }

    /// What becomes of the request on `stream`.
    pub async fn fate(&mut self, stream: u32) -> Fate {
        let mut reason = None;
        while let Some(frame) = self.next().await {
            let code = |at: usize| u32::from_be_bytes(frame.payload[at..at + 4].try_into().unwrap());
            match frame.kind {
                GOAWAY if code(4) != 0 => reason = Some(code(4)),
                RST_STREAM if frame.stream == stream => return Fate::Reset(code(0)),
                HEADERS if frame.stream == stream => return Fate::Answered(status(&frame.payload)),
                _ => {}
            }
        }
        Fate::Ended(reason)
    }

    /// Asks for something by these fields, on `stream`.
    pub async fn ask(&mut self, stream: u32, fields: &[(&str, &str)]) -> bool {
        self.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(fields))).await
    }
}

/// The pseudo-fields of a good request for `path`.
pub fn get(path: &str) -> Vec<(&str, &str)> {
    vec![(":method", "GET"), (":scheme", "http"), (":authority", "site.example"), (":path", path)]
}

/// The bytes of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields that are neither compressed nor remembered (RFC 7541 section 6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            length(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// A field that is to be remembered (RFC 7541 section 6.2.1).
pub fn remembered(name: &str, value: &str) -> Vec<u8> {
    let mut block = block(&[(name, value)]);
    block[0] = 0x40;
    block
}

/// The field that was remembered last (RFC 7541 section 6.1).
pub const LAST_REMEMBERED: u8 = 0x80 | 62;

/// An integer with a prefix of seven bits (RFC 7541 section 5.1).
fn length(block: &mut Vec<u8>, length: usize) {
    if length < 127 {
        block.push(u8::try_from(length).unwrap());
        return;
    }
    block.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        block.push(u8::try_from(rest % 128 + 128).unwrap());
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap());
}

/// The status that a block begins with, as far as the static table has it (RFC 7541 appendix A); 0 for any other.
fn status(block: &[u8]) -> u16 {
    match block.first() {
        Some(0x88) => 200,
        Some(0x89) => 204,
        Some(0x8b) => 304,
        Some(0x8c) => 400,
        Some(0x8d) => 404,
        Some(0x8e) => 500,
        _ => 0,
    }
}
