//! The near cache's proof from outside: a checker of histories, and faults to make them under.
//!
//! A front (`corral --upstream`) may answer from copies. Whether it ever answers wrongly is decided
//! here without a look inside: clients write and read, through fronts and past them, and every
//! operation is kept with the time it began and the time it ended. Afterwards the whole history is
//! judged.
//!
//! - [`history`]: what is kept.
//! - [`check`]: the judge, a pure function; its module says how the order of writes makes each
//!   promise ([`report::Property`]) decidable. [`judge`] tests it with histories made by hand.
//! - [`client`], [`load`]: the traffic. Its module says why the order of writes is known.
//! - [`relay`]: the network between a front and its Redis, which can be late, silent or cut.
//! - [`upstream`]: a Redis, a master that a Sentinel names, or a Cluster.
//! - [`bed`]: that, its fronts and relays, the clients, and the pause at the end after which
//!   everything must be equal.
//! - [`faults`]: what goes wrong meanwhile.
//! - [`scenarios`]: the tests. One is a [`bed::Setup`] and a function over [`faults::Faults`];
//!   another topology is another kind of upstream, another fault another function.
//! - [`tags`]: the same of tags, which has a judge of its own.
//! - [`toy`]: a front that is wrong on purpose, in one way at a time, and right without. Its tests
//!   say that the checker finds each of the wrong ways, and nothing where there is none.
//!
//! `CORRAL_COHERENCE_SECONDS=300` makes each scenario last that long (default: 3), `CORRAL_SEED`
//! repeats the choices of a run, though not its timing. What was seen is printed: with `cargo test
//! --test coherence -- --nocapture --test-threads 1`, one line for each scenario: how many reads
//! were stale and by how much, and how many reads reached Redis at all, without which a green run
//! would prove nothing.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    reason = "tests say what they saw"
)]

mod bed;
mod check;
mod client;
mod faults;
mod history;
mod judge;
mod load;
mod relay;
mod report;
mod scenarios;
#[path = "../support/servers.rs"]
mod servers;
mod tags;
#[path = "../support/topologies.rs"]
mod topologies;
mod toy;
mod upstream;
