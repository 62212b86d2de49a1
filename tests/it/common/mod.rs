//! Starts servers, and speaks to them in raw bytes.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use corral::config::{Config, Invocation};
use corral::instance::Instance;
use corral::server::{Server, StartError};
use tokio::time::Instant;

/// How long a test waits for what must happen before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// How long nothing must happen for a test to believe that it will not.
pub(crate) const SILENCE: Duration = Duration::from_millis(100);

/// A server in this process, on a port of its own. Stopped when dropped.
pub(crate) struct TestServer {
    /// What its threads share.
    pub(crate) instance: Arc<Instance>,
    /// Its TCP port on 127.0.0.1.
    pub(crate) port: u16,
    thread: Option<JoinHandle<Result<(), StartError>>>,
}

impl TestServer {
    /// One with the default settings.
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// One with these settings, by name.
    pub(crate) fn with(settings: &[(&str, &str)]) -> Self {
        // Between choosing a port and listening on it, somebody else may take it.
        let (server, port) = (0..10)
            .find_map(|_| {
                let port = free_port();
                match Server::bind(config(port, settings)) {
                    Ok(server) => Some((server, port)),
                    Err(StartError::Bind(_)) => None,
                    Err(error) => panic!("the server does not start: {error}"),
                }
            })
            .expect("a free port");
        let instance = Arc::clone(server.instance());
        let thread = Some(std::thread::spawn(move || {
            server.run(std::future::pending())
        }));
        Self {
            instance,
            port,
            thread,
        }
    }

    /// A client that has just connected.
    pub(crate) fn connect(&self) -> Client {
        Client::new(connect(self.port))
    }

    /// Asks it to stop as a signal does, and returns how long that took.
    pub(crate) fn stop(mut self) -> Duration {
        let since = Instant::now();
        self.instance.stopping.ask(false);
        self.join();
        since.elapsed()
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            let ended = thread.join().expect("the server does not panic");
            ended.expect("the server could run");
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.instance.stopping.ask(true);
        if !std::thread::panicking() {
            self.join();
        }
    }
}

/// A TCP port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    socket.local_addr().expect("it is bound").port()
}

/// Settings as the command line takes them.
fn config(port: u16, settings: &[(&str, &str)]) -> Config {
    let mut arguments: Vec<OsString> = vec!["corral".into(), format!("--port={port}").into()];
    let given = settings.iter();
    arguments.extend(given.map(|(name, value)| OsString::from(format!("--{name}={value}"))));
    match Config::from_command_line(arguments, []) {
        Ok(Invocation::Run(config)) => *config,
        Ok(_) => panic!("the settings ask for something else than to run"),
        Err(error) => panic!("the settings are wrong: {error}"),
    }
}

/// Connects to a port of this machine.
pub(crate) fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("somebody listens");
    stream.set_nodelay(true).expect("a TCP socket");
    stream
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < PATIENCE, "still not so: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until a number of something is not 0 and stays as it is.
#[track_caller]
pub(crate) fn until_at_rest(what: &str, mut number: impl FnMut() -> u64) {
    let (mut last, mut looks) = (0, 0);
    until(what, || {
        let now = number();
        looks = if now == last { looks + 1 } else { 0 };
        last = now;
        last > 0 && looks >= LOOKS_AT_REST
    });
}

/// Looks at a number that stays as it is, 2 ms and more from each other.
const LOOKS_AT_REST: usize = 50;

/// A stream whose reads can end without having got anything.
pub(crate) trait Patience {
    /// Lets reads wait so long.
    fn set_patience(&self, patience: Duration);
}

impl Patience for TcpStream {
    fn set_patience(&self, patience: Duration) {
        self.set_read_timeout(Some(patience)).expect("not zero");
    }
}

impl Patience for UnixStream {
    fn set_patience(&self, patience: Duration) {
        self.set_read_timeout(Some(patience)).expect("not zero");
    }
}

/// A client that says and hears bytes.
pub(crate) struct Client<S = TcpStream> {
    /// Its socket.
    pub(crate) stream: S,
}

impl<S: Read + Write + Patience> Client<S> {
    /// A client over this stream.
    pub(crate) fn new(stream: S) -> Self {
        stream.set_patience(PATIENCE);
        Self { stream }
    }

    /// Sends bytes.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = self.stream.write_all(bytes.as_ref());
        sent.and_then(|()| self.stream.flush())
            .expect("the server reads");
    }

    /// Sends bytes, of which the server may refuse to read the end.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// The next bytes must be these.
    #[track_caller]
    pub(crate) fn expect(&mut self, wanted: impl AsRef<[u8]>) {
        let wanted = wanted.as_ref();
        let mut got = vec![0; wanted.len()];
        let mut len = 0;
        while len < got.len() && got[..len] == wanted[..len] {
            match read(&mut self.stream, &mut got[len..]) {
                Ok(0) => break,
                Ok(count) => len += count,
                Err(error) => panic!("{error}: {}, not {}", shown(&got[..len]), shown(wanted)),
            }
        }
        let is_same = got[..len] == *wanted;
        assert!(is_same, "{}, not {}", shown(&got[..len]), shown(wanted));
    }

    /// Sends a request; the next bytes must be this reply.
    #[track_caller]
    pub(crate) fn ask(&mut self, request: impl AsRef<[u8]>, reply: impl AsRef<[u8]>) {
        self.send(request);
        self.expect(reply);
    }

    /// The connection must end, without another byte.
    #[track_caller]
    pub(crate) fn expect_closed(&mut self) {
        let mut rest = [0; 256];
        match read(&mut self.stream, &mut rest) {
            Ok(0) => {}
            Ok(count) => panic!("not closed: {}", shown(&rest[..count])),
            Err(error) => assert!(is_cut(&error), "not closed: {error}"),
        }
    }

    /// Nothing must come, and the connection stays open.
    #[track_caller]
    pub(crate) fn expect_silence(&mut self) {
        self.stream.set_patience(SILENCE);
        let mut rest = [0; 256];
        match read(&mut self.stream, &mut rest) {
            Ok(count) => panic!("not silent: {}", shown(&rest[..count])),
            Err(error) => assert!(is_timeout(&error), "not silent: {error}"),
        }
        self.stream.set_patience(PATIENCE);
    }

    /// Reads up to the end of a line, and returns it without its end.
    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).expect("a line");
            line.push(byte[0]);
        }
        line.truncate(line.len() - 2);
        String::from_utf8(line).expect("text")
    }

    /// Sends a request whose reply is one bulk string, and returns it as text.
    #[track_caller]
    pub(crate) fn bulk(&mut self, request: impl AsRef<[u8]>) -> String {
        self.send(request);
        let header = self.line();
        let len = header.strip_prefix('$').and_then(|len| len.parse().ok());
        let mut bytes = vec![0; len.unwrap_or_else(|| panic!("no bulk string: {header}"))];
        self.stream.read_exact(&mut bytes).expect("a bulk string");
        self.expect("\r\n");
        String::from_utf8(bytes).expect("text")
    }

    /// Reads until the connection ends, and returns how many bytes came.
    #[track_caller]
    pub(crate) fn drain(&mut self) -> usize {
        let mut bytes = vec![0; 1 << 16];
        let mut total = 0;
        loop {
            match read(&mut self.stream, &mut bytes) {
                Ok(0) => return total,
                Ok(count) => total += count,
                Err(error) if is_cut(&error) => return total,
                Err(error) => panic!("after {total} bytes: {error}"),
            }
        }
    }
}

/// One read. Where an origin's program ends, its signal may interrupt any thread.
fn read(stream: &mut impl Read, bytes: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

/// Whether the peer ended the connection without reading all that was sent to it.
fn is_cut(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// A request in wire form.
pub(crate) fn request(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(bulk(word));
    }
    bytes
}

/// A bulk string in wire form.
pub(crate) fn bulk(value: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat()
}

/// The beginning of some bytes, for people.
fn shown(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(300)];
    format!("\"{}\" ({} bytes)", cut.escape_ascii(), bytes.len())
}

/// A number in one line of CLIENT LIST.
#[track_caller]
pub(crate) fn field(line: &str, name: &str) -> u64 {
    let mut fields = line.split_whitespace();
    let value = fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
    let number = value.and_then(|value| value.parse().ok());
    number.unwrap_or_else(|| panic!("no {name} in {line}"))
}
