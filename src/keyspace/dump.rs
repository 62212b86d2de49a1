//! DUMP and RESTORE payloads of strings, in the format of Redis 7.0.
//!
//! ```text
//! type: 0 | the string | version: 10, two bytes | CRC-64 of all before, eight bytes
//! ```
//! Both numbers at the end are little endian. The string is an integer of 8, 16 or 32 bits where
//! its text is one, else compressed with LZF where that saves at least four bytes, else plain. What
//! is written is what Redis writes with `rdbcompression yes`, byte for byte. What is read may be
//! hostile: nothing is allocated by a length that is only announced.

use std::fmt;

use super::lzf;

/// Serialises a string.
pub fn encode_string(bytes: &[u8]) -> Vec<u8> {
    let mut payload = vec![TYPE_STRING];
    write_string(&mut payload, bytes);
    payload.extend_from_slice(&RDB_VERSION.to_le_bytes());
    let checksum = crc64(&payload);
    payload.extend_from_slice(&checksum.to_le_bytes());
    payload
}

/// Reads a payload whose value has at most `max_len` bytes.
pub fn decode(payload: &[u8], max_len: usize) -> Result<Payload, DumpError> {
    let (signed, checksum) = payload
        .split_last_chunk::<8>()
        .ok_or(DumpError::VersionOrChecksum)?;
    let (body, version) = signed
        .split_last_chunk::<2>()
        .ok_or(DumpError::VersionOrChecksum)?;
    if u16::from_le_bytes(*version) > RDB_VERSION || u64::from_le_bytes(*checksum) != crc64(signed)
    {
        return Err(DumpError::VersionOrChecksum);
    }
    match body.split_first() {
        // Like Redis, whatever may stand between the value and the version is ignored. Unlike it, a
        // value that reaches into the version is malformed.
        Some((&TYPE_STRING, body)) => Reader { bytes: body }
            .string(max_len)
            .map(Payload::String)
            .ok_or(DumpError::BadFormat),
        Some((&other, _)) if matches!(other, 1..=7 | 9..=19) => {
            Err(DumpError::UnsupportedType(other))
        }
        Some(_) | None => Err(DumpError::BadFormat),
    }
}

/// A value that was serialised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// A string.
    String(Vec<u8>),
}

/// Why a payload was not restored. Displays as the error reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DumpError {
    /// Damaged, cut short, or from a later Redis.
    VersionOrChecksum,
    /// The checksum is right, but the value is malformed or larger than allowed.
    BadFormat,
    /// A value of another type than string, as numbered in RDB files.
    UnsupportedType(u8),
}

impl fmt::Display for DumpError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VersionOrChecksum => {
                formatter.write_str("ERR DUMP payload version or checksum are wrong")
            }
            Self::BadFormat => formatter.write_str("ERR Bad data format"),
            Self::UnsupportedType(kind) => {
                write!(
                    formatter,
                    "ERR DUMP payload has an unsupported type ({kind})"
                )
            }
        }
    }
}

fn write_string(payload: &mut Vec<u8>, bytes: &[u8]) {
    if let Some(number) = canonical_i32(bytes) {
        write_integer(payload, number);
        return;
    }
    // Nothing as short as this can save enough.
    let compressed = if bytes.len() > MAX_UNCOMPRESSED_LEN {
        lzf::compress(bytes, bytes.len() - MIN_SAVING)
    } else {
        None
    };
    match compressed {
        Some(compressed) => {
            payload.push(SPECIAL | ENCODING_LZF);
            write_len(payload, compressed.len());
            write_len(payload, bytes.len());
            payload.extend_from_slice(&compressed);
        }
        None => {
            write_len(payload, bytes.len());
            payload.extend_from_slice(bytes);
        }
    }
}

fn write_integer(payload: &mut Vec<u8>, number: i32) {
    if let Ok(number) = i8::try_from(number) {
        payload.push(SPECIAL | ENCODING_INT8);
        payload.extend_from_slice(&number.to_le_bytes());
    } else if let Ok(number) = i16::try_from(number) {
        payload.push(SPECIAL | ENCODING_INT16);
        payload.extend_from_slice(&number.to_le_bytes());
    } else {
        payload.push(SPECIAL | ENCODING_INT32);
        payload.extend_from_slice(&number.to_le_bytes());
    }
}

/// Lengths are big endian: 6 bits in one byte, 14 in two, 32 in five, 64 in nine.
fn write_len(payload: &mut Vec<u8>, len: usize) {
    let len = len as u64;
    let bytes = len.to_be_bytes();
    if len < 1 << 6 {
        payload.push(bytes[7]);
    } else if len < 1 << 14 {
        payload.extend_from_slice(&[LEN_14_BITS | bytes[6], bytes[7]]);
    } else if u32::try_from(len).is_ok() {
        payload.push(LEN_32_BITS);
        payload.extend_from_slice(&bytes[4..]);
    } else {
        payload.push(LEN_64_BITS);
        payload.extend_from_slice(&bytes);
    }
}

/// The number a text spells, if the number prints back to the same text.
fn canonical_i32(text: &[u8]) -> Option<i32> {
    const LONGEST: usize = "-2147483648".len();
    if text.len() > LONGEST {
        return None;
    }
    let number: i32 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == text).then_some(number)
}

/// What is left to read of a payload. None from a method: malformed, or cut short.
struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn string(&mut self, max_len: usize) -> Option<Vec<u8>> {
        let [first] = self.array()?;
        let text = match first {
            _ if first & LEN_KIND != SPECIAL => {
                let len = self.len_after(first)?;
                return self
                    .take(len)
                    .filter(|taken| taken.len() <= max_len)
                    .map(<[u8]>::to_vec);
            }
            ENCODED_INT8 => i8::from_le_bytes(self.array()?).to_string(),
            ENCODED_INT16 => i16::from_le_bytes(self.array()?).to_string(),
            ENCODED_INT32 => i32::from_le_bytes(self.array()?).to_string(),
            ENCODED_LZF => {
                let compressed_len = self.len()?;
                let len = usize::try_from(self.len()?)
                    .ok()
                    .filter(|len| *len <= max_len)?;
                return lzf::decompress(self.take(compressed_len)?, len);
            }
            _ => return None,
        };
        Some(text.into_bytes()).filter(|text| text.len() <= max_len)
    }

    fn len(&mut self) -> Option<u64> {
        let [first] = self.array()?;
        self.len_after(first)
    }

    fn len_after(&mut self, first: u8) -> Option<u64> {
        match first {
            0..LEN_14_BITS => Some(u64::from(first)),
            LEN_14_BITS..LEN_32_BITS => {
                let [second] = self.array()?;
                Some(u64::from(u16::from_be_bytes([first & !LEN_KIND, second])))
            }
            LEN_32_BITS => self.array().map(u32::from_be_bytes).map(u64::from),
            LEN_64_BITS => self.array().map(u64::from_be_bytes),
            _ => None,
        }
    }

    fn array<const LEN: usize>(&mut self) -> Option<[u8; LEN]> {
        let (array, rest) = self.bytes.split_first_chunk()?;
        self.bytes = rest;
        Some(*array)
    }

    fn take(&mut self, len: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(usize::try_from(len).ok()?)?;
        self.bytes = rest;
        Some(taken)
    }
}

/// CRC-64 with Jones' polynomial, reflected, starting from zero.
fn crc64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |crc, &byte| {
        let [low, ..] = crc.to_le_bytes();
        CRC64_TABLE[usize::from(low ^ byte)] ^ (crc >> 8)
    })
}

static CRC64_TABLE: [u64; 256] = {
    const REFLECTED_POLYNOMIAL: u64 = 0x95ac_9329_ac4b_c9b5;
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut crc = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                crc >> 1 ^ REFLECTED_POLYNOMIAL
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// The version of Redis 7.0's RDB files; later ones are refused.
const RDB_VERSION: u16 = 10;
const TYPE_STRING: u8 = 0;

/// The two top bits of a string's first byte tell the kind of its length.
const LEN_KIND: u8 = 0xc0;
const LEN_14_BITS: u8 = 0x40;
const LEN_32_BITS: u8 = 0x80;
const LEN_64_BITS: u8 = 0x81;
/// Not a length, but an encoding in the low six bits.
const SPECIAL: u8 = 0xc0;
const ENCODING_INT8: u8 = 0;
const ENCODING_INT16: u8 = 1;
const ENCODING_INT32: u8 = 2;
const ENCODING_LZF: u8 = 3;
const ENCODED_INT8: u8 = SPECIAL | ENCODING_INT8;
const ENCODED_INT16: u8 = SPECIAL | ENCODING_INT16;
const ENCODED_INT32: u8 = SPECIAL | ENCODING_INT32;
const ENCODED_LZF: u8 = SPECIAL | ENCODING_LZF;

/// Strings up to this length, in bytes, are never compressed.
const MAX_UNCOMPRESSED_LEN: usize = 20;
/// Bytes that compression must save.
const MIN_SAVING: usize = 4;

#[cfg(test)]
mod tests {
    use proptest::{collection, prelude::*};

    use super::*;

    const NO_LIMIT: usize = usize::MAX;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A payload with a right version and checksum around any body.
    fn sealed(body: &[u8]) -> Vec<u8> {
        let mut payload = body.to_vec();
        payload.extend_from_slice(&RDB_VERSION.to_le_bytes());
        payload.extend_from_slice(&crc64(&payload).to_le_bytes());
        payload
    }

    fn restored(body: &[u8]) -> Result<Payload, DumpError> {
        decode(&sealed(body), 1_000)
    }

    #[test]
    fn the_checksum_is_redis_crc64() {
        assert_eq!(crc64(b"123456789"), 0xe9c6_d914_c4b8_d9ca);
    }

    #[test]
    fn payloads_are_those_of_redis() {
        for (value, payload) in [
            (&b""[..], "00000a005d9b5c400f7fa2da"),
            (b"bar", "00036261720a00e6be4960ee66fd17"),
            (b"10", "00c00a0a006e9f57450eae63bb"),
            (b"-129", "00c17fff0a001760822854808480"),
            (b"100000", "00c2a08601000a00f12403506f2fa674"),
            (
                b"2147483648",
                "000a323134373438333634380a00e7b129a34c1d76ee",
            ),
            (
                b"Redis ver. Redis ver. Redis ver",
                "00c3101f0b5265646973207665722e2052e00a0a0a00bd48f0d4d14edf96",
            ),
        ] {
            assert_eq!(hex(&encode_string(value)), payload);
        }
    }

    #[test]
    fn long_matches_are_split_as_redis_splits_them() {
        assert_eq!(
            hex(&encode_string(&[b'a'; 300])),
            "00c30c412c016161e0ff00e017000161610a004b1bc2625246e713"
        );
        assert_eq!(
            hex(&encode_string(&b"0123456789".repeat(10))),
            "00c31240640a3031323334353637383930e04e090138390a00ba7dfcf5acebbc03"
        );
        let payload = encode_string(&[b'x'; 20_000]);
        assert_eq!(payload.len(), 253);
        assert_eq!(hex(&payload[..12]), "00c340ea8000004e20017878");
        assert_eq!(hex(&payload[243..]), "0a00b8458d98cf7cab3a");
    }

    #[test]
    fn up_to_twenty_bytes_are_not_compressed() {
        assert_eq!(encode_string(&[b'a'; 20])[1], 20);
        assert_eq!(encode_string(&[b'a'; 21])[1], ENCODED_LZF);
    }

    #[test]
    fn only_integers_in_their_one_spelling_become_integers() {
        for text in [
            "0",
            "-1",
            "127",
            "-128",
            "32768",
            "2147483647",
            "-2147483648",
        ] {
            assert!(encode_string(text.as_bytes())[1] >= SPECIAL, "{text}");
        }
        for text in [
            "",
            "00",
            "-0",
            "+1",
            " 1",
            "1.0",
            "2147483648",
            "-2147483649",
        ] {
            assert!(encode_string(text.as_bytes())[1] < SPECIAL, "{text}");
        }
    }

    #[test]
    fn a_damaged_or_later_payload_is_refused() {
        let payload = encode_string(b"value");
        for index in 0..payload.len() {
            let mut damaged = payload.clone();
            damaged[index] ^= 1;
            assert_eq!(
                decode(&damaged, NO_LIMIT),
                Err(DumpError::VersionOrChecksum)
            );
            assert_eq!(
                decode(&payload[..index], NO_LIMIT),
                Err(DumpError::VersionOrChecksum)
            );
        }
        let mut later = payload[..payload.len() - 10].to_vec();
        later.extend_from_slice(&(RDB_VERSION + 1).to_le_bytes());
        later.extend_from_slice(&crc64(&later).to_le_bytes());
        assert_eq!(decode(&later, NO_LIMIT), Err(DumpError::VersionOrChecksum));
    }

    #[test]
    fn a_malformed_value_is_refused() {
        let bodies: [&[u8]; 16] = [
            b"",
            b"\x00",
            b"\x08\x00",
            b"\x14\x00",
            b"\xff",
            b"\x00\x05abcd",
            b"\x00\x40",
            b"\x00\x80\xff\xff\xff\xff",
            b"\x00\x81\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x00\x82\0",
            b"\x00\xc4\0",
            b"\x00\xc1\x01",
            b"\x00\xc3\x01\x80\xff\xff\xff\xff\x00",
            b"\x00\xc3\x02\x05\x00a", // five bytes announced, one there
            b"\x00\xc3\x03\x03\xe0\xff\x00", // a reference to before the start
            b"\x00\xc3\x04\x03\x01ab\x20", // a reference cut short
        ];
        for body in bodies {
            assert_eq!(
                restored(body),
                Err(DumpError::BadFormat),
                "{}",
                body.escape_ascii()
            );
        }
        assert_eq!(restored(b"\x04\x00"), Err(DumpError::UnsupportedType(4)));
    }

    #[test]
    fn a_value_is_bounded_however_it_is_encoded() {
        for value in [b"12345".to_vec(), b"abcde".to_vec(), vec![b'a'; 50]] {
            let payload = encode_string(&value);
            let len = value.len();
            assert_eq!(decode(&payload, len - 1), Err(DumpError::BadFormat));
            assert_eq!(decode(&payload, len), Ok(Payload::String(value)));
        }
    }

    #[test]
    fn every_width_of_length_is_read() {
        for body in [&b"\x00\x01a"[..], b"\x00\x40\x01a", b"\x00\x80\0\0\0\x01a"] {
            assert_eq!(restored(body), Ok(Payload::String(b"a".to_vec())));
        }
        assert_eq!(
            restored(b"\x00\x81\0\0\0\0\0\0\0\x01a, and bytes nobody asked for"),
            Ok(Payload::String(b"a".to_vec()))
        );
    }

    proptest! {
        #[test]
        fn what_is_dumped_is_restored(
            words in collection::vec(collection::vec(0_u8..4, 1..30), 1..6),
            picks in collection::vec(0_usize..6, 0..60),
        ) {
            let value: Vec<u8> =
                picks.iter().flat_map(|pick| &words[pick % words.len()]).copied().collect();
            let payload = encode_string(&value);
            prop_assert!(payload.len() <= value.len() + 16);
            prop_assert_eq!(decode(&payload, value.len()), Ok(Payload::String(value)));
        }

        #[test]
        fn no_body_restores_to_more_than_allowed(
            body in collection::vec(any::<u8>(), 0..60),
            special in prop_oneof![Just(ENCODED_LZF), any::<u8>()],
        ) {
            if let Ok(Payload::String(value)) = restored(&[&[0, special], &body[..]].concat()) {
                prop_assert!(value.len() <= 1_000);
            }
        }
    }
}
