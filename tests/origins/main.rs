//! Origins beside real servers: what they load, store and delete, and how they fail.
//!
//! - `http`: a small server in the test, and ones that misbehave
//! - `tls`: the same over TLS
//! - `sql`: PostgreSQL, MariaDB and SQLite, by one table of what each must do
//! - `postgres`, `mariadb`, `sqlite`: what is particular to each
//! - `command`: programs of this machine
//! - `redis`: a `redis-server`
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a broken server is a failed test, and its log is shown"
)]

mod command;
mod common;
mod databases;
mod http;
mod mariadb;
mod postgres;
mod redis;
#[path = "../support/servers.rs"]
#[expect(dead_code, reason = "each test binary uses a part of it")]
mod servers;
mod sql;
mod sqlite;
mod tls;
