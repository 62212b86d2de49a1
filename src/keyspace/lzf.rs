//! LZF, the compression inside DUMP payloads: Marc Lehmann's liblzf with its default settings.
//!
//! The output is runs of literals, each behind its length minus one, and back references of three
//! bits of length and thirteen of distance. Matches are found through a table from a hash of three
//! bytes to the last place they were seen at. The compressor decides as liblzf's does, so that the
//! bytes are the same. One thing is not defined there: liblzf does not clear its table, and so may
//! use a place left over from an earlier call; here the table is clean.

/// Compresses; None if more than `max_len` bytes, roughly, would be needed. (How roughly is
/// liblzf's, and kept.)
pub(super) fn compress(input: &[u8], max_len: usize) -> Option<Vec<u8>> {
    // Position 0 stands for none: liblzf never refers to it either.
    let mut seen = vec![0_usize; TABLE_LEN];
    let mut output = LiteralRuns::with_capacity(max_len);
    let matchable = input.len().checked_sub(2)?;
    let mut at = 0;
    while at < matchable {
        let slot = &mut seen[hash(input, at)];
        let candidate = std::mem::replace(slot, at);
        let is_match = candidate > 0
            && at - candidate <= MAX_DISTANCE
            && input[candidate..candidate + 3] == input[at..at + 3];
        if !is_match {
            if output.len() >= max_len {
                return None;
            }
            output.push_literal(input[at]);
            at += 1;
            continue;
        }
        let spare = usize::from(output.run_len == 0);
        if output.len() - spare + 4 >= max_len {
            return None;
        }
        let len = match_len(input, candidate, at);
        output.push_reference(at - candidate - 1, len - 2);
        at += len;
        if at >= matchable {
            break;
        }
        // Of the places inside a match only the last two are remembered.
        seen[hash(input, at - 2)] = at - 2;
        seen[hash(input, at - 1)] = at - 1;
    }
    if output.len() + 3 > max_len {
        return None;
    }
    for &byte in &input[at..] {
        output.push_literal(byte);
    }
    Some(output.finish())
}

/// The output of the compressor: a run of literals is always open, and its length, which comes
/// first, is filled in when it ends.
struct LiteralRuns {
    bytes: Vec<u8>,
    run_len: u8,
}

impl LiteralRuns {
    fn with_capacity(capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity);
        bytes.push(0);
        Self { bytes, run_len: 0 }
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn push_literal(&mut self, byte: u8) {
        self.bytes.push(byte);
        self.run_len += 1;
        if self.run_len == MAX_LITERALS {
            self.end_run();
            self.bytes.push(0);
        }
    }

    /// `offset` is the distance minus one, at most 13 bits; `len` the length minus two.
    fn push_reference(&mut self, offset: usize, len: usize) {
        self.end_run();
        let [.., high, low] = offset.to_be_bytes();
        match len.checked_sub(7).map(usize::to_be_bytes) {
            None => {
                let [.., len] = len.to_be_bytes();
                self.bytes.push(high | len << 5);
            }
            Some([.., beyond]) => self.bytes.extend_from_slice(&[high | 7 << 5, beyond]),
        }
        self.bytes.extend_from_slice(&[low, 0]);
    }

    /// Fills in the run's length, or removes its place if the run is empty.
    fn end_run(&mut self) {
        let head = self.bytes.len() - usize::from(self.run_len) - 1;
        match self.run_len.checked_sub(1) {
            Some(len_code) => self.bytes[head] = len_code,
            None => self.bytes.truncate(head),
        }
        self.run_len = 0;
    }

    fn finish(mut self) -> Vec<u8> {
        self.end_run();
        self.bytes
    }
}

/// The table's slot for the three bytes at a position.
fn hash(input: &[u8], at: usize) -> usize {
    let bytes = [0, input[at], input[at + 1], input[at + 2]];
    let hash = u32::from_be_bytes(bytes);
    ((hash >> 8).wrapping_sub(hash.wrapping_mul(5)) & HASH_MASK) as usize
}

/// How long the match of two places is, the first three bytes of which are known to be equal.
///
/// liblzf unrolls the comparison of sixteen bytes, and only behind them minds its limit, which lies
/// two bytes before the input's end. So long matches there are longer than short ones.
fn match_len(input: &[u8], candidate: usize, at: usize) -> usize {
    const UNROLLED: usize = 16;
    const KNOWN: usize = 3;
    let limit = (input.len() - at - 2).min(MAX_LEN);
    let least = if limit > UNROLLED {
        KNOWN + UNROLLED
    } else {
        KNOWN
    };
    let end = limit.max(least);
    (KNOWN..end)
        .find(|len| input[candidate + len] != input[at + len])
        .unwrap_or(end)
}

/// Decompresses to exactly `len` bytes; None if the input is malformed or gives another length.
///
/// Allocates no more than the input could justify, whatever `len` says.
pub(super) fn decompress(mut input: &[u8], len: usize) -> Option<Vec<u8>> {
    // A reference of three bytes gives at most MAX_LEN: no input can justify more memory.
    let mut output = Vec::with_capacity(len.min(input.len().saturating_mul(MAX_LEN / 3)));
    while let Some((&control, rest)) = input.split_first() {
        if control < MAX_LITERALS {
            let (literals, rest) = rest.split_at_checked(usize::from(control) + 1)?;
            output.extend_from_slice(literals);
            input = rest;
        } else {
            let (extra, rest) = match control >> 5 {
                7 => rest
                    .split_first()
                    .map(|(&extra, rest)| (usize::from(extra), rest))?,
                _ => (0, rest),
            };
            let (&low, rest) = rest.split_first()?;
            let match_len = usize::from(control >> 5) + extra + 2;
            let distance = usize::from(u16::from_be_bytes([control & 0x1f, low])) + 1;
            let start = output.len().checked_sub(distance)?;
            if output.len() + match_len > len {
                return None;
            }
            // It may overlap what it writes, so it is taken in steps of the distance.
            let mut missing = match_len;
            while missing > 0 {
                let step = missing.min(output.len() - start);
                output.extend_from_within(start..start + step);
                missing -= step;
            }
            input = rest;
        }
        if output.len() > len {
            return None;
        }
    }
    (output.len() == len).then_some(output)
}

const MAX_LITERALS: u8 = 1 << 5;
const MAX_DISTANCE: usize = 1 << 13;
const MAX_LEN: usize = (1 << 8) + (1 << 3);
const TABLE_LEN: usize = 1 << 16;
const HASH_MASK: u32 = (1 << 16) - 1;

#[cfg(test)]
mod tests {
    use proptest::{collection, prelude::*};

    use super::*;

    #[test]
    fn repetition_becomes_back_references() {
        assert_eq!(compress(&[b'a'; 21], 17).unwrap(), b"\x01aa\xe0\x0a\0");
        let text = b"Redis ver. Redis ver. Redis ver";
        assert_eq!(compress(text, 27).unwrap(), b"\x0bRedis ver. R\xe0\x0a\x0a");
    }

    #[test]
    fn what_does_not_shrink_is_not_compressed() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(compress(&bytes, bytes.len() - 4), None);
        assert_eq!(compress(b"", 0), None);
        assert_eq!(compress(b"a", 0), None);
    }

    #[test]
    fn malformed_input_is_refused() {
        let inputs: [(&[u8], usize); 7] = [
            (b"\x02ab", 3),        // a literal is missing
            (b"\x00a", 2),         // shorter than announced
            (b"\x01ab", 1),        // longer than announced
            (b"\x00a\x20", 4),     // the distance is missing
            (b"\x00a\xe0", 4),     // the length and the distance are missing
            (b"\x00a\x20\x01", 4), // before the start
            (b"\x00a\x20\x00", 3), // past the end
        ];
        for (input, len) in inputs {
            assert_eq!(decompress(input, len), None, "{}", input.escape_ascii());
        }
        assert_eq!(
            decompress(b"\x00a\x20\x00", 4).as_deref(),
            Some(&b"aaaa"[..])
        );
    }

    #[test]
    fn memory_follows_the_input_and_not_the_announced_length() {
        assert_eq!(decompress(b"\x00a", usize::MAX), None);
    }

    proptest! {
        #[test]
        fn what_is_compressed_is_decompressed(
            runs in collection::vec((0_u8..3, 1_usize..400), 0..40),
        ) {
            let bytes: Vec<u8> =
                runs.iter().flat_map(|&(byte, len)| std::iter::repeat_n(byte, len)).collect();
            if let Some(compressed) = compress(&bytes, bytes.len()) {
                prop_assert!(compressed.len() <= bytes.len());
                prop_assert_eq!(decompress(&compressed, bytes.len()), Some(bytes));
            }
        }

        #[test]
        fn any_input_is_survived(
            input in collection::vec(any::<u8>(), 0..80),
            len in 0_usize..2_000,
        ) {
            if let Some(output) = decompress(&input, len) {
                prop_assert_eq!(output.len(), len);
            }
        }
    }
}
