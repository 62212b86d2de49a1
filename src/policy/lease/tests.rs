//! Holders, waiters and heirs, at times that the tests make up.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const LEASE: Duration = Duration::from_millis(100);
const OPEN: Duration = Duration::from_millis(500);
const TERMS: Terms = Terms {
    lease: LEASE,
    open: OPEN,
};

/// A lease that this client has had since the moment that is returned.
fn held_by(client: ClientId) -> (Lease, Instant) {
    let now = Instant::now();
    (Lease::new(client, now, TERMS), now)
}

fn told(receiver: &mut oneshot::Receiver<Told>) -> Option<Told> {
    receiver.try_recv().ok()
}

#[test]
fn the_holder_is_never_made_to_wait_and_others_are_until_it_is_late() {
    let (mut lease, start) = held_by(1);
    assert!(matches!(lease.ask(1, start), Asked::Nil));
    assert!(matches!(lease.ask(2, start), Asked::Held));
    let (_told, late_at) = lease.wait(2);
    assert_eq!(late_at, start + LEASE);
    assert_eq!(lease.holder(), Some(1));
    assert_eq!(lease.held_for(1, start + LEASE / 2), Some(LEASE / 2));
    assert_eq!(lease.held_for(2, start + LEASE / 2), None);
}

#[test]
fn a_value_is_told_to_all_who_wait() {
    let (mut lease, _) = held_by(1);
    let mut waiting = [lease.wait(2).0, lease.wait(3).0];
    lease.tell_all();
    for receiver in &mut waiting {
        assert_eq!(told(receiver), Some(Told::Look));
    }
    assert_eq!(lease.waiting(), 0);
}

#[test]
fn of_those_who_wait_the_first_that_is_still_there_inherits() {
    let (mut lease, start) = held_by(1);
    let gone = lease.wait(2).0;
    drop(gone);
    let (mut third, mut fourth) = (lease.wait(3).0, lease.wait(4).0);
    assert!(lease.hand_over(start));
    assert_eq!(told(&mut third), Some(Told::Inherited));
    assert_eq!(told(&mut fourth), None, "exactly one inherits");
    assert_eq!(lease.holder(), Some(3));
    assert!(matches!(lease.ask(3, start), Asked::Nil));
}

#[test]
fn a_lease_that_nobody_waits_for_is_no_more_when_it_is_handed_over() {
    let (mut lease, start) = held_by(1);
    drop(lease.wait(2));
    assert!(!lease.hand_over(start));
}

#[test]
fn who_inherits_has_as_long_as_the_first_had() {
    let (mut lease, start) = held_by(1);
    let _heir = lease.wait(2);
    let later = start + LEASE / 2;
    assert!(lease.hand_over(later));
    assert!(matches!(
        lease.ask(3, later + LEASE - Duration::from_nanos(1)),
        Asked::Held
    ));
    assert_eq!(lease.late(3, later), Late::Held(later + LEASE));
}

#[test]
fn one_who_waits_inherits_from_a_late_holder_and_the_others_learn_until_when() {
    let (mut lease, start) = held_by(1);
    let _waiting = [lease.wait(2), lease.wait(3)];
    let late = start + LEASE;
    assert_eq!(lease.late(2, late), Late::Inherited);
    assert_eq!(lease.late(3, late), Late::Held(late + LEASE));
    assert_eq!(lease.holder(), Some(2));
    assert_eq!(lease.held_for(1, late), None);
}

#[test]
fn a_second_late_holder_opens_the_key_to_all() {
    let (mut lease, start) = held_by(1);
    let _second = lease.wait(2);
    let late = start + LEASE;
    assert_eq!(lease.late(2, late), Late::Inherited);
    let mut third = lease.wait(3).0;
    assert!(matches!(lease.ask(4, late + LEASE), Asked::Nil));
    assert_eq!(told(&mut third), Some(Told::Look));
    assert_eq!(lease.holder(), None);
    let open_until = late + LEASE + OPEN;
    assert!(matches!(
        lease.ask(5, open_until - Duration::from_nanos(1)),
        Asked::Nil
    ));
    assert!(matches!(lease.ask(5, open_until), Asked::Leased));
    assert!(matches!(lease.ask(6, open_until), Asked::Held));
}

#[test]
fn who_was_handed_a_late_lease_is_the_second_who_may_be_late() {
    let (mut lease, start) = held_by(1);
    let _second = lease.wait(2);
    let _third = lease.wait(3);
    let late = start + LEASE;
    assert_eq!(lease.late(2, late), Late::Inherited);
    // The second leaves before it is late: nobody has been late a second time.
    assert!(lease.hand_over(late));
    let holder = lease.holder();
    assert!(matches!(holder, Some(2 | 3)), "{holder:?}");
    assert!(matches!(lease.ask(4, late + LEASE), Asked::Nil));
    assert_eq!(lease.holder(), None);
}

#[test]
fn a_late_holder_nobody_waits_for_opens_the_key_for_the_rest_of_the_time() {
    let (mut lease, start) = held_by(1);
    assert!(matches!(lease.ask(2, start + LEASE), Asked::Nil));
    assert_eq!(lease.holder(), None);
    let (mut lease, start) = held_by(1);
    assert!(matches!(lease.ask(2, start + LEASE + OPEN), Asked::Leased));
}

#[test]
fn a_value_that_was_not_replaced_early_does_not_open_its_key() {
    let start = Instant::now();
    let mut lease = Lease::early(1, start, TERMS);
    assert!(matches!(lease.ask(2, start), Asked::Held));
    assert!(matches!(lease.ask(2, start + LEASE), Asked::Leased));
    assert_eq!(lease.holder(), Some(2));
}

#[test]
fn beside_a_stale_value_there_is_one_holder_at_a_time_and_no_other_gets_nil() {
    let (mut lease, start) = held_by(1);
    for now in [start, start + LEASE / 2] {
        assert!(matches!(lease.ask_beside_stale(2, now), Asked::Held));
    }
    assert!(matches!(lease.ask_beside_stale(1, start), Asked::Nil));
    assert!(matches!(lease.ask_beside_stale(1, start), Asked::Held));
    for round in 1..5 {
        let now = start + LEASE * round;
        let next = u64::from(round) + 2;
        assert!(matches!(lease.ask_beside_stale(next, now), Asked::Leased));
        assert!(matches!(lease.ask_beside_stale(next, now), Asked::Nil));
        assert!(matches!(lease.ask_beside_stale(next, now), Asked::Held));
        assert!(matches!(lease.ask_beside_stale(1, now), Asked::Held));
    }
}

#[test]
fn who_waited_twice_and_inherited_once_does_not_wait_for_itself() {
    let (mut lease, start) = held_by(1);
    let (mut first, _second) = (lease.wait(2).0, lease.wait(2).0);
    assert!(lease.hand_over(start));
    assert_eq!(told(&mut first), Some(Told::Inherited));
    assert_eq!(lease.late(2, start), Late::Open);
}

#[test]
fn it_is_free_for_who_would_get_it() {
    let (mut lease, start) = held_by(1);
    assert!(!lease.is_free(start));
    assert!(lease.is_free(start + LEASE));
    assert!(matches!(lease.ask(2, start + LEASE), Asked::Nil));
    assert!(!lease.is_free(start + LEASE), "the key is open");
    assert!(lease.is_free(start + LEASE + OPEN));
}

#[test]
fn nothing_is_lost_with_a_lease_that_is_over() {
    let (mut lease, start) = held_by(1);
    assert!(
        !lease.is_over(start + LEASE),
        "that it ended is to be known"
    );
    assert!(lease.is_over(start + LEASE + OPEN));
    let _waiting = lease.wait(2);
    assert!(!lease.is_over(start + LEASE + OPEN), "somebody waits");
    let mut early = Lease::early(1, start, TERMS);
    assert!(!early.is_over(start));
    assert!(early.is_over(start + LEASE));
}

#[test]
fn those_who_wait_and_go_take_bounded_memory() {
    let (mut lease, _) = held_by(1);
    let _stays = lease.wait(2);
    for client in 3..10_000 {
        drop(lease.wait(client));
        assert!(lease.waiting() <= 2 * CLEAN_AT_MIN);
    }
    assert!(lease.has_waiting());
}

/// What may happen to a lease.
#[derive(Clone, Debug)]
enum Event {
    /// A client misses the key, and waits if it is told to.
    Miss(ClientId),
    /// A client closes its connection.
    Leave(ClientId),
    /// Somebody removes the key.
    Remove,
    /// Somebody stores a value.
    Store,
    /// Time goes by, and whose timer is due looks.
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let client = 1..6_u64;
    prop_oneof![
        4 => client.clone().prop_map(Event::Miss),
        2 => client.prop_map(Event::Leave),
        1 => Just(Event::Remove),
        1 => Just(Event::Store),
        3 => (1..150_u64).prop_map(Event::Pass),
    ]
}

struct Waits {
    client: ClientId,
    told: oneshot::Receiver<Told>,
    look_at: Instant,
    deadline: Instant,
}

/// Clients around one lease, as `policy/wait.rs` runs them; and who, to the clients' knowledge,
/// holds it.
struct World {
    now: Instant,
    lease: Option<Lease>,
    waits: Vec<Waits>,
    holders: BTreeSet<ClientId>,
}

impl World {
    fn inherits(&mut self, client: ClientId) {
        self.holders.clear();
        self.holders.insert(client);
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Miss(client) => self.miss(client),
            Event::Leave(client) => self.leave(client),
            Event::Remove => self.pass_on(),
            Event::Store => {
                if let Some(mut lease) = self.lease.take() {
                    lease.tell_all();
                }
                self.holders.clear();
            }
            Event::Pass(ms) => self.pass(Duration::from_millis(ms)),
        }
    }

    fn miss(&mut self, client: ClientId) {
        // A connection does one thing at a time.
        if self.waits.iter().any(|waits| waits.client == client) {
            return;
        }
        let Some(lease) = &mut self.lease else {
            self.lease = Some(Lease::new(client, self.now, TERMS));
            return self.inherits(client);
        };
        match lease.ask(client, self.now) {
            Asked::Nil => {}
            Asked::Leased => self.inherits(client),
            Asked::Held => {
                assert!(!self.holders.contains(&client), "it waits for itself");
                let (told, look_at) = lease.wait(client);
                self.waits.push(Waits {
                    client,
                    told,
                    look_at,
                    deadline: self.now + LEASE,
                });
            }
        }
    }

    fn leave(&mut self, client: ClientId) {
        self.waits.retain(|waits| waits.client != client);
        if self.lease.as_ref().and_then(Lease::holder) == Some(client) {
            self.pass_on();
        }
        self.holders.remove(&client);
    }

    fn pass_on(&mut self) {
        let goes_on = self
            .lease
            .as_mut()
            .is_some_and(|lease| lease.hand_over(self.now));
        if !goes_on {
            self.lease = None;
            self.holders.clear();
        }
    }

    /// Each timer in turn, at its very moment.
    fn pass(&mut self, by: Duration) {
        let end = self.now + by;
        loop {
            let due = self
                .waits
                .iter()
                .map(|waits| waits.look_at.min(waits.deadline))
                .enumerate()
                .min_by_key(|(_, at)| *at);
            let Some((index, at)) = due.filter(|(_, at)| *at <= end) else {
                break;
            };
            self.now = at.max(self.now);
            self.look(index);
            self.hear();
        }
        self.now = end;
    }

    fn look(&mut self, index: usize) {
        let client = self.waits[index].client;
        let late = match &mut self.lease {
            Some(lease) => lease.late(client, self.now),
            None => Late::Open,
        };
        match late {
            Late::Held(until) if self.now < self.waits[index].deadline => {
                assert!(until > self.now, "it would look again and again");
                self.waits[index].look_at = until;
            }
            Late::Held(_) | Late::Open => drop(self.waits.remove(index)),
            Late::Inherited => {
                self.waits.remove(index);
                self.inherits(client);
            }
        }
    }

    /// Those who wait hear what they were told. How many inherited.
    fn hear(&mut self) -> usize {
        let mut heirs = Vec::new();
        self.waits.retain_mut(|waits| match waits.told.try_recv() {
            Ok(Told::Inherited) => {
                heirs.push(waits.client);
                false
            }
            Ok(Told::Look) => false,
            Err(oneshot::error::TryRecvError::Empty) => true,
            Err(oneshot::error::TryRecvError::Closed) => panic!("forgotten without a word"),
        });
        for heir in &heirs {
            self.inherits(*heir);
        }
        heirs.len()
    }

    fn check(&self) {
        let holder = self.lease.as_ref().and_then(Lease::holder);
        if let Some(holder) = holder {
            // A holder of before may have closed its connection meanwhile, and nobody else.
            assert!(
                self.holders.contains(&holder),
                "nobody knows that it holds it: {holder}"
            );
        }
        for waits in &self.waits {
            assert!(
                self.now < waits.deadline + Duration::from_millis(1),
                "waits for more than one lease"
            );
            let lease = self.lease.as_ref().expect("what it waits for is there");
            let is_known = |waiter: &Waiter| waiter.client == waits.client;
            assert!(
                lease.waiting.iter().any(is_known),
                "forgotten: {}",
                waits.client
            );
            assert!(holder.is_some(), "it waits, and the key is open");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn whatever_happens_one_holds_one_inherits_and_nobody_is_forgotten(
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut world = World {
            now: Instant::now(),
            lease: None,
            waits: Vec::new(),
            holders: BTreeSet::new(),
        };
        for event in &events {
            world.happen(event);
            let heirs = world.hear();
            prop_assert!(heirs <= 1, "{heirs} inherit at once");
            world.check();
            let (now, over) = (world.now, world.lease.as_mut());
            if over.is_some_and(|lease| lease.is_over(now)) {
                world.lease = None;
            }
        }
    }
}
