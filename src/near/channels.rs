//! The connections that copies came over, and whether what they said still holds.
//!
//! A copy is fresh only while the connection it was read over (whose tracking it hangs on) and the
//! tracker (which brings the invalidations) are both the same as then and were both heard of
//! lately. Every hit checks that, so it takes no lock: two loads for each of the two.
//!
//! What the owner of the connections sees to:
//! - Before a channel is [`heard`](Channels::heard), all that came before over the tracker has been
//!   applied, and the moment it is fresh until counts from when the peer was *asked*.
//! - A tracker that comes back is heard of only when every data channel redirects to it again.

use std::sync::atomic::Ordering;

use super::sync::{AtomicU32, AtomicU64, IS_SIMULATED, Mutex};

/// Most channels there are, the tracker included.
/// Most channels there are, the tracker included.
pub const CHANNELS_MAX: u16 = if IS_SIMULATED { 4 } else { 1024 };

/// How many losses back it is known when a channel was last fresh: copies from before are not even
/// served as stale.
pub const LOSSES_KNOWN: usize = 8;

/// The number of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot(u16);

impl Slot {
    /// The channel that invalidations come over.
    pub const TRACKER: Self = Self(0);

    /// The channel of this number, if it is below [`CHANNELS_MAX`].
    #[must_use]
    pub fn new(number: u16) -> Option<Self> {
        (number < CHANNELS_MAX).then_some(Self(number))
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }
}

/// One channel, on a cache line of its own: it is written whenever its connection is heard of.
#[derive(Debug)]
#[repr(align(64))]
struct Channel {
    generation: AtomicU32,
    fresh_until_ns: AtomicU64,
    /// Held to write either. Until when it was fresh in the generations before, by their number.
    lost: Mutex<[u64; LOSSES_KNOWN]>,
}

/// The channels a copy may have come over.
#[derive(Debug)]
pub struct Channels(Box<[Channel]>);

impl Channels {
    pub(super) fn new() -> Self {
        let channel = |_| Channel {
            generation: AtomicU32::new(0),
            fresh_until_ns: AtomicU64::new(0),
            lost: Mutex::new([0; LOSSES_KNOWN]),
        };
        Self((0..CHANNELS_MAX).map(channel).collect())
    }

    /// How often it was lost.
    #[must_use]
    pub fn generation(&self, slot: Slot) -> u32 {
        self.at(slot).generation.load(Ordering::Acquire)
    }

    /// Until when (monotonic, in ns) what came over it may be taken for fresh; 0 from its loss to
    /// the first word after.
    #[must_use]
    pub fn fresh_until(&self, slot: Slot) -> u64 {
        self.at(slot).fresh_until_ns.load(Ordering::Acquire)
    }

    /// Its connection is gone: nothing that was read over it is fresh any more, at once.
    pub fn lose(&self, slot: Slot) {
        let channel = self.at(slot);
        let mut lost = channel.lost.lock();
        let generation = channel.generation.load(Ordering::Relaxed);
        lost[generation as usize % LOSSES_KNOWN] = channel.fresh_until_ns.load(Ordering::Relaxed);
        channel.fresh_until_ns.store(0, Ordering::Release);
        let next = generation.wrapping_add(1);
        channel.generation.store(next, Ordering::Release);
    }

    /// Its connection is alive: what came over it is fresh until then. Never moves back.
    ///
    /// For the task that alone loses the channel, too; others say [`Self::heard_in`].
    pub fn heard(&self, slot: Slot, fresh_until_ns: u64) {
        let channel = self.at(slot);
        let _lost = channel.lost.lock();
        channel.raise(fresh_until_ns);
    }

    /// The same, of the connection of this generation: if the channel was lost since, nothing
    /// changes. False then.
    pub fn heard_in(&self, slot: Slot, generation: u32, fresh_until_ns: u64) -> bool {
        let channel = self.at(slot);
        let _lost = channel.lost.lock();
        let is_same = channel.generation.load(Ordering::Relaxed) == generation;
        if is_same {
            channel.raise(fresh_until_ns);
        }
        is_same
    }

    /// Whether it is fresh now.
    #[inline]
    #[must_use]
    pub fn is_fresh(&self, slot: Slot, mono_ns: u64) -> bool {
        self.fresh_until(slot) > mono_ns
    }

    /// Whether it still is of this generation, and fresh.
    #[inline]
    pub(super) fn standing(&self, slot: Slot, generation: u32, mono_ns: u64) -> Standing {
        // In this order: a generation that is still the same was the same before, when the moment
        // was read.
        let is_fresh = self.is_fresh(slot, mono_ns);
        if self.generation(slot) != generation {
            Standing::Lost
        } else if is_fresh {
            Standing::Fresh
        } else {
            Standing::Silent
        }
    }

    /// Until when what came over it in this generation was fresh, if that is still known.
    pub(super) fn was_fresh_until(&self, slot: Slot, generation: u32) -> Option<u64> {
        let channel = self.at(slot);
        let lost = channel.lost.lock();
        match self.generation(slot).wrapping_sub(generation) as usize {
            0 => Some(self.fresh_until(slot)),
            back if back <= LOSSES_KNOWN => Some(lost[generation as usize % LOSSES_KNOWN]),
            _ => None,
        }
    }

    #[inline]
    fn at(&self, slot: Slot) -> &Channel {
        &self.0[usize::from(slot.0)]
    }
}

impl Channel {
    /// With the lock held.
    fn raise(&self, fresh_until_ns: u64) {
        if fresh_until_ns > self.fresh_until_ns.load(Ordering::Relaxed) {
            self.fresh_until_ns.store(fresh_until_ns, Ordering::Release);
        }
    }
}

/// How a channel stands to what was once read over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Fresh,
    /// The same connection, but not heard of for too long.
    Silent,
    Lost,
}
