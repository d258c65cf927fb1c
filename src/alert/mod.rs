//! What people read: its text per language, its area for the phone, its form on the wire.

pub mod area;
pub mod compose;
pub mod recipients;
pub mod text;

/// The public interface descriptions, as code (see `proto/homeward/v1/homeward.proto`).
pub mod proto {
    /// Version 1.
    #[allow(
        missing_docs,
        unused_qualifications,
        clippy::pedantic,
        reason = "generated; documented in the .proto file"
    )]
    pub mod v1 {
        tonic::include_proto!("homeward.v1");
    }
}

/// How the store keeps what it gets from here.
#[allow(
    missing_docs,
    unused_qualifications,
    clippy::pedantic,
    reason = "generated; documented in the .proto file"
)]
mod stored {
    tonic::include_proto!("homeward.store.v1");
}
