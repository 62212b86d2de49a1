//! Why a read missed, and what is counted and told.

use super::*;

const V: &[u8] = b"+v\r\n";

#[test]
fn a_miss_tells_its_cause_and_is_counted_by_it() {
    let room = Fixture::new();
    let other = Line {
        id: 9,
        arguments: b"x",
    };
    assert_eq!(room.get(b"k"), Err(Miss::Cold));
    room.fill(b"k", V);
    assert_eq!(room.get_line(0, b"k", other), Err(Miss::Variant));
    room.wait_in_silence(BOUND_MS);
    assert_eq!(room.get(b"k"), Err(Miss::Incoherent));
    room.hear();
    room.void(b"k", Why::Push);
    assert_eq!(room.get(b"k"), Err(Miss::Invalidated));
    let token = room.lead(b"k");
    room.void(b"k", Why::Push);
    room.void(b"nobody", Why::Push);
    assert_eq!(room.finish(token, V, Ttl::None), Fill::Raced);
    assert_eq!(room.get(b"k"), Err(Miss::RaceDiscarded));
    assert_eq!(
        room.fill_line(0, b"k", GET, V, Ttl::Millis(100)),
        Fill::Stored
    );
    assert!(room.get(b"k").is_ok());
    room.wait(200);
    assert_eq!(room.get(b"k"), Err(Miss::Expired));
    room.wait(STALE_MS);
    assert_eq!(
        room.get(b"k"),
        Err(Miss::Expired),
        "also when the item is gone"
    );
    room.fill(b"k", V);
    room.near.void_all(&room.store, room.now());
    assert_eq!(room.get(b"k"), Err(Miss::Flushed));
    let expected = Stats {
        hits: 1,
        misses_cold: 1,
        misses_variant: 1,
        misses_incoherent: 1,
        misses_invalidated: 1,
        misses_race_discarded: 1,
        misses_expired: 2,
        misses_flushed: 1,
        fills: 3,
        // Of the one that had expired.
        second_reads: 1,
        race_discards: 1,
        invalidations: 3,
        invalidations_effective: 2,
        flushes: 1,
        entries: room.stats().entries,
        bytes: room.stats().bytes,
        ..Stats::default()
    };
    assert_eq!(room.stats(), expected);
}

#[test]
fn a_copy_that_had_to_go_for_memory_was_evicted() {
    let mut room = Fixture::new();
    room.store = new_store(4, Some(20_000));
    for key in 0..1000u32 {
        room.fill(&key.to_le_bytes(), V);
    }
    let evicted = (0..1000u32).filter(|key| room.get(&key.to_le_bytes()) == Err(Miss::Evicted));
    assert!(evicted.count() > 500);
    assert!(room.stats().bytes <= 20_000);
}

#[test]
fn every_thread_counts_and_none_is_lost() {
    let room = Fixture::new();
    room.fill(b"k", V);
    let (near, store, now) = (&room.near, &room.store, room.now());
    std::thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(move || {
                let key = store.key(b"k");
                let mut reply = Vec::new();
                for _ in 0..50 {
                    assert!(
                        near.get(store, Place { db: 0, key }, GET, now, &mut reply)
                            .is_ok()
                    );
                }
            });
        }
    });
    assert_eq!(room.stats().hits, 5000);
}

#[test]
fn explaining_tells_what_is_there_and_leaves_no_trace() {
    let room = Fixture::new();
    let explain = |key| {
        room.near
            .explain(&room.store, room.place(0, key), room.now())
    };
    assert_eq!(explain(b"k").otherwise, Miss::Cold);
    room.fill(b"k", V);
    let other = Line {
        id: 9,
        arguments: b"x",
    };
    assert_eq!(
        room.fill_line(0, b"k", other, b":12\r\n", Ttl::Millis(500)),
        Fill::Stored
    );
    room.wait(200);
    let token = room.lead(b"k");
    let copy = ExplainedVariant {
        line_id: 9,
        arguments: b"x".to_vec(),
        reply_bytes: 5,
        age_ms: 200,
        expires_in_ms: 300,
        slot: slot(),
        verdict: Ok(()),
        is_stale_candidate: true,
    };
    let get = ExplainedVariant {
        line_id: 1,
        arguments: Vec::new(),
        reply_bytes: 4,
        expires_in_ms: NEAR_TTL_MS - 200,
        ..copy
    };
    let expected = Explained {
        variants: vec![copy, get],
        otherwise: Miss::Variant,
        flights: 1,
        is_passed_over: false,
    };
    assert_eq!(explain(b"k"), expected);
    assert_eq!(room.near.fail(token).as_slice(), [0]);
    room.near.channels.lose(slot());
    assert_eq!(explain(b"k").variants[0].verdict, Err(Miss::Flushed));
    assert_eq!((room.stats().hits, room.stats().misses_cold), (0, 0));
}
