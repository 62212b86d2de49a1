//! The soft limit of `client-output-buffer-limit`, by Redis's clock.
//!
//! Redis looks at a client's unread replies whenever it adds to them, and once a second besides.
//! The clock starts when a look finds them above the limit, runs on from look to look, and is reset
//! only by a look that finds them below it: that they were taken in between does not count.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock;
use crate::config::BufferLimit;

/// How often is looked when nothing is added. Redis counts in whole seconds, so that is also the
/// least a client is given.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Since when a client's unread replies have been above the limit, if they have.
#[derive(Default)]
pub struct SoftLimit {
    above: Option<Above>,
}

struct Above {
    since: Instant,
    /// When is looked next, though nothing is added.
    next_look: Instant,
    /// What would be seen then if nothing is added until then.
    is_below: bool,
}

/// The replies have been above the limit for too long.
#[derive(Debug, PartialEq, Eq)]
pub struct Overdue;

impl SoftLimit {
    /// Replies were added: so many bytes are unread now.
    pub fn added(&mut self, limit: BufferLimit, unread: u64) {
        if limit.soft_bytes == 0 || unread <= limit.soft_bytes {
            self.above = None;
            return;
        }
        let now = clock::now();
        // While nothing was to be sent, nobody looked.
        if let Some(above) = &self.above
            && above.is_below
            && now >= above.next_look
        {
            self.above = None;
        }
        let above = self.above.get_or_insert(Above {
            since: now,
            next_look: now + LOOK_EVERY,
            is_below: false,
        });
        above.is_below = false;
    }

    /// The client took some: so many bytes are left.
    pub fn taken(&mut self, limit: BufferLimit, unread: u64) {
        let Some(above) = &mut self.above else { return };
        above.is_below = unread <= limit.soft_bytes;
        let now = clock::now();
        if now < above.next_look {
            return;
        }
        above.next_look = now + LOOK_EVERY;
        if above.is_below {
            self.above = None;
        }
    }

    /// When the client is to be looked at again while it takes nothing; `None`: never.
    ///
    /// # Errors
    /// When it is to be closed.
    pub fn next_look(&mut self, limit: BufferLimit) -> Result<Option<Instant>, Overdue> {
        let Some(above) = &mut self.above else {
            return Ok(None);
        };
        let now = clock::now();
        let until = above.since + limit.soft_time.max(LOOK_EVERY);
        if now < until {
            return Ok(Some(until));
        }
        if above.is_below {
            self.above = None;
            return Ok(None);
        }
        Err(Overdue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: BufferLimit = BufferLimit {
        hard_bytes: 0,
        soft_bytes: 100,
        soft_time: Duration::from_secs(10),
    };

    async fn pass(milliseconds: u64) {
        tokio::time::advance(Duration::from_millis(milliseconds)).await;
    }

    /// One that was found above the limit.
    fn above() -> SoftLimit {
        let mut soft = SoftLimit::default();
        soft.added(LIMIT, 101);
        soft
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_runs_on_though_all_was_taken_between_two_looks() {
        let mut soft = above();
        let since = clock::now();
        for _ in 0..10 {
            // The look, and all is taken right behind it until more is added before the next.
            pass(999).await;
            soft.taken(LIMIT, 150);
            pass(1).await;
            soft.taken(LIMIT, 101);
            soft.taken(LIMIT, 0);
            assert!(soft.above.is_some());
            soft.added(LIMIT, 200);
        }
        assert_eq!(clock::now() - since, LIMIT.soft_time);
        assert_eq!(soft.next_look(LIMIT), Err(Overdue));
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_finds_little_resets_the_clock() {
        let until = Ok(Some(clock::now() + LIMIT.soft_time));
        let mut soft = above();
        assert_eq!(soft.next_look(LIMIT), until);
        // At what is added.
        soft.added(LIMIT, 100);
        assert_eq!(soft.next_look(LIMIT), Ok(None));
        // At what is left a second later.
        let mut soft = above();
        pass(1000).await;
        soft.taken(LIMIT, 100);
        assert_eq!(soft.next_look(LIMIT), Ok(None));
        // In a second in which nothing was to be sent.
        let mut soft = above();
        soft.taken(LIMIT, 0);
        pass(1000).await;
        soft.added(LIMIT, 101);
        let until = Ok(Some(clock::now() + LIMIT.soft_time));
        assert_eq!(soft.next_look(LIMIT), until);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_taken_enough_when_the_time_is_up_stays() {
        let mut soft = above();
        pass(500).await;
        soft.taken(LIMIT, 100);
        pass(9500).await;
        assert_eq!(soft.next_look(LIMIT), Ok(None));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_nobody_looks() {
        let mut soft = SoftLimit::default();
        let none = BufferLimit {
            soft_bytes: 0,
            ..LIMIT
        };
        soft.added(none, u64::MAX);
        assert_eq!(soft.next_look(none), Ok(None));
    }
}
