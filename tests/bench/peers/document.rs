//! Documents that say when they came to be: each bears the number of the change that made it.

use std::fmt::Write as _;

/// A JSON document of `size` bytes that bears the number `n`.
pub fn document(n: u32, size: usize) -> String {
    let mut text = format!("{{\"stamp\":\"@{n}@\",\"rest\":\"");
    let rest = size.saturating_sub(text.len() + 2);
    text.extend((0..rest).map(|at| char::from(b'a' + ((at * 7 + at / 26) % 26) as u8)));
    text.push_str("\"}");
    text
}

/// A JSON document with many items, of about `size` bytes; a fifth of them is new with each `round`.
pub fn topic(n: u32, round: usize, size: usize) -> String {
    let mut text = format!("{{\"stamp\":\"@{n}@\",\"items\":[");
    let mut id = 0;
    while text.len() + 2 < size {
        // Items take turns: a fifth of them has changed since the round before.
        let changed = (round + 4 - id % 5) / 5;
        let separator = if id == 0 { "" } else { "," };
        let price = (id * 7919 + changed * 104_729) % 1_000_000;
        let _ = write!(
            text,
            "{separator}{{\"id\":{id},\"name\":\"instrument {id}\",\"price\":{}.{:02},\"volume\":{},\"open\":true}}",
            price / 100,
            price % 100,
            price * 3
        );
        id += 1;
    }
    text.push_str("]}");
    text
}

/// Finds numbers in what arrives, however it is cut into pieces.
#[derive(Default)]
pub struct Scanner {
    number: Option<u32>,
}

impl Scanner {
    pub fn scan(&mut self, mut bytes: &[u8], mut found: impl FnMut(u32)) {
        loop {
            let Some(mut number) = self.number else {
                let Some(at) = memchr::memchr(b'@', bytes) else { return };
                bytes = &bytes[at + 1..];
                self.number = Some(0);
                continue;
            };
            let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
            for digit in &bytes[..digits] {
                number = number.wrapping_mul(10).wrapping_add(u32::from(digit - b'0'));
            }
            self.number = Some(number);
            bytes = &bytes[digits..];
            match bytes.first() {
                None => return,
                Some(b'@') => {
                    found(number);
                    self.number = None;
                    bytes = &bytes[1..];
                }
                Some(_) => self.number = None,
            }
        }
    }
}
