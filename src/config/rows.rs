//! The rows: every setting there is, once.
//!
//! To add one, add a row here and run `UPDATE_DOCS=1 cargo test config::docs`. Its documentation
//! is the field's, `--help`'s and docs/CONFIG.md's; its field is its name with underscores. Names,
//! defaults and bounds are Redis 7.0's where Redis has the setting, but for `io-threads`,
//! `maxmemory`, `maxmemory-policy` and `bind`, whose defaults are ours.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::choices::{
    CipherSuite, CipherSuites, ClientIdentity, LogLevel, MaxmemoryPolicy, ProtectedCommand,
    TlsAuthClients, UpstreamTracking,
};
use super::kind::Kind;
use super::machine::{cores, memory_limit_of_machine};
use super::rules::Rules;
use super::table::{
    Access, Group, Setting, declare_settings, fixed, memory, microseconds, milliseconds, number,
    of, seconds, yes_no,
};
use super::types::{BindAddress, Hertz, OutputBufferLimits, TlsVersions};
use super::value::Value;

/// The upper bound of most of Redis's integers.
const INT_MAX: i64 = 2_147_483_647;
/// The upper bound of its sizes.
const LONG_MAX: u64 = 9_223_372_036_854_775_807;
/// The upper bound of ports.
const PORT_MAX: i64 = 65_535;
/// `maxmemory` where the system does not say how much memory there is.
const MAXMEMORY_OF_UNKNOWN_MACHINE: u64 = 1 << 30;
const IO_THREADS_MAX: usize = 128;

/// Half of what the machine or its control group has.
fn default_maxmemory() -> u64 {
    memory_limit_of_machine().map_or(MAXMEMORY_OF_UNKNOWN_MACHINE, |bytes| bytes / 2)
}

fn default_bind() -> Vec<BindAddress> {
    vec![
        BindAddress::required("127.0.0.1"),
        BindAddress::optional("::1"),
    ]
}

declare_settings! {
    Network {
        /// Addresses to listen on. `*` is every IPv4 address, `::*` every IPv6 address; one with a
        /// leading `-` may be missing. Empty listens on no TCP port.
        "bind" => bind: Vec<BindAddress> = default_bind(), of(Kind::Addresses).essential();

        /// The TCP port. 0 listens on none.
        "port" => port: u16 = 6379, number(0, PORT_MAX).essential();

        /// A Unix socket to listen on too. Empty is none.
        "unixsocket" => unixsocket: Option<PathBuf> = None,
            of(Kind::Path).immutable().essential();

        /// The permissions of the Unix socket, in octal. 0 leaves them to the umask.
        "unixsocketperm" => unixsocketperm: u32 = 0, of(Kind::Octal { max: 0o777 }).immutable();

        /// Connections that may wait to be accepted. The kernel's own bound holds too.
        "tcp-backlog" => tcp_backlog: u32 = 511, number(0, INT_MAX).immutable();

        /// How long a connection is silent before TCP probes whether it is alive. 0 never probes.
        "tcp-keepalive" => tcp_keepalive: Duration = Duration::from_secs(300), seconds(0, INT_MAX);

        /// Refuses clients of other machines while there is no password.
        "protected-mode" => protected_mode: bool = true, yes_no().essential();

        /// The password clients must give with AUTH. Empty is none.
        "requirepass" => requirepass: String = String::new(),
            of(Kind::Text).sensitive().essential();
    }

    Tls {
        /// The port for encrypted connections. 0 listens on none.
        "tls-port" => tls_port: u16 = 0, number(0, PORT_MAX).essential();

        /// The server's certificate and its chain (PEM).
        "tls-cert-file" => tls_cert_file: Option<PathBuf> = None, of(Kind::Path).essential();

        /// The certificate's private key (PEM, without a passphrase).
        "tls-key-file" => tls_key_file: Option<PathBuf> = None, of(Kind::Path).essential();

        /// Certificates of the authorities that clients' certificates must come from (PEM).
        "tls-ca-cert-file" => tls_ca_cert_file: Option<PathBuf> = None, of(Kind::Path).essential();

        /// A directory of such certificates.
        "tls-ca-cert-dir" => tls_ca_cert_dir: Option<PathBuf> = None, of(Kind::Path);

        /// Whether clients must show a certificate. With `optional` they may, and it must be valid.
        "tls-auth-clients" => tls_auth_clients: TlsAuthClients = TlsAuthClients::Yes,
            of(Kind::Choice(TlsAuthClients::NAMES)).essential();

        /// The TLS versions that are spoken.
        "tls-protocols" => tls_protocols: TlsVersions = TlsVersions::BOTH, of(Kind::TlsVersions);

        /// The cipher suites of TLS 1.2 by OpenSSL's names, the preferred first. Empty is all of
        /// them. Other suites' names are left out with a warning while one remains; OpenSSL's
        /// keywords and operators (`DEFAULT`, `!aNULL`, `@SECLEVEL=2`) are refused.
        "tls-ciphers" => tls_ciphers: CipherSuites = CipherSuites::default(),
            of(Kind::CipherSuites(CipherSuite::TLS12_NAMES));

        /// The same for TLS 1.3.
        "tls-ciphersuites" => tls_ciphersuites: CipherSuites = CipherSuites::default(),
            of(Kind::CipherSuites(CipherSuite::TLS13_NAMES));

        /// Whether the order above decides which suite is spoken, not the client's order.
        "tls-prefer-server-ciphers" => tls_prefer_server_ciphers: bool = false, of(Kind::YesNo);
    }

    Clients {
        /// Clients that may be connected at once.
        "maxclients" => maxclients: u32 = 10_000, number(1, 4_294_967_295).essential();

        /// How long a client may be idle before it is disconnected. 0 is for ever.
        "timeout" => timeout: Duration = Duration::ZERO, seconds(0, INT_MAX);

        /// The databases that SELECT reaches: 0 to this less one.
        "databases" => databases: u32 = 16, number(1, INT_MAX).immutable();

        /// How much of its replies a client may leave unread before it is disconnected, by class:
        /// past the hard limit at once, past the soft limit after so many seconds. 0 is no limit;
        /// classes that are not named keep theirs.
        "client-output-buffer-limit" => client_output_buffer_limit: OutputBufferLimits =
            OutputBufferLimits::default(), of(Kind::BufferLimits);

        /// How much a client may send ahead of what has been run before it is disconnected.
        "client-query-buffer-limit" => client_query_buffer_limit: usize = 1 << 30,
            memory(1 << 20, LONG_MAX);

        /// The longest argument of a command.
        "proto-max-bulk-len" => proto_max_bulk_len: usize = 512 << 20, memory(1 << 20, LONG_MAX);
    }

    Memory {
        /// How much memory keys and values may take. 0 is no bound.
        "maxmemory" => maxmemory: u64 = default_maxmemory(),
            memory(0, u64::MAX).essential()
                .default_is("half of what the machine or its control group has");

        /// Which key leaves when memory is full. `noeviction` refuses writes instead, `volatile-`
        /// takes only keys with an expiry; `allkeys-tinylfu` has the highest hit rate.
        "maxmemory-policy" => maxmemory_policy: MaxmemoryPolicy = MaxmemoryPolicy::AllkeysTinylfu,
            of(Kind::Choice(MaxmemoryPolicy::NAMES)).essential();

        /// Keys that are compared to find the one that leaves. More is closer to the ideal, and
        /// slower.
        "maxmemory-samples" => maxmemory_samples: u32 = 5, number(1, INT_MAX);

        /// How slowly a key's LFU counter rises: the higher, the more reads it takes.
        "lfu-log-factor" => lfu_log_factor: u32 = 10, number(0, INT_MAX);

        /// Minutes after which an LFU counter falls by one. 0 never.
        "lfu-decay-time" => lfu_decay_time: u32 = 1, number(0, INT_MAX);
    }

    Encoding {
        /// Fields of a hash up to which it is kept compact.
        "hash-max-listpack-entries" => hash_max_listpack_entries: usize = 512,
            number(0, i64::MAX).alias("hash-max-ziplist-entries");

        /// Bytes of a hash's field or value up to which the hash is kept compact.
        "hash-max-listpack-value" => hash_max_listpack_value: usize = 64,
            memory(0, LONG_MAX).alias("hash-max-ziplist-value");

        /// Elements of a compact part of a list, or from -1 to -5 its size: 4, 8, 16, 32, 64 kb.
        "list-max-listpack-size" => list_max_listpack_size: i32 = -2,
            number(-INT_MAX - 1, INT_MAX).alias("list-max-ziplist-size");

        /// Parts at each end of a list that are not compressed. Taken for compatibility: lists are
        /// never compressed.
        "list-compress-depth" => list_compress_depth: u32 = 0, number(0, INT_MAX);

        /// Members of a set of integers up to which it is kept compact.
        "set-max-intset-entries" => set_max_intset_entries: usize = 512, number(0, i64::MAX);

        /// Members of a sorted set up to which it is kept compact.
        "zset-max-listpack-entries" => zset_max_listpack_entries: usize = 128,
            number(0, i64::MAX).alias("zset-max-ziplist-entries");

        /// Bytes of a sorted set's member up to which the set is kept compact.
        "zset-max-listpack-value" => zset_max_listpack_value: usize = 64,
            memory(0, LONG_MAX).alias("zset-max-ziplist-value");
    }

    Front {
        /// The server to be in front of, such as `redis://10.0.0.5:6379`, `rediss://` for TLS,
        /// `unix:/path`, or the master that Sentinels name:
        /// `redis+sentinel://10.0.0.5:26379,10.0.0.6:26379/mymaster`, or a Redis Cluster of which
        /// some nodes are named: `redis+cluster://10.0.0.5:6379,10.0.0.6:6379`. Empty is
        /// standalone.
        "upstream" => upstream: String = String::new(),
            of(Kind::Text).immutable().sensitive().essential();

        /// How long upstream may take to connect or to answer.
        "upstream-timeout" => upstream_timeout: Duration = Duration::from_secs(5),
            milliseconds(1, INT_MAX);

        /// Whether reads are answered from memory where they can be. Without, everything passes
        /// through.
        "near-cache" => near_cache: bool = true, yes_no().immutable();

        /// Which keys copies are kept of: globs with spaces between.
        "near-keys" => near_keys: String = "*".to_owned(), of(Kind::Text);

        /// Which of them none are kept of all the same: globs with spaces between.
        "near-keys-except" => near_keys_except: String = String::new(), of(Kind::Text);

        /// How long a copy is kept at most, however rarely its key changes.
        "near-ttl" => near_ttl: Duration = Duration::from_secs(300), seconds(1, INT_MAX);

        /// The longest reply that is kept.
        "near-max-value" => near_max_value: u64 = 1 << 20, memory(0, LONG_MAX);

        /// How old a value from memory can be at most. When upstream has not been heard of for
        /// longer, nothing is answered from memory until it is.
        "staleness-bound" => staleness_bound: Duration = Duration::from_millis(250),
            milliseconds(10, INT_MAX).essential();

        /// How long a copy that is not known to be fresh is served where upstream fails. 0 is
        /// never.
        "stale-if-error" => stale_if_error: Duration = Duration::ZERO, seconds(0, INT_MAX);

        /// Which part of the reads that are answered from memory is read again from upstream, to
        /// compare: 0 is none, 0.001 is one in a thousand. What differs without upstream having
        /// said so counts as `stale_served_total`.
        "shadow-verify" => shadow_verify: f64 = 0.0, of(Kind::Share);

        /// How often upstream is told, by TOUCH, which keys are read from memory, so that its
        /// eviction does not take them for idle. 0 is never.
        "upstream-touch" => upstream_touch: Duration = Duration::ZERO, seconds(0, INT_MAX);

        /// Connections to upstream that clients share, for each of the two protocols that is in
        /// use; at least one for each of the `io-threads`.
        "upstream-connections" => upstream_connections: usize = 1, number(1, 512).immutable();

        /// How upstream tells what changes: `auto` finds the best way it knows, `broadcast` asks
        /// for every key that changes, `none` keeps copies for `staleness-bound` only.
        "upstream-tracking" => upstream_tracking: UpstreamTracking = UpstreamTracking::Auto,
            of(Kind::Choice(UpstreamTracking::NAMES)).immutable();

        /// As whom clients read that authenticate to upstream themselves: `own` is as they are,
        /// past the memory; `front` is as the URL of `upstream` says, once upstream has accepted
        /// them.
        "client-identity" => client_identity: ClientIdentity = ClientIdentity::Own,
            of(Kind::Choice(ClientIdentity::NAMES));

        /// Certificates of the authorities that upstream's must come from (PEM). Empty is the
        /// system's.
        "upstream-tls-ca-cert-file" => upstream_tls_ca_cert_file: Option<PathBuf> = None,
            of(Kind::Path).immutable();

        /// The certificate to show to upstream (PEM).
        "upstream-tls-cert-file" => upstream_tls_cert_file: Option<PathBuf> = None,
            of(Kind::Path).immutable();

        /// That certificate's private key (PEM, without a passphrase).
        "upstream-tls-key-file" => upstream_tls_key_file: Option<PathBuf> = None,
            of(Kind::Path).immutable();

        /// The name that upstream's certificate must have. Empty is the URL's host.
        "upstream-tls-server-name" => upstream_tls_server_name: String = String::new(),
            of(Kind::Text).immutable();
    }

    Operation {
        /// Threads that serve clients.
        "io-threads" => io_threads: usize = (cores() / 2).clamp(1, IO_THREADS_MAX),
            number(1, 128).immutable().essential().default_is("half of the cores, at least 1");

        /// How often a second background work is done, from 1 to 500: other numbers are brought
        /// into these bounds.
        "hz" => hz: Hertz = Hertz::DEFAULT, number(0, INT_MAX);

        /// How much is logged.
        "loglevel" => loglevel: LogLevel = LogLevel::Notice,
            of(Kind::Choice(LogLevel::NAMES)).essential();

        /// The file to log to. Empty is standard output.
        "logfile" => logfile: Option<PathBuf> = None, of(Kind::Path).immutable().essential();

        /// The port for metrics and health checks over HTTP. 0 listens on none.
        "admin-port" => admin_port: u16 = 0, number(0, PORT_MAX).immutable().essential();

        /// Addresses the admin port listens on.
        "admin-bind" => admin_bind: Vec<BindAddress> = vec![BindAddress::required("127.0.0.1")],
            of(Kind::Addresses).immutable();

        /// What POST /invalidate on the admin port must be asked with, as a bearer token. Empty
        /// refuses it to everybody.
        "admin-token" => admin_token: String = String::new(), of(Kind::Text).sensitive();

        /// How long a command runs before the slow log has it. 0 logs every command, -1 none.
        "slowlog-log-slower-than" => slowlog_log_slower_than: Option<Duration> =
            Some(Duration::from_millis(10)), microseconds(-1, i64::MAX);

        /// Entries the slow log keeps.
        "slowlog-max-len" => slowlog_max_len: usize = 128, number(0, i64::MAX);

        /// How long an event takes before LATENCY has it. 0 has none.
        "latency-monitor-threshold" => latency_monitor_threshold: Duration = Duration::ZERO,
            milliseconds(0, i64::MAX);

        /// Whether the distribution of each command's run time is kept.
        "latency-tracking" => latency_tracking: bool = true, yes_no();

        /// The percentiles of these distributions that INFO shows.
        "latency-tracking-info-percentiles" => latency_tracking_info_percentiles: Vec<f64> =
            vec![50.0, 99.0, 99.9], of(Kind::Percentiles);

        /// Who may use DEBUG: nobody, everybody, or clients of this machine.
        "enable-debug-command" => enable_debug_command: ProtectedCommand = ProtectedCommand::No,
            of(Kind::Choice(ProtectedCommand::NAMES)).immutable();

        /// How long clients may finish when the server stops.
        "shutdown-timeout" => shutdown_timeout: Duration = Duration::from_secs(10),
            seconds(0, INT_MAX);
    }
}

/// Settings of Redis that tools ask for and that have one value here. Their documentation says why.
pub static FIXED: &[Setting] = &[
    fixed(
        "save",
        "",
        of(Kind::SavePoints),
        "Nothing is written to disk.",
    ),
    fixed("appendonly", "no", yes_no(), "Nothing is written to disk."),
    fixed(
        "daemonize",
        "no",
        yes_no().immutable(),
        "Runs in the foreground.",
    ),
    fixed(
        "cluster-enabled",
        "no",
        yes_no().immutable(),
        "Is no member of a Redis Cluster.",
    ),
    fixed(
        "replicaof",
        "",
        of(Kind::Text).immutable().alias("slaveof"),
        "Does not replicate; `upstream` is what stands in front of another server.",
    ),
    fixed(
        "masterauth",
        "",
        of(Kind::Text).sensitive(),
        "Does not replicate.",
    ),
    fixed(
        "masteruser",
        "",
        of(Kind::Text).sensitive(),
        "Does not replicate.",
    ),
    fixed(
        "replica-serve-stale-data",
        "yes",
        yes_no().alias("slave-serve-stale-data"),
        "Does not replicate.",
    ),
    fixed(
        "replica-read-only",
        "yes",
        yes_no().alias("slave-read-only"),
        "Does not replicate.",
    ),
    fixed(
        "min-replicas-to-write",
        "0",
        number(0, INT_MAX).alias("min-slaves-to-write"),
        "Does not replicate.",
    ),
    fixed(
        "notify-keyspace-events",
        "",
        of(Kind::EventClasses),
        "Sends no keyspace events.",
    ),
    fixed(
        "maxmemory-clients",
        "0",
        of(Kind::MemoryOrPercent),
        "No client is evicted.",
    ),
    fixed(
        "maxmemory-eviction-tenacity",
        "100",
        number(0, 100),
        "Eviction always goes on until memory is within its bound.",
    ),
    fixed(
        "lazyfree-lazy-eviction",
        "no",
        yes_no(),
        "Memory is freed where it falls due.",
    ),
    fixed(
        "lazyfree-lazy-expire",
        "no",
        yes_no(),
        "Memory is freed where it falls due.",
    ),
    fixed(
        "lazyfree-lazy-server-del",
        "no",
        yes_no(),
        "Memory is freed where it falls due.",
    ),
    fixed(
        "lazyfree-lazy-user-del",
        "no",
        yes_no(),
        "Memory is freed where it falls due.",
    ),
    fixed(
        "lazyfree-lazy-user-flush",
        "no",
        yes_no(),
        "Memory is freed where it falls due.",
    ),
    fixed("activedefrag", "no", yes_no(), "Memory is not moved."),
    fixed("dynamic-hz", "no", yes_no(), "`hz` is what it is set to."),
];
