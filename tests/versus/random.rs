//! Thousands of commands drawn at random, run on Redis and on corral: every reply is the same.
//!
//! `CORRAL_SEED` repeats a run. What is drawn is chosen so that replies depend on nothing but the
//! commands: expiries are far away or have passed, and no string becomes longer than some kB.

use std::collections::VecDeque;
use std::time::Duration;

use corral::clock;
use rand::Rng as _;

use super::common::{Client, Server, Shown, elements, request, text};
use super::draw::{Command, Draw};
use super::script::sorted;

/// A run ends at whichever comes first.
const COMMANDS_MAX: usize = 40_000;
const TIME_MAX: Duration = Duration::from_secs(10);
/// Commands sent in one go.
const BATCH_MAX: usize = 40;

#[test]
fn random_commands_are_answered_as_redis_does() {
    let seed = std::env::var("CORRAL_SEED").map_or_else(
        |_| rand::random_range(0..1_000_000),
        |seed| seed.parse().expect("CORRAL_SEED is a number"),
    );
    println!("CORRAL_SEED={seed}");
    let (redis, ours) = (Server::redis(&[]), Server::corral(&[]));
    let mut clients: Vec<_> = (0..3)
        .map(|index| Pipeline::open(&redis, &ours, index == 0))
        .collect();
    let mut draw = Draw::new(seed);
    let mut history = VecDeque::new();
    let since = clock::now();
    let mut ran = 0;
    while ran < COMMANDS_MAX && since.elapsed() < TIME_MAX {
        let client = draw.random.random_range(0..clients.len());
        let count = draw.random.random_range(1..=BATCH_MAX);
        let batch: Vec<Command> = (0..count).map(|_| draw.command()).collect();
        for command in &batch {
            history.push_back(format!("[{client}] {}", Shown(command)));
            if history.len() > 300 {
                history.pop_front();
            }
        }
        ran += batch.len();
        if let Err((at, difference)) = clients[client].run(&batch, &mut draw.dumps) {
            history.truncate(history.len() - (batch.len() - 1 - at));
            let history: Vec<String> = history.into();
            panic!(
                "CORRAL_SEED={seed}, within {ran} commands\n{}\n{difference}",
                history.join("\n")
            );
        }
    }
    println!("{ran} commands in {:?}", since.elapsed());
    assert!(ran > 1000, "a machine this slow shows nothing");
}

/// The same connection to both servers.
struct Pipeline {
    redis: Client,
    ours: Client,
    /// How the replies of what is queued in MULTI are compared.
    queued: Vec<Compared>,
}

impl Pipeline {
    fn open(redis: &Server, ours: &Server, resp3: bool) -> Self {
        let (mut redis, mut ours) = (redis.connect(), ours.connect());
        if resp3 {
            redis.say("HELLO 3");
            ours.say("HELLO 3");
        }
        Self {
            redis,
            ours,
            queued: Vec::new(),
        }
    }

    /// Runs a batch. The difference comes with the index of its command, or of the last if there is
    /// no reply, since then any of them may be why.
    fn run(
        &mut self,
        batch: &[Command],
        dumps: &mut VecDeque<Vec<u8>>,
    ) -> Result<(), (usize, String)> {
        let bytes: Vec<u8> = batch.iter().flat_map(|command| request(command)).collect();
        self.redis.send(&bytes);
        self.ours.send(&bytes);
        for (index, command) in batch.iter().enumerate() {
            let shown = || Shown(command).to_string();
            let redis = self.redis.frame();
            let redis = redis.unwrap_or_else(|missing| panic!("{missing:?}: {}", shown()));
            let ours = self.ours.frame();
            let ours = ours.map_err(|missing| (batch.len() - 1, format!("ours: {missing:?}")))?;
            if !self.is_alike(command, &redis, &ours) {
                let difference = format!(
                    "    redis: {}\n    ours:  {}",
                    redis.escape_ascii(),
                    ours.escape_ascii()
                );
                return Err((index, difference));
            }
            if command[0].eq_ignore_ascii_case(b"dump") && redis.len() > 10 {
                dumps.push_back(text(&redis).to_vec());
                if dumps.len() > 5 {
                    dumps.pop_front();
                }
            }
        }
        Ok(())
    }

    fn is_alike(&mut self, command: &Command, redis: &[u8], ours: &[u8]) -> bool {
        if redis == b"+QUEUED\r\n" {
            self.queued.push(Compared::of(command));
            return redis == ours;
        }
        if !command[0].eq_ignore_ascii_case(b"exec") {
            if ["discard", "reset"].contains(&&*lower(&command[0])) {
                self.queued.clear();
            }
            return Compared::of(command).is_alike(redis, ours);
        }
        let queued = std::mem::take(&mut self.queued);
        if redis == ours {
            return true;
        }
        let (Some(redis_all), Some(ours_all)) = (elements(redis), elements(ours)) else {
            return false;
        };
        let pairs = redis_all.iter().zip(&ours_all).zip(&queued);
        redis_all.len() == ours_all.len()
            && redis_all.len() == queued.len()
            && pairs.fold(true, |all, ((redis, ours), how)| {
                all && how.is_alike(redis, ours)
            })
    }
}

/// How the replies to a command are compared.
#[derive(Clone, Copy)]
enum Compared {
    Bytes,
    /// Elements in any order.
    Unordered,
    /// Times may differ by so much.
    Near(i64),
    /// What a part of a scan holds is the server's affair.
    First,
    /// Which key, or how it is kept, is the server's affair.
    Type,
}

impl Compared {
    fn of(command: &Command) -> Self {
        match &*lower(&command[0]) {
            "keys" => Self::Unordered,
            "scan" if command.get(1..4).is_some_and(is_whole_scan) => Self::Unordered,
            "scan" => Self::First,
            "pttl" | "pexpiretime" => Self::Near(3000),
            "ttl" | "expiretime" => Self::Near(3),
            // What looks like an integer is one, also behind INCRBYFLOAT.
            "randomkey" | "object" => Self::Type,
            _ => Self::Bytes,
        }
    }

    fn is_alike(self, redis: &[u8], ours: &[u8]) -> bool {
        match self {
            Self::Bytes => redis == ours,
            Self::Unordered => sorted(redis) == sorted(ours),
            Self::Near(distance) => match (integer(redis), integer(ours)) {
                (Some(redis), Some(ours)) if redis >= 0 && ours >= 0 => {
                    redis.abs_diff(ours) <= distance.unsigned_abs()
                }
                _ => redis == ours,
            },
            Self::First => redis.first() == ours.first(),
            Self::Type if redis.starts_with(b"$") && ours.starts_with(b"$") => {
                redis.starts_with(b"$-1") == ours.starts_with(b"$-1")
            }
            Self::Type => redis == ours,
        }
    }
}

fn is_whole_scan(words: &[Vec<u8>]) -> bool {
    words[0] == b"0" && words[1].eq_ignore_ascii_case(b"count") && words[2] == b"1000"
}

fn lower(word: &[u8]) -> String {
    String::from_utf8_lossy(word).to_ascii_lowercase()
}

fn integer(reply: &[u8]) -> Option<i64> {
    let digits = reply.strip_prefix(b":")?.strip_suffix(b"\r\n")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[test]
fn random_commands_of_many_clients_at_once_leave_nobody_waiting() {
    let server = Server::corral(&["--io-threads", "4"]);
    let mut watcher = server.connect();
    let empty = watcher.info("used_memory");
    let seed: u64 = rand::random_range(0..1_000_000);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let mut client = server.connect();
            scope.spawn(move || {
                let mut draw = Draw::new(seed + thread);
                for _ in 0..150 {
                    let batch: Vec<Command> = (0..BATCH_MAX).map(|_| draw.command()).collect();
                    let bytes: Vec<u8> = batch.iter().flat_map(|words| request(words)).collect();
                    client.send(&bytes);
                    for command in &batch {
                        if let Err(missing) = client.frame() {
                            panic!(
                                "{missing:?} in a batch with {}, seed {seed}",
                                Shown(command)
                            );
                        }
                    }
                }
            });
        }
        for _ in 0..50 {
            watcher.info("used_memory");
            watcher.say("CONFIG SET maxmemory 3mb maxmemory-policy allkeys-tinylfu");
            watcher.number("DBSIZE");
            watcher.say("CONFIG SET maxmemory 0");
        }
    });
    assert_eq!(watcher.say("FLUSHALL"), "+OK\r\n");
    assert_eq!(
        watcher.info("used_memory"),
        empty,
        "nothing is charged for what is gone"
    );
}
