//! Items that carry tags: how they enter and leave these, and what becomes of them when one is
//! invalidated.

use smallvec::SmallVec;

use super::entry::Key;
use super::item::{Extras, Flags, Handle};
use super::shard::{Shard, is_due};
use super::tags::{Generation, LINK_BYTES, Link, Stamp, State};

impl Shard {
    /// Whether an item was outdated by an invalidation. One that is void is gone then; one that is
    /// stale has expired when that happened.
    #[inline]
    pub(super) fn is_outdated(&mut self, db: u16, hash: u64, handle: Handle, now_ms: u64) -> bool {
        handle.has(Flags::LOADED)
            && self.tags.has_outdated()
            && self.take_out_outdated(db, hash, handle, now_ms)
    }

    #[cold]
    fn take_out_outdated(&mut self, db: u16, hash: u64, handle: Handle, now_ms: u64) -> bool {
        let (mut is_void, mut stale_since) = (false, None);
        for link in self.chains.iter(handle.chain()) {
            match self.tags.state(link.generation) {
                State::Valid => {}
                State::Stale => {
                    let since = self.tags.stale_since(link.generation);
                    stale_since = Some(stale_since.map_or(since, |other: u64| other.min(since)));
                }
                State::Void => is_void = true,
            }
        }
        match stale_since {
            _ if is_void => self.invalidate(db, hash, handle),
            Some(since) => self.soften(db, hash, handle, since, now_ms),
            None => return false,
        }
        true
    }

    fn invalidate(&mut self, db: u16, hash: u64, handle: Handle) {
        self.watchers.touch(db, handle.key());
        self.take_out(db, hash, handle);
    }

    /// Lets an item expire at an earlier moment; it is gone if it may not be served stale.
    fn soften(&mut self, db: u16, hash: u64, handle: Handle, since: u64, now_ms: u64) {
        // By the clock of whoever looks, which may be behind, it has expired as well.
        let since = since.min(now_ms);
        let Some(expires_at) = handle.expires_at().map(|at| at.get().min(since)) else {
            return self.invalidate(db, hash, handle);
        };
        self.move_deadline(db, handle, expires_at, false);
        if is_due(handle.leaves_at(), now_ms) {
            self.invalidate(db, hash, handle);
        } else {
            self.watchers.touch(db, handle.key());
        }
    }

    /// Lets a key expire just now: it may still be served stale if it has leave to, else it is
    /// gone. Whether it was there.
    pub fn soften_key(&mut self, db: u16, key: Key<'_>, now_ms: u64) -> bool {
        if self.peek(db, key, now_ms).is_none() {
            return false;
        }
        let handle = self.find(db, key);
        if let Some(handle) = handle {
            self.soften(db, key.hash, handle, now_ms, now_ms);
        }
        handle.is_some()
    }

    /// Whether an invalidation has made an item void or stale, of which nothing was noticed yet.
    pub(super) fn is_void(&self, handle: Handle) -> bool {
        let is_outdated = |link: Link| self.tags.state(link.generation) != State::Valid;
        handle.has(Flags::LOADED)
            && self.tags.has_outdated()
            && self.chains.iter(handle.chain()).any(is_outdated)
    }

    /// Sees to an item that was in a generation when that was outdated, if it still is.
    pub(super) fn look_again(&mut self, db: u16, hash: u64, link: Link, now_ms: u64) {
        if let Some(handle) = self.find_linked(db, hash, link) {
            self.is_outdated(db, hash, handle, now_ms);
        }
    }

    /// Adds an item to tags that it was linked to; where it is in one already, the new link is
    /// given back. Returns how many it was not in.
    ///
    /// The key must be there. There must be credit for [`LINK_BYTES`] per link, and for
    /// [`charge_max`](super::charge_max) bytes.
    pub fn attach(&mut self, db: u16, key: Key<'_>, links: &[Link]) -> usize {
        let Some(mut handle) = self.find(db, key) else {
            links.iter().for_each(|&link| self.tags.unlink(link));
            return 0;
        };
        if !handle.has(Flags::LOADED) {
            let expires_at = handle.expires_at();
            self.stop_expiry(handle);
            let extras = Extras {
                loaded: true,
                ..handle.extras()
            };
            handle = self.rebuild(db, key.hash, handle, extras);
            if let Some(at) = expires_at {
                self.start_expiry(db, handle, at.get());
            }
        }
        let mut chain = handle.chain();
        let mut added = 0;
        for &link in links {
            let is_known = |own: Link| own.generation == link.generation;
            if self.chains.iter(chain).any(is_known) {
                self.tags.unlink(link);
                continue;
            }
            chain = self.chains.add(chain, link);
            added += 1;
        }
        handle.set_chain(chain);
        self.pay(0, added * LINK_BYTES);
        added
    }

    /// Whether the item of a key is in the present generations of these tags and in nothing else,
    /// so that another value with these tags may stay there.
    #[must_use]
    pub fn is_tagged_so<'n>(
        &self,
        (db, key): (u16, Key<'_>),
        names: impl Iterator<Item = &'n [u8]>,
        since: Option<Stamp>,
        now_ms: u64,
    ) -> bool {
        let Some(handle) = self.find(db, key) else {
            return false;
        };
        // It is far away; the tags are looked up meanwhile.
        self.chains.prefetch(handle.chain());
        if is_due(handle.expires_at(), now_ms) {
            return false;
        }
        let mut wanted: SmallVec<[Generation; 4]> = SmallVec::new();
        for name in names {
            match self.tags.current_since(db, name, since) {
                Some(generation) if !wanted.contains(&generation) => wanted.push(generation),
                Some(_) | None => return false,
            }
        }
        let mut links = 0;
        self.chains.iter(handle.chain()).all(|link| {
            links += 1;
            wanted.contains(&link.generation)
        }) && links == wanted.len()
    }

    /// Takes an item out of a tag. Whether it was in it.
    pub fn detach(&mut self, db: u16, key: Key<'_>, name: &[u8]) -> bool {
        let (handle, generation) = (self.find(db, key), self.tags.current(db, name));
        let (Some(handle), Some(generation)) = (handle, generation) else {
            return false;
        };
        let (chain, link) = self.chains.remove(handle.chain(), generation);
        handle.set_chain(chain);
        if let Some(link) = link {
            self.tags.unlink(link);
            self.unpay(LINK_BYTES);
        }
        link.is_some()
    }

    /// Takes an item out of all its tags.
    pub(super) fn leave_tags(&mut self, handle: Handle) {
        let chain = handle.chain();
        if chain == 0 {
            return;
        }
        let links = self.chains.take(chain);
        handle.set_chain(0);
        links.iter().for_each(|&link| self.tags.unlink(link));
        self.unpay(links.len() * LINK_BYTES);
    }

    /// The generations that the item of a key is in, in the order in which it entered them.
    #[must_use]
    pub fn links(&self, db: u16, key: Key<'_>) -> Vec<Link> {
        let chain = self.find(db, key).map_or(0, Handle::chain);
        let mut links: Vec<Link> = self.chains.iter(chain).collect();
        links.reverse();
        links
    }

    /// The names of what links lead to, but for what is void.
    #[must_use]
    pub fn tag_names(&self, links: &[Link]) -> Vec<Box<[u8]>> {
        let name = |link: &Link| self.tags.name_of(link.generation);
        links.iter().filter_map(name).collect()
    }

    /// The key of the item that was linked so, if it is still there: not past its time, and not
    /// void by another tag.
    pub fn key_of(&mut self, db: u16, hash: u64, link: Link, now_ms: u64) -> Option<Vec<u8>> {
        self.look_again(db, hash, link, now_ms);
        let handle = self.find_linked(db, hash, link)?;
        (!is_due(handle.leaves_at(), now_ms)).then(|| handle.key().to_vec())
    }

    fn find_linked(&self, db: u16, hash: u64, link: Link) -> Option<Handle> {
        let is_in_it = |handle: Handle| self.chains.iter(handle.chain()).any(|own| own == link);
        self.tables
            .get(usize::from(db))?
            .find_by_hash(hash, is_in_it)
    }
}
