//! One client in front of an upstream: passed through until it ends, or the server tells it to.

use std::sync::Arc;

use tokio::sync::watch;

use super::stream::Stream;
use crate::clock;
use crate::instance::Instance;
use crate::instance::clients::Client;
use crate::upstream::Upstream;
use crate::upstream::passthrough::{self, Stop};

/// Serves a client by its own connection to the upstream, until it ends or is told to.
pub(super) async fn serve(
    upstream: &Arc<Upstream>,
    instance: &Instance,
    stream: Stream,
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
