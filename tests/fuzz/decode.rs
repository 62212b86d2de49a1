//! Feeds the request decoder bytes that arrive in pieces, and checks what must always hold.
//!
//! The first input bytes choose the sizes of the pieces and of the batches, the rest is what a
//! client sends.
#![no_main]

use corral::resp::{Decoder, Limits, ProtocolError};
use libfuzzer_sys::fuzz_target;

/// What a connection made of its bytes.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    requests: Vec<Vec<Vec<u8>>>,
    error: Option<ProtocolError>,
}

/// Limits that an input of some hundred bytes can reach.
const LIMITS: Limits = Limits {
    arguments_max: Limits::ARGUMENTS_MAX,
    bulk_bytes_max: 300,
    inline_bytes_max: 100,
};

fuzz_target!(|input: &[u8]| {
    let Some((&[first, second, batch], bytes)) = input.split_first_chunk() else {
        return;
    };
    for limits in [LIMITS, Limits::default(), Limits::unauthenticated(1 << 29)] {
        // Who has not authenticated is decoded one request at a time.
        let batches = if limits.is_unauthenticated() {
            [1, 1]
        } else {
            [32, 1 + batch % 40]
        };
        let whole = receive(bytes, &[bytes.len()], batches[0], &limits);
        let sizes = [1 + usize::from(first), 1 + usize::from(second)];
        let split = receive(bytes, &sizes, batches[1], &limits);
        assert_eq!(whole, split, "a split changed the requests");
        let single = receive(bytes, &[1], 1, &limits);
        assert_eq!(whole, single, "single bytes changed the requests");
        // What was decoded, written as arrays, is decoded to the same again.
        let again = receive(&encode(&whole.requests), &sizes, 32, &Limits::default());
        assert_eq!(again.requests, whole.requests);
        assert_eq!(again.error, None);
    }
});

fn receive(bytes: &[u8], sizes: &[usize], batch: u8, limits: &Limits) -> Outcome {
    let batch = usize::from(batch);
    let (mut decoder, mut outcome) = (Decoder::default(), Outcome::default());
    let (mut buffer, mut rest) = (Vec::new(), bytes);
    let mut sizes = sizes.iter().copied().cycle();
    while !rest.is_empty() {
        let size = sizes.next().unwrap_or(rest.len()).clamp(1, rest.len());
        let piece;
        (piece, rest) = rest.split_at(size);
        buffer.extend_from_slice(piece);
        loop {
            let decoded = decoder.decode(&buffer, batch, limits);
            let count = decoder.len();
            assert!(count <= batch, "more requests than asked for");
            for request in decoder.requests(&buffer) {
                assert!(request.len() > 0, "a request has a name");
                let words: Vec<_> = request.iter_from(0).map(<[u8]>::to_vec).collect();
                assert_eq!(words.len(), request.len());
                let owned = request.to_owned();
                assert!(owned.as_request().iter_from(0).eq(request.iter_from(0)));
                outcome.requests.push(words);
            }
            // Each argument takes at least six bytes of input and one entry of memory.
            assert!(
                decoder.heap_bytes() <= 64 * 1024 + 16 * bytes.len(),
                "memory without input"
            );
            let consumed = decoder.consume();
            assert!(consumed <= buffer.len());
            buffer.drain(..consumed);
            if decoded.is_err() {
                outcome.error = decoded.err();
                return outcome;
            }
            if count < batch {
                break;
            }
        }
    }
    outcome
}

fn encode(requests: &[Vec<Vec<u8>>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for request in requests {
        bytes.extend_from_slice(format!("*{}\r\n", request.len()).as_bytes());
        for word in request {
            bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
    }
    bytes
}
