//! The promises of DESIGN.md, kept by the whole server, on both databases.
//!
//! Every test is an `async fn name(house: House)`; `conformance!` runs it once for each database, as
//! `topic::sqlite::name` and `topic::postgres::name`.
#![allow(
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::too_many_lines,
    clippy::must_use_candidate,
    reason = "what fails here is a test, a test may tell a long story, and its people are few"
)]

#[path = "../common/mod.rs"]
mod common;

/// Runs tests on both databases.
macro_rules! conformance {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let database = crate::common::Database::Sqlite;
                crate::common::in_a_house(database, super::$name).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let database = crate::common::Database::Postgres;
                crate::common::in_a_house(database, super::$name).await;
            })*
        }
    };
}

mod cap;
mod delivery;
mod geography;
mod input;
mod journey;
mod keys;
mod lanes;
mod persons;
mod privacy;
mod reasons;
mod recall;
mod requests;
mod store;
mod sync;
mod takeover;
mod updates;
mod verification;
mod waiting;
