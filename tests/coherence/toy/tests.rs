//! The checker's own test: it finds each wrong way of the toy, and nothing where there is none.

use std::time::Duration;

use super::Wrong;
use crate::bed::{Network, Setup, run, seed};
use crate::faults::Faults;
use crate::report::Property;
use crate::scenarios;

/// How long a round lasts, and how many there are until the fault must have shown.
const ROUND: Duration = Duration::from_secs(2);
const ROUNDS: u64 = 20;

/// The checker finds that one of these properties is broken by this toy.
#[track_caller]
fn is_found(wrong: Wrong, broken: &[Property], setup: &Setup, go_wrong: fn(&mut Faults<'_>)) {
    let seed = seed();
    let setup = Setup {
        toy: Some(wrong),
        fronts: 1,
        ..setup.clone()
    };
    let mut rounds = 0..ROUNDS;
    let is_found = rounds.any(|round| {
        let report = run(&setup, seed + round, ROUND, go_wrong);
        broken.iter().any(|property| report.has(*property))
    });
    assert!(is_found, "{wrong:?} does not show as {broken:?}");
}

fn quiet() -> Setup {
    Setup::new("toy, quiet")
}

fn own_delays() -> Setup {
    Setup {
        network: Network::Relayed(scenarios::own_delay),
        readers: 8,
        ..Setup::new("toy, own delays")
    }
}

/// So few keys that reads and writes of one meet.
fn few_keys() -> Setup {
    let mut setup = own_delays();
    setup.traffic.keys = 2;
    setup
}

fn losing_keys() -> Setup {
    let mut setup = quiet();
    setup.traffic.keeps_keys = false;
    setup
}

fn relayed() -> Setup {
    Setup {
        network: Network::Relayed(|_| {}),
        ..Setup::new("toy, relayed")
    }
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    type Scenario = (Setup, fn(&mut Faults<'_>));
    let scenarios: [Scenario; 6] = [
        (quiet(), scenarios::nothing),
        (own_delays(), scenarios::nothing),
        (losing_keys(), scenarios::flushes),
        (quiet(), scenarios::killed),
        (relayed(), scenarios::half_open),
        (relayed(), scenarios::late),
    ];
    for (setup, go_wrong) in scenarios {
        let setup = Setup {
            toy: Some(Wrong::Nothing),
            ..setup
        };
        let report = run(&setup, seed(), ROUND, go_wrong);
        assert!(report.is_clean(), "{}: {report}", setup.name);
    }
}

#[test]
fn a_fill_without_a_token_is_found() {
    // Its copy stays until the next write, which shows in whatever is read first.
    let broken = &[
        Property::ReadYourWrites,
        Property::MonotonicReads,
        Property::BoundedStaleness,
    ];
    is_found(
        Wrong::FillsWithoutToken,
        broken,
        &own_delays(),
        scenarios::nothing,
    );
}

#[test]
fn a_front_that_never_invalidates_is_found() {
    let broken = &[Property::BoundedStaleness];
    is_found(
        Wrong::NeverInvalidates,
        broken,
        &quiet(),
        scenarios::nothing,
    );
}

#[test]
fn copies_that_differ_when_all_is_quiet_are_found() {
    let broken = &[Property::Quiescence];
    is_found(
        Wrong::NeverInvalidates,
        broken,
        &quiet(),
        scenarios::nothing,
    );
}

#[test]
fn a_front_that_ignores_the_null_push_is_found() {
    let broken = &[Property::BoundedStaleness];
    is_found(
        Wrong::IgnoresNullPush,
        broken,
        &losing_keys(),
        scenarios::flushes,
    );
}

#[test]
fn a_copy_that_outlives_its_ttl_is_found() {
    is_found(
        Wrong::OutlivesTtl,
        &[Property::TtlOutlived],
        &quiet(),
        scenarios::nothing,
    );
}

#[test]
fn copies_that_survive_a_lost_tracking_connection_are_found() {
    let broken = &[Property::BoundedStaleness];
    is_found(
        Wrong::SurvivesLostTracking,
        broken,
        &quiet(),
        scenarios::killed,
    );
}

#[test]
fn trust_in_silence_is_found() {
    let broken = &[Property::BoundedStaleness];
    is_found(
        Wrong::TrustsSilence,
        broken,
        &relayed(),
        scenarios::half_open,
    );
}

#[test]
fn a_reader_that_joins_an_old_flight_is_found() {
    let broken = &[Property::ReadYourWrites];
    is_found(
        Wrong::JoinsOldFlights,
        broken,
        &few_keys(),
        scenarios::nothing,
    );
}

#[test]
fn a_write_released_before_its_pushes_is_found() {
    let broken = &[Property::ReadYourWrites];
    is_found(
        Wrong::ReleasesWritesEarly,
        broken,
        &own_delays(),
        scenarios::nothing,
    );
}

#[test]
fn a_read_released_before_older_copies_are_gone_is_found() {
    let broken = &[Property::MonotonicReads];
    is_found(
        Wrong::ReleasesReadsEarly,
        broken,
        &few_keys(),
        scenarios::nothing,
    );
}

#[test]
fn a_watched_read_from_a_copy_is_found() {
    let broken = &[Property::LostUpdate];
    is_found(
        Wrong::AnswersWatchedReads,
        broken,
        &own_delays(),
        scenarios::nothing,
    );
}

#[test]
fn a_forgotten_swapdb_is_found() {
    let broken = &[Property::ReadYourWrites];
    is_found(
        Wrong::ForgetsSwapdb,
        broken,
        &losing_keys(),
        scenarios::swaps,
    );
}

#[test]
fn mixed_databases_are_found() {
    let mut setup = quiet();
    setup.traffic.dbs = 3;
    is_found(
        Wrong::MixesDatabases,
        &[Property::InventedValue],
        &setup,
        scenarios::nothing,
    );
}

#[test]
fn a_swallowed_request_is_found() {
    is_found(
        Wrong::SwallowsRequests,
        &[Property::Hang],
        &quiet(),
        scenarios::nothing,
    );
}
