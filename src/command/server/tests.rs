//! The operator's commands as a client sees them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::config::{Config, SetError};
use crate::instance::clients::Arrival;
use crate::instance::session::Session;
use crate::instance::{Instance, Listeners};
use crate::resp::{Decoder, Limits, Protocol, Reply};

use super::super::run::{BATCH_MAX, Runner};

/// A server without sockets, and a client of it.
struct Fixture {
    instance: Instance,
    session: Session,
    reply: Reply,
}

impl Fixture {
    fn new() -> Self {
        Self::with(&[])
    }

    fn with(pairs: &[(&[u8], &[u8])]) -> Self {
        let mut config = Config::default().set(pairs).unwrap();
        config.enable_debug_command = crate::config::ProtectedCommand::Yes;
        let instance = Instance::new(config, None);
        let arrival = Arrival {
            peer: "1.2.3.4:5".to_owned(),
            local: "l".to_owned(),
            is_unix: false,
            is_local: true,
            fd: 0,
        };
        let client = instance.clients.add(arrival, 10).unwrap();
        let session = Session::new(&instance, client, 0);
        Self {
            instance,
            session,
            reply: Reply::new(Protocol::Resp2),
        }
    }

    /// The replies to inline commands, one a line, as bytes of the wire.
    fn ask(&mut self, lines: &str) -> String {
        let bytes = (lines.replace('\n', "\r\n") + "\r\n").into_bytes();
        let mut decoder = Decoder::default();
        decoder
            .decode(&bytes, BATCH_MAX, &Limits::default())
            .unwrap();
        let mut first = 0;
        while first < decoder.len() && !self.session.closing {
            let (instance, session) = (&self.instance, &mut self.session);
            let mut runner = Runner {
                instance,
                session,
                reply: &mut self.reply,
            };
            first += runner.run(&decoder, &bytes, first).0;
        }
        let text = String::from_utf8(self.reply.bytes().to_vec()).unwrap();
        self.reply.clear();
        text
    }

    /// The value of a line of INFO.
    fn info(&mut self, name: &str) -> String {
        let text = self.ask("info everything");
        let mut values = text.lines().filter_map(|line| line.split_once(':'));
        let found = values.find(|(known, _)| *known == name);
        found
            .map(|(_, value)| value.trim().to_owned())
            .unwrap_or_default()
    }
}

/// Refuses ports whose number is odd, and notes that it was asked.
struct EvenPorts(Arc<AtomicBool>);

impl Listeners for EvenPorts {
    fn change(&self, _: &Config, after: &Config) -> std::result::Result<(), SetError> {
        self.0.store(true, Ordering::Relaxed);
        if after.port.is_multiple_of(2) {
            Ok(())
        } else {
            Err(SetError::failed(
                "port",
                "Unable to listen on this port. Check server logs.",
            ))
        }
    }
}

#[test]
fn config_set_changes_all_it_names_or_nothing() {
    let mut fixture = Fixture::new();
    let asked = Arc::new(AtomicBool::new(false));
    let listeners = Box::new(EvenPorts(Arc::clone(&asked)));
    assert!(fixture.instance.listeners.set(listeners).is_ok());
    assert_eq!(fixture.ask("config set hz 20 maxmemory 2mb"), "+OK\r\n");
    assert!(!asked.load(Ordering::Relaxed), "no socket depends on these");

    let refused = fixture.ask("config set maxmemory 3mb port 7001 hz 30");
    assert_eq!(
        refused,
        "-ERR CONFIG SET failed (possibly related to argument 'port') - Unable to listen on this \
         port. Check server logs.\r\n"
    );
    assert!(asked.load(Ordering::Relaxed));
    assert_eq!(
        fixture.ask("config get hz"),
        "*2\r\n$2\r\nhz\r\n$2\r\n20\r\n"
    );
    assert_eq!(fixture.instance.store.budget().max(), Some(2 << 20));
    assert_eq!(fixture.ask("config set port 7002"), "+OK\r\n");
    assert_eq!(
        fixture.ask("config set hz"),
        "-ERR wrong number of arguments for 'config|set' command\r\n"
    );
    assert_eq!(
        fixture.ask("config set hz 10 port"),
        "-ERR syntax error\r\n"
    );
}

#[test]
fn a_lower_maxmemory_holds_when_config_set_replies() {
    let mut fixture = Fixture::with(&[(b"maxmemory", b"100mb")]);
    fixture.ask("debug populate 2000 k 1000");
    assert_eq!(fixture.ask("config set maxmemory 1500kb"), "+OK\r\n");
    assert!(fixture.instance.store.items_bytes() <= 1500 << 10);
    assert_ne!(fixture.info("evicted_keys"), "0");
    assert!(!fixture.instance.shrinking.load(Ordering::Relaxed));
}

#[test]
fn config_set_in_a_transaction_leaves_the_store_to_the_background() {
    let mut fixture = Fixture::new();
    let replies =
        fixture.ask("multi\nset k v\nconfig set maxmemory 7mb\ndebug sleep 0\ninfo\nexec");
    assert!(
        replies.contains("*4\r\n+OK\r\n+OK\r\n+OK\r\n$"),
        "{replies}"
    );
    assert!(fixture.instance.shrinking.load(Ordering::Relaxed));
    limit_memory(&fixture.instance, 0);
    assert_eq!(fixture.instance.store.budget().max(), Some(7 << 20));
    assert!(!fixture.instance.shrinking.load(Ordering::Relaxed));
}

#[test]
fn settings_hold_for_the_next_command_of_the_same_pipeline() {
    let mut fixture = Fixture::new();
    let replies = fixture.ask("config set proto-max-bulk-len 1mb\nsetrange k 2000000 x");
    assert!(replies.ends_with("(proto-max-bulk-len)\r\n"), "{replies}");
}

#[test]
fn info_counts_since_the_last_resetstat() {
    let mut fixture = Fixture::new();
    fixture.ask("set k v px 100000\nget k\nget absent\nnonsense");
    assert_eq!(fixture.info("keyspace_hits"), "1");
    assert_eq!(fixture.info("keyspace_misses"), "1");
    assert_eq!(fixture.info("errorstat_ERR"), "count=1");
    assert!(fixture.info("cmdstat_get").starts_with("calls=2,usec="));
    assert!(
        fixture
            .info("latency_percentiles_usec_get")
            .starts_with("p50=")
    );
    let keys = fixture.info("db0");
    let ttl = keys.strip_prefix("keys=1,expires=1,avg_ttl=");
    let ttl: u64 = ttl.and_then(|ttl| ttl.parse().ok()).expect("a TTL");
    assert!((1..=100_000).contains(&ttl), "{keys}");
    assert_eq!(fixture.ask("config resetstat"), "+OK\r\n");
    assert_eq!(fixture.info("keyspace_hits"), "0");
    assert_eq!(fixture.info("cmdstat_get"), "");
    assert_eq!(fixture.info("errorstat_ERR"), "");
    assert!(
        fixture
            .info("cmdstat_config|resetstat")
            .starts_with("calls=1,")
    );
}

#[test]
fn without_latency_tracking_there_are_no_percentiles() {
    let mut fixture = Fixture::with(&[(b"latency-tracking", b"no")]);
    fixture.ask("set k v");
    assert_eq!(fixture.info("latency_percentiles_usec_set"), "");
    assert_eq!(fixture.ask("latency histogram set"), "*0\r\n");
}

#[test]
fn histograms_are_told_by_command_and_by_container() {
    let mut fixture = Fixture::new();
    fixture.ask("client id\nclient getname\nset k v");
    let replies = fixture.ask("latency histogram client nonsense set");
    assert!(replies.starts_with("*6\r\n$14\r\nclient|getname\r\n*4\r\n$5\r\ncalls\r\n:1\r\n"));
    assert!(replies.contains("$9\r\nclient|id\r\n") && replies.contains("$3\r\nset\r\n"));
}

#[test]
fn the_slow_log_hides_passwords_and_counts_down_from_the_newest() {
    let mut fixture = Fixture::with(&[(b"slowlog-log-slower-than", b"0")]);
    fixture.ask("client setname me");
    fixture.ask("config set requirepass secret");
    fixture.ask("config set slowlog-log-slower-than -1");
    let log = fixture.ask("slowlog get 1");
    let secret = "*4\r\n$6\r\nconfig\r\n$3\r\nset\r\n$11\r\nrequirepass\r\n$10\r\n(redacted)\r\n";
    assert!(
        log.starts_with("*1\r\n*6\r\n:1\r\n") && log.contains(secret),
        "{log}"
    );
    assert!(log.ends_with("$9\r\n1.2.3.4:5\r\n$2\r\nme\r\n"), "{log}");
    assert_eq!(
        fixture.ask("slowlog len\nslowlog reset\nslowlog len"),
        ":2\r\n+OK\r\n:0\r\n"
    );
}

#[test]
fn latency_events_are_kept_told_and_forgotten() {
    let mut fixture = Fixture::new();
    fixture.instance.latency.add("command", 100, 7);
    fixture.instance.latency.add("command", 101, 5);
    assert_eq!(
        fixture.ask("latency latest"),
        "*1\r\n*4\r\n$7\r\ncommand\r\n:101\r\n:5\r\n:7\r\n"
    );
    assert_eq!(
        fixture.ask("latency history COMMAND"),
        "*2\r\n*2\r\n:100\r\n:7\r\n*2\r\n:101\r\n:5\r\n"
    );
    let none = "-ERR No samples available for event 'fork'\r\n";
    assert_eq!(fixture.ask("latency graph fork"), none);
    assert_eq!(fixture.ask("latency reset fork command"), ":1\r\n");
    assert_eq!(fixture.ask("latency history command"), "*0\r\n");
}

#[test]
fn shutdown_is_silent_and_closes_and_nonsense_is_refused() {
    let mut fixture = Fixture::new();
    for line in [
        "shutdown save nosave",
        "shutdown abort now",
        "shutdown soon",
    ] {
        assert_eq!(fixture.ask(line), "-ERR syntax error\r\n", "{line}");
    }
    assert_eq!(
        fixture.ask("shutdown abort"),
        "-ERR No shutdown in progress.\r\n"
    );
    let nothing_to_save = "-ERR Errors trying to SHUTDOWN. Check logs.\r\n";
    assert_eq!(fixture.ask("shutdown save"), nothing_to_save);
    assert!(!fixture.instance.stopping.is_asked());
    assert_eq!(fixture.ask("shutdown nosave now"), "");
    assert!(fixture.instance.stopping.is_asked() && fixture.instance.stopping.is_now());
    assert!(fixture.session.closing);
}

#[test]
fn equal_data_has_an_equal_digest_on_redis() {
    let mut fixture = Fixture::new();
    let zeros = "0".repeat(40);
    assert_eq!(fixture.ask("debug digest"), format!("+{zeros}\r\n"));
    fixture.ask("set a 1\nset b 1 ex 100");
    // What redis-server 7.0.15 replies.
    assert_eq!(
        fixture.ask("debug digest"),
        "+9b8a22835039e45467b4792d538032618d915c74\r\n"
    );
    assert_eq!(
        fixture.ask("debug digest-value a b c"),
        format!(
            "*3\r\n+b4fc66738120fba0b5aa500ab5c2bf89cea1c5da\r\n\
             +5279988c5d1911f474bcbbf2f0a87012d40f8459\r\n+{zeros}\r\n"
        )
    );
}

#[test]
fn debug_populates_and_describes() {
    let mut fixture = Fixture::new();
    assert_eq!(
        fixture.ask("set key:1 mine\ndebug populate 3"),
        "+OK\r\n+OK\r\n"
    );
    assert_eq!(
        fixture.ask("get key:1\nget key:2"),
        "$4\r\nmine\r\n$7\r\nvalue:2\r\n"
    );
    assert_eq!(
        fixture.ask("debug populate 1 p 9\nget p:0"),
        "+OK\r\n$9\r\nvalue:0\0\0\r\n"
    );
    let object = fixture.ask("debug object key:2");
    let tail = " refcount:1 encoding:embstr serializedlength:8 lru:";
    assert!(
        object.starts_with("+Value at:0x") && object.contains(tail),
        "{object}"
    );
    assert_eq!(fixture.ask("debug object none"), "-ERR no such key\r\n");
    assert_eq!(
        fixture.ask("debug jmap"),
        "-ERR unknown subcommand or wrong number of arguments for 'jmap'. Try DEBUG HELP.\r\n"
    );
}

#[test]
fn memory_usage_is_what_the_key_is_charged() {
    let mut fixture = Fixture::new();
    fixture.ask("set k v");
    let bytes = fixture.instance.store.items_bytes();
    assert_eq!(
        fixture.ask("memory usage k samples 0"),
        format!(":{bytes}\r\n")
    );
    assert_eq!(fixture.ask("memory usage none"), "$-1\r\n");
    assert_eq!(
        fixture.ask("memory usage k samples"),
        "-ERR syntax error\r\n"
    );
    assert_eq!(fixture.info("used_memory"), bytes.to_string());
}

#[test]
fn cache_stats_say_how_well_it_does() {
    let mut fixture = Fixture::new();
    fixture.ask("set k v\nget k\nget k\nget k\nget none");
    let stats = fixture.ask("cache.stats");
    let start =
        "*14\r\n$4\r\nhits\r\n:3\r\n$6\r\nmisses\r\n:1\r\n$8\r\nhit-rate\r\n$6\r\n0.7500\r\n";
    assert!(stats.starts_with(start), "{stats}");
    for _ in 0..100 {
        fixture.ask(&"get none\n".repeat(10));
    }
    assert!(fixture.ask("cache.stats").contains("$4\r\nhint\r\n"));
}

#[test]
fn cache_stats_take_no_argument_and_the_manual_names_none() {
    let mut fixture = Fixture::new();
    let refused = "-ERR wrong number of arguments for 'cache.stats' command\r\n";
    assert_eq!(fixture.ask("cache.stats user:"), refused);
    let manual = fixture.ask("command docs cache.stats");
    assert!(
        manual.contains("O(1)") && !manual.contains("arguments"),
        "{manual}"
    );
}

#[test]
fn monitor_is_refused_in_a_transaction() {
    let mut fixture = Fixture::new();
    let replies = fixture.ask("multi\nmonitor\nexec");
    let refused = "*1\r\n-ERR MONITOR isn't allowed for DENY BLOCKING client\r\n";
    assert!(replies.ends_with(refused), "{replies}");
    assert_eq!(fixture.ask("monitor"), "+OK\r\n");
    assert!(fixture.instance.clients.has_monitors());
}
