//! The judge before histories made by hand: times in ms, one key, versions 1 to 4.

use std::time::Duration;

use super::check::check;
use super::history::{
    Act, ClientId, Counter, Hang, History, Key, Op, Outcome, Rest, Route, Seen, Wipe, Write, nanos,
};
use super::report::Property;

const BOUND: Duration = Duration::from_millis(250);
const FRONT: Route = Route::Front(0);
const OTHER_FRONT: Route = Route::Front(1);

/// A history in the making.
#[derive(Default)]
struct Tale(History);

impl Tale {
    fn op(mut self, client: u32, route: Route, (begin, end): (u64, u64), act: Act) -> Self {
        let at = |ms| nanos(Duration::from_millis(ms));
        self.0.ops.push(Op {
            client: ClientId(client),
            route,
            key: key(),
            begin: at(begin),
            end: at(end),
            act,
        });
        self
    }

    fn write(self, route: Route, span: (u64, u64), version: Option<u64>) -> Self {
        self.write_with(route, span, version, Outcome::Done, None)
    }

    fn write_with(
        self,
        route: Route,
        span: (u64, u64),
        version: Option<u64>,
        outcome: Outcome,
        ttl_ms: Option<u64>,
    ) -> Self {
        let write = Write {
            version,
            outcome,
            ttl: ttl_ms.map(Duration::from_millis),
            command: "SET",
        };
        self.op(1, route, span, Act::Write(write))
    }

    fn read(self, client: u32, route: Route, span: (u64, u64), seen: Seen) -> Self {
        let command = "GET";
        self.op(client, route, span, Act::Read { seen, command })
    }

    fn wipe(mut self, route: Route, (begin, end): (u64, u64)) -> Self {
        let at = |ms| nanos(Duration::from_millis(ms));
        self.0.wipes.push(Wipe {
            db: None,
            route,
            begin: at(begin),
            end: at(end),
        });
        self
    }

    #[track_caller]
    fn holds(&self) {
        let report = check(&self.0, BOUND);
        assert!(report.is_clean(), "{report}");
    }

    #[track_caller]
    fn breaks(&self, property: Property) {
        let report = check(&self.0, BOUND);
        assert!(report.has(property), "not {property:?}: {report}");
    }
}

fn key() -> Key {
    Key {
        db: 0,
        name: "text:0".into(),
    }
}

/// Versions 1 and 2 were written, the second at 20 to 30 ms on this route.
fn two_writes(route: Route) -> Tale {
    Tale::default()
        .write(route, (0, 10), Some(1))
        .write(route, (20, 30), Some(2))
}

#[test]
fn a_read_during_a_write_may_see_either() {
    for version in [1, 2] {
        let seen = Seen::Version(version);
        two_writes(FRONT).read(2, FRONT, (25, 40), seen).holds();
    }
}

#[test]
fn a_read_after_a_write_through_its_front_must_see_it() {
    let late = two_writes(FRONT).read(2, FRONT, (31, 40), Seen::Version(1));
    late.breaks(Property::ReadYourWrites);
    let elsewhere = two_writes(FRONT).read(2, OTHER_FRONT, (31, 40), Seen::Version(1));
    elsewhere.holds();
}

#[test]
fn a_foreign_write_may_be_missed_for_as_long_as_the_bound() {
    let read = |at| two_writes(Route::Direct).read(2, FRONT, (at, at + 1), Seen::Version(1));
    read(300).holds();
    read(306).breaks(Property::BoundedStaleness);
}

#[test]
fn the_staleness_of_a_read_is_measured() {
    let tale = two_writes(Route::Direct)
        .read(2, FRONT, (130, 131), Seen::Version(1))
        .read(2, FRONT, (140, 141), Seen::Version(2));
    let report = check(&tale.0, BOUND);
    assert_eq!(report.staleness, [nanos(Duration::from_millis(100))]);
    assert_eq!(report.reads, 2);
}

#[test]
fn a_read_never_goes_back() {
    let there = two_writes(Route::Direct).read(2, FRONT, (31, 32), Seen::Version(2));
    there.breaks_after(2, Property::MonotonicReads);
    let there = two_writes(Route::Direct).read(2, FRONT, (31, 32), Seen::Version(2));
    there.read(3, FRONT, (33, 34), Seen::Version(1)).holds();
}

impl Tale {
    /// A further read of version 1 by this client breaks the property.
    #[track_caller]
    fn breaks_after(self, client: u32, property: Property) {
        let again = self.read(client, FRONT, (33, 34), Seen::Version(1));
        again.breaks(property);
    }
}

#[test]
fn a_removal_is_a_write() {
    let removed = || two_writes(FRONT).write(FRONT, (40, 50), None);
    removed().read(2, FRONT, (51, 60), Seen::Nil).holds();
    let late = removed().read(2, FRONT, (51, 60), Seen::Version(2));
    late.breaks(Property::ReadYourWrites);
    let early = two_writes(FRONT).read(2, FRONT, (31, 35), Seen::Nil);
    early.breaks(Property::ReadYourWrites);
}

#[test]
fn a_value_nobody_has_written_yet_is_invented() {
    let future = two_writes(FRONT).read(2, FRONT, (11, 15), Seen::Version(2));
    future.breaks(Property::InventedValue);
    let never = two_writes(FRONT).read(2, FRONT, (31, 40), Seen::Version(9));
    never.breaks(Property::InventedValue);
    let foreign = Seen::Foreign("1/text:0@2".to_owned());
    let elsewhere = two_writes(FRONT).read(2, FRONT, (31, 40), foreign);
    elsewhere.breaks(Property::InventedValue);
}

#[test]
fn a_write_of_unknown_outcome_may_happen_at_any_time_but_once() {
    let unknown = || {
        let write = Tale::default().write(FRONT, (0, 10), Some(1));
        write.write_with(FRONT, (20, 30), Some(2), Outcome::Unknown, None)
    };
    for version in [1, 2] {
        let seen = Seen::Version(version);
        unknown().read(2, FRONT, (900, 901), seen).holds();
    }
    let seen = unknown().read(2, FRONT, (31, 32), Seen::Version(2));
    seen.breaks_after(2, Property::MonotonicReads);
}

#[test]
fn a_value_is_gone_after_its_expiry() {
    let expiring = || {
        let ttl_ms = Some(100);
        Tale::default().write_with(Route::Direct, (0, 10), Some(1), Outcome::Done, ttl_ms)
    };
    expiring()
        .read(2, FRONT, (119, 121), Seen::Version(1))
        .holds();
    expiring().read(2, FRONT, (119, 121), Seen::Nil).holds();
    let late = expiring().read(2, FRONT, (121, 122), Seen::Version(1));
    late.breaks(Property::TtlOutlived);
    let early = expiring().read(2, FRONT, (40, 50), Seen::Nil);
    // It may still be "never written" for a front that has not heard of it.
    early.holds();
    expiring()
        .read(2, Route::Direct, (40, 50), Seen::Nil)
        .breaks(Property::RedisItself);
}

#[test]
fn an_expiry_that_is_set_later_may_be_missed_for_as_long_as_the_bound() {
    let set_on = |route| {
        let written = Tale::default().write(route, (0, 10), Some(1));
        written.write_with(route, (10, 20), Some(1), Outcome::Done, Some(50))
    };
    let foreign = || set_on(Route::Direct);
    foreign()
        .read(2, FRONT, (290, 291), Seen::Version(1))
        .holds();
    foreign()
        .read(2, FRONT, (296, 297), Seen::Version(1))
        .breaks(Property::TtlOutlived);
    set_on(FRONT)
        .read(2, FRONT, (81, 82), Seen::Version(1))
        .breaks(Property::TtlOutlived);
}

#[test]
fn what_was_wiped_does_not_come_back() {
    let wiped = |route| two_writes(Route::Direct).wipe(route, (40, 50));
    wiped(FRONT).read(2, FRONT, (51, 60), Seen::Nil).holds();
    let here = wiped(FRONT).read(2, FRONT, (51, 60), Seen::Version(2));
    here.breaks(Property::ReadYourWrites);
    wiped(Route::Direct)
        .read(2, FRONT, (320, 321), Seen::Version(2))
        .holds();
    let elsewhere = wiped(Route::Direct).read(2, FRONT, (326, 327), Seen::Version(2));
    elsewhere.breaks(Property::BoundedStaleness);
    let back = wiped(Route::Direct).read(2, Route::Direct, (51, 60), Seen::Version(2));
    back.breaks(Property::RedisItself);
}

#[test]
fn nil_without_a_reason_is_invented_by_redis_or_the_front() {
    let written = || two_writes(Route::Direct);
    written()
        .read(2, Route::Direct, (31, 40), Seen::Nil)
        .breaks(Property::RedisItself);
    let evicting = || {
        let mut tale = two_writes(Route::Direct);
        tale.0.evicts = true;
        tale
    };
    evicting()
        .read(2, Route::Direct, (31, 40), Seen::Nil)
        .holds();
    written()
        .read(2, FRONT, (400, 401), Seen::Nil)
        .breaks(Property::BoundedStaleness);
}

#[test]
fn a_counter_is_the_number_of_its_execs() {
    let counter = |set: &[u64], unknown, last| {
        let mut tale = Tale::default();
        tale.0.counters.push(Counter {
            name: "counter:0".to_owned(),
            set: set.to_vec(),
            unknown,
            last,
        });
        tale
    };
    counter(&[1, 2, 3], 0, 3).holds();
    counter(&[1, 2, 4], 1, 4).holds();
    counter(&[1, 2, 2], 0, 2).breaks(Property::LostUpdate);
    counter(&[1, 2, 3], 0, 2).breaks(Property::LostUpdate);
    counter(&[1, 2, 3], 1, 5).breaks(Property::LostUpdate);
}

#[test]
fn silence_and_a_difference_at_the_end_are_found() {
    let mut tale = Tale::default();
    tale.0.hangs.push(Hang {
        client: ClientId(1),
        command: "GET k".to_owned(),
        begin: 0,
    });
    tale.breaks(Property::Hang);
    let rest = |through_front| {
        let mut tale = Tale::default();
        tale.0.rests.push(Rest {
            key: key(),
            front: 0,
            through_front,
            in_redis: Seen::Version(2),
        });
        tale
    };
    rest(Seen::Version(2)).holds();
    rest(Seen::Version(1)).breaks(Property::Quiescence);
}
