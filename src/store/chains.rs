//! Which generations of tags the items of a shard are in: a list for each item that has any.

use smallvec::SmallVec;

use super::item::prefetch;
use super::tags::{Generation, Link, Slab};

/// The lists of a shard's items. An item keeps the number of its list; 0: it has none.
#[derive(Default)]
pub(super) struct Chains {
    rings: Slab<Ring>,
}

/// A link, and the number of the next; 0: it is the last.
#[derive(Default)]
struct Ring {
    link: Link,
    next: u32,
}

impl Chains {
    /// Bytes in use, and what was set aside for more.
    #[cfg(test)]
    pub(super) fn heap_bytes(&self) -> usize {
        self.rings.heap_bytes()
    }

    /// The links of a list, the youngest first.
    pub(super) fn iter(&self, chain: u32) -> impl Iterator<Item = Link> {
        let ring = |number: u32| number.checked_sub(1).map(|index| &self.rings[index]);
        std::iter::successors(ring(chain), move |last| ring(last.next)).map(|ring| ring.link)
    }

    /// Asks the processor for the first link of a list.
    pub(super) fn prefetch(&self, chain: u32) {
        if let Some(index) = chain.checked_sub(1) {
            prefetch(std::ptr::from_ref(&self.rings[index]).cast());
        }
    }

    /// Adds a link to a list; returns the number of the list from here on.
    pub(super) fn add(&mut self, chain: u32, link: Link) -> u32 {
        self.rings.insert(Ring { link, next: chain }) + 1
    }

    /// Takes the link to a generation out of a list, if it is there; returns the number of the list
    /// from here on.
    pub(super) fn remove(&mut self, chain: u32, generation: Generation) -> (u32, Option<Link>) {
        let mut links = self.take(chain);
        let Some(at) = links.iter().position(|link| link.generation == generation) else {
            return (self.restore(&links), None);
        };
        let link = links.remove(at);
        (self.restore(&links), Some(link))
    }

    fn restore(&mut self, links: &[Link]) -> u32 {
        let oldest_first = links.iter().rev();
        oldest_first.fold(0, |chain, &link| self.add(chain, link))
    }

    /// Takes all links out of a list, which is no more.
    pub(super) fn take(&mut self, chain: u32) -> SmallVec<[Link; 4]> {
        let mut links = SmallVec::new();
        let mut at = chain;
        while let Some(index) = at.checked_sub(1) {
            let ring = self.rings.remove(index);
            links.push(ring.link);
            at = ring.next;
        }
        links
    }
}

/// What a link costs in an item's list, in bytes.
pub(super) const CHAIN_BYTES: usize = size_of::<Ring>();
