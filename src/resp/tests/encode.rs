use proptest::prelude::*;
use redis_protocol::resp3::decode::complete::decode;
use redis_protocol::resp3::types::{OwnedFrame, Resp3Frame as _};

use super::*;

fn written(protocol: Protocol, write: impl FnOnce(&mut Reply)) -> String {
    let mut reply = Reply::new(protocol);
    write(&mut reply);
    reply.bytes().escape_ascii().to_string()
}

#[test]
fn each_type_has_its_form_in_either_dialect() {
    type Write = fn(&mut Reply);
    let cases: &[(Write, &str, &str)] = &[
        (|r| r.ok(), "+OK", "+OK"),
        (|r| r.simple("PONG"), "+PONG", "+PONG"),
        (|r| r.error("ERR no"), "-ERR no", "-ERR no"),
        (|r| r.error("ERR a\r\nb"), "-ERR a  b", "-ERR a  b"),
        (|r| r.integer(-9), ":-9", ":-9"),
        (
            |r| r.integer(i64::MIN),
            ":-9223372036854775808",
            ":-9223372036854775808",
        ),
        (|r| r.count(10), ":10", ":10"),
        (|r| r.bulk(b""), "$0\\r\\n", "$0\\r\\n"),
        (
            |r| r.bulk(b"0123456789"),
            "$10\\r\\n0123456789",
            "$10\\r\\n0123456789",
        ),
        (|r| r.bulk_integer(-12), "$3\\r\\n-12", "$3\\r\\n-12"),
        (Reply::null, "$-1", "_"),
        (Reply::null_array, "*-1", "_"),
        (|r| r.array(11), "*11", "*11"),
        (|r| r.map(6), "*12", "%6"),
        (|r| r.set(2), "*2", "~2"),
        (|r| r.push(2), "*2", ">2"),
        (|r| r.boolean(true), ":1", "#t"),
        (|r| r.boolean(false), ":0", "#f"),
        (|r| r.double("1.5"), "$3\\r\\n1.5", ",1.5"),
        (|r| r.big_number("12"), "$2\\r\\n12", "(12"),
        (|r| r.verbatim("txt", b"a"), "$1\\r\\na", "=5\\r\\ntxt:a"),
    ];
    for (write, resp2, resp3) in cases {
        assert_eq!(written(Protocol::Resp2, write), format!("{resp2}\\r\\n"));
        assert_eq!(written(Protocol::Resp3, write), format!("{resp3}\\r\\n"));
    }
}

#[test]
fn a_header_may_be_put_in_after_its_elements() {
    let shown = written(Protocol::Resp2, |reply| {
        reply.ok();
        let place = reply.deferred();
        (0..12).for_each(|number| reply.integer(number % 2));
        reply.finish_array(place, 12);
    });
    assert!(
        shown.starts_with("+OK\\r\\n*12\\r\\n:0\\r\\n:1\\r\\n"),
        "{shown}"
    );
}

#[test]
fn memory_of_a_long_reply_is_given_back() {
    let mut reply = Reply::new(Protocol::Resp2);
    reply.bulk(&[0; 1 << 20]);
    assert!(reply.heap_bytes() > 1 << 20);
    reply.clear();
    assert!(reply.is_empty() && reply.heap_bytes() <= 64 * 1024);
}

proptest! {
    #[test]
    fn redis_protocol_reads_what_was_written(
        bulk in proptest::collection::vec(any::<u8>(), 0..300), number in any::<i64>(),
    ) {
        let mut reply = Reply::new(Protocol::Resp3);
        reply.array(3);
        reply.bulk(&bulk);
        reply.integer(number);
        reply.map(0);
        let (frame, len) = decode(reply.bytes()).expect("valid").expect("complete");
        prop_assert_eq!(len, reply.len());
        let OwnedFrame::Array { data, .. } = frame else { panic!("an array") };
        prop_assert_eq!(data[0].as_bytes(), Some(&bulk[..]));
        let OwnedFrame::Number { data: read, .. } = data[1] else { panic!("a number") };
        prop_assert_eq!(read, number);
    }
}
