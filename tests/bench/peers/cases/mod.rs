//! What is measured.

mod fan_out;
mod fetches;
mod growth;
mod memory;
mod pass_through;
mod polls;
mod quiet;
mod staleness;
mod start;
mod storm;
mod topics;
mod triggers;

use std::pin::Pin;

use crate::bed::Bed;
use crate::report::Table;

type Measured<'a> = Pin<Box<dyn Future<Output = Vec<Table>> + 'a>>;

pub struct Case {
    pub name: &'static str,
    pub title: &'static str,
    /// What it does, for readers.
    pub about: &'static str,
    pub run: for<'a> fn(&'a Bed) -> Measured<'a>,
}

/// All cases, in the order of the document.
pub static ALL: &[Case] = &[
    start::CASE,
    memory::CASE,
    fan_out::CASE,
    pass_through::CASE,
    polls::CASE,
    staleness::CASE,
    topics::CASE,
    growth::CASE,
    fetches::CASE,
    triggers::CASE,
    quiet::CASE,
    storm::CASE,
];
