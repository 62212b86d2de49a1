//! The Redis in front of which we stand.
//!
//! [`Upstream`] is that server and how to reach it; [`passthrough`] serves a client by a connection
//! of its own, [`shared`] are connections of many, and the one that tells what changes;
//! [`topology`] follows an upstream that moves.

pub(crate) mod buffer;
pub mod connect;
pub(crate) mod conversation;
mod ledger;
pub(crate) mod own;
pub mod passthrough;
mod probe;
pub(crate) mod session;
pub mod shared;
pub mod topology;
pub mod url;

pub use connect::{Counters, Tls, Upstream};
pub use url::UpstreamUrl;
