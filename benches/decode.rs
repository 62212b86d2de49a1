//! What decoding a request costs, beside `redis-protocol`, which says where a frame ends.
//!
//!     cargo bench --bench decode
//!
//! Pipelines of 16 commands; criterion's `elem/s` are commands.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use redis_protocol::resp2::decode::decode_range;

use corral::resp::{Decoder, Limits};

/// Commands in a pipeline.
const COMMANDS: u64 = 16;

fn pipeline(command: impl Fn(u64) -> String) -> Vec<u8> {
    (0..COMMANDS).map(command).collect::<String>().into_bytes()
}

fn get(number: u64) -> String {
    format!("*2\r\n$3\r\nGET\r\n$16\r\nkey:{number:012}\r\n")
}

fn set(number: u64) -> String {
    format!("*3\r\n$3\r\nSET\r\n$16\r\nkey:{number:012}\r\n$3\r\nxxx\r\n")
}

fn inline(number: u64) -> String {
    format!("GET key:{number:012}\r\n")
}

fn decode(criterion: &mut Criterion) {
    let limits = Limits::default();
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(COMMANDS));
    for (name, bytes) in [
        ("get", pipeline(get)),
        ("set", pipeline(set)),
        ("inline", pipeline(inline)),
    ] {
        group.bench_function(name, |bencher| {
            let mut decoder = Decoder::default();
            bencher.iter(|| {
                let decoded = decoder.decode(black_box(&bytes), 32, &limits);
                decoded.expect("a valid pipeline");
                let mut len = 0;
                for request in decoder.requests(&bytes) {
                    len += request.argument(0).len() + request.argument(1).len();
                }
                (decoder.consume(), len)
            });
        });
    }
    group.finish();
}

fn redis_protocol(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("redis-protocol");
    group.throughput(Throughput::Elements(COMMANDS));
    for (name, bytes) in [("get", pipeline(get)), ("set", pipeline(set))] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut rest = black_box(&bytes[..]);
                while let Some((frame, len)) = decode_range(rest).expect("a valid pipeline") {
                    black_box(frame);
                    rest = &rest[len..];
                    if rest.is_empty() {
                        break;
                    }
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode, redis_protocol);
criterion_main!(benches);
