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

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

pub use connect::{Counters, Tls, Upstream};
pub use url::UpstreamUrl;

use crate::clock;
use crate::instance::Instance;
use crate::instance::clients::Client;
use passthrough::Stop;

/// Serves a client by its own connection to the upstream, until it ends or is told to.
pub async fn serve<C: AsyncRead + AsyncWrite + Unpin>(
    upstream: &Arc<Upstream>,
    instance: &Instance,
    stream: C,
    client: &Client,
) {
    let (stop, stopped) = watch::channel(Stop::No);
    let passing = passthrough::run(stream, Vec::new(), Arc::clone(upstream), stopped);
    tokio::pin!(passing);
    let told = async {
        client.finishing().await;
        let by = clock::now() + instance.config().shutdown_timeout;
        let _ = stop.send(Stop::Drain { by });
        client.closed().await;
        let _ = stop.send(Stop::Now);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = &mut passing => {}
        () = told => {}
    }
}
