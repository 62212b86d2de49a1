//! Numbered places for values of one kind: a list that grows without moving what is in it.

/// Values by their numbers. A number is used again once its value was taken.
pub(in crate::store) struct Slab<T> {
    chunks: Vec<Box<[T]>>,
    /// Numbers below this were given out before.
    used: u32,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            used: 0,
            free: Vec::new(),
        }
    }
}

impl<T: Default> Slab<T> {
    pub(in crate::store) fn insert(&mut self, value: T) -> u32 {
        let number = self.free.pop().unwrap_or(self.used);
        if number == self.used {
            self.used += 1;
            if index(number).0 == self.chunks.len() {
                self.chunks.push((0..CHUNK).map(|_| T::default()).collect());
            }
        }
        self[number] = value;
        number
    }

    /// Takes a value out. The last one gives all memory back.
    pub(in crate::store) fn remove(&mut self, number: u32) -> T {
        let value = std::mem::take(&mut self[number]);
        self.free.push(number);
        if self.len() == 0 {
            *self = Self::default();
        }
        value
    }

    /// How many values there are.
    pub(in crate::store) fn len(&self) -> usize {
        self.used as usize - self.free.len()
    }

    /// Numbers that may have a value are below this.
    pub(in crate::store) fn bound(&self) -> u32 {
        self.used
    }

    pub(in crate::store) fn heap_bytes(&self) -> usize {
        self.chunks.len() * (CHUNK * size_of::<T>() + size_of::<Box<[T]>>())
            + self.free.capacity() * size_of::<u32>()
    }
}

impl<T> std::ops::Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, number: u32) -> &T {
        let (chunk, place) = index(number);
        &self.chunks[chunk][place]
    }
}

impl<T> std::ops::IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        let (chunk, place) = index(number);
        &mut self.chunks[chunk][place]
    }
}

fn index(number: u32) -> (usize, usize) {
    let number = number as usize;
    (number / CHUNK, number % CHUNK)
}

/// Values that are allocated together.
const CHUNK: usize = 64;
