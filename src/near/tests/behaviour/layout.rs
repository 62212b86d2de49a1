//! Many copies of one key, and many flights: the limits.

use super::*;

fn line(arguments: &[u8]) -> Line<'_> {
    Line { id: 3, arguments }
}

#[test]
fn a_key_keeps_its_newest_variants_up_to_their_number() {
    let room = Fixture::new();
    let fill = |number: usize| {
        let (arguments, reply) = (number.to_le_bytes(), format!("+{number}\r\n"));
        room.fill_line(0, b"k", line(&arguments), reply.as_bytes(), Ttl::None)
    };
    for number in 0..VARIANTS_MAX {
        assert_eq!(fill(number), Fill::Stored);
    }
    assert!(
        room.get_line(0, b"k", line(&0usize.to_le_bytes())).is_ok(),
        "all of them fit"
    );
    assert_eq!(fill(VARIANTS_MAX), Fill::Stored);
    assert_eq!(
        room.get_line(0, b"k", line(&0usize.to_le_bytes())),
        Err(Miss::Variant)
    );
    for number in 1..=VARIANTS_MAX {
        let reply = format!("+{number}\r\n").into_bytes();
        assert_eq!(
            room.get_line(0, b"k", line(&number.to_le_bytes())),
            Ok(reply)
        );
    }
}

#[test]
fn a_key_keeps_its_newest_variants_up_to_their_bytes() {
    let room = Fixture::new();
    room.near
        .settings
        .value_bytes_max
        .store(usize::MAX, Ordering::Relaxed);
    let reply = vec![b'+'; KEY_BYTES_MAX / 2 - 100];
    for arguments in [b"a", b"b", b"c"] {
        let fill = room.fill_line(0, b"k", line(arguments), &reply, Ttl::None);
        assert_eq!(fill, Fill::Stored);
    }
    assert!(room.get_line(0, b"k", line(b"a")).is_err());
    assert!(room.get_line(0, b"k", line(b"b")).is_ok());
    let reply = vec![b'+'; KEY_BYTES_MAX * 2];
    assert_eq!(
        room.fill_line(0, b"k", line(b"d"), &reply, Ttl::None),
        Fill::Stored
    );
    assert!(
        room.get_line(0, b"k", line(b"d")).is_ok(),
        "one alone may be longer"
    );
    assert!(room.get_line(0, b"k", line(b"c")).is_err());
}

#[test]
fn variants_that_are_of_no_use_any_more_do_not_stay() {
    let room = Fixture::new();
    let fill = |arguments, ms| room.fill_line(0, b"k", line(arguments), b"+v\r\n", Ttl::Millis(ms));
    let count = || {
        room.near
            .explain(&room.store, room.place(0, b"k"), room.now())
            .variants
            .len()
    };
    assert_eq!(fill(b"short", 100), Fill::Stored);
    assert_eq!(fill(b"long", 10_000), Fill::Stored);
    room.wait(100 + STALE_MS);
    assert_eq!(count(), 2);
    assert_eq!(fill(b"new", 100), Fill::Stored);
    assert_eq!(count(), 2, "the short one is not even stale");
}

#[test]
fn arguments_at_the_limit_are_kept_and_longer_ones_are_not() {
    let room = Fixture::new();
    let arguments = vec![b'x'; ARGUMENTS_BYTES_MAX + 1];
    let fill = |len: usize| room.fill_line(0, b"k", line(&arguments[..len]), b"+v\r\n", Ttl::None);
    assert_eq!(fill(ARGUMENTS_BYTES_MAX), Fill::Stored);
    assert_eq!(fill(ARGUMENTS_BYTES_MAX + 1), Fill::Unguarded);
}

#[test]
fn flights_beyond_the_limit_of_a_key_are_answered_and_not_stored() {
    let room = Fixture::new();
    let lead = |number: usize| room.lead_line(0, b"k", line(&number.to_le_bytes()));
    let tokens: Vec<_> = (0..FLIGHTS_PER_KEY_MAX).map(lead).collect();
    let beyond = lead(FLIGHTS_PER_KEY_MAX);
    let finished = room
        .near
        .finish(&room.store, beyond, b"+v\r\n", Ttl::None, room.now());
    assert_eq!(
        (finished.waiters, finished.fill),
        (smallvec::smallvec![0], Fill::Unguarded)
    );
    for token in tokens {
        assert_eq!(room.finish(token, b"+v\r\n", Ttl::None), Fill::Stored);
    }
    let after = lead(0);
    assert_eq!(
        room.finish(after, b"+v\r\n", Ttl::None),
        Fill::Stored,
        "there is room again"
    );
}

#[test]
fn flights_beyond_the_limit_of_a_stripe_are_answered_and_not_stored() {
    let mut room = Fixture::new();
    room.near = new_near(1);
    room.hear();
    let lead = |number: usize| room.lead(&number.to_le_bytes());
    let mut tokens: Vec<_> = (0..FLIGHTS_PER_STRIPE_MAX).map(lead).collect();
    assert_eq!(
        room.finish(lead(usize::MAX), b"+v\r\n", Ttl::None),
        Fill::Unguarded
    );
    assert_eq!(room.void(&0usize.to_le_bytes(), Why::Push).flights, 1);
    let again = lead(0);
    assert_eq!(
        room.finish(again, b"+v\r\n", Ttl::None),
        Fill::Stored,
        "a void one has left"
    );
    assert_eq!(room.stats().flights, FLIGHTS_PER_STRIPE_MAX);
    let last = tokens.pop().unwrap();
    assert_eq!(room.finish(last, b"+v\r\n", Ttl::None), Fill::Stored);
    for token in tokens {
        assert_eq!(room.near.fail(token).as_slice(), [0]);
    }
    assert_eq!(room.stats().flights, 0);
}

#[test]
fn a_flight_takes_so_many_waiters_and_then_another_begins() {
    let room = Fixture::new();
    let token = room.lead(b"k");
    for waiter in 1..WAITERS_MAX {
        assert_eq!(
            room.enter(b"k", u32::try_from(waiter).unwrap()),
            Entered::Joined
        );
    }
    let Entered::Leads(second) = room.enter(b"k", 0) else {
        unreachable!("the first is full")
    };
    assert_eq!(room.enter(b"k", 1), Entered::Joined);
    assert_eq!(room.near.fail(token).len(), WAITERS_MAX);
    assert_eq!(room.near.fail(second).as_slice(), [0, 1]);
}
