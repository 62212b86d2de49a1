//! The Redis in front of which we stand.
//!
//! [`Upstream`] is that server and how to reach it; [`passthrough`] serves a client by it. What is
//! added to pass-through later (a near cache) finds its place in front of it, see there.

mod buffer;
pub mod connect;
mod ledger;
pub mod passthrough;
mod probe;
mod session;
pub mod url;

pub use connect::{Counters, Tls, Upstream};
pub use url::UpstreamUrl;
