//! How fast a shared connection is used just after it, or the tracker, was lost.
//!
//! Then all copies are void, and all clients miss at once. For a short time no more than a few
//! requests are under way on the connection; the others stay in its queue, in their order, and
//! leave as replies come in. What is queued is bounded by what each client may be owed.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// For so long after a connection was opened, or the tracker was lost or came back.
const REFILL_TIME: Duration = Duration::from_secs(2);
/// Requests under way meanwhile: as many reads as half of that, as each asks for the time to live,
/// too.
pub(super) const REFILL_REQUESTS_MAX: u64 = 128;

/// Where requests end that are queued, while they leave a few at a time.
#[derive(Debug)]
pub(super) struct Pace {
    /// None: until the connection is open, and for [`REFILL_TIME`] from then.
    until: Option<Instant>,
    /// Bytes that left, and the request up to which they did.
    left: usize,
    left_upto: u64,
    /// Ends of requests, counted from where `left` began, each with the number of requests up to
    /// there.
    ends: VecDeque<(usize, u64)>,
}

/// What may leave now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Portion {
    pub(super) bytes: usize,
    /// The number of requests up to its end.
    pub(super) upto: u64,
}

impl Pace {
    /// With so many bytes in the queue, up to this request.
    pub(super) fn new(bytes: usize, upto: u64) -> Self {
        let is_empty = bytes == 0;
        Self {
            until: None,
            left: 0,
            left_upto: 0,
            ends: (!is_empty).then_some((bytes, upto)).into_iter().collect(),
        }
    }

    /// Ends when its time from now on has passed.
    pub(super) fn go_on_from(&mut self, now: Instant) {
        self.until = Some(now + REFILL_TIME);
    }

    /// Whether it is over.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// A request was queued: the queue now has so many bytes, up to this request.
    pub(super) fn note(&mut self, bytes: usize, upto: u64) {
        self.ends.push_back((self.left + bytes, upto));
    }

    /// The next requests that may leave, so many having been answered.
    pub(super) fn take(&mut self, answered: u64) -> Option<Portion> {
        let mut portion = None;
        while let Some(&(end, upto)) = self.ends.front()
            // What stands for more than that leaves alone.
            && (upto.saturating_sub(answered) <= REFILL_REQUESTS_MAX || self.left_upto <= answered)
        {
            portion = Some((end, upto));
            self.left_upto = upto;
            self.ends.pop_front();
        }
        let (end, upto) = portion?;
        let bytes = end - self.left;
        self.left = end;
        Some(Portion { bytes, upto })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_leave_as_others_are_answered_in_their_order() {
        let mut pace = Pace::new(0, 10);
        for request in 1..=300u64 {
            pace.note(usize::try_from(request).unwrap() * 7, 10 + request);
        }
        let all = |answered| (REFILL_REQUESTS_MAX + answered, answered);
        let (upto, answered) = all(10);
        let bytes = 7 * usize::try_from(REFILL_REQUESTS_MAX).unwrap();
        assert_eq!(pace.take(answered), Some(Portion { bytes, upto }));
        assert_eq!(pace.take(answered), None);
        let portion = Portion {
            bytes: 21,
            upto: upto + 3,
        };
        assert_eq!(pace.take(answered + 3), Some(portion));
        // What is queued meanwhile is counted from what has left.
        let queued = 7 * 300 - bytes - 21;
        pace.note(queued + 5, 311);
        assert_eq!(pace.take(300).unwrap().upto, 311);
        assert_eq!(pace.take(311), None);
    }

    #[test]
    fn what_was_queued_before_leaves_at_once() {
        let upto = 3 * REFILL_REQUESTS_MAX;
        let mut pace = Pace::new(50, upto);
        pace.note(60, upto + 1);
        assert_eq!(pace.take(0), Some(Portion { bytes: 50, upto }));
        assert_eq!(pace.take(upto - REFILL_REQUESTS_MAX), None);
        let next = Portion {
            bytes: 10,
            upto: upto + 1,
        };
        assert_eq!(pace.take(upto), Some(next));
    }
}
