//! corral: a cache server that speaks RESP.
//!
//! It holds the herd: when a hot key expires, a thousand clients cost the origin one load. This is
//! the library behind the `corral` binary; a tour of its rooms, in the order a request takes:
//!
//! - [`server`]: sockets and I/O threads. Reads bytes, writes bytes.
//! - [`resp`]: the wire format. Bytes become requests, replies become bytes.
//! - [`command`]: what can be asked. Start at its table.
//! - [`keyspace`]: our own values, as commands see them.
//! - [`store`]: the bounded, sharded map under it; the only room with `unsafe`.
//! - [`front`]: a client of the Redis we may stand in front of; [`near`]: copies of what is there;
//!   [`upstream`]: connections to it.
//! - [`policy`]: what rules say of a key; [`origin`]: where a missing value comes from.
//! - [`events`]: who tells from outside that something changed.
//! - [`instance`]: what all threads share. [`config`], [`metrics`], [`clock`] are what they say.
//!
//! docs/ARCHITECTURE.md is the map, docs/DECISIONS.md tells why.

pub mod clock;
pub mod command;
pub mod config;
pub mod events;
pub mod front;
pub mod instance;
pub mod keyspace;
pub mod logging;
pub mod metrics;
pub mod near;
pub mod origin;
pub mod policy;
pub mod resp;
pub mod server;
pub mod store;
pub mod upstream;

/// The Redis whose behaviour we follow, for clients that look at a version.
pub const REDIS_VERSION: &str = "7.0.15";
/// Our own version, for people.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
