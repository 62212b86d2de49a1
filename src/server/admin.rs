//! The admin port: `/metrics` for Prometheus, `/healthz` and `/readyz` for those who watch over the
//! process; `/invalidate` for those who know that something changed. Plain HTTP, for the operator's
//! network only; it tells no key and no value.
//!
//! Served by the thread that accepts connections, so that it answers however busy the I/O threads
//! are. What it may cost is bounded: connections, the time for a request, the life of a connection.

mod invalidate;
mod metrics;

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener as Socket, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::config::Config;
use crate::instance::Instance;

/// Connections at once; others wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// How long the head of a request may take, and how long a connection may wait for the next one.
const HEAD_MAX: Duration = Duration::from_secs(30);
/// How long a connection may last.
const CONNECTION_MAX: Duration = Duration::from_secs(600);
/// How long to wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The sockets of the admin port, not yet served.
#[derive(Debug)]
pub struct AdminPort(Vec<Socket>);

/// An address of the admin port could not be listened on.
#[derive(Debug)]
pub struct AdminError {
    address: String,
    error: io::Error,
}

impl fmt::Display for AdminError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "cannot listen on {} (admin-port): {}",
            self.address, self.error
        )
    }
}

impl std::error::Error for AdminError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl AdminPort {
    /// Listens on `admin-bind` and `admin-port`; on nothing where the port is 0.
    ///
    /// # Errors
    /// When an address that is not optional cannot be listened on.
    pub fn open(config: &Config) -> Result<Self, AdminError> {
        let mut sockets = Vec::new();
        if config.admin_port == 0 {
            return Ok(Self(sockets));
        }
        for bind in &config.admin_bind {
            match open_one(bind.host(), config.admin_port) {
                Ok(socket) => sockets.push(socket),
                Err(error) if bind.optional && error.kind() != io::ErrorKind::AddrInUse => {
                    tracing::debug!(address = bind.name, %error, "optional address passed over");
                }
                Err(error) => {
                    let address = format!("{}:{}", bind.host(), config.admin_port);
                    return Err(AdminError { address, error });
                }
            }
        }
        Ok(Self(sockets))
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0
            .iter()
            .filter_map(|socket| socket.local_addr().ok())
            .collect()
    }

    /// Answers until what is returned is dropped. Must be called within a runtime.
    #[must_use]
    pub fn serve(self, instance: &Arc<Instance>) -> Admin {
        let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut tasks = JoinSet::new();
        for socket in self.0 {
            match TcpListener::from_std(socket) {
                Ok(listener) => {
                    tasks.spawn(accept(listener, router(instance), Arc::clone(&seats)));
                }
                Err(error) => tracing::error!(%error, "the admin port cannot be used"),
            }
        }
        Admin(tasks)
    }
}

/// The admin port at work, until it is dropped.
#[derive(Debug)]
pub struct Admin(#[expect(dead_code, reason = "its drop ends the tasks")] JoinSet<()>);

fn open_one(host: &str, port: u16) -> io::Result<Socket> {
    let mut addresses = (host, port).to_socket_addrs()?;
    let address = addresses.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let socket = Socket::bind(address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn router(instance: &Arc<Instance>) -> Router {
    Router::new()
        .route("/metrics", get(metrics_page))
        .route("/healthz", get(|| async { (NO_STORE, "ok\n") }))
        .route("/readyz", get(readiness))
        .route("/invalidate", post(invalidate::invalidate))
        .layer(DefaultBodyLimit::max(invalidate::BODY_MAX))
        .with_state(Arc::clone(instance))
}

async fn metrics_page(State(instance): State<Arc<Instance>>) -> impl IntoResponse {
    let (status, text) = match metrics::render(&instance) {
        Ok(text) => (StatusCode::OK, text),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be told: this is a bug");
            (StatusCode::INTERNAL_SERVER_ERROR, String::new())
        }
    };
    (status, [(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text)
}

/// Ready while clients can connect and are served, in front of an upstream by it.
async fn readiness(State(instance): State<Arc<Instance>>) -> impl IntoResponse {
    let not_ready = if instance.stopping.is_asked() {
        Some("stopping\n".to_owned())
    } else if instance.listeners.get().is_none() {
        Some("starting\n".to_owned())
    } else if let Some(upstream) = &instance.upstream {
        let found = upstream.probe().await;
        found.err().map(|why| format!("upstream {why}\n"))
    } else {
        None
    };
    let (status, text) = match not_ready {
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
        None => (StatusCode::OK, ready(&instance).to_owned()),
    };
    (status, NO_STORE, text)
}

/// What a server that is ready says. One that does not know what changes upstream serves all the
/// same, only more slowly.
fn ready(instance: &Instance) -> &'static str {
    match instance.front() {
        Some(front) if !front.report().is_coherent => {
            "ready (degraded: not coherent, reads pass to the upstream)\n"
        }
        Some(_) | None => "ready\n",
    }
}

/// An answer about this moment.
const NO_STORE: [(axum::http::HeaderName, &str); 1] = [(CACHE_CONTROL, "no-store")];

async fn accept(listener: TcpListener, router: Router, seats: Arc<Semaphore>) {
    let mut connections = JoinSet::new();
    loop {
        // Who has left makes room for the next.
        while connections.try_join_next().is_some() {}
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let router = router.clone();
                connections.spawn(async move {
                    let _ = tokio::time::timeout(CONNECTION_MAX, converse(stream, router)).await;
                    drop(seat);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection on the admin port");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, router: Router) {
    let ended = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the admin port ended");
    }
}

#[cfg(test)]
mod tests;
