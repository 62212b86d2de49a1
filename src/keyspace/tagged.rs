//! Keys that carry tags.

use smallvec::SmallVec;

use super::{Place, View};
use crate::store::{
    Change, Full, LINK_BYTES, Link, Observer, Refusal, Stamp, Write, charge, charge_max,
};

/// Why a value was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotStored {
    /// Memory is full and nobody may be evicted.
    Full,
    /// A tag of it was invalidated since its making began.
    Outdated,
    /// There are as many tags as there can be, or as many of one key.
    TooManyTags,
}

impl From<Full> for NotStored {
    fn from(Full: Full) -> Self {
        Self::Full
    }
}

impl From<Refusal> for NotStored {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Outdated => Self::Outdated,
            Refusal::TooMany => Self::TooManyTags,
        }
    }
}

type Names = SmallVec<[SmallVec<[u8; 32]>; 4]>;
type Links = SmallVec<[Link; 4]>;

impl View<'_> {
    /// Stores a string with these tags and those that rules give to its key. It is not stored, if
    /// one of them was invalidated since its making began.
    ///
    /// # Errors
    /// [`NotStored`]; nothing has changed then but for who was evicted.
    pub fn write_tagged<'n>(
        &mut self,
        place: Place<'_>,
        write: Write<'_>,
        tags: impl Iterator<Item = &'n [u8]>,
        since: Option<Stamp>,
    ) -> Result<(), NotStored> {
        let of_rules = self.tags_of_rules(place);
        let mut names: SmallVec<[&[u8]; 8]> = SmallVec::new();
        tags.for_each(|tag| names.push(tag));
        names.extend(of_rules.iter().map(|name| &name[..]));
        if names.len() > TAGS_PER_KEY_MAX {
            return Err(NotStored::TooManyTags);
        }
        if names.is_empty() {
            return Ok(self.write(place, write)?);
        }
        let mut write = Write {
            loaded: Some(write.loaded.unwrap_or_default()),
            ..write
        };
        let cost = charge(place.key, write.value.len(), write.extras());
        let cost = cost + names.len() * LINK_BYTES;
        if !self.locked.shard(place.key.hash).has_credit(cost) {
            self.pay_for(place, |_| cost)?;
        }
        let (db, now_ms) = (self.locked.physical(place.db), self.now_ms);
        let shard = self.locked.shard(place.key.hash);
        let each = names.iter().copied();
        write.keeps_tags = shard.is_tagged_so((db, place.key), each, since, now_ms);
        if write.keeps_tags {
            shard.set(db, place.key, write, now_ms);
        } else {
            let links = self.link(place, &names, since)?;
            let shard = self.locked.shard(place.key.hash);
            shard.set(db, place.key, write, now_ms);
            shard.attach(db, place.key, &links);
        }
        self.locked.tell(db, place.key, Change::Written);
        self.changes += 1;
        Ok(())
    }

    /// Adds a key to tags. How many it was not in; nothing, if it is not there.
    ///
    /// # Errors
    /// [`NotStored`]; nothing has changed then but for who was evicted.
    pub fn add_tags<'n>(
        &mut self,
        place: Place<'_>,
        tags: impl Iterator<Item = &'n [u8]>,
    ) -> Result<usize, NotStored> {
        let Some((len, _)) = self.shape(place) else {
            return Ok(0);
        };
        let has = self.tags_of(place);
        let mut names: Names = SmallVec::new();
        for tag in tags {
            let is_known = names.iter().any(|name| name[..] == *tag);
            if !is_known && !has.iter().any(|name| **name == *tag) {
                names.push(SmallVec::from_slice(tag));
            }
        }
        if has.len() + names.len() > TAGS_PER_KEY_MAX {
            return Err(NotStored::TooManyTags);
        }
        let cost = charge_max(place.key, len) + names.len() * LINK_BYTES;
        self.pay_for(place, |_| cost)?;
        // To pay for it may have evicted the very key.
        if !self.contains(place) {
            return Ok(0);
        }
        let links = self.link(place, &names, None)?;
        let added = self.attach(place, &links);
        self.tags_changed(place, added);
        Ok(added)
    }

    /// Takes a key out of tags. How many it was in.
    pub fn remove_tags<'n>(
        &mut self,
        place: Place<'_>,
        tags: impl Iterator<Item = &'n [u8]>,
    ) -> usize {
        if !self.contains(place) {
            return 0;
        }
        let db = self.locked.physical(place.db);
        let shard = self.locked.shard(place.key.hash);
        let removed = tags.filter(|tag| shard.detach(db, place.key, tag)).count();
        self.tags_changed(place, removed);
        removed
    }

    /// The tags of a key, in the order in which it got them.
    pub fn tags_of(&mut self, place: Place<'_>) -> Vec<Box<[u8]>> {
        if !self.contains(place) {
            return Vec::new();
        }
        let db = self.locked.physical(place.db);
        let shard = self.locked.shard(place.key.hash);
        let links = shard.links(db, place.key);
        shard.tag_names(&links)
    }

    /// How many keys carry a tag.
    pub fn tag_card(&self, db: u16, tag: &[u8]) -> usize {
        let db = self.locked.physical(db);
        self.locked.store().tags().card(db, tag)
    }

    /// The keys that carry a tag.
    pub fn tag_members(&mut self, db: u16, tag: &[u8]) -> Vec<Vec<u8>> {
        let (db, store, now_ms) = (self.locked.physical(db), self.locked.store(), self.now_ms);
        let members = store.tags().members(db, tag);
        let mut keys = Vec::with_capacity(members.len());
        for (hash, link) in members.iter() {
            let key = |shard: &mut crate::store::Shard| shard.key_of(db, hash, link, now_ms);
            keys.extend(self.locked.with_shard_of(hash, key));
        }
        keys
    }

    /// Calls `visit` with some tags of a database that have keys, and returns the cursor to go on
    /// with, 0 at the end: as [`Self::scan`] does it with keys.
    pub fn scan_tags(&self, db: u16, cursor: u64, count: usize, visit: impl FnMut(&[u8])) -> u64 {
        let (locked, db) = (&self.locked, self.locked.physical(db));
        locked.store().tags().scan(db, cursor, count, visit)
    }

    /// Outdates all keys that carry one of these tags, or lets them have expired just now
    /// (`is_soft`). How many keys that is, one that carries several counted for each: no reader
    /// finds their values from here on, and nothing that was being made is stored with one of the
    /// tags any more.
    pub fn invalidate_tags<'n>(
        &mut self,
        db: u16,
        names: impl Iterator<Item = &'n [u8]>,
        is_soft: bool,
    ) -> usize {
        let (db, store, now_ms) = (self.locked.physical(db), self.locked.store(), self.now_ms);
        let tags = store.tags();
        let outdate = |name| match is_soft {
            true => tags.soften(db, name, now_ms),
            false => tags.invalidate(db, name),
        };
        // In a transaction all shards are locked, and nobody looks at anything.
        let closed = self.locked.is_none().then(|| tags.close_gate());
        let keys: usize = names.map(outdate).sum();
        drop(closed);
        self.changes += keys as u64;
        // Only now: who carries several of the tags counts for each, however many keys there are.
        if keys > 0 && keys <= RECLAIMED_AT_ONCE as usize && self.locked.is_none() {
            store.reclaim(now_ms, RECLAIMED_AT_ONCE);
        }
        keys
    }

    /// Links for `to`, as `from` has them: in the same generations of its tags, or in those of the
    /// same names in another database.
    ///
    /// # Errors
    /// [`Refusal`]: a value without its tags could not be invalidated.
    pub(super) fn links_like(&mut self, from: Place<'_>, to: Place<'_>) -> Result<Links, Refusal> {
        let (from_db, to_db) = (self.locked.physical(from.db), self.locked.physical(to.db));
        let shard = self.locked.shard(from.key.hash);
        let links = shard.links(from_db, from.key);
        if from_db == to_db {
            let tags = self.locked.store().tags();
            let like = |&link: &Link| tags.link_like(link, to.key.hash);
            return Ok(links.iter().map(like).collect());
        }
        let names = shard.tag_names(&links);
        if names.len() < links.len() {
            // It was invalidated since it was looked at.
            return Err(Refusal::Outdated);
        }
        let names: Names = names
            .iter()
            .map(|name| SmallVec::from_slice(name))
            .collect();
        self.link(to, &names, None)
    }

    /// Gives back links that are not used.
    pub(super) fn unlink(&self, links: &[Link]) {
        let tags = self.locked.store().tags();
        links.iter().for_each(|&link| tags.unlink(link));
    }

    /// Adds a key, if it is there, to what it was linked to, which has been paid for. How much of
    /// that is new.
    pub(super) fn attach(&mut self, place: Place<'_>, links: &[Link]) -> usize {
        if links.is_empty() {
            return 0;
        }
        let db = self.locked.physical(place.db);
        let shard = self.locked.shard(place.key.hash);
        shard.attach(db, place.key, links)
    }

    /// Adds a key that has a new value to the tags that rules give it. Never fails: what there is
    /// no room for goes beyond the bound.
    #[cold]
    pub(super) fn tag_by_rule(&mut self, place: Place<'_>, observer: &dyn Observer) {
        let mut names = Names::new();
        observer.tags(place.key.bytes, &mut |tag| {
            names.push(SmallVec::from_slice(tag));
        });
        let Some((len, _)) = self.shape(place) else {
            return;
        };
        if names.is_empty() {
            return;
        }
        self.pay_beyond(place, charge_max(place.key, len) + names.len() * LINK_BYTES);
        match self.link(place, &names, None) {
            Ok(links) => drop(self.attach(place, &links)),
            // A value without its tags could not be invalidated.
            Err(_) => drop(self.remove(place)),
        }
    }

    fn tags_of_rules(&self, place: Place<'_>) -> Names {
        let mut names = Names::new();
        if let Some(observer) = self.locked.observer() {
            observer.tags(place.key.bytes, &mut |tag| {
                names.push(SmallVec::from_slice(tag));
            });
        }
        names
    }

    /// Links a key to these tags, or to none.
    fn link(
        &self,
        place: Place<'_>,
        names: &[impl AsRef<[u8]>],
        since: Option<Stamp>,
    ) -> Result<Links, Refusal> {
        let (db, tags) = (self.locked.physical(place.db), self.locked.store().tags());
        let mut links = Links::new();
        for name in names {
            match tags.link(db, name.as_ref(), place.key.hash, since) {
                Ok(link) => links.push(link),
                Err(refusal) => {
                    links.iter().for_each(|&link| tags.unlink(link));
                    return Err(refusal);
                }
            }
        }
        Ok(links)
    }

    fn tags_changed(&mut self, place: Place<'_>, count: usize) {
        if count > 0 {
            let db = self.locked.physical(place.db);
            let shard = self.locked.shard(place.key.hash);
            shard.watchers.touch(db, place.key.bytes);
            self.changes += 1;
        }
    }
}

/// So few keys are taken out by whoever invalidates their tag, rather than behind.
const RECLAIMED_AT_ONCE: u32 = 32;
/// Tags of a key.
pub const TAGS_PER_KEY_MAX: usize = 128;
/// Length of a tag, in bytes.
pub const TAG_BYTES_MAX: usize = 1024;
