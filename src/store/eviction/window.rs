//! The newest items of a shard, in order of age: where a new item lives before it must prove
//! itself.
//!
//! A queue of handles. An item that was read since it came is put back to the end when its turn
//! comes (second chance), which keeps a hit to setting one bit. An item that is deleted leaves a
//! hole; holes are closed when they are the half.

use std::collections::VecDeque;

use crate::store::item::{Flags, Handle};

const DB_SHIFT: u32 = 48;
/// Fewer entries than this are not worth closing holes in.
const COMPACT_MIN: usize = 64;

#[derive(Default)]
pub(in crate::store) struct Window {
    /// Oldest first.
    queue: VecDeque<Queued>,
    /// The place of the queue's first entry. Places wrap.
    first: u32,
    items: usize,
    /// What the items cost.
    bytes: usize,
}

/// A handle with its database above it, in two halves to be 12 bytes and not 16; and when it came,
/// to be compared with the windows of other shards.
#[derive(Clone, Copy)]
struct Queued {
    low: u32,
    high: u32,
    stamp: u32,
}

/// Who was here is gone.
const HOLE: Queued = Queued {
    low: 0,
    high: 0,
    stamp: 0,
};

impl Queued {
    fn new(db: u16, handle: Handle, stamp: u32) -> Self {
        let bits = handle.to_bits() | u64::from(db) << DB_SHIFT;
        #[expect(clippy::cast_possible_truncation, reason = "in two halves")]
        let (low, high) = (bits as u32, (bits >> 32) as u32);
        Self { low, high, stamp }
    }

    fn handle(self) -> Option<Handle> {
        Handle::from_bits(u64::from(self.high) << 32 | u64::from(self.low))
    }

    fn db(self) -> u16 {
        u16::try_from(self.high >> (DB_SHIFT - 32)).expect("16 bits")
    }
}

impl Window {
    pub(in crate::store) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(in crate::store) fn len(&self) -> usize {
        self.items
    }

    /// Adds the newest item. Its handle's flag and place are set.
    pub(in crate::store) fn push(&mut self, db: u16, handle: Handle, stamp: u32) {
        self.enqueue(Queued::new(db, handle, stamp), handle);
        handle.set_flag(Flags::WINDOW, true);
        handle.set_flag(Flags::TOUCHED, false);
        self.items += 1;
        self.bytes += handle.charge();
    }

    /// Takes out an item that is in the window, which cost `charge` when it came.
    pub(in crate::store) fn remove(&mut self, handle: Handle, charge: usize) {
        if let Some(entry) = self.entry(handle.place()) {
            *entry = HOLE;
        }
        self.took_out(handle, charge);
        if self.queue.len() > COMPACT_MIN && self.queue.len() > self.items * 2 {
            self.compact();
        }
    }

    /// Puts `new` where `old` was; `new` already knows its place. Tells of the change of cost.
    pub(in crate::store) fn replace(&mut self, new: Handle, old_charge: usize) {
        if let Some(entry) = self.entry(new.place()) {
            *entry = Queued::new(entry.db(), new, entry.stamp);
        }
        self.bytes = self.bytes - old_charge + new.charge();
    }

    /// The stamp of the item whose turn it is. One that was read since it came goes back to the
    /// end first, as if it came at `now`.
    pub(in crate::store) fn oldest(&mut self, now: u32) -> Option<u32> {
        loop {
            let (entry, handle) = self.front()?;
            if self.items == 1 || !handle.has(Flags::TOUCHED) {
                return Some(entry.stamp);
            }
            self.drop_front();
            handle.set_flag(Flags::TOUCHED, false);
            self.enqueue(
                Queued {
                    stamp: now,
                    ..entry
                },
                handle,
            );
        }
    }

    /// The same without a second chance.
    pub(in crate::store) fn first(&mut self) -> Option<u32> {
        Some(self.front()?.0.stamp)
    }

    /// Takes out the item that came first, and its database.
    pub(in crate::store) fn pop(&mut self) -> Option<(u16, Handle)> {
        let (entry, handle) = self.front()?;
        self.drop_front();
        self.took_out(handle, handle.charge());
        Some((entry.db(), handle))
    }

    pub(in crate::store) fn heap_bytes(&self) -> usize {
        self.queue.capacity() * size_of::<Queued>()
    }

    fn front(&mut self) -> Option<(Queued, Handle)> {
        loop {
            let entry = *self.queue.front()?;
            if let Some(handle) = entry.handle() {
                return Some((entry, handle));
            }
            self.drop_front();
        }
    }

    fn drop_front(&mut self) {
        self.queue.pop_front();
        self.first = self.first.wrapping_add(1);
    }

    fn enqueue(&mut self, entry: Queued, handle: Handle) {
        let index = u32::try_from(self.queue.len()).expect("fewer items than 2^32 in a shard");
        handle.set_place(self.first.wrapping_add(index));
        self.queue.push_back(entry);
    }

    fn took_out(&mut self, handle: Handle, charge: usize) {
        handle.set_flag(Flags::WINDOW, false);
        self.items -= 1;
        self.bytes -= charge;
    }

    fn entry(&mut self, place: u32) -> Option<&mut Queued> {
        self.queue.get_mut(place.wrapping_sub(self.first) as usize)
    }

    fn compact(&mut self) {
        let queue = std::mem::take(&mut self.queue);
        self.queue.reserve(self.items + COMPACT_MIN);
        self.first = 0;
        for entry in queue {
            if let Some(handle) = entry.handle() {
                self.enqueue(entry, handle);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Extras;

    #[test]
    fn places_wrap_around() {
        let mut window = Window {
            first: u32::MAX - 2,
            ..Window::default()
        };
        let handles: Vec<Handle> = (0..200u8)
            .map(|key| Handle::new(&[key], b"", Extras::default(), 0))
            .collect();
        for (stamp, &handle) in (0..).zip(&handles) {
            window.push(0, handle, stamp);
        }
        // All but every fifth leave from the middle, which closes holes more than once.
        let leaves = |index: usize| !index.is_multiple_of(5);
        for (index, &handle) in handles
            .iter()
            .enumerate()
            .filter(|(index, _)| leaves(*index))
        {
            window.remove(handle, handle.charge());
            assert!(!handle.has(Flags::WINDOW), "{index}");
        }
        for (_, &handle) in handles
            .iter()
            .enumerate()
            .filter(|(index, _)| !leaves(*index))
        {
            assert_eq!(window.pop(), Some((0, handle)));
        }
        assert_eq!((window.pop(), window.len(), window.bytes()), (None, 0, 0));
        handles.into_iter().for_each(Handle::free);
    }

    #[test]
    fn what_was_read_since_it_came_gets_a_second_chance() {
        let mut window = Window::default();
        let handles = [1u8, 2, 3].map(|key| Handle::new(&[key], b"", Extras::default(), 0));
        for (stamp, handle) in (10..).zip(handles) {
            window.push(7, handle, stamp);
        }
        handles[0].set_flag(Flags::TOUCHED, true);
        assert_eq!(window.oldest(20), Some(11));
        assert_eq!(window.first(), Some(11));
        let order: Vec<_> = std::iter::from_fn(|| window.pop()).collect();
        assert_eq!(order, [(7, handles[1]), (7, handles[2]), (7, handles[0])]);
        handles.into_iter().for_each(Handle::free);
    }
}
