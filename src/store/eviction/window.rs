//! The newest items of a shard, in order of age: where a new item lives before it must prove
//! itself.
//!
//! A queue of handles. An item that was read since it came is put back to the end when its turn
//! comes (second chance), which keeps a hit to setting one bit. An item that is deleted leaves a
//! hole; holes are closed when they are the half.

use std::collections::VecDeque;

use crate::store::item::{Flags, Handle};

const DB_SHIFT: u32 = 48;
const HOLE: u64 = 0;
/// Fewer entries than this are not worth closing holes in.
const COMPACT_MIN: usize = 64;

#[derive(Default)]
pub(in crate::store) struct Window {
    /// Handles with their database above them, oldest first.
    queue: VecDeque<u64>,
    /// The place of the queue's first entry. Places wrap.
    first: u32,
    items: usize,
    /// What the items cost.
    bytes: usize,
}

impl Window {
    pub(in crate::store) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(in crate::store) fn len(&self) -> usize {
        self.items
    }

    /// Adds the newest item. Its handle's flag and place are set.
    pub(in crate::store) fn push(&mut self, db: u16, handle: Handle) {
        self.enqueue(handle.to_bits() | u64::from(db) << DB_SHIFT, handle);
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
            *entry = *entry >> DB_SHIFT << DB_SHIFT | new.to_bits();
        }
        self.bytes = self.bytes - old_charge + new.charge();
    }

    /// The item whose turn it is to leave, with its database; it is out of the window then.
    pub(in crate::store) fn pop(&mut self) -> Option<(u16, Handle)> {
        while let Some(entry) = self.queue.pop_front() {
            self.first = self.first.wrapping_add(1);
            let Some(handle) = Handle::from_bits(entry) else {
                continue;
            };
            if handle.has(Flags::TOUCHED) && self.items > 1 {
                handle.set_flag(Flags::TOUCHED, false);
                self.enqueue(entry, handle);
                continue;
            }
            self.took_out(handle, handle.charge());
            return u16::try_from(entry >> DB_SHIFT).ok().map(|db| (db, handle));
        }
        None
    }

    pub(in crate::store) fn heap_bytes(&self) -> usize {
        self.queue.capacity() * 8
    }

    fn enqueue(&mut self, entry: u64, handle: Handle) {
        let index = u32::try_from(self.queue.len()).expect("fewer items than 2^32 in a shard");
        handle.set_place(self.first.wrapping_add(index));
        self.queue.push_back(entry);
    }

    fn took_out(&mut self, handle: Handle, charge: usize) {
        handle.set_flag(Flags::WINDOW, false);
        self.items -= 1;
        self.bytes -= charge;
    }

    fn entry(&mut self, place: u32) -> Option<&mut u64> {
        self.queue.get_mut(place.wrapping_sub(self.first) as usize)
    }

    fn compact(&mut self) {
        let queue = std::mem::take(&mut self.queue);
        self.first = 0;
        for entry in queue {
            if let Some(handle) = Handle::from_bits(entry) {
                self.enqueue(entry, handle);
            }
        }
    }
}
