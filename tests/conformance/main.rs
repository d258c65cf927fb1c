//! The promises of DESIGN.md, kept by the whole server, on both databases, and by the app queues, in
//! the process and in RabbitMQ.
//!
//! Most tests are an `async fn name(house: House)`; `conformance!` runs them once for each database, as
//! `topic::sqlite::name` and `topic::postgres::name`, and `with_rabbitmq!` with PostgreSQL and RabbitMQ,
//! as `topic::rabbitmq::name`.
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

/// Runs tests on one ground.
macro_rules! on {
    ($module:ident, $ground:ident, $($(#[$more:meta])* $name:ident),*) => {
        mod $module {
            $($(#[$more])*
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                crate::common::in_a_house(crate::common::Ground::$ground, super::$name).await;
            })*
        }
    };
}

/// Runs tests on both databases.
macro_rules! conformance {
    ($($name:ident),* $(,)?) => {
        on!(sqlite, Sqlite, $($name),*);
        on!(postgres, Postgres, $($name),*);
    };
}

/// Runs tests with the app queues in RabbitMQ.
macro_rules! with_rabbitmq {
    ($($(#[$more:meta])* $name:ident),* $(,)?) => {
        on!(rabbitmq, Rabbitmq, $($(#[$more])* $name),*);
    };
}

/// Runs tests of the queues in RabbitMQ, on virtual hosts of their own.
macro_rules! rabbitmq {
    ($($(#[$more:meta])* $name:ident),* $(,)?) => {
        mod rabbitmq {
            $($(#[$more])*
            #[tokio::test]
            async fn $name() {
                crate::common::queues::in_rabbitmq(super::$name).await;
            })*
        }
    };
}

mod amqp;
mod area;
mod area_cost;
mod area_news;
mod area_waves;
mod bodies;
mod broker;
mod cap;
mod corrections;
mod delivery;
mod geography;
mod input;
mod journey;
mod keys;
mod lanes;
mod memory;
mod moves;
mod outages;
mod persons;
mod privacy;
mod queue;
mod reasons;
mod recall;
mod requests;
mod settings;
mod store;
mod sync;
mod takeover;
mod updates;
mod verification;
mod volunteers;
mod waiting;
