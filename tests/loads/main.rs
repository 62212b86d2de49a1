//! Keys that rules are about, as clients see them: over real sockets, with an origin that is a
//! program, and that answers when the test says so.
//!
//! - [`bench`]: the server, its rules and its origin.
//! - [`origins`]: values that are loaded: once, side by side, in order, whatever happens meanwhile.
//! - [`leases`]: values that clients make: one at a time, and whom the others wait for.
//! - [`stale`]: what is left of a value that expired, and who sees it.
//!
//! Nothing is won by sleeping: an origin is held until what a test wants has happened, and what
//! happened is read from the rule's counts.

mod bench;
mod churn;
#[path = "../it/common/mod.rs"]
#[expect(dead_code, reason = "what other tests need of it")]
mod common;
mod leases;
mod origins;
mod stale;
