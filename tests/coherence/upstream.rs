//! What the fronts are in front of: one Redis, a master that a Sentinel names, or a Cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use super::client::{Client, reads_counted};
use super::history::{Clock, Route};
use super::servers::Server;
use super::topologies::{Cluster, Group, ask_for_ok};

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Topology {
    One,
    Group,
    Cluster,
}

/// A Sentinel that replaces no master unless it is told to.
const CALM_SENTINEL: &str = "sentinel down-after-milliseconds mymaster 60000";

/// A replica that takes its master's place by itself lacks what it had not heard of.
const NO_FAILOVER: &str = "CONFIG SET cluster-replica-no-failover yes";

/// The servers.
pub(crate) enum Upstream {
    One(Server),
    Group(Group),
    /// With a front that keeps nothing: who goes past the others knows no Cluster.
    Cluster(Cluster, Server),
}

impl Upstream {
    pub(crate) fn start(topology: Topology, args: &[&str]) -> Self {
        match topology {
            Topology::One => Self::One(Server::redis(args)),
            Topology::Group => Self::Group(Group::with(args, CALM_SENTINEL)),
            Topology::Cluster => {
                let cluster = Cluster::start(1);
                for server in cluster.masters.iter().chain(&cluster.replicas) {
                    ask_for_ok(server.port, NO_FAILOVER);
                }
                let args = ["--upstream", &cluster.url(), "--near-cache", "no"];
                let plain = Server::corral(&args);
                Self::Cluster(cluster, plain)
            }
        }
    }

    /// Where a front finds it, if need be by a relay on this port.
    pub(crate) fn url(&self, relay: Option<u16>) -> String {
        match self {
            Self::One(server) => format!("redis://127.0.0.1:{}", relay.unwrap_or(server.port)),
            Self::Group(group) => group.url(),
            Self::Cluster(cluster, _) => cluster.url(),
        }
    }

    /// Where clients go past the fronts.
    pub(crate) fn port(&self) -> u16 {
        match self {
            Self::One(server) => server.port,
            Self::Group(group) => group.master.port,
            Self::Cluster(_, plain) => plain.port,
        }
    }

    /// The only server.
    pub(crate) fn one(&mut self) -> &mut Server {
        match self {
            Self::One(server) => server,
            Self::Group(_) | Self::Cluster(..) => panic!("there are several"),
        }
    }

    /// How many commands that read have reached its servers since they were started.
    pub(crate) fn reads_counted(&self, clock: Clock) -> u64 {
        let servers: Vec<&Server> = match self {
            Self::One(server) => vec![server],
            Self::Group(group) => vec![&group.master, &group.replica],
            Self::Cluster(cluster, _) => cluster.masters.iter().chain(&cluster.replicas).collect(),
        };
        let count = |server: &Server| {
            let mut client = Client::new(0, Route::Direct, Door::new(server.port), clock);
            reads_counted(&mut client)
        };
        servers.into_iter().map(count).sum()
    }
}

/// The port that clients connect to. It may change; then what they have is of no use any more.
#[derive(Clone, Debug)]
pub(crate) struct Door(Arc<AtomicU16>);

impl Door {
    pub(crate) fn new(port: u16) -> Self {
        Self(Arc::new(port.into()))
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.load(Ordering::SeqCst)
    }

    /// Where nobody gets in.
    pub(crate) fn close(&self) {
        self.open(0);
    }

    pub(crate) fn open(&self, port: u16) {
        self.0.store(port, Ordering::SeqCst);
    }
}
