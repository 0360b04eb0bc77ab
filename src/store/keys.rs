//! The key directory: a hash of slots over an arena of key bytes, and back from slot to key.

use xxhash_rust::xxh3::xxh3_64;

use crate::ids::Slot;
use crate::kernel::prefetch;
use crate::numbers::Numbers;

/// Where a slot's key lies in the arena: the offset above, the length in the low 16 bits. Keys
/// are never empty, so length 0 marks a slot that is free.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Span(u64);

impl Span {
    const FREE: Self = Self(0);

    fn new(offset: usize, len: usize) -> Self {
        Self(((offset as u64) << 16) | len as u64)
    }

    fn len(self) -> usize {
        (self.0 & 0xffff) as usize
    }

    fn range(self) -> std::ops::Range<usize> {
        let offset = (self.0 >> 16) as usize;
        offset..offset + self.len()
    }
}

/// Arenas below this size are not worth compacting.
const COMPACT_MIN: usize = 64 << 10;

/// Keys of a table. Each slot handed out by `allocate` is either *bound*, found by its key, or
/// not yet (its row is on disk and not published), until it is released.
#[derive(Default)]
pub(crate) struct KeyDirectory {
    bound: Numbers,
    /// Slots that are bound when there are many of them, with the hashes of their keys.
    unbound: Vec<(u64, u32)>,
    spans: Vec<Span>,
    arena: Vec<u8>,
    /// Bytes of the arena that belong to released slots.
    garbage: usize,
    free: Vec<u32>,
}

impl KeyDirectory {
    /// Keys that can be found.
    pub(crate) fn len(&self) -> usize {
        self.bound.len()
    }

    /// Slots in use, bound or not.
    pub(crate) fn slots_in_use(&self) -> usize {
        self.spans.len() - self.free.len()
    }

    /// Makes room for this many more keys, their bytes apart.
    pub(crate) fn reserve(&mut self, keys: usize) {
        let hash_of = hash_of(&self.arena, &self.spans);
        self.bound.reserve(keys, hash_of);
        self.spans.reserve_exact(keys);
    }

    /// The slot bound to this key.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Slot> {
        let is_equal = |slot| self.bytes(slot) == key;
        self.bound.find(xxh3_64(key), is_equal).map(Slot::from_raw)
    }

    /// The key of a slot in use.
    pub(crate) fn key(&self, slot: Slot) -> &[u8] {
        self.bytes(slot.raw())
    }

    /// Asks for the keys of slots in use, which lie anywhere, together.
    pub(crate) fn prefetch(&self, slots: impl Iterator<Item = Slot> + Clone) {
        for slot in slots.clone() {
            prefetch(&self.spans[slot.index()..=slot.index()]);
        }
        for slot in slots {
            prefetch(self.key(slot));
        }
    }

    /// Takes a slot for this key without binding it.
    pub(crate) fn allocate(&mut self, key: &[u8]) -> Slot {
        grow(&mut self.arena, key.len());
        let span = Span::new(self.arena.len(), key.len());
        self.arena.extend_from_slice(key);
        if let Some(slot) = self.free.pop() {
            self.spans[slot as usize] = span;
            return Slot::from_raw(slot);
        }
        grow(&mut self.spans, 1);
        self.spans.push(span);
        Slot::new(self.spans.len() - 1)
    }

    /// The slots that `allocate` will hand out next, without end.
    pub(crate) fn upcoming(&self) -> impl Iterator<Item = Slot> + '_ {
        let again = self.free.iter().rev().copied().map(Slot::from_raw);
        again.chain((self.spans.len()..).map(Slot::new))
    }

    /// Binds an allocated slot to its key and returns the slot that was bound to it before.
    pub(crate) fn bind(&mut self, slot: Slot) -> Option<Slot> {
        let key = &self.arena[self.spans[slot.index()].range()];
        self.bind_hashed(xxh3_64(key), slot.raw())
    }

    fn bind_hashed(&mut self, hash: u64, slot: u32) -> Option<Slot> {
        let (arena, spans) = (&self.arena, &self.spans);
        let bytes = |slot: u32| &arena[spans[slot as usize].range()];
        let is_equal = |other| bytes(other) == bytes(slot);
        let hash_of = hash_of(arena, spans);
        let old = self.bound.replace_or_insert(hash, slot, is_equal, hash_of);
        old.map(Slot::from_raw)
    }

    /// Binds an allocated slot to its key, which no other slot is bound to, before the next
    /// [`Self::bind_all`]. Many together are bound faster than one after another.
    pub(crate) fn bind_later(&mut self, slot: Slot) {
        let hash = xxh3_64(self.key(slot));
        self.unbound.push((hash, slot.raw()));
    }

    /// Slots that are still to be bound.
    pub(crate) fn unbound(&self) -> usize {
        self.unbound.len()
    }

    /// Binds what is left to be bound.
    pub(crate) fn bind_all(&mut self) {
        let mut unbound = std::mem::take(&mut self.unbound);
        self.bound.arrange(&mut unbound);
        for &(hash, slot) in &unbound {
            let bound_before = self.bind_hashed(hash, slot);
            debug_assert!(bound_before.is_none(), "key of slot {slot} is bound twice");
        }
    }

    /// Unbinds a key and returns its slot, which stays in use until it is released.
    pub(crate) fn unbind(&mut self, key: &[u8]) -> Option<Slot> {
        let (arena, spans) = (&self.arena, &self.spans);
        let is_equal = |slot: u32| &arena[spans[slot as usize].range()] == key;
        let found = self.bound.remove(xxh3_64(key), is_equal);
        found.map(Slot::from_raw)
    }

    /// Gives a slot that is no longer bound back for reuse.
    pub(crate) fn release(&mut self, slot: Slot) {
        let span = std::mem::replace(&mut self.spans[slot.index()], Span::FREE);
        self.garbage += span.len();
        self.free.push(slot.raw());
        if self.garbage > COMPACT_MIN && self.garbage > self.arena.len() / 2 {
            self.compact();
        }
    }

    /// Bytes allocated.
    pub(crate) fn memory(&self) -> usize {
        self.bound.memory()
            + self.unbound.capacity() * size_of::<(u64, u32)>()
            + self.spans.capacity() * size_of::<Span>()
            + self.arena.capacity()
            + self.free.capacity() * size_of::<u32>()
    }

    fn bytes(&self, slot: u32) -> &[u8] {
        &self.arena[self.spans[slot as usize].range()]
    }

    fn compact(&mut self) {
        let mut arena = Vec::with_capacity(self.arena.len() - self.garbage);
        for span in &mut self.spans {
            if *span != Span::FREE {
                let moved = Span::new(arena.len(), span.len());
                arena.extend_from_slice(&self.arena[span.range()]);
                *span = moved;
            }
        }
        self.arena = arena;
        self.garbage = 0;
    }
}

/// The hash of the key of a slot.
fn hash_of(arena: &[u8], spans: &[Span]) -> impl Fn(u32) -> u64 {
    |slot| xxh3_64(&arena[spans[slot as usize].range()])
}

/// Makes room for `more` by an eighth at a time: doubling would leave half of a large directory
/// unused.
fn grow<T>(vec: &mut Vec<T>, more: usize) {
    if vec.capacity() - vec.len() < more {
        vec.reserve_exact(more.max(vec.len() / 8).max(64));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn upcoming_slots_are_those_released_and_then_new_ones() {
        let mut directory = KeyDirectory::default();
        let key = |number: usize| format!("key {number}").into_bytes();
        let slots: Vec<Slot> = (0..9)
            .map(|number| directory.allocate(&key(number)))
            .collect();
        for nth in [6, 1, 4] {
            directory.release(slots[nth]);
        }
        let upcoming: Vec<Slot> = directory.upcoming().take(6).collect();
        let allocated: Vec<Slot> = (9..15)
            .map(|number| directory.allocate(&key(number)))
            .collect();
        assert_eq!(upcoming, allocated);
        assert_eq!(upcoming[3..], [9, 10, 11].map(Slot::new));
    }

    #[test]
    fn agrees_with_a_map_under_churn() {
        let mut directory = KeyDirectory::default();
        let mut model: HashMap<Vec<u8>, Slot> = HashMap::new();
        let mut state = 7_u64;
        for step in 0..60_000_u64 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(step);
            let number = (state >> 33) % 3_000;
            let key = format!("key-{number}-{}", "x".repeat((number % 40) as usize)).into_bytes();
            if state >> 62 == 0 {
                let slot = directory.unbind(&key);
                assert_eq!(slot, model.remove(&key));
                if let Some(slot) = slot {
                    directory.release(slot);
                }
            } else {
                let upcoming = directory.upcoming().next();
                let slot = directory.allocate(&key);
                assert_eq!(upcoming, Some(slot));
                assert_eq!(directory.get(&key), model.get(&key).copied());
                let old = directory.bind(slot);
                assert_eq!(old, model.insert(key, slot));
                if let Some(old) = old {
                    directory.release(old);
                }
            }
        }
        assert_eq!(directory.len(), model.len());
        assert_eq!(directory.slots_in_use(), model.len());
        for (key, slot) in &model {
            assert_eq!(directory.get(key), Some(*slot));
            assert_eq!(directory.key(*slot), &key[..]);
        }
        assert!(directory.garbage <= directory.arena.len() / 2 + COMPACT_MIN);
    }
}
