//! What is stored at once, and what when it is read again.

use super::*;
use crate::near::admission::READS_MIN;

impl Fixture {
    /// A room that stores only what is read for the second time.
    fn picky() -> Self {
        let room = Self::new();
        room.near.admission.set_picky(true);
        room
    }

    /// A read by somebody, and what becomes of its reply if it is no hit.
    fn read(&self, key: &[u8]) -> Option<Fill> {
        if self.get(key).is_ok() {
            return None;
        }
        let Entered::Leads(token) = self.enter(key, 0) else {
            unreachable!("nobody else reads")
        };
        let ttl = if token.is_kept() {
            Ttl::None
        } else {
            Ttl::Unknown
        };
        Some(self.finish(token, b"+v\r\n", ttl))
    }

    /// So many reads of keys that are chosen by a number of a series, judged now and then. How many
    /// of them were hits.
    fn read_many(&self, reads: u64, mut key: impl FnMut(u64) -> u64) -> u64 {
        let before = self.stats().hits;
        for number in 0..reads {
            self.read(&key(number).to_le_bytes());
            if number % 1000 == 999 {
                self.near.adapt();
                self.hear();
            }
        }
        self.stats().hits - before
    }

    fn is_picky(&self) -> bool {
        self.stats().is_picky
    }
}

/// A series that looks random.
fn scattered(number: u64) -> u64 {
    let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 31).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ mixed >> 29
}

/// Reads after which it must be known what a workload is like.
const SOON: u64 = 4 * READS_MIN;

#[test]
fn what_is_read_for_the_first_time_is_stored() {
    let room = Fixture::new();
    assert_eq!(room.read(b"k"), Some(Fill::Stored));
    assert_eq!(room.read(b"k"), None);
    assert_eq!(room.stats().passed_over, 0);
}

#[test]
fn when_copies_are_hardly_ever_read_again_the_second_read_is_stored() {
    let room = Fixture::new();
    room.read_many(SOON, |number| number);
    assert!(room.is_picky());
    // Some are taken for keys that were read.
    let is_new = |key: &[u8; 1]| !room.near.admission.is_noted(room.store.hash(key));
    let key = (0..=u8::MAX).map(|byte| [byte]).find(is_new);
    let key = key.expect("most are not");
    assert_eq!(room.read(&key), Some(Fill::PassedOver));
    assert_eq!(room.read(&key), Some(Fill::Stored));
    assert_eq!(room.read(&key), None);
    let stats = room.stats();
    assert!(stats.passed_over > SOON / 2, "{stats:?}");
}

#[test]
fn when_copies_are_read_again_everything_is_stored_at_once_as_before() {
    let room = Fixture::new();
    room.read_many(SOON, |number| number);
    assert!(room.is_picky());
    room.read_many(SOON, |number| u64::MAX - scattered(number) % 1000);
    assert!(!room.is_picky());
    assert_eq!(room.read(b"k"), Some(Fill::Stored));
}

#[test]
fn few_reads_say_nothing() {
    let room = Fixture::new();
    room.read_many(READS_MIN - 96, |number| number);
    room.near.adapt();
    assert!(!room.is_picky());
}

#[test]
fn a_herd_costs_two_reads() {
    let room = Fixture::picky();
    let Entered::Leads(first) = room.enter(b"k", 1) else {
        unreachable!("nobody else reads")
    };
    assert!(!first.is_kept());
    // How long its value lives is not known: it may have expired before these ask.
    let Entered::Leads(second) = room.enter(b"k", 2) else {
        panic!("joined a read that is not stored")
    };
    assert!(second.is_kept());
    for waiter in 3..100 {
        assert_eq!(room.enter(b"k", waiter), Entered::Joined);
    }
    assert_eq!(
        room.finish(first, b"+v\r\n", Ttl::Unknown),
        Fill::PassedOver
    );
    assert_eq!(room.finish(second, b"+v\r\n", Ttl::None), Fill::Stored);
    assert!(room.get(b"k").is_ok());
}

#[test]
fn an_answer_that_is_not_stored_is_followed_by_no_older_one() {
    // The other read is answered after it.
    let room = Fixture::picky();
    let (first, second) = (room.lead(b"k"), room.lead(b"k"));
    room.finish(first, b"+new\r\n", Ttl::Unknown);
    assert_eq!(room.finish(second, b"+old\r\n", Ttl::None), Fill::Raced);
    assert!(room.get(b"k").is_err());
    // And before it.
    let room = Fixture::picky();
    let (first, second) = (room.lead(b"k"), room.lead(b"k"));
    assert_eq!(room.finish(second, b"+old\r\n", Ttl::None), Fill::Stored);
    room.finish(first, b"+new\r\n", Ttl::Unknown);
    assert!(room.get(b"k").is_err());
}

#[test]
fn nobody_waits_for_a_fence_because_of_a_read_that_is_not_stored() {
    let room = Fixture::picky();
    let other = Line {
        id: 2,
        arguments: b"",
    };
    let first = room.lead_line(0, b"k", other);
    let second = room.lead(b"k");
    let fill = room.try_finish(second, b"+v\r\n").map_err(drop);
    assert_eq!(fill, Ok(Fill::Stored));
    // But who is answered by that one does because of the copy there is now.
    assert!(room.try_finish(first, b":1\r\n").is_err());
}

#[test]
fn a_key_that_was_voided_is_read_for_the_first_time_again() {
    for (why, fill) in [
        (Why::Push, Fill::PassedOver),
        (Why::WriteStart, Fill::PassedOver),
        (Why::Request, Fill::PassedOver),
        // Whoever read it during the write has read it.
        (Why::WriteEnd, Fill::Stored),
    ] {
        let room = Fixture::picky();
        assert_eq!(room.read(b"k"), Some(Fill::PassedOver));
        room.void(b"k", why);
        assert_eq!(room.read(b"k"), Some(fill), "{why:?}");
    }
}

#[test]
fn keys_that_change_before_they_are_read_again_are_not_stored() {
    let room = Fixture::new();
    for number in 0..2 * SOON {
        let key = (number % 100).to_le_bytes();
        room.read(&key);
        room.void(&key, Why::Push);
        if number % 1000 == 999 {
            room.near.adapt();
        }
    }
    assert!(room.is_picky());
    let fills = room.stats().fills;
    assert!(fills < SOON, "{fills} of {} reads", 2 * SOON);
}

#[test]
fn a_cache_of_more_keys_than_can_be_noted_fills_up_all_the_same() {
    let room = Fixture::new();
    let keys = 40_000;
    let is_noted = |key: u64| {
        let hash = room.store.hash(&key.to_le_bytes());
        room.near.admission.is_noted(hash)
    };
    // It seems to be of no use at first.
    room.read_many(SOON, |number| keys + number);
    assert!(room.is_picky());
    room.read_many(8 * keys, |number| scattered(number) % keys);
    let hits = room.read_many(keys, |number| scattered(!number) % keys);
    assert!(hits > keys * 9 / 10, "{hits} hits of {keys} reads");
    let noted = (0..keys).filter(|key| is_noted(*key)).count();
    assert!(noted < 20_000, "all of {noted} fit");
}
