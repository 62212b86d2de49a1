//! What a command costs between the read buffer and the write buffer: decode, look up, lock, run,
//! reply, count. No sockets.
//!
//!     cargo bench --bench dispatch
//!
//! 100 000 keys of 16 bytes, values of 100 bytes, batches of 1, 16 and 32; criterion's `elem/s` are
//! commands.

use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use corral::command::run::{BATCH_MAX, Ended, Runner};
use corral::config::Config;
use corral::instance::Instance;
use corral::instance::clients::Arrival;
use corral::instance::session::Session;
use corral::resp::{Decoder, Limits, Protocol, Reply};

const KEYS: u32 = 100_000;
const VALUE: [u8; 100] = [b'v'; 100];
/// Different pipelines, so that keys are seldom in the processor's first caches.
const PIPELINES: usize = 4096;

/// One client of a server without sockets.
struct Bench {
    instance: Instance,
    session: Session,
    decoder: Decoder,
    reply: Reply,
}

impl Bench {
    fn new() -> Self {
        let instance = Instance::new(Config::default(), None);
        let arrival = Arrival {
            peer: "bench".to_owned(),
            local: "bench".to_owned(),
            is_unix: false,
            is_local: true,
            fd: 0,
        };
        let client = instance.clients.add(arrival, 1).expect("a place");
        let session = Session::new(&instance, Arc::clone(&client), 0);
        let mut bench = Self {
            instance,
            session,
            decoder: Decoder::default(),
            reply: Reply::new(Protocol::Resp2),
        };
        for number in 0..KEYS {
            bench.run(&request(&[b"SET", &key(number), &VALUE]));
        }
        bench
    }

    /// Takes a pipeline of at most one batch through. Returns the length of the replies.
    fn run(&mut self, bytes: &[u8]) -> usize {
        let limits = Limits::default();
        let decoded = self.decoder.decode(bytes, BATCH_MAX, &limits);
        decoded.expect("a valid pipeline");
        let mut runner = Runner {
            instance: &self.instance,
            session: &mut self.session,
            reply: &mut self.reply,
        };
        let (_, ended) = runner.run(&self.decoder, bytes, 0);
        assert_eq!(ended, Ended::Done);
        self.decoder.consume();
        let len = self.reply.len();
        self.reply.clear();
        len
    }
}

fn key(number: u32) -> Vec<u8> {
    format!("key:{number:012}").into_bytes()
}

fn request(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// A request for a random key.
type Command = fn(&mut SmallRng) -> Vec<u8>;

const COMMANDS: [(&str, Command); 4] = [
    ("get", |random| {
        request(&[b"GET", &key(random.random_range(0..KEYS))])
    }),
    ("set", |random| {
        request(&[b"SET", &key(random.random_range(0..KEYS)), &VALUE])
    }),
    ("incr", |random| {
        let number = random.random_range(0..1000);
        request(&[b"INCR", format!("counter:{number}").as_bytes()])
    }),
    ("mset_4", |random| {
        let keys: [_; 4] = std::array::from_fn(|_| key(random.random_range(0..KEYS)));
        let [a, b, c, d] = &keys;
        request(&[b"MSET", a, &VALUE, b, &VALUE, c, &VALUE, d, &VALUE])
    }),
];

fn dispatch(criterion: &mut Criterion) {
    let mut bench = Bench::new();
    let mut random = SmallRng::seed_from_u64(1);
    for (name, command) in COMMANDS {
        let mut group = criterion.benchmark_group(name);
        for batch in [1, 16, 32] {
            let pipelines: Vec<Vec<u8>> = (0..PIPELINES)
                .map(|_| (0..batch).flat_map(|_| command(&mut random)).collect())
                .collect();
            group.throughput(Throughput::Elements(batch));
            group.bench_function(BenchmarkId::from_parameter(batch), |bencher| {
                let mut next = 0;
                bencher.iter(|| {
                    next = (next + 1) % PIPELINES;
                    bench.run(&pipelines[next])
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, dispatch);
criterion_main!(benches);
