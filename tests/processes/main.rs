//! Homeward as it runs: real processes, real databases, a real broker, and an app's consumer in another
//! language.
//!
//! Servers are killed, stopped, held and cut off from their database at moments that are chosen by
//! what they were seen doing; the broker is stopped, killed, wiped, filled and silenced (`broker_*`). Whatever happens, everybody who may be told is told once, every repeat
//! is the same byte for byte, and the recall goes to those who were told and to nobody else.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test says what it saw and fails where something is missing"
)]

mod area;
mod broker;
mod broker_ends;
mod broker_full;
mod broker_lanes;
mod broker_odd;
mod broker_readers;
mod broker_silent;
mod broker_users;
mod broker_wiped;
mod closing;
mod commands;
mod consumer;
mod crowd;
mod db;
mod delivery;
mod frozen;
mod house;
mod kills;
mod memory;
mod outage;
mod pair;
mod people;
mod proxy;
mod rate;
mod scene;
mod shards;
mod stops;
mod uploads;

/// Runs tests, functions of a [`db::Kind`], on both databases.
macro_rules! on_both_databases {
    ($($name:ident)*) => {
        mod postgresql {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::db::Kind::Postgres).await;
            })*
        }
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::db::Kind::Sqlite).await;
            })*
        }
    };
}
use on_both_databases;
