//! The server as its clients see it: bytes in, bytes out, over real sockets.
//!
//! - [`common`]: starts servers, and speaks to them in raw bytes.
//! - [`hostile`]: what must not hurt: broken framing, false claims, silence, too much of anything.
//! - [`connections`]: the life of a connection: who it is, pause, kill, monitor, the server's end.
//! - [`tags`]: keys that belong together, and leave together.
//! - [`tls`]: the TLS port.
//! - [`ready`]: whether the admin port calls it ready.
//! - [`rules`]: rules and origins as clients see them.
//! - [`redis_rs`]: the `redis` crate against it.
//!
//! What a reply must be is written out by hand, as redis-server 7.0.15 sends it.

#[path = "../support/certificates.rs"]
mod certificates;
mod common;
mod connections;
mod hostile;
mod ready;
mod redis_rs;
mod rules;
mod tags;
mod tls;
