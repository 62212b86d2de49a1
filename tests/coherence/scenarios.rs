//! The scenarios: corral under one kind of fault each, and the promises that must hold.

use std::time::Duration;

use corral::clock;

use super::bed::{Network, Setup, duration, run, seed};
use super::faults::Faults;
use super::load::Traffic;
use super::relay::{Link, Way};
use super::servers::PATIENCE;
use super::upstream::Topology;

/// Runs it; nothing may be found.
#[track_caller]
fn holds(setup: &Setup, go_wrong: fn(&mut Faults<'_>)) {
    let report = run(setup, seed(), duration(), go_wrong);
    assert!(report.is_clean(), "{}: {report}", setup.name);
}

/// A setup whose keys may vanish.
fn losing_keys(name: &'static str) -> Setup {
    let mut setup = Setup::new(name);
    setup.traffic.keeps_keys = false;
    setup
}

/// A setup of a Cluster.
fn clustered(name: &'static str) -> Setup {
    let mut setup = Setup {
        topology: Topology::Cluster,
        ..Setup::new(name)
    };
    setup.traffic.is_clustered = true;
    setup
}

/// A setup with relays between the fronts and Redis.
fn relayed(name: &'static str) -> Setup {
    Setup {
        network: Network::Relayed(|_| {}),
        ..Setup::new(name)
    }
}

/// Nothing goes wrong.
pub(crate) fn nothing(faults: &mut Faults<'_>) {
    while faults.goes_on() {
        faults.wait(100..200);
    }
}

/// Connections to Redis are killed there.
pub(crate) fn killed(faults: &mut Faults<'_>) {
    while faults.goes_on() {
        faults.wait(50..400);
        faults.kill_connections();
    }
}

/// Connections are silent though open, for shorter and longer than the bound.
pub(crate) fn half_open(faults: &mut Faults<'_>) {
    while faults.goes_on() {
        faults.wait(50..300);
        faults.hold(50..900);
    }
}

/// What Redis sends comes late, pushes and replies alike.
pub(crate) fn late(faults: &mut Faults<'_>) {
    while faults.goes_on() {
        faults.wait(50..150);
        if faults.random_choice(2) == 0 {
            faults.delay(&[Way::ToFront], 20..450, 700..1200);
        } else {
            faults.delay_oldest(Way::ToFront, 300..450, 700..1200);
        }
    }
}

/// Databases are emptied.
pub(crate) fn flushes(faults: &mut Faults<'_>) {
    while faults.goes_on() {
        faults.wait(50..300);
        match faults.random_choice(4) {
            0 => faults.empty("FLUSHALL", None),
            1 => faults.empty("FLUSHALL ASYNC", None),
            2 => faults.empty("FLUSHDB", Some(0)),
            _ => drop(faults.tell_in(7, "FLUSHDB")),
        }
    }
}

/// Database 0 is swapped for an empty one, each time another.
pub(crate) fn swaps(faults: &mut Faults<'_>) {
    for empty in 10..512 {
        faults.wait(300..500);
        if !faults.goes_on() {
            break;
        }
        faults.empty_through_front(&format!("SWAPDB 0 {empty}"), Some(0));
    }
    nothing(faults);
}

/// Keys are read that nobody has read, until a front keeps only what is read for the second time,
/// and upstream tracks but that; then none are, until all is kept and tracked again.
pub(crate) fn scans(faults: &mut Faults<'_>) {
    let since = clock::now();
    let mut changes = 0;
    // Once at least, however slow the machine.
    let goes_on = |faults: &Faults<'_>, changes| {
        faults.goes_on() || (changes == 0 && since.elapsed() < PATIENCE)
    };
    while goes_on(faults, changes) {
        let was_picky = faults.is_picky();
        while goes_on(faults, changes) && faults.is_picky() == was_picky {
            if was_picky {
                faults.wait(5..10);
            } else {
                faults.scan();
            }
        }
        changes += u32::from(faults.is_picky() != was_picky);
        faults.wait(0..100);
    }
    assert!(changes > 0, "nothing changes by so few reads");
    println!("what is kept and tracked has changed {changes} times");
}

#[test]
fn the_promises_hold_when_nothing_goes_wrong() {
    let setup = Setup {
        is_calm: true,
        ..Setup::new("quiet")
    };
    holds(&setup, nothing);
}

#[test]
fn the_promises_hold_however_much_upstream_tracks() {
    let setup = Setup {
        is_calm: true,
        ..Setup::new("scans")
    };
    holds(&setup, scans);
}

#[test]
fn the_promises_hold_when_connections_are_killed() {
    holds(&Setup::new("killed connections"), killed);
}

#[test]
fn the_promises_hold_when_redis_freezes() {
    holds(&Setup::new("frozen upstream"), |faults| {
        while faults.goes_on() {
            faults.wait(100..400);
            faults.freeze(50..200);
            faults.wait(100..400);
            faults.freeze(300..800);
        }
    });
}

#[test]
fn the_promises_hold_when_redis_is_killed_and_starts_empty() {
    holds(&losing_keys("restarted upstream"), |faults| {
        while faults.goes_on() {
            faults.wait(400..900);
            faults.restart(0..400);
        }
    });
}

#[test]
fn the_promises_hold_when_connections_are_half_open() {
    holds(&relayed("half-open connections"), half_open);
}

#[test]
fn the_promises_hold_when_connections_are_cut() {
    holds(&relayed("cut connections"), |faults| {
        while faults.goes_on() {
            faults.wait(20..300);
            faults.cut();
        }
    });
}

#[test]
fn the_promises_hold_when_pushes_are_late() {
    holds(&relayed("late pushes"), late);
}

#[test]
fn the_promises_hold_when_each_connection_has_its_own_delay() {
    let setup = Setup {
        network: Network::Relayed(own_delay),
        readers: 6,
        ..Setup::new("own delays")
    };
    holds(&setup, |faults| {
        while faults.goes_on() {
            faults.wait(100..400);
            faults.delay(&[Way::ToServer, Way::ToFront], 0..60, 100..400);
        }
    });
}

/// Each direction of a new connection is quick or takes up to 30 ms.
pub(crate) fn own_delay(link: &Link) {
    for way in [Way::ToServer, Way::ToFront] {
        let max_ms = if rand::random() { 1.0 } else { 30.0 };
        let ms: f64 = rand::random_range(0.0..max_ms);
        link.delay(way, Duration::from_secs_f64(ms / 1000.0));
    }
}

#[test]
fn the_promises_hold_when_databases_are_flushed() {
    let setup = Setup {
        is_calm: true,
        ..losing_keys("flushes")
    };
    holds(&setup, flushes);
}

#[test]
fn the_promises_hold_when_databases_are_swapped_through_the_front() {
    let setup = Setup {
        fronts: 1,
        is_calm: true,
        ..losing_keys("swapped databases")
    };
    holds(&setup, swaps);
}

#[test]
fn the_promises_hold_when_a_sentinel_chooses_another_master() {
    let setup = Setup {
        topology: Topology::Group,
        ..Setup::new("failover")
    };
    holds(&setup, |faults| {
        faults.wait(300..600);
        loop {
            faults.fail_over();
            // It has to be noticed, and what was read before it would be outdated by then.
            faults.settle();
            if !faults.goes_on() {
                break;
            }
        }
    });
}

#[test]
fn the_promises_hold_when_slots_of_a_cluster_move() {
    holds(&clustered("moving slots"), |faults| {
        while faults.goes_on() {
            faults.wait(50..200);
            faults.move_slot(0..10);
        }
    });
}

#[test]
fn the_promises_hold_when_masters_of_a_cluster_change() {
    holds(&clustered("promoted replicas"), |faults| {
        loop {
            faults.wait(200..600);
            faults.promote();
            faults.settle();
            if !faults.goes_on() {
                break;
            }
        }
    });
}

#[test]
fn the_promises_hold_in_many_databases() {
    let mut setup = Setup::new("many databases");
    setup.traffic.dbs = 3;
    setup.is_calm = true;
    holds(&setup, nothing);
}

#[test]
fn the_promises_hold_when_redis_evicts() {
    let setup = Setup {
        upstream: &[
            "--maxmemory",
            "8mb",
            "--maxmemory-policy",
            "allkeys-lru",
            "--tracking-table-max-keys",
            "20",
        ],
        evicts: true,
        ..losing_keys("evictions upstream")
    };
    holds(&setup, |faults| {
        let filler = "x".repeat(50_000);
        while faults.goes_on() {
            for number in 0..50 {
                faults.tell(&format!("SET filler:{number} {filler}"));
                faults.wait(1..4);
            }
            for number in 50..300 {
                faults.tell(&format!("SET filler:{number} {filler}"));
            }
        }
    });
}

#[test]
fn the_promises_hold_when_the_front_evicts() {
    let setup = Setup {
        front: &[
            "--maxmemory",
            "1mb",
            "--maxmemory-policy",
            "allkeys-tinylfu",
        ],
        traffic: Traffic {
            keys: 1000,
            padding: 1000,
            ..Setup::new("").traffic
        },
        is_calm: true,
        ..Setup::new("evictions in the front")
    };
    holds(&setup, nothing);
}

#[test]
fn the_promises_hold_when_everything_goes_wrong() {
    let setup = Setup {
        network: Network::Relayed(own_delay),
        ..losing_keys("everything")
    };
    holds(&setup, |faults| {
        while faults.goes_on() {
            match faults.random_choice(8) {
                0 => faults.kill_connections(),
                1 => faults.freeze(50..600),
                2 => faults.hold(50..600),
                3 => faults.delay(&[Way::ToFront], 0..500, 100..600),
                4 => faults.cut(),
                5 => faults.empty("FLUSHALL", None),
                6 => faults.restart(0..200),
                _ => (0..20).for_each(|_| faults.scan()),
            }
            faults.wait(50..300);
        }
    });
}
