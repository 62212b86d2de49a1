//! Opens a connection to the upstream: TCP, Unix or TLS, and what must be said first on it.
//!
//! Whatever is slow or wrong ends within one deadline, as a [`ConnectError`] that says in words
//! for an error reply what happened and at which address.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::own;
use super::probe::Probe;
use super::topology::{self, Place, Purpose};
use super::url::{Credentials, Endpoint, UpstreamUrl};
use crate::resp::frame::{FrameScanner, Kind};

/// The upstream: where it is, how long it may take, and what was counted of it.
#[derive(Debug)]
pub struct Upstream {
    /// Where it is, and as whom to speak to it.
    pub url: UpstreamUrl,
    /// Needed where the URL says `rediss`.
    pub tls: Option<Tls>,
    /// See [`Self::timeout`].
    timeout_ms: AtomicU64,
    /// What was counted.
    pub counters: Counters,
    pub(super) probe: Probe,
    /// Where it is now.
    pub(super) place: Place,
}

/// How to speak TLS to the upstream.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Whom to trust, and what to show.
    pub config: Arc<ClientConfig>,
    /// The name its certificate must be for, where that is not the URL's host.
    pub name: Option<ServerName<'static>>,
}

/// What an operator wants to know of an upstream. Only ever grows.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections opened.
    pub connections: AtomicU64,
    /// Connections that could not be opened.
    pub connect_failures: AtomicU64,
    /// Connections that ended without us asking for it.
    pub connections_lost: AtomicU64,
    /// Connections given up since the upstream was silent for too long.
    pub timeouts: AtomicU64,
    /// Bytes written to it.
    pub bytes_sent: AtomicU64,
    /// Bytes read from it.
    pub bytes_received: AtomicU64,
    /// Requests forwarded.
    pub requests: AtomicU64,
    /// Replies and pushes passed on.
    pub replies: AtomicU64,
    /// Error replies made here, since the upstream gave none.
    pub errors: AtomicU64,
}

fn millis(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)
}

/// Adds to a counter.
pub(super) fn count(counter: &AtomicU64, more: usize) {
    let more = u64::try_from(more).unwrap_or(u64::MAX);
    counter.fetch_add(more, Ordering::Relaxed);
}

/// A connection of whichever kind.
pub trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Connection for T {}

/// Why there is no connection. Printed, it continues "upstream …".
#[derive(Debug)]
pub struct ConnectError {
    /// Its address, or its name.
    whom: String,
    cause: Cause,
}

/// What went wrong when connecting.
#[derive(Debug)]
pub enum Cause {
    /// There is nobody to connect to, for this reason.
    NoMaster(String),
    /// Nothing listens there.
    Refused,
    /// Not ready in time.
    TimedOut(Duration),
    /// Its name means no address.
    Unresolved(io::Error),
    /// Something else the network said.
    Io(io::Error),
    /// No TLS with it.
    Tls(io::Error),
    /// TLS is needed, and there is no configuration for it, or no name to expect.
    TlsNotConfigured,
    /// It closed the connection before it could be used.
    Closed,
    /// It answered an error to what must be said first.
    Rejected {
        /// The command's name.
        request: String,
        /// Its error, without the `-`.
        error: String,
    },
    /// What it said is no reply, or too much of one.
    NotRedis,
}

impl ConnectError {
    pub(crate) fn new(whom: String, cause: Cause) -> Self {
        Self { whom, cause }
    }

    /// What went wrong.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.cause
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whom = &self.whom;
        match &self.cause {
            Cause::NoMaster(why) => write!(formatter, "{whom} has no master now: {why}"),
            Cause::Refused => write!(formatter, "{whom} refused the connection"),
            Cause::TimedOut(after) => {
                write!(formatter, "{whom} could not be reached within {after:?}")
            }
            Cause::Unresolved(error) => write!(formatter, "{whom} has no address: {error}"),
            Cause::Io(error) => write!(formatter, "{whom} could not be reached: {error}"),
            Cause::Tls(error) => write!(formatter, "{whom} failed the TLS handshake: {error}"),
            Cause::TlsNotConfigured => {
                write!(formatter, "{whom} needs TLS, which is not configured")
            }
            Cause::Closed => write!(formatter, "{whom} closed the connection at once"),
            Cause::Rejected { request, error } => {
                write!(formatter, "{whom} rejected {request}: {error}")
            }
            Cause::NotRedis => write!(formatter, "{whom} does not speak RESP"),
        }
    }
}

impl std::error::Error for ConnectError {}

/// A request in wire form that must succeed before a connection can be used.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Opening {
    /// The command's name, for the error that tells of its failure.
    pub(crate) name: &'static str,
    /// The request.
    pub(crate) bytes: Vec<u8>,
}

/// Hides what may be a password.
impl fmt::Debug for Opening {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Opening({})", self.name)
    }
}

impl Opening {
    /// The request of these arguments, the first of which is the command's name.
    pub(crate) fn new(name: &'static str, arguments: &[&[u8]]) -> Self {
        let mut bytes = format!("*{}\r\n", arguments.len()).into_bytes();
        for argument in arguments {
            bytes.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
            bytes.extend_from_slice(argument);
            bytes.extend_from_slice(b"\r\n");
        }
        Self { name, bytes }
    }

    /// `CLIENT TRACKING`: has the client of this id told of changes of all that is read, or of
    /// what is announced by `CLIENT CACHING YES`.
    pub(super) fn redirect_to(client_id: u64, is_each_announced: bool) -> Self {
        let id = client_id.to_string();
        let words: [&[u8]; 6] = [
            own::CLIENT,
            b"TRACKING",
            b"ON",
            b"REDIRECT",
            id.as_bytes(),
            b"OPTIN",
        ];
        let words = &words[..words.len() - usize::from(!is_each_announced)];
        Self::new("CLIENT TRACKING", words)
    }
}

impl Upstream {
    /// An upstream of which nothing was counted yet.
    #[must_use]
    pub fn new(url: UpstreamUrl, tls: Option<Tls>, timeout: Duration) -> Self {
        Self {
            place: Place::new(&url, tls.as_ref()),
            url,
            tls,
            timeout_ms: AtomicU64::new(millis(timeout)),
            counters: Counters::default(),
            probe: Probe::default(),
        }
    }

    /// `upstream-timeout`: how long it may take until a connection can be used, TLS and `AUTH`
    /// included, and how long it may be silent while it owes a reply; blocking commands excepted,
    /// and whatever time a client takes to read or to send.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms.load(Ordering::Relaxed))
    }

    /// Changes it.
    pub fn set_timeout(&self, timeout: Duration) {
        self.timeout_ms.store(millis(timeout), Ordering::Relaxed);
    }

    /// Opens a connection, and authenticates and selects as the URL says.
    ///
    /// # Errors
    /// When that fails, or is not done within [`Self::timeout`].
    pub async fn connect(&self) -> Result<Box<dyn Connection>, ConnectError> {
        self.connect_as(&[]).await
    }

    /// The same, and then sends the `openings` of a client's session.
    pub(crate) async fn connect_as(
        &self,
        openings: &[Opening],
    ) -> Result<Box<dyn Connection>, ConnectError> {
        let connected = self.connect_uncounted(openings).await;
        let counter = match connected {
            Ok(_) => &self.counters.connections,
            Err(_) => &self.counters.connect_failures,
        };
        count(counter, 1);
        connected
    }

    /// The same for the connection over which changes are told.
    pub(super) async fn connect_tracker(
        &self,
        openings: &[Opening],
    ) -> Result<Box<dyn Connection>, ConnectError> {
        let connected = self.connect_for(Purpose::Tracking, openings).await;
        let counter = match connected {
            Ok(_) => &self.counters.connections,
            Err(_) => &self.counters.connect_failures,
        };
        count(counter, 1);
        connected
    }

    /// The same for a connection that serves no client.
    pub(super) async fn connect_uncounted(
        &self,
        openings: &[Opening],
    ) -> Result<Box<dyn Connection>, ConnectError> {
        self.connect_for(Purpose::Requests, openings).await
    }

    async fn connect_for(
        &self,
        purpose: Purpose,
        openings: &[Opening],
    ) -> Result<Box<dyn Connection>, ConnectError> {
        let opened = tokio::time::timeout(self.timeout(), async {
            if let Place::Cluster(cluster) = &self.place {
                let mut many = topology::connect_all(cluster, purpose, self.timeout()).await?;
                introduce(&mut many, openings).await?;
                return Ok(many);
            }
            let current = self.place.current().await?;
            let mut own = self.openings();
            own.extend_from_slice(openings);
            let connection = self.connect_to(&current.endpoint, &own).await;
            if let Err(cause) = &connection
                && !matches!(cause, Cause::Rejected { .. })
            {
                self.place.suspect();
            }
            Ok(current.tether(connection?))
        });
        let opened = opened.await;
        opened
            .unwrap_or_else(|_| {
                self.place.suspect();
                Err(Cause::TimedOut(self.timeout()))
            })
            .map_err(|cause| {
                let is_nobody = matches!(cause, Cause::NoMaster(_));
                let whom = if is_nobody {
                    self.place.name()
                } else {
                    self.shown()
                };
                ConnectError::new(whom, cause)
            })
    }

    /// Opens a connection to a server of this upstream's, and says only this first on it.
    pub(super) async fn connect_to(
        &self,
        endpoint: &Endpoint,
        openings: &[Opening],
    ) -> Result<Box<dyn Connection>, Cause> {
        let mut connection = open(endpoint, self.url.tls, self.tls.as_ref()).await?;
        introduce(&mut connection, openings).await?;
        Ok(connection)
    }

    /// Ends when there is an upstream again, if it was for want of one that nobody was connected.
    pub(super) async fn found_after(&self, error: &ConnectError) {
        if let Cause::NoMaster(_) = error.cause() {
            self.place.found().await;
        } else {
            std::future::pending::<()>().await;
        }
    }

    /// Whether it may be another server some day.
    #[must_use]
    pub fn may_move(&self) -> bool {
        !matches!(self.place, Place::Fixed(_))
    }

    /// Whether it is a cluster.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        matches!(self.place, Place::Cluster(_))
    }

    /// Who knows where in a cluster requests go; to be told before anybody connects.
    pub fn route_by(&self, router: Arc<dyn topology::Router>) {
        self.place.route_by(router);
    }

    /// The address where it is now, or its name where it has none.
    #[must_use]
    pub fn shown(&self) -> String {
        self.place.shown()
    }

    /// Whether a new connection is told something first, so that `RESET` does not bring one back
    /// to how it began.
    pub(super) fn has_openings(&self) -> bool {
        self.url.credentials.is_some() || self.url.database != 0
    }

    /// What the URL asks to be said first.
    fn openings(&self) -> Vec<Opening> {
        let auth = self.url.credentials.as_ref().map(Credentials::opening);
        let database = self.url.database;
        let select = (database != 0)
            .then(|| Opening::new("SELECT", &[b"SELECT", database.to_string().as_bytes()]));
        auth.into_iter().chain(select).collect()
    }
}

impl Credentials {
    /// What they are told by.
    pub(super) fn opening(&self) -> Opening {
        let Self { user, password } = self;
        match user {
            Some(user) => Opening::new("AUTH", &[b"AUTH", user, password]),
            None => Opening::new("AUTH", &[b"AUTH", password]),
        }
    }
}

impl From<io::Error> for Cause {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::ConnectionRefused {
            Self::Refused
        } else {
            Self::Io(error)
        }
    }
}

/// Opens a connection to a server.
pub(super) async fn open(
    endpoint: &Endpoint,
    wants_tls: bool,
    tls: Option<&Tls>,
) -> Result<Box<dyn Connection>, Cause> {
    let (host, port) = match endpoint {
        Endpoint::Unix(path) => {
            let unix = UnixStream::connect(path).await.map_err(Cause::from)?;
            return Ok(Box::new(unix));
        }
        Endpoint::Tcp { host, port } => (host.as_str(), *port),
    };
    let addresses: Vec<_> = tokio::net::lookup_host((host, port))
        .await
        .map_err(Cause::Unresolved)?
        .collect();
    let tcp = TcpStream::connect(&addresses[..])
        .await
        .map_err(Cause::from)?;
    tcp.set_nodelay(true).map_err(Cause::from)?;
    if !wants_tls {
        return Ok(Box::new(tcp));
    }
    let tls = tls.ok_or(Cause::TlsNotConfigured)?;
    let name = match &tls.name {
        Some(name) => name.clone(),
        None => ServerName::try_from(host.to_owned()).map_err(|_| Cause::TlsNotConfigured)?,
    };
    let connector = TlsConnector::from(Arc::clone(&tls.config));
    let stream = connector.connect(name, tcp).await.map_err(Cause::Tls)?;
    Ok(Box::new(stream))
}

/// Sends all openings at once and reads their replies, none of which may be an error.
pub(super) async fn introduce(
    connection: &mut Box<dyn Connection>,
    openings: &[Opening],
) -> Result<(), Cause> {
    if openings.is_empty() {
        return Ok(());
    }
    let mut bytes = Vec::new();
    for opening in openings {
        own::write_opening(&opening.bytes, &mut bytes);
    }
    connection.write_all(&bytes).await.map_err(Cause::Io)?;
    connection.flush().await.map_err(Cause::Io)?;
    let mut waiting = openings.iter();
    let mut scanner = FrameScanner::new();
    let mut frame = Vec::new();
    let mut chunk = [0; READ_BYTES];
    while waiting.len() > 0 {
        let read = connection.read(&mut chunk).await.map_err(Cause::Io)?;
        if read == 0 {
            return Err(Cause::Closed);
        }
        let mut rest = &chunk[..read];
        while !rest.is_empty() {
            let scan = scanner.scan(rest).map_err(|_| Cause::NotRedis)?;
            frame.extend_from_slice(&rest[..scan.len]);
            rest = &rest[scan.len..];
            if frame.len() > REPLY_BYTES_MAX {
                return Err(Cause::NotRedis);
            }
            match scan.ended {
                None => {}
                Some(Kind::Push) => frame.clear(),
                Some(Kind::Reply) if waiting.next().is_some() => frame.clear(),
                Some(Kind::Error) if waiting.len() > 0 => {
                    let request = waiting.next().map_or("", |opening| opening.name).to_owned();
                    let line = frame[1..].trim_ascii_end();
                    let error = String::from_utf8_lossy(line).into_owned();
                    return Err(Cause::Rejected { request, error });
                }
                Some(Kind::Reply | Kind::Error) => return Err(Cause::NotRedis),
            }
        }
    }
    if scanner.is_within_frame() {
        return Err(Cause::NotRedis);
    }
    Ok(())
}

/// Bytes read at once of the replies to the openings.
const READ_BYTES: usize = 1024;

/// Bytes that one reply to an opening may have; that to `HELLO`, the longest, has some 200.
const REPLY_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, UnixListener};

    const PATIENCE: Duration = Duration::from_secs(20);

    fn upstream(url: &str) -> Upstream {
        Upstream::new(url.parse().unwrap(), None, PATIENCE)
    }

    /// What a client is told when the upstream answers `answer` to the openings of `url`, a `{}`
    /// in which stands for its address.
    async fn told(url: &str, answer: &[u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let upstream = upstream(&url.replace("{}", &address));
        let serve = async {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let mut asked = [0; 1024];
            assert!(tcp.read(&mut asked).await.unwrap() > 0);
            tcp.write_all(answer).await.unwrap();
        };
        let (opened, ()) = tokio::join!(upstream.connect(), serve);
        match opened {
            Ok(_) => {
                assert_eq!(upstream.counters.connections.load(Ordering::Relaxed), 1);
                String::new()
            }
            Err(error) => {
                assert_eq!(
                    upstream.counters.connect_failures.load(Ordering::Relaxed),
                    1
                );
                error.to_string().replace(&address, "it")
            }
        }
    }

    #[tokio::test]
    async fn what_the_upstream_does_instead_of_serving_is_said() {
        let (url, both) = ("redis://:p@{}", "redis://u:p@{}/9");
        assert_eq!(told(url, b"+OK\r\n").await, "");
        assert_eq!(told(both, b"+OK\r\n>1\r\n+push\r\n+OK\r\n").await, "");
        assert_eq!(
            told(url, b"-WRONGPASS no\r\n").await,
            "it rejected AUTH: WRONGPASS no"
        );
        let error = told(both, b"+OK\r\n-ERR DB index is out of range\r\n").await;
        assert_eq!(error, "it rejected SELECT: ERR DB index is out of range");
        assert_eq!(told(url, b"").await, "it closed the connection at once");
        assert_eq!(
            told(both, b"+OK\r\n+O").await,
            "it closed the connection at once"
        );
        assert_eq!(
            told(url, b"HTTP/1.1 400\r\n").await,
            "it does not speak RESP"
        );
        assert_eq!(told(url, b"+OK\r\n+OK\r\n").await, "it does not speak RESP");
        let long = [b"+", &vec![b'x'; REPLY_BYTES_MAX][..]].concat();
        assert_eq!(told(url, &long).await, "it does not speak RESP");
    }

    #[tokio::test]
    async fn nobody_there_is_said() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = upstream(&format!("redis://{address}"))
            .connect()
            .await
            .err()
            .unwrap();
        assert_eq!(
            error.to_string(),
            format!("{address} refused the connection")
        );
        assert!(matches!(error.cause(), Cause::Refused));
        let error = upstream("unix:/no/such/socket")
            .connect()
            .await
            .err()
            .unwrap();
        let text = "/no/such/socket could not be reached: No such file or directory (os error 2)";
        assert_eq!(error.to_string(), text);
    }

    #[tokio::test]
    async fn tls_needs_a_configuration() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let error = upstream(&format!("rediss://{address}"))
            .connect()
            .await
            .err()
            .unwrap();
        assert_eq!(
            error.to_string(),
            format!("{address} needs TLS, which is not configured")
        );
    }

    #[tokio::test]
    async fn tls_is_spoken_with_whom_the_certificate_names() {
        let made = rcgen::generate_simple_self_signed(["redis.test".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let served = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key.unwrap())
            .unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate).unwrap();
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(served));
        let config = Arc::new(config);
        for (name, trusted) in [
            (Some("redis.test"), true),
            (Some("other.test"), false),
            (None, false),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let mut upstream = upstream(&format!("rediss://:p@{address}"));
            upstream.tls = Some(Tls {
                config: Arc::clone(&config),
                name: name.map(|name| ServerName::try_from(name).unwrap()),
            });
            let serve = async {
                let (tcp, _) = listener.accept().await.unwrap();
                if let Ok(mut stream) = acceptor.accept(tcp).await {
                    assert!(stream.read(&mut [0; 64]).await.unwrap() > 0);
                    stream.write_all(b"+OK\r\n").await.unwrap();
                    stream.flush().await.unwrap();
                }
            };
            let (opened, ()) = tokio::join!(upstream.connect(), serve);
            assert_eq!(opened.is_ok(), trusted, "{name:?}");
            if let Err(error) = opened {
                let text = error.to_string();
                assert!(
                    text.starts_with(&format!("{address} failed the TLS handshake: ")),
                    "{text}"
                );
            }
        }
    }

    #[tokio::test]
    async fn a_unix_socket_is_connected_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let _listener = UnixListener::bind(&path).unwrap();
        assert!(
            upstream(&format!("unix:{}", path.display()))
                .connect()
                .await
                .is_ok()
        );
    }

    #[test]
    fn nothing_printed_holds_a_password() {
        let shown = format!("{:?}", upstream("redis://u:secret@h").openings());
        assert_eq!(shown, "[Opening(AUTH)]");
    }
}
