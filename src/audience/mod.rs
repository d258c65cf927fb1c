//! The registry of subscribers; who may be told now, and why not.

pub mod eligibility;
mod persons;
pub mod sync;
