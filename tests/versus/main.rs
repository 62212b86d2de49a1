//! corral from outside, beside a real `redis-server`: what is right is what Redis replies.
//!
//! - `admission`: what a front stores when copies are hardly ever read again
//! - `alike`: scripts of commands, on both servers (see `script` for their form)
//! - `cluster`: a front of a Redis Cluster
//! - `random`: thousands of commands drawn at random, on both servers
//! - `loads`: a front whose rules name origins
//! - `memory`: values and bounds while memory is full
//! - `failing`: a front whose upstream fails, or comes back
//! - `fake`: upstreams that answer what a test says
//! - `front`: the same scripts, and more, through corral as a front
//! - `joined`: reads that wait for another client's
//! - `ladder`: how an upstream tells what changes
//! - `leases`: a front whose rules lend keys to those who make their values
//! - `near`: what operators see of a front's near cache
//! - `own`: what a front answers itself, and who its clients are
//! - `reload`: rules and origins of a server that runs
//! - `sampling`: hits of a front that are compared with upstream, and told to it
//! - `sentinel`: a front whose upstream moves
//! - `start`: flags, files, exit codes and the admin port
//! - `tags`: tags of a front's keys
//! - `upstream`: the ways to reach an upstream, with the near cache
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::panic_in_result_fn,
    reason = "tests say what they saw, and a broken server is a failed test"
)]

mod admission;
mod alike;
mod apart;
#[path = "../support/certificates.rs"]
mod certificates;
mod cluster;
mod common;
mod draw;
mod failing;
mod fake;
mod front;
mod joined;
mod ladder;
mod leases;
mod loads;
mod memory;
mod near;
mod own;
mod random;
mod reload;
mod sampling;
mod script;
mod sentinel;
#[path = "../support/servers.rs"]
mod servers;
mod start;
mod tags;
#[path = "../support/topologies.rs"]
mod topologies;
mod upstream;
