//! Under which circumstances a read began: what must still hold when it ends, and for as long as
//! its reply is served.

use super::channels::{Channels, Slot, Standing};

/// The channel of a read, and how often it, the tracker and everything had been voided before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) slot: Slot,
    /// Generation of the channel.
    pub(super) channel: u32,
    /// Generation of the tracker.
    pub(super) tracker: u32,
    /// How often everything had been flushed.
    pub(super) epoch: u32,
}

impl Stamp {
    pub(super) fn new(channels: &Channels, slot: Slot, epoch: u32) -> Self {
        Self {
            slot,
            channel: channels.generation(slot),
            tracker: channels.generation(Slot::TRACKER),
            epoch,
        }
    }

    /// How its two channels stand: the worse of both.
    #[inline]
    pub(super) fn standing(&self, channels: &Channels, mono_ns: u64) -> Standing {
        let channel = channels.standing(self.slot, self.channel, mono_ns);
        match channel {
            Standing::Lost => Standing::Lost,
            Standing::Fresh => channels.standing(Slot::TRACKER, self.tracker, mono_ns),
            Standing::Silent => match channels.standing(Slot::TRACKER, self.tracker, mono_ns) {
                Standing::Lost => Standing::Lost,
                Standing::Fresh | Standing::Silent => Standing::Silent,
            },
        }
    }

    /// Until when its channels made it fresh, if that is still known.
    pub(super) fn was_fresh_until(&self, channels: &Channels) -> Option<u64> {
        let channel = channels.was_fresh_until(self.slot, self.channel)?;
        let tracker = channels.was_fresh_until(Slot::TRACKER, self.tracker)?;
        Some(channel.min(tracker))
    }
}
