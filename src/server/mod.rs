//! The transport: sockets, I/O threads, limits, shutdown. No rule of the cache lives here.
//!
//! The main thread accepts and deals sockets out, round robin, to the I/O threads, each of which
//! runs a tokio `current_thread` runtime: a connection never changes its thread, and no work is
//! stolen.

pub mod admin;
mod connection;
pub mod cron;
mod listen;
pub mod stream;
pub mod tls;

use std::io;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::config::Config;
use crate::events;
use crate::front::{self, Front, Mailbox, Pool};
use crate::instance::Instance;
use crate::instance::clients::{Arrival, Client};
use crate::instance::events::Events;
use crate::upstream::shared::Coherence;
use crate::upstream::{self, Tls, Upstream};

use admin::{AdminError, AdminPort};
use listen::{Acceptor, Arrived, BindError, Listening};
use stream::Stream;

/// A server that listens and is about to serve.
pub struct Server {
    instance: Arc<Instance>,
    listening: Listening,
    admin: AdminPort,
}

/// Why a server could not start.
#[derive(Debug)]
pub enum StartError {
    /// An address could not be listened on.
    Bind(BindError),
    /// Nor could the admin port.
    Admin(AdminError),
    /// The upstream's address or its TLS settings are wrong.
    Upstream(String),
    /// What a rule's origin needs is not there.
    Rules(String),
    /// A thread or a runtime could not be made.
    System(io::Error),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bind(error) => write!(formatter, "{error}"),
            Self::Admin(error) => write!(formatter, "{error}"),
            Self::Upstream(text) => write!(formatter, "upstream: {text}"),
            Self::Rules(text) => write!(formatter, "{text}"),
            Self::System(error) => write!(formatter, "cannot start a thread: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl Server {
    /// Opens all sockets.
    ///
    /// # Errors
    /// When one of them cannot be opened, or a setting that needs files cannot be followed.
    pub fn bind(config: Config) -> Result<Self, StartError> {
        let upstream = upstream_of(&config).map_err(StartError::Upstream)?;
        // Whoever finds the server listening can ask for its health.
        let admin = AdminPort::open(&config).map_err(StartError::Admin)?;
        let listening = Listening::open(&config).map_err(StartError::Bind)?;
        let instance = Arc::new(Instance::new(config, upstream.map(Arc::new)));
        instance.start_rules().map_err(StartError::Rules)?;
        Ok(Self {
            instance,
            listening,
            admin,
        })
    }

    /// What all its threads share.
    #[must_use]
    pub fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    /// What it listens on, for people.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.listening.addresses()
    }

    /// Serves until `shutdown` ends or a client asks for it, then lets clients finish.
    ///
    /// # Errors
    /// When a thread or a runtime cannot be made.
    pub fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let config = self.instance.config();
        if let Some(upstream) = &self.instance.upstream {
            upstream.route_by(Arc::new(front::Table));
        }
        let mut coherence: Option<Weak<dyn Coherence>> = None;
        let mut fronts: Vec<Option<FrontThread>> = match &self.instance.upstream {
            Some(upstream) if config.near_cache => {
                let (front, mailboxes) = Front::start(&self.instance, upstream)?;
                let weak: Weak<Front> = Arc::downgrade(&front);
                coherence = Some(weak);
                let thread = |mailbox| Some((Arc::clone(&front), mailbox));
                mailboxes.into_iter().map(thread).collect()
            }
            Some(_) | None => Vec::new(),
        };
        fronts.resize_with(config.io_threads, || None);
        if let Some(upstream) = &self.instance.upstream {
            watch_topology(&self.instance, upstream, coherence)?;
        }
        let threads = fronts
            .into_iter()
            .enumerate()
            .map(|(index, front)| IoThread::start(&self.instance, index, front))
            .collect::<io::Result<Vec<_>>>()?;
        let (senders, handles): (Vec<_>, Vec<_>) = threads
            .into_iter()
            .map(|thread| (thread.sender, thread.handle))
            .unzip();
        let events = events::start(&self.instance, client_tls)?;
        runtime.block_on(self.accept_until(shutdown, senders));
        // Tasks that were aborted go with their runtime, and with them the last senders: only
        // then does an I/O thread know that nobody comes any more.
        drop(runtime);
        for handle in handles {
            if handle.join().is_err() {
                tracing::error!("an I/O thread ended by a panic");
            }
        }
        if events.join().is_err() {
            tracing::error!("the thread of the events ended by a panic");
        }
        Ok(())
    }

    async fn accept_until(
        self,
        shutdown: impl Future<Output = ()>,
        senders: Vec<mpsc::UnboundedSender<Arrived>>,
    ) {
        let Self {
            instance,
            listening,
            admin,
        } = self;
        let admin = admin.serve(&instance);
        let acceptor = Acceptor::new(&instance, listening, senders);
        tokio::select! {
            () = acceptor.run() => {}
            () = shutdown => instance.stopping.ask(false),
            () = instance.stopping.wait() => {}
        }
        // The acceptor is gone: nobody comes any more.
        let patience = if instance.stopping.is_now() {
            Duration::ZERO
        } else {
            instance.config().shutdown_timeout
        };
        let left = let_finish(&instance, patience).await;
        tracing::info!(clients_cut = left, "stopped");
        drop(admin);
    }
}

/// Whether a server could have these settings, as far as can be told without starting one.
///
/// # Errors
/// When the upstream's address or its TLS settings are wrong, or events cannot be.
pub fn check(config: &Config) -> Result<(), StartError> {
    let upstream = upstream_of(config).map_err(StartError::Upstream)?;
    let events = &config.rules().events;
    let built = Events::default().build(events, config, upstream.as_ref());
    built.map(drop).map_err(StartError::Rules)
}

/// The Redis in front of which the settings put us.
fn upstream_of(config: &Config) -> Result<Option<Upstream>, String> {
    if config.upstream.is_empty() {
        return Ok(None);
    }
    if !config.requirepass.is_empty() && !config.near_cache {
        return Err(
            "requirepass with an upstream needs the near cache: without it clients authenticate \
             to the upstream (put the password of the front into the upstream's URL)"
                .to_owned(),
        );
    }
    let url: upstream::UpstreamUrl = config
        .upstream
        .parse()
        .map_err(|error: upstream::url::UrlError| error.to_string())?;
    let identity = config
        .upstream_tls_cert_file
        .clone()
        .zip(config.upstream_tls_key_file.clone());
    let tls = if url.tls {
        let settings = tls::ClientTlsSettings {
            authorities: tls::Authorities {
                file: config.upstream_tls_ca_cert_file.clone(),
                directory: None,
            },
            identity: identity.map(|(cert_file, key_file)| tls::Identity {
                cert_file,
                key_file,
            }),
            protocols: tls::Protocols::default(),
        };
        let name = &config.upstream_tls_server_name;
        let name = if name.is_empty() {
            None
        } else {
            Some(tls::server_name(name))
        };
        let name = name.transpose().map_err(|error| error.to_string())?;
        let config = tls::client_config(&settings).map_err(|error| error.to_string())?;
        Some(Tls { config, name })
    } else {
        None
    };
    Ok(Some(Upstream::new(url, tls, config.upstream_timeout)))
}

/// How TLS is spoken with servers that events come from.
fn client_tls() -> Result<Arc<rustls::ClientConfig>, String> {
    let settings = tls::ClientTlsSettings::default();
    tls::client_config(&settings).map_err(|error| error.to_string())
}

/// Follows an upstream that may move, on a thread of its own, until the server stops.
fn watch_topology(
    instance: &Arc<Instance>,
    upstream: &Arc<Upstream>,
    coherence: Option<Weak<dyn Coherence>>,
) -> io::Result<()> {
    if !upstream.may_move() {
        return Ok(());
    }
    let (instance, upstream) = (Arc::clone(instance), Arc::clone(upstream));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let watch = async move {
        tokio::select! {
            () = upstream::topology::watch(upstream, coherence) => {}
            () = instance.stopping.wait() => {}
        }
    };
    std::thread::Builder::new()
        .name("corral-topology".to_owned())
        .spawn(move || runtime.block_on(watch))?;
    Ok(())
}

/// Lets clients finish what was read from them; cuts those that have not after `patience`.
async fn let_finish(instance: &Instance, patience: Duration) -> usize {
    let deadline = crate::clock::now() + patience;
    for client in instance.clients.list() {
        client.finish();
    }
    while !instance.clients.is_empty() && crate::clock::now() < deadline {
        tokio::time::sleep(FINISH_POLL).await;
        // Who came in between was not told yet.
        for client in instance.clients.list() {
            client.finish();
        }
    }
    let left = instance.clients.list();
    for client in &left {
        client.close();
    }
    left.len()
}

/// How often the end of a shutdown is looked for.
const FINISH_POLL: Duration = Duration::from_millis(2);

/// What an I/O thread of a front begins with.
type FrontThread = (Arc<Front>, Mailbox);

struct IoThread {
    sender: mpsc::UnboundedSender<Arrived>,
    handle: JoinHandle<()>,
}

impl IoThread {
    fn start(
        instance: &Arc<Instance>,
        index: usize,
        front: Option<FrontThread>,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        // Unbounded, but what is in it has been counted against maxclients.
        let (sender, arrivals) = mpsc::unbounded_channel();
        let instance = Arc::clone(instance);
        let handle = std::thread::Builder::new()
            .name(format!("corral-io-{index}"))
            .spawn(move || {
                LocalSet::new().block_on(&runtime, serve(instance, index, front, arrivals));
            })?;
        Ok(Self { sender, handle })
    }
}

/// One I/O thread's life: until nobody can arrive any more and all who did have left.
async fn serve(
    instance: Arc<Instance>,
    index: usize,
    front: Option<FrontThread>,
    mut arrivals: mpsc::UnboundedReceiver<Arrived>,
) {
    let pool = front.map(|(front, mailbox)| Pool::start(&front, index, mailbox));
    let cron = tokio::task::spawn_local(cron::run(Arc::clone(&instance), index));
    let mut clients = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            arrived = arrivals.recv() => match arrived {
                Some(arrived) => {
                    clients.spawn_local(welcome(
                        Arc::clone(&instance),
                        pool.clone(),
                        arrived,
                        index,
                    ));
                }
                None => break,
            },
            Some(ended) = clients.join_next() => note_end(ended),
        }
    }
    while let Some(ended) = clients.join_next().await {
        note_end(ended);
    }
    cron.abort();
}

/// A panic is a bug, but it costs one connection only.
fn note_end(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection ended by a panic: this is a bug");
    }
}

/// Makes a client of a socket: TLS, protected mode, registration.
async fn welcome(instance: Arc<Instance>, pool: Option<Rc<Pool>>, arrived: Arrived, thread: usize) {
    let Arrived { socket, seat } = arrived;
    let config = instance.config();
    let Ok(stream) = listen::establish(socket, &config).await else {
        return; // It was logged where it failed.
    };
    drop(seat);
    if let Some(refusal) = refusal(&stream, &config) {
        say_and_close(stream, refusal).await;
        return;
    }
    let arrival = Arrival {
        peer: stream.peer_address(),
        local: stream.local_address(),
        is_unix: stream.is_unix(),
        is_local: is_local(&stream),
        fd: std::os::fd::AsRawFd::as_raw_fd(&stream),
    };
    let Some(client) = instance.clients.add(arrival, config.maxclients as usize) else {
        instance.metrics.rejected_connections.add_shared(1);
        say_and_close(stream, b"-ERR max number of clients reached\r\n").await;
        return;
    };
    instance.metrics.threads[thread].connections.add(1);
    let registered = Registered {
        instance: &instance,
        client: &client,
    };
    match (&instance.upstream, pool) {
        (None, _) => {
            connection::serve(Arc::clone(&instance), stream, Arc::clone(&client), thread).await;
        }
        (Some(_), Some(pool)) => front::serve(pool, stream, Arc::clone(&client)).await,
        (Some(upstream), None) => {
            front::pass_through(upstream, &instance, stream, &client, thread).await;
        }
    }
    drop(registered);
}

/// Removes a client from the list of clients when its connection ends, however it does.
struct Registered<'a> {
    instance: &'a Instance,
    client: &'a Client,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.instance.clients.remove(self.client);
    }
}

/// Why a client may not come in at all: protected mode.
fn refusal(stream: &Stream, config: &Config) -> Option<&'static [u8]> {
    let is_refused = config.protected_mode && config.requirepass.is_empty() && !is_local(stream);
    is_refused.then_some(DENIED)
}

fn is_local(stream: &Stream) -> bool {
    let peer = stream.peer();
    peer.is_none_or(|peer| peer.ip().to_canonical().is_loopback())
}

async fn say_and_close(mut stream: Stream, text: &[u8]) {
    use tokio::io::AsyncWriteExt as _;
    let saying = async {
        let _ = stream.write_all(text).await;
        let _ = stream.shutdown().await;
    };
    let _ = tokio::time::timeout(LAST_WORDS_MAX, saying).await;
}

/// How long a client that is refused may take to read why.
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);

/// Begins as Redis's does, by which clients know it; what to do differs.
const DENIED: &[u8] = b"-DENIED Redis is running in protected mode because protected mode is \
enabled and no password is set for the default user. In this mode connections are only accepted \
from the loopback interface. If you want to connect from external computers to corral you may \
adopt one of the following solutions: 1) Just disable protected mode sending the command 'CONFIG \
SET protected-mode no' from the loopback interface by connecting to corral from the same host the \
server is running, however MAKE SURE corral is not publicly accessible from internet if you do so. \
2) Set protected-mode to no in the configuration file and restart. 3) Start the server with \
'--protected-mode no'. 4) Set a password with requirepass. NOTE: You only need to do one of the \
above things in order for the server to start accepting connections from the outside.\r\n";
