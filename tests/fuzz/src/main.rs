//! Coverage-guided fuzzing of whatever reads what others wrote. One binary; `FUZZ_TARGET` says what of it is fuzzed.
//! `tests/fuzz/run TARGET SECONDS` builds and runs it.
#![no_main]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../support/oracle.rs"]
#[allow(dead_code)]
mod oracle;
#[allow(dead_code)]
mod targets;

/// Where the other tests have it.
mod support {
    pub(crate) use crate::oracle;
}

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

use targets::TARGETS;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    let found = TARGETS.iter().find(|target| target.name == name);
    found.unwrap_or_else(|| panic!("FUZZ_TARGET is none of {names:?}")).run
});

fuzz_target!(|data: &[u8]| TARGET(data));
