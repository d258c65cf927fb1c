//! Homeward.

pub mod model;
pub mod store;
