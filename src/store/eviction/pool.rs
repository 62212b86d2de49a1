//! The best candidates for eviction that sampling has seen so far, as Redis remembers them.

/// A candidate. It may be gone when its turn comes, so it is remembered by its hash.
#[derive(Clone, Copy)]
pub(super) struct Candidate {
    pub(super) score: f32,
    pub(super) db: u16,
    /// Index of its shard.
    pub(super) shard: u16,
    pub(super) hash: u64,
}

/// Candidates in order, the first to go in front.
#[derive(Default)]
pub(in crate::store) struct Pool(Vec<Candidate>);

/// As many as Redis keeps (`EVPOOL_SIZE`).
const POOL_SIZE: usize = 16;

impl Pool {
    pub(in crate::store) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn offer(&mut self, candidate: Candidate) {
        if self
            .0
            .iter()
            .any(|other| other.hash == candidate.hash && other.db == candidate.db)
        {
            return;
        }
        let position = self
            .0
            .partition_point(|other| other.score <= candidate.score);
        if position < POOL_SIZE {
            self.0.truncate(POOL_SIZE - 1);
            self.0.insert(position, candidate);
        }
    }

    pub(super) fn take(&mut self) -> Option<Candidate> {
        (!self.0.is_empty()).then(|| self.0.remove(0))
    }

    /// Whether a candidate with this score would not be the first to go.
    pub(super) fn has_less_than(&self, score: f32) -> bool {
        self.0.first().is_some_and(|first| first.score < score)
    }
}
