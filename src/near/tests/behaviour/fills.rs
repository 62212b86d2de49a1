//! What is stored, for how long, and what is served.

use super::*;
use crate::near::fill::OF_ABSENT_KEYS;

#[test]
fn a_reply_is_served_as_it_came() {
    let room = Fixture::new();
    assert_eq!(room.get(b"k"), Err(Miss::Cold));
    room.fill(b"k", b"$1\r\nv\r\n");
    assert_eq!(room.get(b"k"), Ok(b"$1\r\nv\r\n".to_vec()));
    assert_eq!(
        room.get_line(1, b"k", GET),
        Err(Miss::Cold),
        "another database"
    );
}

#[test]
fn a_miss_leaves_the_reply_as_it_was() {
    let room = Fixture::new();
    room.fill(b"k", b"+v\r\n");
    room.wait_in_silence(BOUND_MS);
    let mut reply = b"before".to_vec();
    for key in [&b"k"[..], b"nobody"] {
        let place = room.place(0, key);
        let got = room
            .near
            .get(&room.store, place, GET, room.now(), &mut reply);
        assert!(got.is_err());
        assert_eq!(reply, b"before");
    }
}

#[test]
fn a_copy_lives_from_when_its_read_was_sent_for_as_long_as_upstreams_value() {
    let room = Fixture::new();
    let token = room.lead(b"k");
    room.wait(40);
    assert_eq!(
        room.finish(token, b"+v\r\n", Ttl::Millis(100)),
        Fill::Stored
    );
    room.wait(59);
    assert!(room.get(b"k").is_ok());
    room.wait(1);
    assert_eq!(room.get(b"k"), Err(Miss::Expired));
}

#[test]
fn a_copy_lives_no_longer_than_the_cap() {
    for ttl in [
        Ttl::None,
        Ttl::Millis(u64::MAX),
        Ttl::Millis(NEAR_TTL_MS * 2),
    ] {
        let room = Fixture::new();
        assert_eq!(room.fill_line(0, b"k", GET, b"+v\r\n", ttl), Fill::Stored);
        room.wait(NEAR_TTL_MS - 1);
        assert!(room.get(b"k").is_ok());
        room.wait(1);
        assert_eq!(room.get(b"k"), Err(Miss::Expired));
    }
}

#[test]
fn what_is_about_to_expire_or_of_unknown_life_is_not_stored() {
    let room = Fixture::new();
    for ttl in [Ttl::Millis(0), Ttl::Unknown, Ttl::Absent] {
        assert_eq!(
            room.fill_line(0, b"k", GET, b"$1\r\nv\r\n", ttl),
            Fill::Fleeting
        );
    }
    let token = room.lead(b"k");
    room.wait(10);
    assert_eq!(
        room.finish(token, b"+v\r\n", Ttl::Millis(10)),
        Fill::Fleeting
    );
    assert!(room.get(b"k").is_err());
}

#[test]
fn with_a_cap_of_zero_nothing_is_stored() {
    let room = Fixture::new();
    room.near.settings.near_ttl_ms.store(0, Ordering::Relaxed);
    assert_eq!(
        room.fill_line(0, b"k", GET, b"+v\r\n", Ttl::None),
        Fill::Fleeting
    );
}

#[test]
fn of_absent_keys_only_what_an_absent_key_replies_is_stored() {
    let room = Fixture::new();
    for reply in OF_ABSENT_KEYS {
        assert_eq!(
            room.fill_line(0, b"k", GET, reply, Ttl::Absent),
            Fill::Stored
        );
        assert_eq!(room.get(b"k"), Ok(reply.to_vec()));
    }
    for reply in [
        &b"$0\r\n\r\n"[..],
        b":1\r\n",
        b"*1\r\n$-1\r\n",
        b"+string\r\n",
    ] {
        assert_eq!(
            room.fill_line(0, b"k", GET, reply, Ttl::Absent),
            Fill::Fleeting
        );
    }
}

#[test]
fn errors_are_not_stored_and_leave_a_copy_alone() {
    let room = Fixture::new();
    room.fill(b"k", b"+v\r\n");
    for reply in [&b"-ERR no\r\n"[..], b"!5\r\nERR x\r\n", b""] {
        assert_eq!(room.fill_line(0, b"k", GET, reply, Ttl::None), Fill::Error);
    }
    assert!(room.get(b"k").is_ok());
}

#[test]
fn a_reply_at_the_limit_is_stored_and_one_past_it_is_not() {
    let room = Fixture::new();
    let reply = vec![b'+'; VALUE_BYTES_MAX + 1];
    let fill = |len: usize| room.fill_line(0, b"k", GET, &reply[..len], Ttl::None);
    assert_eq!(fill(VALUE_BYTES_MAX), Fill::Stored);
    assert_eq!(fill(VALUE_BYTES_MAX + 1), Fill::TooLong);
    assert!(room.get(b"k").is_err(), "the last reply was not this copy");
}

#[test]
fn a_copy_that_does_not_fit_into_memory_is_not_stored() {
    let mut room = Fixture::new();
    room.store = new_store(4, Some(300));
    let reply = [b'+'; 400];
    assert_eq!(room.fill_line(0, b"k", GET, &reply, Ttl::None), Fill::Full);
    assert_eq!(room.stats().full_fills, 1);
    assert!(room.store.budget().used() <= 300);
}

#[test]
fn a_database_that_the_store_has_not_is_passed_by() {
    let room = Fixture::new();
    assert_eq!(
        room.fill_line(4, b"k", GET, b"+v\r\n", Ttl::None),
        Fill::Unguarded
    );
    assert_eq!(room.get_line(4, b"k", GET), Err(Miss::Cold));
    assert_eq!(
        room.near
            .explain(&room.store, room.place(4, b"k"), room.now())
            .variants,
        []
    );
    assert_eq!(room.void(b"k", Why::Push).copies, 0);
}

#[test]
fn lines_of_a_key_live_side_by_side_each_for_its_own_time() {
    let room = Fixture::new();
    let range = |arguments| Line { id: 2, arguments };
    let fill = |line, reply, ms| room.fill_line(0, b"k", line, reply, Ttl::Millis(ms));
    assert_eq!(fill(GET, b"+get\r\n", 100), Fill::Stored);
    assert_eq!(fill(range(b"0 1"), b"+one\r\n", 300), Fill::Stored);
    assert_eq!(fill(range(b"0 2"), b"+two\r\n", 200), Fill::Stored);
    assert_eq!(room.get(b"k"), Ok(b"+get\r\n".to_vec()));
    assert_eq!(
        room.get_line(0, b"k", range(b"0 1")),
        Ok(b"+one\r\n".to_vec())
    );
    assert_eq!(room.get_line(0, b"k", range(b"0 3")), Err(Miss::Variant));
    room.wait(150);
    assert_eq!(
        room.get(b"k"),
        Err(Miss::Expired),
        "the others do not lengthen its life"
    );
    assert_eq!(
        room.get_line(0, b"k", range(b"0 2")),
        Ok(b"+two\r\n".to_vec())
    );
    assert_eq!(room.stats().entries, 1);
}

#[test]
fn those_who_come_while_a_read_is_under_way_wait_for_it() {
    let room = Fixture::new();
    let Entered::Leads(token) = room.enter(b"k", 7) else {
        unreachable!("nobody else reads")
    };
    assert_eq!(room.enter(b"k", 8), Entered::Joined);
    assert_eq!(room.enter(b"k", 9), Entered::Joined);
    assert!(matches!(room.enter(b"other", 1), Entered::Leads(_)));
    let finished = room
        .near
        .finish(&room.store, token, b"+v\r\n", Ttl::None, room.now());
    assert_eq!(finished.waiters.as_slice(), [7, 8, 9]);
    assert_eq!(room.stats().joined, 2);
    assert!(
        matches!(room.enter(b"k", 1), Entered::Leads(_)),
        "that flight is over"
    );
}

#[test]
fn who_joined_a_read_of_a_value_that_has_expired_since_is_not_answered_by_it() {
    for (ttl, reply, is_late) in [
        (Ttl::Millis(10), &b"+v\r\n"[..], true),
        (Ttl::Millis(11), b"+v\r\n", false),
        (Ttl::Absent, b"+v\r\n", true),
        (Ttl::Absent, b"$-1\r\n", false),
        (Ttl::None, b"+v\r\n", false),
    ] {
        let room = Fixture::new();
        let Entered::Leads(token) = room.enter(b"k", 7) else {
            unreachable!("nobody else reads")
        };
        assert_eq!(room.enter(b"k", 8), Entered::Joined);
        room.wait(10);
        let finished = room.near.finish(&room.store, token, reply, ttl, room.now());
        let late = finished.late.map(|late| (late.waiters, late.key));
        if is_late {
            assert_eq!(finished.waiters.as_slice(), [7], "it asked before");
            let (waiters, key) = late.expect("somebody is late");
            assert_eq!((waiters.as_slice(), &*key), (&[8][..], &b"k"[..]));
        } else {
            assert_eq!(finished.waiters.as_slice(), [7, 8]);
            assert!(late.is_none());
        }
    }
}

#[test]
fn who_may_not_join_begins_a_read_that_others_may_join() {
    let room = Fixture::new();
    let first = room.lead(b"k");
    let place = room.place(0, b"k");
    let entered = room.near.enter(place, GET, false, slot(), room.now(), 5);
    let Entered::Leads(second) = entered else {
        unreachable!("it may not join")
    };
    assert_eq!(room.near.fail(first).as_slice(), [0]);
    assert_eq!(room.enter(b"k", 6), Entered::Joined);
    assert_eq!(room.near.fail(second).as_slice(), [5, 6]);
}

#[test]
fn a_read_that_failed_gives_its_waiters_back_and_stores_nothing() {
    let room = Fixture::new();
    let token = room.lead(b"k");
    assert_eq!(room.enter(b"k", 8), Entered::Joined);
    assert_eq!(room.near.fail(token).as_slice(), [0, 8]);
    assert!(room.get(b"k").is_err());
    assert_eq!(room.stats().flights, 0);
}

#[test]
fn once_a_reply_was_seen_no_older_one_is_stored_or_served() {
    let room = Fixture::new();
    // Two reads of one line at once; which of them upstream ran first, nobody knows.
    let (first, second) = (room.lead(b"k"), room.lead(b"k"));
    assert_eq!(room.finish(second, b"+new\r\n", Ttl::None), Fill::Stored);
    assert_eq!(room.finish(first, b"+old\r\n", Ttl::None), Fill::Raced);
    assert!(
        room.get(b"k").is_err(),
        "who saw the second reply must not see the first"
    );
    // The other way round, and a third that agrees.
    let (first, second, third) = (room.lead(b"k"), room.lead(b"k"), room.lead(b"k"));
    assert_eq!(room.finish(first, b"+one\r\n", Ttl::None), Fill::Stored);
    assert!(
        matches!(room.enter(b"k", 1), Entered::Leads(_)),
        "they began before that"
    );
    assert_eq!(room.finish(third, b"+one\r\n", Ttl::None), Fill::Stored);
    assert_eq!(room.finish(second, b"+two\r\n", Ttl::None), Fill::Raced);
    assert!(room.get(b"k").is_err());
    // The same when the reply that was seen cannot be stored.
    room.fill(b"k", b"+old\r\n");
    let long = vec![b'+'; VALUE_BYTES_MAX + 1];
    assert_eq!(
        room.fill_line(0, b"k", GET, &long, Ttl::None),
        Fill::TooLong
    );
    assert!(room.get(b"k").is_err());
}

#[test]
fn what_may_be_newer_than_another_line_is_seen_by_nobody_before_a_fence() {
    let room = Fixture::new();
    let other = Line {
        id: 2,
        arguments: b"",
    };
    let see = |line| room.get_line(0, b"k", line).ok();
    // There is a copy.
    room.fill(b"k", b"+old\r\n");
    let length = room.lead_line(0, b"k", other);
    let Err(length) = room.try_finish(length, b":3\r\n") else {
        panic!("there is a copy of another line")
    };
    assert_eq!((see(GET), see(other)), (Some(b"+old\r\n".to_vec()), None));
    // The tracker tells that it changed before.
    room.void(b"k", Why::Push);
    assert_eq!(room.finish(length, b":3\r\n", Ttl::None), Fill::Raced);
    assert_eq!((see(GET), see(other)), (None, None));
    // There is a read under way; the tracker has nothing to tell.
    let (get, length) = (room.lead(b"k"), room.lead_line(0, b"k", other));
    let Err(length) = room.try_finish(length, b":3\r\n") else {
        panic!("there is a read of another line")
    };
    assert_eq!(room.finish(length, b":3\r\n", Ttl::None), Fill::Stored);
    let Err(get) = room.try_finish(get, b"+new\r\n") else {
        panic!("there is a copy of another line")
    };
    assert_eq!(room.finish(get, b"+new\r\n", Ttl::None), Fill::Stored);
    // Of one line, and of other keys and databases, nobody waits.
    for (db, key, line) in [(0, b"k2", other), (1, b"k1", GET), (2, b"k1", other)] {
        let token = room.lead_line(db, key, line);
        let again = room.lead_line(db, key, line);
        assert!(room.try_finish(token, b"+v\r\n").is_ok());
        assert!(room.try_finish(again, b"+v\r\n").is_ok());
    }
}
