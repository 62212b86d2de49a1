//! One allocation per item: header, optional expiry, optional origin, key, value.
//!
//! ```text
//! 0         4           8       12              16              32
//! | key_len | value_len | place | clock24 flag8 | [ expiry 16 ] | [ origin 16 ] | key … | value …
//! ```
//!
//! # The invariant behind every `unsafe` of this room
//! A `Handle` is a pointer to such an allocation. Handles exist only in the lists of one shard
//! (its tables, its window, its wheel) and on the stack of a function that holds that shard's lock.
//! An item is freed by `Handle::free` alone, which the shard calls after it took the handle out
//! of all its lists. So whoever holds `&mut Shard` and found a handle in a list may read and write
//! the item; nobody else can reach it.
#![expect(
    unsafe_code,
    reason = "one allocation per item: measured 1.4x less memory and misses"
)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::num::NonZeroU64;
use std::ptr::NonNull;
use std::slice;

/// What every item begins with.
#[repr(C)]
struct Header {
    key_len: u32,
    value_len: u32,
    /// Where it stands in the window's queue, while [`Flags::WINDOW`] is set.
    place: u32,
    /// 24 bits of clock or frequency (the eviction policy's) and 8 bits of [`Flags`].
    access: u32,
}

/// Present iff [`Flags::EXPIRY`] is set.
#[repr(C)]
struct Expiry {
    /// Unix time in ms; 0: no expiry (it was taken away, the room stays).
    at_ms: u64,
    /// Where it stands in the wheel's bucket.
    index: u32,
    bucket: u16,
    _room: u16,
}

/// What is known of how a value came to be; present iff [`Flags::LOADED`] is set.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// How long it was to live when it was stored, in ms; at most 49 days are told.
    pub ttl_ms: u32,
    /// How long it took to make (Δ), in ms; 0: not known.
    pub delta_ms: u32,
    /// How long past its expiry it is kept, for who may be served a stale value, in ms.
    pub stale_ms: u32,
    /// The list of its links to tags; 0: none. Kept by the item, and copied nowhere.
    chain: u32,
}

impl Loaded {
    /// The same with another time to live, in ms.
    #[must_use]
    pub fn with_ttl(self, ttl_ms: u64) -> Self {
        let ttl_ms = u32::try_from(ttl_ms).unwrap_or(u32::MAX);
        Self { ttl_ms, ..self }
    }

    /// These times, each in ms.
    #[must_use]
    pub fn new(ttl_ms: u64, delta_ms: u64, stale_ms: u64) -> Self {
        let ms = |ms| u32::try_from(ms).unwrap_or(u32::MAX);
        Self {
            ttl_ms: ms(ttl_ms),
            delta_ms: ms(delta_ms),
            stale_ms: ms(stale_ms),
            chain: 0,
        }
    }
}

const HEADER: usize = size_of::<Header>();
const EXPIRY: usize = size_of::<Expiry>();
const LOADED: usize = size_of::<Loaded>();
const _: () = assert!(HEADER == 16 && EXPIRY == 16 && LOADED == 16, "item layout");

/// The low 8 bits of an item's `access` word.
pub(super) struct Flags;

impl Flags {
    /// 3 bits, reserved for the type of the value; 0 is a string, the only one so far.
    pub(super) const _KIND: u32 = 0b0000_0111;
    /// There is an [`Expiry`] between header and key.
    pub(super) const EXPIRY: u32 = 0b0000_1000;
    /// There is a [`Loaded`] between expiry and key.
    pub(super) const LOADED: u32 = 0b0001_0000;
    /// It is in the window of its shard.
    pub(super) const WINDOW: u32 = 0b0010_0000;
    /// It was read since it entered the window.
    pub(super) const TOUCHED: u32 = 0b0100_0000;
    /// Its value was grown or written in part: more may come, so room is left behind it.
    pub(super) const GROWN: u32 = 0b1000_0000;
    const ALL: u32 = 0xff;
}

/// What stands before the key.
const EXTRAS: u32 = Flags::EXPIRY | Flags::LOADED;

/// What an item has beside key and value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras {
    /// Room for an expiry.
    pub expiry: bool,
    /// Room for how its value came to be.
    pub loaded: bool,
}

impl Extras {
    fn flags(self) -> u32 {
        let expiry = if self.expiry { Flags::EXPIRY } else { 0 };
        let loaded = if self.loaded { Flags::LOADED } else { 0 };
        expiry | loaded
    }
}

/// The longest key or value, in bytes: their lengths are kept in 32 bits.
pub const LENGTH_MAX: usize = u32::MAX as usize - 64;

/// A pointer to an item of this shard; see the module's invariant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handle(NonNull<Header>);

// SAFETY: a handle is only used under its shard's lock (module invariant), from whichever thread.
unsafe impl Send for Handle {}

impl Handle {
    /// Allocates an item with this key and this value. Expiry and origin, where there are any, are
    /// zero.
    ///
    /// # Panics
    /// If one of them is longer than [`LENGTH_MAX`], for which there is never credit.
    pub(super) fn new(key: &[u8], value: &[u8], extras: Extras, flags: u32) -> Self {
        let (key_len, value_len) = (length32(key.len()), length32(value.len()));
        let flags = flags & !EXTRAS | extras.flags();
        let layout = layout(key.len(), value.len(), flags);
        // SAFETY: the layout's size is never 0, as it holds a header.
        let pointer = unsafe { alloc(layout) }.cast::<Header>();
        let Some(pointer) = NonNull::new(pointer) else {
            handle_alloc_error(layout)
        };
        // SAFETY: freshly allocated, large enough for the header, for what `key_offset` leaves room
        // for before the key, and for key and value, by `layout`. All of it may be zero.
        unsafe {
            pointer.write(Header {
                key_len,
                value_len,
                place: 0,
                access: flags,
            });
            let start = pointer.cast::<u8>().add(key_offset(flags));
            pointer
                .add(1)
                .cast::<u8>()
                .write_bytes(0, key_offset(flags) - HEADER);
            start.copy_from_nonoverlapping(NonNull::from(key).cast(), key.len());
            start
                .add(key.len())
                .copy_from_nonoverlapping(NonNull::from(value).cast(), value.len());
        }
        Self(pointer)
    }

    /// Gives the memory back. The handle must be in no list any more.
    pub(super) fn free(self) {
        let layout = self.layout();
        // SAFETY: allocated with the same layout, which depends only on fields that every
        // change of length keeps in step (`resize`, `overwrite`); module invariant for the rest.
        unsafe { dealloc(self.0.as_ptr().cast(), layout) };
    }

    pub(super) fn from_bits(bits: u64) -> Option<Self> {
        let address = usize::try_from(NonZeroU64::new(bits & POINTER_BITS)?.get()).ok()?;
        NonNull::new(std::ptr::with_exposed_provenance_mut(address)).map(Self)
    }

    /// The 48 bits of the pointer; the lowest is 0.
    pub(super) fn to_bits(self) -> u64 {
        let bits = self.0.as_ptr().expose_provenance() as u64;
        debug_assert!(
            bits & !POINTER_BITS == 0 && bits & 1 == 0,
            "48-bit, aligned addresses"
        );
        bits
    }

    fn header(&self) -> &Header {
        // SAFETY: module invariant: the item is alive, and only this thread reaches it.
        unsafe { self.0.as_ref() }
    }

    fn header_mut(&mut self) -> &mut Header {
        // SAFETY: module invariant: the item is alive, and only this thread reaches it.
        unsafe { self.0.as_mut() }
    }

    fn expiry_mut(&mut self) -> Option<&mut Expiry> {
        // SAFETY: the flag says that an expiry follows the header; module invariant.
        self.has(Flags::EXPIRY)
            .then(|| unsafe { self.0.add(1).cast::<Expiry>().as_mut() })
    }

    pub(super) fn has(&self, flag: u32) -> bool {
        self.header().access & flag != 0
    }

    pub(super) fn flags(&self) -> u32 {
        self.header().access & Flags::ALL
    }

    pub(super) fn set_flag(mut self, flag: u32, on: bool) {
        let access = self.header().access;
        self.header_mut().access = if on { access | flag } else { access & !flag };
    }

    /// The policy's 24 bits.
    pub(super) fn clock(&self) -> u32 {
        self.header().access >> 8
    }

    pub(super) fn set_clock(mut self, clock: u32) {
        let flags = self.flags();
        self.header_mut().access = clock << 8 | flags;
    }

    pub(super) fn place(&self) -> u32 {
        self.header().place
    }

    pub(super) fn set_place(mut self, place: u32) {
        self.header_mut().place = place;
    }

    pub(super) fn key<'a>(&self) -> &'a [u8] {
        let header = self.header();
        // SAFETY: `key_len` bytes were written there; module invariant. The callers bind the
        // lifetime to the shard they borrow.
        unsafe {
            let start = self.0.cast::<u8>().add(key_offset(header.access));
            slice::from_raw_parts(start.as_ptr(), header.key_len as usize)
        }
    }

    pub(super) fn value<'a>(&self) -> &'a [u8] {
        let header = self.header();
        // SAFETY: as for the key, which the value follows.
        unsafe {
            let start = self.0.cast::<u8>().add(self.value_offset());
            slice::from_raw_parts(start.as_ptr(), header.value_len as usize)
        }
    }

    pub(super) fn value_mut<'a>(self) -> &'a mut [u8] {
        let len = self.header().value_len as usize;
        // SAFETY: as for `value`; the caller holds `&mut Shard`, so it is the only reference.
        unsafe {
            let start = self.0.cast::<u8>().add(self.value_offset());
            slice::from_raw_parts_mut(start.as_ptr(), len)
        }
    }

    fn value_offset(&self) -> usize {
        key_offset(self.header().access) + self.header().key_len as usize
    }

    /// Unix time in ms from which on the item is not there any more.
    pub(super) fn expires_at(&self) -> Option<NonZeroU64> {
        if !self.has(Flags::EXPIRY) {
            return None;
        }
        // SAFETY: the flag says that an expiry follows the header; module invariant.
        NonZeroU64::new(unsafe { self.0.add(1).cast::<Expiry>().as_ref() }.at_ms)
    }

    /// Only for an item with room for an expiry.
    pub(super) fn set_expires_at(mut self, at_ms: u64) {
        if let Some(expiry) = self.expiry_mut() {
            expiry.at_ms = at_ms;
        }
    }

    /// Unix time in ms from which on nothing is left of it: past its expiry, for as long as it may
    /// be served stale.
    pub(super) fn leaves_at(&self) -> Option<NonZeroU64> {
        let stale_ms = self.loaded().map_or(0, |loaded| loaded.stale_ms);
        self.expires_at()
            .map(|at| at.saturating_add(u64::from(stale_ms)))
    }

    /// How its value came to be, if that was told.
    pub(super) fn loaded(&self) -> Option<Loaded> {
        if !self.has(Flags::LOADED) {
            return None;
        }
        let offset = loaded_offset(self.flags());
        // SAFETY: the flag says that it is there, at an offset that is a multiple of its alignment;
        // module invariant.
        let loaded = unsafe { self.0.cast::<u8>().add(offset).cast::<Loaded>().read() };
        Some(Loaded { chain: 0, ..loaded })
    }

    /// Only for an item with room for it, and before its expiry is set, of which it decides how
    /// long the item stays.
    pub(super) fn set_loaded(mut self, loaded: Loaded) {
        if let Some(own) = self.loaded_mut() {
            let chain = own.chain;
            *own = Loaded { chain, ..loaded };
        }
    }

    fn loaded_mut(&mut self) -> Option<&mut Loaded> {
        let offset = loaded_offset(self.flags());
        // SAFETY: as in `loaded`; the caller holds `&mut Shard`.
        self.has(Flags::LOADED)
            .then(|| unsafe { self.0.cast::<u8>().add(offset).cast::<Loaded>().as_mut() })
    }

    /// The list of its links to tags; 0: it has none.
    #[inline]
    pub(super) fn chain(mut self) -> u32 {
        self.loaded_mut().map_or(0, |loaded| loaded.chain)
    }

    /// Only for an item with room for how its value came to be.
    pub(super) fn set_chain(mut self, chain: u32) {
        if let Some(loaded) = self.loaded_mut() {
            loaded.chain = chain;
        }
    }

    /// What it has beside key and value.
    pub(super) fn extras(&self) -> Extras {
        Extras {
            expiry: self.has(Flags::EXPIRY),
            loaded: self.has(Flags::LOADED),
        }
    }

    /// Bucket and index in the wheel.
    pub(super) fn wheel_place(mut self) -> Option<(u16, u32)> {
        self.expiry_mut()
            .map(|expiry| (expiry.bucket, expiry.index))
    }

    pub(super) fn set_wheel_place(mut self, bucket: u16, index: u32) {
        if let Some(expiry) = self.expiry_mut() {
            (expiry.bucket, expiry.index) = (bucket, index);
        }
    }

    /// Writes another value into the same allocation, if it has just this size class.
    pub(super) fn overwrite(mut self, value: &[u8], extras: Extras) -> bool {
        let key_len = self.header().key_len as usize;
        let flags = self.flags() & !Flags::GROWN;
        let fits = flags & EXTRAS == extras.flags()
            && value.len() <= LENGTH_MAX
            && self.layout() == layout(key_len, value.len(), flags);
        if fits {
            self.header_mut().value_len = length32(value.len());
            self.value_mut().copy_from_slice(value);
            self.set_flag(Flags::GROWN, false);
        }
        fits
    }

    /// Makes the value `len` bytes long; what is new is zero. The item may move: the caller puts
    /// the returned handle in the place of this one everywhere.
    ///
    /// # Panics
    /// If that is longer than [`LENGTH_MAX`], for which there is never credit.
    pub(super) fn resize(self, len: usize) -> Self {
        // Before anything has moved: nobody must be left with a handle to what was freed.
        let len32 = length32(len);
        let (old_layout, old_len) = (self.layout(), self.header().value_len as usize);
        let new_layout = layout(
            self.header().key_len as usize,
            len,
            self.flags() | Flags::GROWN,
        );
        let mut moved = self;
        if new_layout != old_layout {
            // SAFETY: allocated with `old_layout`; the new size is not 0 and fits isize, as
            // lengths are below `LENGTH_MAX`.
            let pointer = unsafe { realloc(self.0.as_ptr().cast(), old_layout, new_layout.size()) };
            let Some(pointer) = NonNull::new(pointer.cast()) else {
                handle_alloc_error(new_layout)
            };
            moved = Self(pointer);
        }
        moved.header_mut().value_len = len32;
        moved.set_flag(Flags::GROWN, true);
        if len > old_len {
            // SAFETY: inside the allocation, which has room for `len` bytes of value.
            unsafe {
                let start = moved.0.cast::<u8>().add(moved.value_offset() + old_len);
                start.write_bytes(0, len - old_len);
            }
        }
        moved
    }

    /// Bytes that the item costs, the allocator's and the shard's own share included.
    pub(super) fn charge(&self) -> usize {
        charge_of(self.layout().size(), self.has(Flags::EXPIRY))
    }

    fn layout(&self) -> Layout {
        let header = self.header();
        layout(
            header.key_len as usize,
            header.value_len as usize,
            header.access,
        )
    }

    /// Asks the processor for the item's first bytes.
    pub(super) fn prefetch(self) {
        prefetch(self.0.as_ptr().cast());
        prefetch(self.0.as_ptr().cast::<u8>().wrapping_add(64));
        prefetch(self.0.as_ptr().cast::<u8>().wrapping_add(128));
    }
}

/// Asks the processor for the 64 bytes around an address. Any address will do.
#[inline]
pub(crate) fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing and faults on no address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// What an item of these lengths will cost, in bytes; more than there is, if they are longer than
/// [`LENGTH_MAX`].
#[must_use]
pub fn charge(key_len: usize, value_len: usize, extras: Extras) -> usize {
    if key_len.max(value_len) > LENGTH_MAX {
        return usize::MAX;
    }
    let layout = layout(key_len, value_len, extras.flags());
    charge_of(layout.size(), extras.expiry)
}

/// What an item of these lengths will cost at most, however it came about.
#[must_use]
pub fn charge_max(key_len: usize, value_len: usize) -> usize {
    if key_len.max(value_len) > LENGTH_MAX {
        return usize::MAX;
    }
    charge_of(
        layout(key_len, value_len, EXTRAS | Flags::GROWN).size(),
        true,
    )
}

fn charge_of(allocated: usize, with_expiry: bool) -> usize {
    let expiry = if with_expiry { WHEEL_BYTES } else { 0 };
    allocated + MALLOC_BYTES + SLOT_BYTES + expiry
}

fn loaded_offset(flags: u32) -> usize {
    HEADER
        + if flags & Flags::EXPIRY == 0 {
            0
        } else {
            EXPIRY
        }
}

fn key_offset(flags: u32) -> usize {
    loaded_offset(flags)
        + if flags & Flags::LOADED == 0 {
            0
        } else {
            LOADED
        }
}

/// Sizes come in the steps of malloc's own, so that a value of about the same length goes
/// into the same allocation; a grown value has an eighth of room to grow on, so that n appends
/// copy O(n) bytes.
fn layout(key_len: usize, value_len: usize, flags: u32) -> Layout {
    let size = key_offset(flags) + key_len + value_len;
    let step = if flags & Flags::GROWN == 0 {
        MALLOC_STEP
    } else {
        (size.next_power_of_two() / 16).max(MALLOC_STEP)
    };
    let size = (size + MALLOC_BYTES).next_multiple_of(step) - MALLOC_BYTES;
    Layout::from_size_align(size, ALIGN).expect("lengths are below LENGTH_MAX")
}

fn length32(len: usize) -> u32 {
    assert!(len <= LENGTH_MAX, "there is never credit for so much");
    u32::try_from(len).expect("LENGTH_MAX fits")
}

const POINTER_BITS: u64 = (1 << 48) - 1;
const ALIGN: usize = 8;
/// glibc's malloc keeps 8 bytes before each allocation, and rounds to 16.
const MALLOC_BYTES: usize = 8;
const MALLOC_STEP: usize = 16;
/// An item's share of the table: 64-byte buckets, five items in each on average.
const SLOT_BYTES: usize = 64usize.div_ceil(super::table::ITEMS_PER_BUCKET);
/// An item's share of the expiry wheel: 8 bytes, in lists that are two thirds full.
const WHEEL_BYTES: usize = 12;
