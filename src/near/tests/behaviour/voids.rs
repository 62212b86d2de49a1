//! What makes copies and flights void, and what is served of them afterwards.

use super::*;

const V: &[u8] = b"+v\r\n";

#[test]
fn a_voided_key_is_gone_in_all_databases_and_not_even_stale() {
    for why in [Why::Push, Why::WriteStart, Why::WriteEnd, Why::Request] {
        let room = Fixture::new();
        room.fill(b"k", V);
        assert_eq!(room.fill_line(3, b"k", GET, V, Ttl::None), Fill::Stored);
        room.fill(b"other", V);
        let voided = Voided {
            copies: 2,
            flights: 0,
        };
        assert_eq!(room.void(b"k", why), voided);
        assert_eq!(room.get(b"k"), Err(Miss::Invalidated));
        assert!(room.get_line(3, b"k", GET).is_err());
        assert_eq!(room.get_stale(b"k"), None);
        assert!(room.get(b"other").is_ok());
    }
}

#[test]
fn a_read_that_was_voided_on_its_way_answers_its_waiters_and_is_not_stored() {
    let room = Fixture::new();
    let token = room.lead(b"k");
    assert_eq!(room.enter(b"k", 1), Entered::Joined);
    assert_eq!(room.void(b"k", Why::Push).flights, 1);
    let finished = room
        .near
        .finish(&room.store, token, V, Ttl::None, room.now());
    assert_eq!(
        (finished.waiters, finished.fill),
        (smallvec::smallvec![0, 1], Fill::Raced)
    );
    assert_eq!(room.get(b"k"), Err(Miss::RaceDiscarded));
    assert_eq!(room.stats().race_discards, 1);
}

#[test]
fn who_comes_after_a_void_begins_anew() {
    let room = Fixture::new();
    let old = room.lead(b"k");
    room.void(b"k", Why::WriteEnd);
    let Entered::Leads(new) = room.enter(b"k", 1) else {
        unreachable!("the flight before is void")
    };
    assert_eq!(room.finish(new, b"+new\r\n", Ttl::None), Fill::Stored);
    assert_eq!(room.get(b"k"), Ok(b"+new\r\n".to_vec()));
    assert_eq!(room.finish(old, b"+new\r\n", Ttl::None), Fill::Raced);
    assert!(
        room.get(b"k").is_ok(),
        "the late reply does not contradict it"
    );
}

#[test]
fn a_flush_voids_all_copies_and_flights_at_once() {
    let room = Fixture::new();
    for key in 0..2000u32 {
        room.fill(&key.to_le_bytes(), V);
    }
    let token = room.lead(b"k");
    room.near.void_all(&room.store, room.now());
    let flushed = || {
        let misses = (0..2000u32).map(|key| room.get(&key.to_le_bytes()).unwrap_err());
        misses.filter(|&miss| miss == Miss::Flushed).count()
    };
    // But for those whose place among the ghosts another key has taken.
    assert!(flushed() > 1800);
    assert!((0..2000u32).all(|key| room.get_stale(&key.to_le_bytes()).is_none()));
    let Entered::Leads(new) = room.enter(b"k", 1) else {
        unreachable!("the flight before is void")
    };
    assert_eq!(room.finish(token, V, Ttl::None), Fill::Raced);
    assert_eq!(room.finish(new, V, Ttl::None), Fill::Stored);
    assert!(
        room.stats().entries > 1000,
        "memory is given back behind it"
    );
    while !room.near.reclaim(&room.store, room.now()) {}
    assert_eq!(
        room.stats().entries,
        1,
        "what was stored since is still there"
    );
    assert!(room.get(b"k").is_ok());
    assert!(flushed() > 1800);
}

#[test]
fn what_was_read_over_a_lost_channel_is_stale_at_once() {
    for lost in [slot(), Slot::TRACKER] {
        let room = Fixture::new();
        room.fill(b"k", V);
        let token = room.lead(b"flying");
        room.near.channels.lose(lost);
        assert_eq!(room.get(b"k"), Err(Miss::Flushed));
        assert_eq!(room.get_stale(b"k"), Some((0, V.to_vec())));
        assert!(matches!(room.enter(b"flying", 1), Entered::Leads(_)));
        room.hear();
        assert_eq!(
            room.get(b"k"),
            Err(Miss::Flushed),
            "it stays so when the channel is back"
        );
        assert_eq!(room.finish(token, V, Ttl::None), Fill::Raced);
        room.wait(BOUND_MS + STALE_MS - 1);
        assert_eq!(room.get_stale(b"k"), Some((STALE_MS - 1, V.to_vec())));
        room.wait(1);
        assert_eq!(room.get_stale(b"k"), None);
    }
}

#[test]
fn what_was_read_over_another_channel_is_not_touched_by_a_loss() {
    let room = Fixture::new();
    room.fill(b"k", V);
    room.near.channels.lose(Slot::new(2).unwrap());
    assert!(room.get(b"k").is_ok());
}

#[test]
fn stale_copies_remember_which_of_many_losses_was_theirs() {
    let room = Fixture::new();
    room.near
        .settings
        .stale_ms
        .store(NEAR_TTL_MS, Ordering::Relaxed);
    room.fill(b"k", V);
    for loss in 0..LOSSES_KNOWN as u64 {
        room.near.channels.lose(slot());
        assert_eq!(
            room.get_stale(b"k").unwrap().0,
            (loss * 1000).saturating_sub(BOUND_MS)
        );
        room.wait(1000);
    }
    room.near.channels.lose(slot());
    assert_eq!(room.get_stale(b"k"), None, "nobody knows any more");
}

#[test]
fn hits_stop_while_a_channel_is_silent_and_go_on_when_it_is_heard_again() {
    for heard in [slot(), Slot::TRACKER] {
        let room = Fixture::new();
        room.fill(b"k", V);
        room.wait_in_silence(BOUND_MS - 1);
        assert!(room.get(b"k").is_ok());
        room.wait_in_silence(1);
        assert_eq!(room.get(b"k"), Err(Miss::Incoherent));
        assert_eq!(room.get_stale(b"k"), Some((0, V.to_vec())));
        room.near.channels.heard(heard, u64::MAX);
        assert_eq!(
            room.get(b"k"),
            Err(Miss::Incoherent),
            "the other is silent yet"
        );
        room.hear();
        assert!(room.get(b"k").is_ok());
    }
}

#[test]
fn a_read_that_began_or_ended_in_silence_is_not_stored() {
    let room = Fixture::new();
    room.wait_in_silence(BOUND_MS);
    // It may have reached upstream before that tracked for us again.
    let began = room.lead(b"k");
    assert!(
        matches!(room.enter(b"k", 1), Entered::Leads(_)),
        "nor may it be joined"
    );
    room.hear();
    assert_eq!(room.finish(began, V, Ttl::None), Fill::Unguarded);
    let ended = room.lead(b"k");
    room.wait_in_silence(BOUND_MS);
    assert_eq!(room.finish(ended, V, Ttl::None), Fill::Raced);
    assert!(room.get(b"k").is_err());
}

#[test]
fn a_word_of_a_connection_that_is_gone_does_not_make_its_channel_fresh() {
    let channels = Channels::new();
    let generation = channels.generation(slot());
    assert!(channels.heard_in(slot(), generation, 100));
    channels.lose(slot());
    assert!(!channels.heard_in(slot(), generation, 200));
    assert_eq!(channels.fresh_until(slot()), 0);
    channels.heard(slot(), 300);
    channels.heard(slot(), 200);
    assert_eq!(channels.fresh_until(slot()), 300, "it never moves back");
}

#[test]
fn an_expired_copy_is_stale_for_as_long_as_the_settings_say() {
    let room = Fixture::new();
    assert_eq!(
        room.fill_line(0, b"k", GET, V, Ttl::Millis(100)),
        Fill::Stored
    );
    assert_eq!(room.get_stale(b"k"), Some((0, V.to_vec())));
    room.wait(100 + STALE_MS - 1);
    assert_eq!(room.get_stale(b"k"), Some((STALE_MS - 1, V.to_vec())));
    room.near.settings.stale_ms.store(500, Ordering::Relaxed);
    assert_eq!(room.get_stale(b"k"), None, "at once");
    room.near
        .settings
        .stale_ms
        .store(STALE_MS, Ordering::Relaxed);
    room.wait(1);
    assert_eq!(room.get_stale(b"k"), None);
    assert_eq!(room.stats().entries, 0);
    assert_eq!(room.stats().stale_hits, 2);
}

#[test]
fn a_step_of_the_wall_clock_lengthens_no_life() {
    let room = Fixture::new();
    assert_eq!(
        room.fill_line(0, b"k", GET, V, Ttl::Millis(100)),
        Fill::Stored
    );
    room.wait(100);
    room.now.set(Now {
        unix_ms: START.unix_ms - 3_600_000,
        ..room.now()
    });
    assert_eq!(room.get(b"k"), Err(Miss::Expired));
}
