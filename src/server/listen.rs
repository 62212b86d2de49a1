//! Listening sockets: opened at start, reopened when `bind`, `port` or the tls-* settings change.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Notify, mpsc};
use tokio_rustls::TlsAcceptor;

use super::stream::{self, Stream};
use super::tls::{self, AuthClients, Authorities, Suites, TlsSettings};
use crate::config::{BindAddress, Config, SetError, TlsAuthClients};
use crate::instance::{Instance, Listeners, Places, Seat};

/// Why an address could not be listened on.
#[derive(Debug)]
pub struct BindError {
    /// What was asked for.
    pub address: String,
    /// What the system, or the TLS library, said.
    pub why: String,
    /// Whether somebody else has it.
    pub is_taken: bool,
}

impl BindError {
    fn of(address: impl fmt::Display, error: &io::Error) -> Self {
        Self {
            address: address.to_string(),
            why: error.to_string(),
            is_taken: error.kind() == io::ErrorKind::AddrInUse,
        }
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            address,
            why,
            is_taken,
        } = self;
        write!(formatter, "cannot listen on {address}: {why}")?;
        if *is_taken {
            let port = address.rsplit(':').next().unwrap_or_default();
            write!(
                formatter,
                "\n  Another program has it; `ss -ltnp 'sport = :{port}'` shows which (a \
                 redis-server, perhaps).\n  Stop that one, or choose another port: corral --port \
                 6380"
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for BindError {}

/// The sockets that clients connect to.
#[derive(Default)]
pub(super) struct Listening {
    tcp: Vec<std::net::TcpListener>,
    tls: Vec<std::net::TcpListener>,
    unix: Option<(std::os::unix::net::UnixListener, PathBuf)>,
    tls_config: Option<Arc<ServerConfig>>,
}

impl Listening {
    pub(super) fn open(config: &Config) -> Result<Self, BindError> {
        let unix = match &config.unixsocket {
            Some(path) => Some((open_unix(path, config)?, path.clone())),
            None => None,
        };
        Ok(Self {
            tcp: open_tcp(&config.bind, config.port, config, &[])?,
            tls: open_tcp(&config.bind, config.tls_port, config, &[])?,
            tls_config: tls_config(config)?,
            unix,
        })
    }

    /// The same sockets a second time; they close when both are dropped.
    fn try_clone(&self) -> io::Result<Self> {
        let unix = self.unix.as_ref();
        Ok(Self {
            tcp: self
                .tcp
                .iter()
                .map(std::net::TcpListener::try_clone)
                .collect::<Result<_, _>>()?,
            tls: self
                .tls
                .iter()
                .map(std::net::TcpListener::try_clone)
                .collect::<Result<_, _>>()?,
            tls_config: self.tls_config.clone(),
            unix: unix
                .map(|(socket, path)| Ok::<_, io::Error>((socket.try_clone()?, path.clone())))
                .transpose()?,
        })
    }

    pub(super) fn addresses(&self) -> Vec<String> {
        let name = |socket: &std::net::TcpListener| {
            socket
                .local_addr()
                .map_or_else(|_| "?".to_owned(), |address| address.to_string())
        };
        let tls = self
            .tls
            .iter()
            .map(|socket| format!("{} (TLS)", name(socket)));
        let unix = self.unix.iter().map(|(_, path)| path.display().to_string());
        self.tcp.iter().map(name).chain(tls).chain(unix).collect()
    }
}

fn open_tcp(
    addresses: &[BindAddress],
    port: u16,
    config: &Config,
    open: &[std::net::TcpListener],
) -> Result<Vec<std::net::TcpListener>, BindError> {
    let mut sockets = Vec::new();
    if port == 0 {
        return Ok(sockets);
    }
    for bind in addresses {
        let name = format!("{}:{port}", bind.host());
        let resolved = (bind.host(), port).to_socket_addrs();
        let opened = resolved.and_then(|mut all| {
            let address = all.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
            let same = |socket: &&std::net::TcpListener| {
                socket.local_addr().is_ok_and(|local| local == address)
            };
            // One that is open already stays open: who is connecting to it loses nothing.
            match open.iter().find(same) {
                Some(socket) => socket.try_clone(),
                None => open_one(address, config),
            }
        });
        match opened {
            Ok(socket) => sockets.push(socket),
            // A machine may have no IPv6; that a port is taken is never meant to be passed over.
            Err(error) if bind.optional && error.kind() != io::ErrorKind::AddrInUse => {
                tracing::debug!(address = name, %error, "optional address passed over");
            }
            Err(error) => return Err(BindError::of(name, &error)),
        }
    }
    Ok(sockets)
}

fn open_one(address: SocketAddr, config: &Config) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(config.tcp_backlog).unwrap_or(i32::MAX))?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn open_unix(path: &Path, config: &Config) -> Result<std::os::unix::net::UnixListener, BindError> {
    let failed = |error: io::Error| BindError::of(path.display(), &error);
    // A socket that nobody listens on was left behind; anything else is not ours to remove.
    let is_socket = path
        .symlink_metadata()
        .is_ok_and(|data| data.file_type().is_socket());
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
        std::fs::remove_file(path).map_err(failed)?;
    }
    let socket = std::os::unix::net::UnixListener::bind(path).map_err(failed)?;
    if config.unixsocketperm != 0 {
        let permissions = std::fs::Permissions::from_mode(config.unixsocketperm);
        std::fs::set_permissions(path, permissions).map_err(failed)?;
    }
    socket.set_nonblocking(true).map_err(failed)?;
    Ok(socket)
}

fn tls_config(config: &Config) -> Result<Option<Arc<ServerConfig>>, BindError> {
    let (Some(cert_file), Some(key_file)) = (&config.tls_cert_file, &config.tls_key_file) else {
        return Ok(None);
    };
    if config.tls_port == 0 {
        return Ok(None);
    }
    let settings = TlsSettings {
        cert_file: cert_file.clone(),
        key_file: key_file.clone(),
        authorities: Authorities {
            file: config.tls_ca_cert_file.clone(),
            directory: config.tls_ca_cert_dir.clone(),
        },
        auth_clients: match config.tls_auth_clients {
            TlsAuthClients::No => AuthClients::No,
            TlsAuthClients::Yes => AuthClients::Yes,
            TlsAuthClients::Optional => AuthClients::Optional,
        },
        protocols: tls_versions(config),
        suites: Suites {
            tls12: config.tls_ciphers.known().to_owned(),
            tls13: config.tls_ciphersuites.known().to_owned(),
            is_order_ours: config.tls_prefer_server_ciphers,
        },
    };
    for (name, suites) in [
        ("tls-ciphers", &config.tls_ciphers),
        ("tls-ciphersuites", &config.tls_ciphersuites),
    ] {
        if !suites.unknown().is_empty() {
            let unknown = suites.unknown().join(", ");
            tracing::warn!("{name}: no such cipher suite here, left out: {unknown}");
        }
    }
    tls::server_config(&settings)
        .map(Some)
        .map_err(|error| BindError {
            address: format!("TLS port {}", config.tls_port),
            why: error.to_string(),
            is_taken: false,
        })
}

fn tls_versions(config: &Config) -> tls::Protocols {
    let versions = config.tls_protocols;
    let names = [
        (versions.has_tls12(), "TLSv1.2"),
        (versions.has_tls13(), "TLSv1.3"),
    ];
    let names: Vec<_> = names
        .iter()
        .filter(|(is_on, _)| *is_on)
        .map(|(_, name)| *name)
        .collect();
    names.join(" ").parse().unwrap_or_default()
}

/// A socket that came in, not yet a client.
pub(super) struct Arrived {
    pub(super) socket: Incoming,
    /// Its place in the queue to its thread.
    pub(super) seat: Seat,
}

pub(super) enum Incoming {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
    Tls(std::net::TcpStream, Arc<ServerConfig>),
}

/// Makes a stream of a socket, on the thread that will serve it.
pub(super) async fn establish(socket: Incoming, config: &Config) -> io::Result<Stream> {
    let tune = |tcp: &TcpStream| -> io::Result<()> {
        tcp.set_nodelay(true)?;
        stream::set_keepalive(tcp, config.tcp_keepalive)
    };
    match socket {
        Incoming::Unix(socket) => Ok(Stream::Unix(UnixStream::from_std(socket)?)),
        Incoming::Tcp(socket) => {
            let tcp = TcpStream::from_std(socket)?;
            tune(&tcp)?;
            Ok(Stream::Tcp(tcp))
        }
        Incoming::Tls(socket, tls) => {
            let tcp = TcpStream::from_std(socket)?;
            tune(&tcp)?;
            let peer = tcp
                .peer_addr()
                .map_or_else(|_| "?".to_owned(), |peer| peer.to_string());
            let handshake = TlsAcceptor::from(tls).accept(tcp);
            match tokio::time::timeout(HANDSHAKE_MAX, handshake).await {
                Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(stream))),
                Ok(Err(error)) => {
                    tracing::info!(peer, %error, "TLS handshake failed");
                    Err(error)
                }
                Err(_) => {
                    tracing::info!(peer, "TLS handshake took too long");
                    Err(io::ErrorKind::TimedOut.into())
                }
            }
        }
    }
}

/// Accepts and deals out.
pub(super) struct Acceptor {
    senders: Arc<[mpsc::UnboundedSender<Arrived>]>,
    doors: Arc<Doors>,
    waiting: Arc<Places>,
    instance: Arc<Instance>,
}

/// The sockets that shall be open.
struct Doors {
    open: Mutex<Listening>,
    changed: Notify,
}

impl Acceptor {
    pub(super) fn new(
        instance: &Arc<Instance>,
        listening: Listening,
        senders: Vec<mpsc::UnboundedSender<Arrived>>,
    ) -> Self {
        let doors = Arc::new(Doors {
            open: Mutex::new(listening),
            changed: Notify::new(),
        });
        let _ = instance.listeners.set(Box::new(Reopen {
            doors: Arc::clone(&doors),
        }));
        Self {
            senders: senders.into(),
            doors,
            waiting: Arc::default(),
            instance: Arc::clone(instance),
        }
    }

    /// Accepts until it is dropped.
    pub(super) async fn run(self) {
        let mut tasks = tokio::task::JoinSet::new();
        let next_thread = Arc::new(AtomicUsize::new(0));
        loop {
            let open = self.doors.open.lock().try_clone();
            match open {
                Ok(listening) => {
                    tasks.shutdown().await;
                    for door in doors(listening) {
                        tasks.spawn(door.accept_all(Dealer {
                            senders: Arc::clone(&self.senders),
                            next: Arc::clone(&next_thread),
                            waiting: Arc::clone(&self.waiting),
                            instance: Arc::clone(&self.instance),
                        }));
                    }
                }
                Err(error) => tracing::error!(%error, "a listening socket cannot be used"),
            }
            self.doors.changed.notified().await;
        }
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        if let Some((_, path)) = &self.doors.open.lock().unix {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn doors(listening: Listening) -> Vec<Door> {
    let mut doors = Vec::new();
    let mut add = |door: io::Result<Door>| match door {
        Ok(door) => doors.push(door),
        Err(error) => tracing::error!(%error, "a listening socket cannot be used"),
    };
    for socket in listening.tcp {
        add(TcpListener::from_std(socket).map(Door::Tcp));
    }
    for socket in listening.tls {
        if let Some(tls) = &listening.tls_config {
            add(TcpListener::from_std(socket).map(|socket| Door::Tls(socket, Arc::clone(tls))));
        }
    }
    if let Some((socket, _)) = listening.unix {
        add(UnixListener::from_std(socket).map(Door::Unix));
    }
    doors
}

/// One listening socket.
enum Door {
    Tcp(TcpListener),
    Tls(TcpListener, Arc<ServerConfig>),
    Unix(UnixListener),
}

impl Door {
    async fn accept(&self) -> io::Result<Incoming> {
        match self {
            Self::Tcp(socket) => Ok(Incoming::Tcp(socket.accept().await?.0.into_std()?)),
            Self::Tls(socket, tls) => Ok(Incoming::Tls(
                socket.accept().await?.0.into_std()?,
                Arc::clone(tls),
            )),
            Self::Unix(socket) => Ok(Incoming::Unix(socket.accept().await?.0.into_std()?)),
        }
    }

    async fn accept_all(self, dealer: Dealer) {
        loop {
            match self.accept().await {
                Ok(socket) => dealer.deal(socket),
                Err(error) => {
                    // Out of file descriptors, or a peer that left at once. To try again at
                    // once would spin.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

struct Dealer {
    senders: Arc<[mpsc::UnboundedSender<Arrived>]>,
    next: Arc<AtomicUsize>,
    waiting: Arc<Places>,
    instance: Arc<Instance>,
}

impl Dealer {
    fn deal(&self, socket: Incoming) {
        // Those in handshakes and queues count as well: they hold memory and a descriptor.
        let max = self.instance.config().maxclients as usize + WAITING_MAX;
        let Some(seat) = self.waiting.take(max) else {
            self.instance.metrics.rejected_connections.add_shared(1);
            return;
        };
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let sender = &self.senders[turn % self.senders.len()];
        // Fails only while stopping, when the threads are gone.
        let _ = sender.send(Arrived { socket, seat });
    }
}

/// Puts changed settings into effect.
struct Reopen {
    doors: Arc<Doors>,
}

impl Listeners for Reopen {
    fn change(&self, before: &Config, after: &Config) -> Result<(), SetError> {
        let failed = |error: BindError| {
            tracing::warn!(%error, "CONFIG SET refused");
            if before.bind != after.bind {
                SetError::failed("bind", "Failed to bind to specified addresses.")
            } else {
                SetError::failed("port", "Unable to listen on this port. Check server logs.")
            }
        };
        let tls_failed = |error: BindError| {
            tracing::warn!(%error, "CONFIG SET refused");
            SetError::failed(
                "tls-port",
                "Unable to update TLS configuration. Check server logs.",
            )
        };
        let mut open = self.doors.open.lock();
        let tcp = open_tcp(&after.bind, after.port, after, &open.tcp).map_err(failed)?;
        let tls = open_tcp(&after.bind, after.tls_port, after, &open.tls).map_err(tls_failed)?;
        // The files are read again even where their names are the same: they may be newer.
        open.tls_config = tls_config(after).map_err(tls_failed)?;
        (open.tcp, open.tls) = (tcp, tls);
        drop(open);
        self.doors.changed.notify_one();
        Ok(())
    }
}

/// How long a TLS handshake may take.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How long to wait after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections beyond `maxclients` that may wait for their refusal.
const WAITING_MAX: usize = 1024;
