//! Events beside the real servers that they come from: what they invalidate, and what happens when
//! they are lost.
//!
//! - `bed`: a server with events, and what it tells of them
//! - `front`: as the front of an upstream
//! - `kafka`: a topic of Kafka, in a cluster that its client brings for tests (with the feature)
//! - `keyspace`: what a `redis-server` tells of its keys
//! - `postgres`: NOTIFY of a PostgreSQL
//! - `pubsub`: channels of a `redis-server`
//! - `reload`: events of a server that runs
//! - `stream`: streams of a `redis-server`
#![expect(
    clippy::print_stderr,
    clippy::panic_in_result_fn,
    reason = "a broken server is a failed test, and its log is shown"
)]

mod bed;
#[path = "../origins/common.rs"]
#[expect(dead_code, reason = "each test binary uses a part of it")]
mod common;
#[path = "../origins/databases.rs"]
#[expect(dead_code, reason = "each test binary uses a part of it")]
mod databases;
mod front;
#[cfg(feature = "kafka")]
mod kafka;
mod keyspace;
mod postgres;
mod pubsub;
mod reload;
#[path = "../support/servers.rs"]
mod servers;
mod stream;
#[path = "../versus/common.rs"]
#[expect(
    dead_code,
    unused_imports,
    reason = "each test binary uses a part of it"
)]
mod wire;
