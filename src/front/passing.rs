//! A client that is passed through, until it ends, or the server tells it to.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::host::FrontHost;
use crate::clock;
use crate::instance::Instance;
use crate::instance::clients::Client;
use crate::upstream::Upstream;
use crate::upstream::passthrough::{self, Ended, Guard, Stop, Visit};

/// Serves a client by its own connection to the upstream, until it ends or is told to.
pub async fn pass_through<C: AsyncRead + AsyncWrite + Unpin>(
    upstream: &Arc<Upstream>,
    instance: &Arc<Instance>,
    stream: C,
    client: &Arc<Client>,
    thread: usize,
) {
    let host = Arc::new(FrontHost {
        instance: Arc::clone(instance),
        client: Arc::clone(client),
        thread,
        shared: None,
    });
    until_told(instance, client, |stopped| {
        passthrough::run_hosted(stream, Arc::clone(upstream), host, stopped)
    })
    .await;
}

/// Serves a client by a connection of its own for as long as it must have one.
pub(super) async fn visit<C: AsyncRead + AsyncWrite + Unpin>(
    upstream: &Arc<Upstream>,
    stream: C,
    visit: &mut Visit,
    guard: Arc<dyn Guard>,
    host: FrontHost,
) -> Ended {
    let (instance, client) = (Arc::clone(&host.instance), Arc::clone(&host.client));
    until_told(&instance, &client, |stopped| {
        let (upstream, host) = (Arc::clone(upstream), Arc::new(host));
        passthrough::visit(stream, visit, upstream, guard, host, stopped)
    })
    .await
}

/// Serves a client until it ends; it ends sooner when it is told to.
async fn until_told<F: Future<Output = Ended>>(
    instance: &Instance,
    client: &Client,
    serve: impl FnOnce(watch::Receiver<Stop>) -> F,
) -> Ended {
    // The upstream sees what it says, and closes it when it is idle, if it does that.
    let _passed = Passed::begin(instance, client);
    let (stop, stopped) = watch::channel(Stop::No);
    let passing = serve(stopped);
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
        ended = &mut passing => ended,
        () = told => Ended::Stopped,
    }
}

/// A client that is passed through, as long as this lives.
struct Passed<'a> {
    instance: &'a Instance,
    client: &'a Client,
}

impl<'a> Passed<'a> {
    fn begin(instance: &'a Instance, client: &'a Client) -> Self {
        client.doing.passed.store(true, Ordering::Relaxed);
        Self { instance, client }
    }
}

impl Drop for Passed<'_> {
    fn drop(&mut self) {
        let doing = &self.client.doing;
        let now_ms = self.instance.uptime_ms();
        doing.active_ms.store(now_ms, Ordering::Relaxed);
        doing.passed.store(false, Ordering::Relaxed);
    }
}
