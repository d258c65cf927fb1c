//! Readers: who empties an app queue when the app does not do it itself.

pub mod dead_letters;
pub mod grpc;
mod watch;
