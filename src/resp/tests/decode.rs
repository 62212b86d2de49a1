use proptest::collection::vec;
use proptest::prelude::*;
use redis_protocol::resp2;
use redis_protocol::resp2::types::Resp2Frame as _;

use super::*;

type Words = Vec<Vec<u8>>;
type Decoded = (Vec<Words>, Option<ProtocolError>);

/// What a connection would make of these bytes, arriving in these pieces (over and over).
fn arriving(bytes: &[u8], pieces: &[usize], batch: usize, limits: &Limits) -> Decoded {
    let mut decoder = Decoder::default();
    let (mut buffer, mut requests) = (Vec::new(), Vec::new());
    let mut pieces = pieces.iter().copied().cycle();
    let mut rest = bytes;
    while !rest.is_empty() {
        let piece;
        (piece, rest) = rest.split_at(pieces.next().unwrap_or(rest.len()).min(rest.len()));
        buffer.extend_from_slice(piece);
        loop {
            let decoded = decoder.decode(&buffer, batch, limits);
            let count = decoder.len();
            requests.extend(
                decoder
                    .requests(&buffer)
                    .map(|request| request.iter_from(0).map(<[u8]>::to_vec).collect::<Words>()),
            );
            buffer.drain(..decoder.consume());
            if let Err(error) = decoded {
                return (requests, Some(error));
            }
            if count < batch {
                break;
            }
        }
    }
    (requests, None)
}

fn whole(bytes: &[u8]) -> Decoded {
    arriving(bytes, &[], 32, &Limits::default())
}

fn words(words: &[&str]) -> Words {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

fn encode(requests: &[Words]) -> Vec<u8> {
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

#[test]
fn a_pipeline_of_arrays_and_lines_is_decoded_in_order() {
    let bytes = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\nSET k 'a b'\r\n*1\r\n$4\r\nPING\r\n";
    let requests = vec![
        words(&["GET", "k"]),
        words(&["SET", "k", "a b"]),
        words(&["PING"]),
    ];
    assert_eq!(whole(bytes), (requests, None));
}

#[test]
fn empty_requests_and_lines_are_passed_over() {
    let bytes = b"*0\r\n\r\n\n*-1\r\n  \r\n*-9223372036854775808\r\nPING\n";
    assert_eq!(whole(bytes), (vec![words(&["PING"])], None));
}

#[test]
fn arguments_hold_any_bytes_and_may_be_empty() {
    let bytes = b"*3\r\n$0\r\n\r\n$4\r\n\r\n\0*\r\n$2\r\n$1\r\n";
    let request = vec![b"".to_vec(), b"\r\n\0*".to_vec(), b"$1".to_vec()];
    assert_eq!(whole(bytes), (vec![request], None));
}

#[test]
fn what_stands_in_place_of_a_line_end_is_not_looked_at() {
    let bytes = b"*1\rx$4\rxPINGxx*1\r\n$4\r\nPING\r\n";
    assert_eq!(
        whole(bytes),
        (vec![words(&["PING"]), words(&["PING"])], None)
    );
}

#[test]
fn framing_errors_are_told_in_the_words_of_redis() {
    for (bytes, text) in [
        (&b"*2147483648\r\n"[..], &b"invalid multibulk length"[..]),
        (b"*-9223372036854775809\r\n", b"invalid multibulk length"),
        (b"*99999999999999999999\r\n", b"invalid multibulk length"),
        (b"*\r\n", b"invalid multibulk length"),
        (b"*a\r\n", b"invalid multibulk length"),
        (b"*01\r\n", b"invalid multibulk length"),
        (b"*+1\r\n", b"invalid multibulk length"),
        (b"* 1\r\n", b"invalid multibulk length"),
        (b"*1 \r\n", b"invalid multibulk length"),
        (b"*-0\r\n", b"invalid multibulk length"),
        (b"*-\r\n", b"invalid multibulk length"),
        (b"*1\r\n$-1\r\n", b"invalid bulk length"),
        (b"*1\r\n$04\r\n", b"invalid bulk length"),
        (b"*1\r\n$00\r\n", b"invalid bulk length"),
        (b"*1\r\n$\r\n", b"invalid bulk length"),
        (b"*1\r\n$a\r\n", b"invalid bulk length"),
        (b"*1\r\n$1a\r\n", b"invalid bulk length"),
        (b"*1\r\n$536870913\r\n", b"invalid bulk length"),
        (b"*1\r\n$9223372036854775807\r\n", b"invalid bulk length"),
        (b"*1\r\n:4\r\n", b"expected '$', got ':'"),
        (b"*1\r\nPING\r\n", b"expected '$', got 'P'"),
        (b"*1\r\n*1\r\n", b"expected '$', got '*'"),
        (b"*1\r\n\xff\r\n", b"expected '$', got '\xff'"),
        (b"*1\r\n\r\n$4\r\n", b"expected '$', got '\r'"),
        (b"*1\r\n\nxx\r\n", b"expected '$', got '\n'"),
        (b"ECHO \"a\"b\r\n", b"unbalanced quotes in request"),
    ] {
        let (requests, error) = whole(bytes);
        let reply = error.map(ProtocolError::reply_text);
        let wanted = [b"ERR Protocol error: ", text].concat();
        assert!(requests.is_empty());
        assert_eq!(reply, Some(wanted), "{}", bytes.escape_ascii());
    }
}

#[test]
fn an_error_is_shown_to_people_on_one_line() {
    let error = ProtocolError::ExpectedDollar { found: b'\n' };
    assert_eq!(
        error.to_string(),
        "Protocol error: expected \\'$\\', got \\'\\n\\'"
    );
}

#[test]
fn requests_before_an_error_are_valid() {
    let (requests, error) = whole(b"PING\r\n*1\r\n$4\r\nPING\r\n*1\r\n:1\r\nPING\r\n");
    assert_eq!(requests, vec![words(&["PING"]), words(&["PING"])]);
    assert_eq!(error, Some(ProtocolError::ExpectedDollar { found: b':' }));
}

#[test]
fn a_line_with_a_zero_byte_never_ends() {
    for bytes in [
        &b"PING\0\r\nPING\r\n"[..],
        b"ECHO \"a\0b\"\r\n",
        b"*1\0\r\n",
        b"*1\r\n\0\r\n",
        b"*1\r\n$4\0\r\nPING\r\n",
    ] {
        assert_eq!(whole(bytes), (vec![], None), "{}", bytes.escape_ascii());
    }
}

/// Small limits, so that tests can reach them.
const SMALL: Limits = Limits {
    arguments_max: 3,
    bulk_bytes_max: 400,
    inline_bytes_max: 64,
};

#[test]
fn a_line_has_a_limit_however_it_arrives() {
    let at = |len: usize| [b"PING ", &b"x".repeat(len - 5)[..], b"\n"].concat();
    for pieces in [&[][..], &[1], &[7]] {
        let (requests, error) = arriving(&at(64), pieces, 32, &SMALL);
        assert_eq!((requests.len(), error), (1, None));
        let (requests, error) = arriving(&at(65), pieces, 32, &SMALL);
        assert_eq!(
            (requests.len(), error),
            (0, Some(ProtocolError::TooBigInline))
        );
    }
    let endless = |len| arriving(&b"x".repeat(len), &[], 32, &SMALL).1;
    assert_eq!(endless(64), None);
    assert_eq!(endless(65), Some(ProtocolError::TooBigInline));
    assert_eq!(Limits::default().inline_bytes_max, 65536);
}

#[test]
fn the_lines_of_headers_have_the_same_limit() {
    for (start, error) in [
        ("*", ProtocolError::TooBigMultibulkCount),
        ("*1\r\n$", ProtocolError::TooBigBulkCount),
        ("*1\r\nx", ProtocolError::TooBigBulkCount),
    ] {
        for pieces in [&[][..], &[1], &[7]] {
            let at = |len: usize| format!("{start}{}", "1".repeat(len - 1));
            let none = arriving(at(64).as_bytes(), pieces, 32, &SMALL);
            assert_eq!(none, (vec![], None));
            let past = arriving(at(65).as_bytes(), pieces, 32, &SMALL);
            assert_eq!(past, (vec![], Some(error)));
            let ended = arriving(format!("{}\r\n", at(65)).as_bytes(), pieces, 32, &SMALL);
            assert_eq!(ended, (vec![], Some(error)));
        }
    }
}

#[test]
fn an_argument_has_a_limit() {
    let of = |len: usize| encode(&[vec![b"v".repeat(len)]]);
    assert_eq!(arriving(&of(400), &[], 32, &SMALL).0.len(), 1);
    let error = Some(ProtocolError::InvalidBulkLength);
    assert_eq!(arriving(&of(401), &[], 32, &SMALL), (vec![], error));
    assert_eq!(Limits::default().bulk_bytes_max, 512 * 1024 * 1024);
}

#[test]
fn the_number_of_arguments_has_a_limit() {
    assert_eq!(whole(b"*2147483647\r\n"), (vec![], None));
    let error = Some(ProtocolError::InvalidMultibulkLength);
    assert_eq!(whole(b"*2147483648\r\n"), (vec![], error));
}

#[test]
fn who_has_not_authenticated_may_send_less() {
    let limits = Limits::unauthenticated(512 * 1024 * 1024);
    let asked = |bytes: &[u8]| arriving(bytes, &[], 1, &limits).1;
    assert_eq!(asked(b"*10\r\n"), None);
    let error = Some(ProtocolError::UnauthenticatedMultibulkLength);
    assert_eq!(asked(b"*11\r\n"), error);
    assert_eq!(asked(b"*1\r\n$16384\r\n"), None);
    let error = Some(ProtocolError::UnauthenticatedBulkLength);
    assert_eq!(asked(b"*1\r\n$16385\r\n"), error);
    // What nobody may send is told as such.
    let error = Some(ProtocolError::InvalidBulkLength);
    assert_eq!(asked(b"*1\r\n$536870913\r\n"), error);
    let error = Some(ProtocolError::InvalidMultibulkLength);
    assert_eq!(asked(b"*2147483648\r\n"), error);
}

#[test]
fn what_a_peer_only_announces_reserves_nothing() {
    let mut decoder = Decoder::default();
    let bytes = b"*2147483647\r\n$536870912\r\nabc";
    assert_eq!(decoder.decode(bytes, 32, &Limits::default()), Ok(()));
    assert_eq!(decoder.heap_bytes(), 0);
    assert_eq!(decoder.wanted(bytes), 536_870_912 + 2 - 3);
}

#[test]
fn a_hundred_thousand_nested_arrays_are_refused_at_the_second() {
    let (requests, error) = whole(&b"*1\r\n".repeat(100_000));
    assert!(requests.is_empty());
    assert_eq!(error, Some(ProtocolError::ExpectedDollar { found: b'*' }));
}

#[test]
fn memory_of_a_wide_request_is_given_back() {
    let wide = encode(&[vec![b"x".to_vec(); 100_000]]);
    let line = [&b"x ".repeat(30_000)[..], b"\n"].concat();
    let mut decoder = Decoder::default();
    for buffer in [wide, line] {
        decoder
            .decode(&buffer, 32, &Limits::default())
            .expect("a valid request");
        assert_eq!(decoder.len(), 1);
        decoder.consume();
        assert!(decoder.heap_bytes() < 64 * 1024, "{}", decoder.heap_bytes());
    }
}

/// Overwrites what the decoder has understood before each next piece: were a byte looked at twice,
/// what it finds would change.
#[test]
fn no_byte_that_was_understood_is_looked_at_again() {
    let requests = [
        vec![b"SET".to_vec(), b"k".to_vec(), b"v".repeat(3000)],
        vec![b"x".to_vec(); 500],
    ];
    let bytes = encode(&requests);
    for piece in [1, 3, 100] {
        let (mut decoder, mut buffer) = (Decoder::default(), Vec::new());
        for part in bytes.chunks(piece) {
            buffer.extend_from_slice(part);
            decoder
                .decode(&buffer, 32, &Limits::default())
                .expect("a valid pipeline");
            let understood = decoder.position.min(buffer.len());
            buffer[..understood].fill(b'!');
            assert!(buffer.len() - understood < 6 + piece || decoder.bulk_len.is_some());
        }
        let lens: Vec<usize> = decoder
            .requests(&buffer)
            .flat_map(|request| request.iter_from(0).map(<[u8]>::len).collect::<Vec<_>>())
            .collect();
        let sent: Vec<usize> = requests.iter().flatten().map(Vec::len).collect();
        assert_eq!(lens, sent);
    }
}

#[test]
fn a_request_that_was_kept_is_the_same_as_the_one_that_came() {
    let bytes = b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$2\r\nab\r\n";
    let mut decoder = Decoder::default();
    decoder
        .decode(bytes, 32, &Limits::default())
        .expect("a valid request");
    let request = decoder.at(0, bytes);
    let owned = request.to_owned();
    let kept = owned.as_request();
    assert!(kept.iter_from(0).eq(request.iter_from(0)));
    assert_eq!((kept.len(), kept.bytes_len()), (3, 5));
    assert_eq!((kept.get(2), kept.get(3)), (Some(&b"ab"[..]), None));
    assert_eq!(kept.iter_from(4).len(), 0);
    assert_eq!(format!("{kept:?}"), r#"["SET", "", "ab"]"#);
    assert_eq!(decoder.end_of(0), bytes.len());
}

/// Bytes that are nearly a pipeline: whole requests, parts of them, and noise.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => prop::sample::select(vec![
            &b"*1\r\n$4\r\nPING\r\n"[..], b"*2\r\n", b"*0\r\n", b"*-1\r\n", b"$1\r\n", b"$12\r\n",
            b"$0\r\n\r\n", b"$3\r\nabc\r\n", b"x\r\n", b"PING\r\n", b"ECHO 'a b'\n", b"\r", b"\n",
            b"*", b"$", b"\"", b"'", b"\\x4", b" ", b"\0", b"*3\rx", b"$401\r\n", b"$400\r\n",
        ]).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 0..30),
        1 => vec(prop::sample::select(&b"*$\r\n0129-x \"'"[..]), 0..80),
    ];
    vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}

fn pipeline() -> impl Strategy<Value = Vec<Words>> {
    let word = prop_oneof![
        4 => vec(any::<u8>(), 0..12),
        1 => (0..2000usize).prop_map(|len| b"v".repeat(len)),
    ];
    vec(vec(word, 1..6), 0..12)
}

fn pieces() -> impl Strategy<Value = Vec<usize>> {
    vec(1..40usize, 1..8)
}

proptest! {
    #[test]
    fn any_split_of_any_bytes_gives_the_same_requests_and_error(
        bytes in hostile(), pieces in pieces(), batch in 1..40usize,
    ) {
        let limits = Limits { arguments_max: Limits::ARGUMENTS_MAX, ..SMALL };
        let together = arriving(&bytes, &[], 32, &limits);
        prop_assert_eq!(&arriving(&bytes, &pieces, batch, &limits), &together);
        prop_assert_eq!(&arriving(&bytes, &[1], 1, &limits), &together);
    }

    #[test]
    fn what_was_encoded_is_decoded(
        requests in pipeline(), pieces in pieces(), batch in 1..40usize,
    ) {
        let bytes = encode(&requests);
        let decoded = arriving(&bytes, &pieces, batch, &Limits::default());
        prop_assert_eq!(decoded, (requests, None));
    }

    #[test]
    fn flat_arrays_are_what_redis_protocol_says_they_are(requests in pipeline()) {
        let bytes = encode(&requests);
        let (decoded, error) = whole(&bytes);
        prop_assert_eq!(error, None);
        let mut rest = &bytes[..];
        for request in decoded {
            let (frame, len) = resp2::decode::decode(rest).expect("valid").expect("complete");
            let resp2::types::OwnedFrame::Array(elements) = frame else {
                panic!("a request is an array");
            };
            let elements: Vec<_> = elements.iter().map(|e| e.as_bytes().unwrap_or(b"?")).collect();
            prop_assert_eq!(request, elements);
            rest = &rest[len..];
        }
        prop_assert!(rest.is_empty());
    }
}
