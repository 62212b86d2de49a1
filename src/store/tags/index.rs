//! A share of the tags: their names, their generations, and who is in these.

use std::collections::BTreeSet;

use hashbrown::HashTable;

use super::slab::Slab;

/// What one lock protects. Generations, tags and links have numbers of their own in each room.
#[derive(Default)]
pub(super) struct Room {
    /// Tags by their names.
    names: HashTable<u32>,
    tags: Slab<Tag>,
    generations: Slab<Generation>,
    links: Slab<Node>,
    /// How often all was forgotten: a number from before means nothing.
    pub(super) epoch: u32,
    /// What tags and generations cost, and how much of that was paid for.
    pub(super) bytes: usize,
    pub(super) paid: usize,
}

#[derive(Default)]
struct Tag {
    hash: u64,
    name: Box<[u8]>,
    db: u16,
    /// Whom new keys join, if anybody is in it.
    current: Option<u32>,
    /// Those that became stale and are not empty yet.
    stale: BTreeSet<u32>,
}

/// Keys that entered a tag between two invalidations of it: a ring of nodes.
#[derive(Default)]
struct Generation {
    /// `NONE` once it is void.
    tag: u32,
    db: u16,
    /// The oldest; nothing while it is empty.
    first: u32,
    len: u32,
    /// Who looks at it and wants it to stay.
    pins: u32,
    /// Of its keys, who is still to be looked at since it became stale or void.
    unseen: u32,
    /// Unix time in ms; 0: it is not.
    stale_since: u64,
}

/// A key in a generation.
#[derive(Default)]
struct Node {
    previous: u32,
    next: u32,
    key_hash: u64,
}

const NONE: u32 = u32::MAX;

impl Room {
    pub(super) fn find(&self, hash: u64, db: u16, name: &[u8]) -> Option<u32> {
        let is_it = |&tag: &u32| {
            let tag = &self.tags[tag];
            tag.db == db && *tag.name == *name
        };
        self.names.find(hash, is_it).copied()
    }

    /// How many generations there are.
    pub(super) fn generations(&self) -> usize {
        self.generations.len()
    }

    /// Whom a tag's new keys join, if anybody is there to join.
    pub(super) fn current(&self, tag: u32) -> Option<u32> {
        self.tags[tag].current
    }

    /// Begins a generation of a tag, which has no current one and comes to be if need be. Somebody
    /// has to join at once.
    pub(super) fn begin(&mut self, hash: u64, db: u16, name: &[u8]) -> u32 {
        let tag = self
            .find(hash, db, name)
            .unwrap_or_else(|| self.add_tag(hash, db, name));
        let generation = self.generations.insert(Generation {
            tag,
            db,
            ..Generation::default()
        });
        self.bytes += GENERATION_BYTES;
        self.tags[tag].current = Some(generation);
        generation
    }

    fn add_tag(&mut self, hash: u64, db: u16, name: &[u8]) -> u32 {
        let tag = self.tags.insert(Tag {
            hash,
            name: name.into(),
            db,
            current: None,
            stale: BTreeSet::new(),
        });
        self.bytes += TAG_BYTES + name.len();
        let tags = &self.tags;
        self.names.insert_unique(hash, tag, |&tag| tags[tag].hash);
        tag
    }

    /// Forgets a tag, whose generations are taken from it.
    fn remove_tag(&mut self, tag: u32) {
        let removed = self.tags.remove(tag);
        self.bytes -= TAG_BYTES + removed.name.len();
        if let Ok(name) = self.names.find_entry(removed.hash, |&other| other == tag) {
            name.remove();
        }
        if self.names.is_empty() {
            self.names = HashTable::new();
        }
    }

    /// Adds a key, the last in the ring.
    pub(super) fn push(&mut self, generation: u32, key_hash: u64) -> u32 {
        let node = self.links.insert(Node {
            previous: 0,
            next: 0,
            key_hash,
        });
        let generation = &mut self.generations[generation];
        if generation.len == 0 {
            generation.first = node;
            (self.links[node].previous, self.links[node].next) = (node, node);
        } else {
            let first = generation.first;
            let last = self.links[first].previous;
            (self.links[node].previous, self.links[node].next) = (last, first);
            self.links[last].next = node;
            self.links[first].previous = node;
        }
        generation.len += 1;
        if generation.tag == NONE || generation.stale_since > 0 {
            generation.unseen = generation.len;
        }
        node
    }

    /// Takes a key out. The last one takes the generation along, unless it is pinned; true if that
    /// was outdated.
    pub(super) fn take(&mut self, generation: u32, node: u32) -> bool {
        let Node { previous, next, .. } = self.links.remove(node);
        let ring = &mut self.generations[generation];
        ring.len -= 1;
        ring.unseen = ring.unseen.min(ring.len);
        if ring.len > 0 {
            if ring.first == node {
                ring.first = next;
            }
            self.links[previous].next = next;
            self.links[next].previous = previous;
            return false;
        }
        self.end_if_empty(generation)
    }

    /// What is empty and not pinned is no more. Whether it was outdated and is no more.
    fn end_if_empty(&mut self, generation: u32) -> bool {
        let ring = &self.generations[generation];
        if ring.len > 0 || ring.pins > 0 {
            return false;
        }
        let ended = self.generations.remove(generation);
        self.bytes -= GENERATION_BYTES;
        if ended.tag == NONE {
            return true;
        }
        let tag = &mut self.tags[ended.tag];
        tag.stale.remove(&generation);
        if tag.current == Some(generation) {
            tag.current = None;
        }
        if tag.current.is_none() && tag.stale.is_empty() {
            self.remove_tag(ended.tag);
        }
        ended.stale_since > 0
    }

    /// Takes all generations from a tag, which is no more.
    pub(super) fn detach(&mut self, tag: u32) -> Vec<u32> {
        let generations: Vec<u32> = self.all(tag).collect();
        for &generation in &generations {
            let ring = &mut self.generations[generation];
            (ring.tag, ring.unseen) = (NONE, ring.len);
        }
        self.remove_tag(tag);
        generations
    }

    /// Makes the current generation of a tag a stale one.
    pub(super) fn retire(&mut self, tag: u32, now_ms: u64) -> Option<u32> {
        let tag = &mut self.tags[tag];
        let generation = tag.current.take()?;
        tag.stale.insert(generation);
        let ring = &mut self.generations[generation];
        (ring.stale_since, ring.unseen) = (now_ms.max(1), ring.len);
        Some(generation)
    }

    /// All generations of a tag, the present one last.
    pub(super) fn all(&self, tag: u32) -> impl Iterator<Item = u32> {
        let tag = &self.tags[tag];
        tag.stale.iter().copied().chain(tag.current)
    }

    /// How many keys are in it.
    pub(super) fn len(&self, generation: u32) -> usize {
        self.generations[generation].len as usize
    }

    /// The name of its tag, unless it is void.
    pub(super) fn name_of(&self, generation: u32) -> Option<&[u8]> {
        let tag = self.generations[generation].tag;
        (tag != NONE).then(|| &*self.tags[tag].name)
    }

    pub(super) fn stale_since(&self, generation: u32) -> u64 {
        self.generations[generation].stale_since
    }

    /// Keeps a generation, even an empty one, until it is unpinned.
    pub(super) fn pin(&mut self, generation: u32) {
        self.generations[generation].pins += 1;
    }

    /// Whether it was outdated and is no more.
    pub(super) fn unpin(&mut self, generation: u32) -> bool {
        self.generations[generation].pins -= 1;
        self.end_if_empty(generation)
    }

    /// Calls `visit` with the number and the key's hash of all in a generation, the oldest first.
    pub(super) fn each(&self, generation: u32, mut visit: impl FnMut(u32, u64)) {
        let ring = &self.generations[generation];
        let mut at = ring.first;
        for _ in 0..ring.len {
            visit(at, self.links[at].key_hash);
            at = self.links[at].next;
        }
    }

    /// The database of a generation, and the next keys, up to `count`, that were not looked at
    /// since their generation was outdated.
    pub(super) fn next_unseen(&mut self, generation: u32, count: u32) -> (u16, Vec<(u32, u64)>) {
        // It may be no more, with or without another in its place.
        if generation >= self.generations.bound() {
            return (0, Vec::new());
        }
        let ring = &mut self.generations[generation];
        let count = count.min(ring.unseen);
        ring.unseen -= count;
        let mut keys = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let node = &self.links[ring.first];
            keys.push((ring.first, node.key_hash));
            ring.first = node.next;
        }
        (ring.db, keys)
    }

    /// The name of the tag of this number, if there is one in this database.
    pub(super) fn tag(&self, number: u32, db: u16) -> Option<&[u8]> {
        let tag = &self.tags[number];
        let is_there = tag.db == db && (tag.current.is_some() || !tag.stale.is_empty());
        is_there.then_some(&*tag.name)
    }

    /// Numbers of tags are below this.
    pub(super) fn tags_bound(&self) -> u32 {
        self.tags.bound()
    }

    /// Numbers of generations are below this.
    pub(super) fn generations_bound(&self) -> u32 {
        self.generations.bound()
    }

    /// The database of a generation that has keys.
    pub(super) fn database_of(&self, generation: u32) -> Option<u16> {
        let ring = &self.generations[generation];
        (ring.len > 0).then_some(ring.db)
    }

    /// Takes all keys out of a generation. Whether it was outdated and is no more.
    pub(super) fn empty(&mut self, generation: u32) -> bool {
        let mut was_outdated = false;
        while self.generations[generation].len > 0 {
            let first = self.generations[generation].first;
            was_outdated = self.take(generation, first);
        }
        was_outdated
    }

    /// How many tags there are.
    pub(super) fn tags(&self) -> usize {
        self.tags.len()
    }

    /// An empty room in the place of this one.
    pub(super) fn renewed(&mut self) -> Self {
        Self {
            epoch: self.epoch + 1,
            ..Self::default()
        }
    }

    /// Bytes in use, those of the links included, and what was set aside for more.
    pub(super) fn heap_bytes(&self) -> usize {
        let generations = self.generations.len() * GENERATION_BYTES;
        let set_aside = self.generations.heap_bytes().saturating_sub(generations);
        self.bytes + self.links.heap_bytes() + set_aside
    }
}

/// What a tag costs beside its name, and a generation, in bytes: each has a place in a list (or a
/// tree), and the tag's in the table of names is two thirds full.
const TAG_BYTES: usize = size_of::<Tag>() + 16 + 8;
const GENERATION_BYTES: usize = size_of::<Generation>() + 8;
/// What a key costs in a generation.
pub(super) const NODE_BYTES: usize = size_of::<Node>();
