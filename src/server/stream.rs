//! A client's socket, whichever kind it is: TCP, Unix or TLS over TCP.
//!
//! One enum rather than a trait object or a type parameter: the kinds are known, the dispatch is
//! a branch the processor predicts, and what is written over it is compiled once.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

/// The socket of one client.
#[derive(Debug)]
pub enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// A Unix domain socket.
    Unix(UnixStream),
    /// TLS over TCP, its handshake done. Boxed, since its state is large and the others' is not.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// The client's address as `CLIENT LIST` prints it (`addr=`): `127.0.0.1:1234`, `[::1]:1234`,
    /// or `/path/of/the/socket:0`, since the client's end of a Unix socket has no name.
    /// `?:0` where the kernel does not tell, as in Redis.
    #[must_use]
    pub fn peer_address(&self) -> String {
        match self.tcp() {
            Some(tcp) => tcp_address(tcp.peer_addr().ok()),
            None => self.unix_address(),
        }
    }

    /// The address it connected to (`laddr=`), in the same form.
    #[must_use]
    pub fn local_address(&self) -> String {
        match self.tcp() {
            Some(tcp) => tcp_address(tcp.local_addr().ok()),
            None => self.unix_address(),
        }
    }

    /// The client's address, unless it came over a Unix socket.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.tcp().and_then(|tcp| tcp.peer_addr().ok())
    }

    /// Whether the client came over a Unix socket.
    #[must_use]
    pub fn is_unix(&self) -> bool {
        matches!(self, Self::Unix(_))
    }

    /// Sends small replies at once (`TCP_NODELAY`). Nothing to do on a Unix socket.
    ///
    /// # Errors
    /// When the kernel refuses, which it does when the peer has gone already.
    pub fn set_nodelay(&self) -> io::Result<()> {
        self.tcp().map_or(Ok(()), |tcp| tcp.set_nodelay(true))
    }

    /// Has the kernel probe a silent peer (`tcp-keepalive`): first after `interval`, then three
    /// times, a third of it apart, as Redis does. Zero turns it off. Nothing to do on a Unix
    /// socket.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_keepalive(&self, interval: Duration) -> io::Result<()> {
        self.tcp()
            .map_or(Ok(()), |tcp| set_keepalive(tcp, interval))
    }

    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(tcp) => Some(tcp),
            Self::Tls(tls) => Some(tls.get_ref().0),
            Self::Unix(_) => None,
        }
    }

    /// The path both ends go by: it is the listener's, which only our end has as its name.
    fn unix_address(&self) -> String {
        let path = match self {
            Self::Unix(unix) => unix.local_addr().ok(),
            Self::Tcp(_) | Self::Tls(_) => None,
        };
        let path = path.as_ref().and_then(|address| address.as_pathname());
        path.map_or_else(|| "?:0".to_owned(), |path| format!("{}:0", path.display()))
    }
}

/// Turns the kernel's probing of a silent peer on, or off where `interval` is zero.
///
/// # Errors
/// When the kernel refuses.
pub fn set_keepalive(tcp: &TcpStream, interval: Duration) -> io::Result<()> {
    let socket = SockRef::from(tcp);
    if interval.is_zero() {
        return socket.set_keepalive(false);
    }
    let pause = (interval / 3).max(KEEPALIVE_PAUSE_MIN);
    let probes = TcpKeepalive::new()
        .with_time(interval)
        .with_interval(pause)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&probes)
}

/// Redis's `anetKeepAlive`: the peer is given up after three probes without an answer.
const KEEPALIVE_PROBES: u32 = 3;

/// The kernel counts the pause between two probes in whole seconds.
const KEEPALIVE_PAUSE_MIN: Duration = Duration::from_secs(1);

/// `SocketAddr` prints an IPv6 address in brackets, as Redis does.
fn tcp_address(address: Option<SocketAddr>) -> String {
    address.map_or_else(|| "?:0".to_owned(), |address| address.to_string())
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(tcp) => tcp.as_fd(),
            Self::Unix(unix) => unix.as_fd(),
            Self::Tls(tls) => tls.get_ref().0.as_fd(),
        }
    }
}

/// The number `CLIENT LIST` prints (`fd=`).
impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// Calls the same method on whichever stream it is.
macro_rules! delegate {
    ($self:ident, $method:ident $(, $argument:expr)*) => {
        match $self.get_mut() {
            Stream::Tcp(tcp) => Pin::new(tcp).$method($($argument),*),
            Stream::Unix(unix) => Pin::new(unix).$method($($argument),*),
            Stream::Tls(tls) => Pin::new(tls.as_mut()).$method($($argument),*),
        }
    };
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        delegate!(self, poll_read, context, buffer)
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, poll_write, context, bytes)
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, poll_write_vectored, context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(tcp) => tcp.is_write_vectored(),
            Self::Unix(unix) => unix.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
        }
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, poll_flush, context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, poll_shutdown, context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, UnixListener};

    async fn tcp_pair(bind: &str) -> (Stream, TcpStream) {
        let listener = TcpListener::bind(bind).await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        (Stream::Tcp(listener.accept().await.unwrap().0), client)
    }

    #[tokio::test]
    async fn tcp_addresses_are_printed_as_client_list_prints_them() {
        let (stream, client) = tcp_pair("127.0.0.1:0").await;
        let (peer, local) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        assert_eq!(stream.peer_address(), format!("127.0.0.1:{}", peer.port()));
        assert_eq!(
            stream.local_address(),
            format!("127.0.0.1:{}", local.port())
        );
        assert_eq!(stream.peer(), Some(peer));
        assert!(stream.as_raw_fd() > 2);
    }

    #[test]
    fn ipv6_addresses_stand_in_brackets() {
        let address = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 6379));
        assert_eq!(tcp_address(Some(address)), "[::1]:6379");
    }

    #[tokio::test]
    async fn both_ends_of_a_unix_socket_go_by_its_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sock");
        let listener = UnixListener::bind(&path).unwrap();
        let _client = UnixStream::connect(&path).await.unwrap();
        let stream = Stream::Unix(listener.accept().await.unwrap().0);
        assert_eq!(stream.peer_address(), format!("{}:0", path.display()));
        assert_eq!(stream.local_address(), stream.peer_address());
        assert!(stream.is_unix());
        assert_eq!(stream.peer(), None);
        stream.set_nodelay().unwrap();
        stream.set_keepalive(Duration::from_secs(300)).unwrap();
    }

    #[tokio::test]
    async fn options_reach_the_socket() {
        let (stream, _client) = tcp_pair("127.0.0.1:0").await;
        stream.set_nodelay().unwrap();
        stream.set_keepalive(Duration::from_secs(300)).unwrap();
        let Stream::Tcp(tcp) = &stream else {
            panic!("a TCP stream")
        };
        let socket = SockRef::from(tcp);
        assert!(tcp.nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(
            socket.tcp_keepalive_time().unwrap(),
            Duration::from_secs(300)
        );
        assert_eq!(
            socket.tcp_keepalive_interval().unwrap(),
            Duration::from_secs(100)
        );
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
        stream.set_keepalive(Duration::ZERO).unwrap();
        assert!(!socket.keepalive().unwrap());
        stream.set_keepalive(Duration::from_secs(1)).unwrap();
        assert_eq!(
            socket.tcp_keepalive_interval().unwrap(),
            Duration::from_secs(1)
        );
    }

    #[tokio::test]
    async fn bytes_go_both_ways() {
        let (mut stream, mut client) = tcp_pair("127.0.0.1:0").await;
        client.write_all(b"PING\r\n").await.unwrap();
        let mut request = [0; 6];
        stream.read_exact(&mut request).await.unwrap();
        assert_eq!(&request, b"PING\r\n");
        stream.write_all(b"+PONG\r\n").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut reply = Vec::new();
        client.read_to_end(&mut reply).await.unwrap();
        assert_eq!(reply, b"+PONG\r\n");
    }
}
