//! The circuit breaker: leaves an origin alone that fails.
//!
//! Closed, all calls go through. After a number of failures in a row it opens: none does. After a
//! while, a little at random so that many of them do not probe as one, it is half open: one probe
//! at a time goes through. When enough of them have succeeded in a row it closes, and when one
//! fails it opens again. Only failures that say something of the origin count: not an answer that a
//! value is absent or too large.
//!
//! The caller brings the time and the dice.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::rules::BreakerSpec;

/// Where a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// All calls go through.
    Closed,
    /// None does.
    Open,
    /// One at a time does.
    HalfOpen,
}

impl State {
    /// What figures call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

#[derive(Debug)]
pub(super) struct Breaker {
    spec: BreakerSpec,
    state: State,
    /// Closed: failures in a row. Half open: successes in a row.
    in_a_row: u32,
    /// Half open: whether a probe is under way.
    is_probing: bool,
    /// Open: when it will be half open.
    until: Option<Instant>,
    /// Rises with each change of state, so that a call of before is known by its number.
    era: u64,
}

/// A call that was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pass {
    era: u64,
    is_probe: bool,
}

/// How a call ended, as far as the breaker is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The origin answered.
    Well,
    /// It did not, or not sensibly.
    Ill,
    /// Nobody waited for it.
    Unknown,
}

impl Breaker {
    pub(super) fn new(spec: BreakerSpec) -> Self {
        Self {
            spec,
            state: State::Closed,
            in_a_row: 0,
            is_probing: false,
            until: None,
            era: 0,
        }
    }

    /// Where it stands now.
    pub(super) fn state(&self, now: Instant) -> State {
        match self.state {
            State::Open if self.until.is_some_and(|until| until <= now) => State::HalfOpen,
            State::Closed | State::Open | State::HalfOpen => self.state,
        }
    }

    /// Whether no call was let through since it opened.
    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether a call would be let through.
    pub(super) fn would_pass(&self, now: Instant) -> bool {
        match self.state(now) {
            State::Closed => true,
            State::Open => false,
            State::HalfOpen => !self.is_probing,
        }
    }

    /// Lets a call through, or not.
    pub(super) fn enter(&mut self, now: Instant) -> Option<Pass> {
        if !self.would_pass(now) {
            return None;
        }
        let is_probe = self.state(now) == State::HalfOpen;
        if is_probe && self.state == State::Open {
            self.change(State::HalfOpen);
        }
        self.is_probing = is_probe;
        Some(Pass {
            era: self.era,
            is_probe,
        })
    }

    /// Takes note of how a call ended. `sample` is uniform in [0, 1). Returns the new state where
    /// it changed.
    pub(super) fn leave(
        &mut self,
        pass: Pass,
        end: End,
        now: Instant,
        sample: f64,
    ) -> Option<State> {
        // A call that began before the last change says nothing of how the origin is now.
        if pass.era != self.era {
            return None;
        }
        if pass.is_probe {
            self.is_probing = false;
        }
        match (self.state, end) {
            (_, End::Unknown) | (State::Open, _) => None,
            (State::Closed, End::Well) => {
                self.in_a_row = 0;
                None
            }
            (State::Closed, End::Ill) => {
                self.in_a_row = self.in_a_row.saturating_add(1);
                let is_enough = self.spec.failures > 0 && self.in_a_row >= self.spec.failures;
                is_enough.then(|| self.open(now, sample))
            }
            (State::HalfOpen, End::Well) => {
                self.in_a_row += 1;
                (self.in_a_row >= self.spec.probes).then(|| self.change(State::Closed))
            }
            (State::HalfOpen, End::Ill) => Some(self.open(now, sample)),
        }
    }

    fn open(&mut self, now: Instant, sample: f64) -> State {
        /// The part of the time by which it is made longer, at most.
        const JITTER: f64 = 0.25;
        let open = self.spec.open;
        let longer = open.mul_f64((JITTER * sample).clamp(0.0, JITTER));
        self.until = now.checked_add(open.saturating_add(longer).min(OPEN_MAX));
        self.change(State::Open)
    }

    fn change(&mut self, state: State) -> State {
        self.state = state;
        self.in_a_row = 0;
        self.is_probing = false;
        self.era += 1;
        state
    }
}

/// The longest that a breaker stays open, so that the sum with the present fits the clock.
const OPEN_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Duration = Duration::from_secs(10);

    fn breaker(failures: u32, probes: u32) -> Breaker {
        Breaker::new(BreakerSpec {
            failures,
            open: OPEN,
            probes,
        })
    }

    impl Breaker {
        /// A call that ends at once. `None`: it was not let through.
        fn call(&mut self, end: End, now: Instant) -> Option<State> {
            let pass = self.enter(now)?;
            self.leave(pass, end, now, 0.0);
            Some(self.state(now))
        }
    }

    #[test]
    fn it_opens_after_failures_in_a_row_only() {
        let (mut breaker, now) = (breaker(3, 1), Instant::now());
        for end in [
            End::Ill,
            End::Ill,
            End::Well,
            End::Ill,
            End::Unknown,
            End::Ill,
        ] {
            assert_eq!(breaker.call(end, now), Some(State::Closed), "{end:?}");
        }
        assert_eq!(breaker.call(End::Ill, now), Some(State::Open));
        assert_eq!(breaker.call(End::Well, now), None);
    }

    #[test]
    fn after_a_while_one_probe_at_a_time_goes_through_until_it_closes() {
        let (mut breaker, start) = (breaker(1, 2), Instant::now());
        breaker.call(End::Ill, start);
        let (before, after) = (start + OPEN - Duration::from_millis(1), start + OPEN);
        assert_eq!(breaker.enter(before), None);
        assert_eq!(breaker.state(before), State::Open);
        let probe = breaker.enter(after).unwrap();
        assert_eq!(breaker.enter(after), None, "a second probe");
        assert_eq!(breaker.leave(probe, End::Well, after, 0.0), None);
        let probe = breaker.enter(after).unwrap();
        assert_eq!(
            breaker.leave(probe, End::Well, after, 0.0),
            Some(State::Closed)
        );
        assert!(breaker.enter(after).is_some() && breaker.enter(after).is_some());
    }

    #[test]
    fn a_probe_that_fails_opens_it_again() {
        let (mut breaker, start) = (breaker(1, 1), Instant::now());
        breaker.call(End::Ill, start);
        assert_eq!(breaker.call(End::Ill, start + OPEN), Some(State::Open));
        assert!(!breaker.would_pass(start + OPEN + OPEN - Duration::from_millis(1)));
        assert!(breaker.would_pass(start + OPEN + OPEN));
    }

    #[test]
    fn a_probe_that_nobody_waits_for_makes_room_for_another() {
        let (mut breaker, start) = (breaker(1, 1), Instant::now());
        breaker.call(End::Ill, start);
        let probe = breaker.enter(start + OPEN).unwrap();
        assert_eq!(breaker.leave(probe, End::Unknown, start + OPEN, 0.0), None);
        assert_eq!(breaker.call(End::Well, start + OPEN), Some(State::Closed));
    }

    #[test]
    fn a_call_of_before_a_change_counts_no_more() {
        let (mut breaker, start) = (breaker(1, 1), Instant::now());
        let (one, other) = (breaker.enter(start).unwrap(), breaker.enter(start).unwrap());
        assert_eq!(breaker.leave(one, End::Ill, start, 0.0), Some(State::Open));
        assert_eq!(breaker.leave(other, End::Ill, start, 0.0), None);
        let probe = breaker.enter(start + OPEN).unwrap();
        assert_eq!(breaker.leave(other, End::Well, start + OPEN, 0.0), None);
        assert_eq!(
            breaker.enter(start + OPEN),
            None,
            "the probe is still under way"
        );
        assert_eq!(
            breaker.leave(probe, End::Well, start, 0.0),
            Some(State::Closed)
        );
    }

    #[test]
    fn it_stays_open_for_up_to_a_quarter_more() {
        let (mut breaker, start) = (breaker(1, 1), Instant::now());
        let pass = breaker.enter(start).unwrap();
        breaker.leave(pass, End::Ill, start, 0.999_999);
        assert!(!breaker.would_pass(start + OPEN.mul_f64(1.24)));
        assert!(breaker.would_pass(start + OPEN.mul_f64(1.25)));
    }

    #[test]
    fn without_a_number_of_failures_it_never_opens() {
        let (mut breaker, now) = (breaker(0, 1), Instant::now());
        for _ in 0..1000 {
            assert_eq!(breaker.call(End::Ill, now), Some(State::Closed));
        }
    }
}
