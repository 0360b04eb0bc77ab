//! Which rows hold the same vector: a scan picks among equal codes as it likes, an answer does
//! not.

use std::collections::HashMap;

use hashbrown::HashTable;

use crate::ids::{RowId, Slot};

/// Rows grouped by a hash of their stored vectors. A collision of 64 bits only adds a candidate.
#[derive(Default)]
pub(super) struct Copies {
    /// One slot of every group.
    heads: HashTable<u32>,
    /// By slot.
    hashes: Vec<u64>,
    /// Slots of the groups with several rows, in the order of their ids once `sort` has run.
    many: HashMap<u64, Vec<u32>>,
}

impl Copies {
    /// Groups there are.
    pub(super) fn distinct(&self) -> usize {
        self.heads.len()
    }

    /// Adds a row behind those it equals.
    pub(super) fn add(&mut self, slot: Slot, hash: u64) {
        if self.hashes.len() <= slot.index() {
            self.hashes.resize(slot.index() + 1, 0);
        }
        self.hashes[slot.index()] = hash;
        let hashes = &self.hashes;
        let same = |&other: &u32| hashes[other as usize] == hash;
        match self.heads.find(hash, same) {
            Some(&head) => {
                let group = self.many.entry(hash).or_insert_with(|| vec![head]);
                group.push(slot.raw());
            }
            None => {
                let rehash = |&other: &u32| hashes[other as usize];
                self.heads.insert_unique(hash, slot.raw(), rehash);
            }
        }
    }

    /// Takes a row out; `id_of` still knows it.
    pub(super) fn remove(&mut self, slot: Slot, id_of: impl Fn(Slot) -> Option<RowId>) {
        let hash = self.hashes[slot.index()];
        let hashes = &self.hashes;
        let same = |&other: &u32| hashes[other as usize] == hash;
        let Ok(head) = self.heads.find_entry(hash, same) else {
            return;
        };
        let Some(group) = self.many.get_mut(&hash) else {
            head.remove();
            return;
        };
        let id = id_of(slot);
        let order = |&other: &u32| id_of(Slot::from_raw(other));
        if let Ok(place) = group.binary_search_by_key(&id, order) {
            group.remove(place);
        }
        *head.into_mut() = group[0];
        if group.len() == 1 {
            self.many.remove(&hash);
        }
    }

    /// Puts every group into the order of row ids.
    pub(super) fn sort(&mut self, id_of: impl Fn(Slot) -> Option<RowId>) {
        for group in self.many.values_mut() {
            group.sort_unstable_by_key(|&slot| id_of(Slot::from_raw(slot)));
        }
    }

    /// The rows equal to this one, itself among them, in the order of their ids; none where it is
    /// the only one.
    pub(super) fn of(&self, slot: Slot) -> impl Iterator<Item = Slot> + '_ {
        let group = self.many.get(&self.hashes[slot.index()]);
        let slots = group.map_or(&[][..], Vec::as_slice);
        slots.iter().map(|&slot| Slot::from_raw(slot))
    }

    /// Allocated bytes.
    pub(super) fn memory(&self) -> usize {
        let groups: usize = self.many.values().map(Vec::capacity).sum();
        // hashbrown keeps a control byte beside each bucket, and 7/8 of them may be used.
        self.heads.capacity() * 8 / 7 * 5
            + self.hashes.capacity() * size_of::<u64>()
            + groups * size_of::<u32>()
            + self.many.capacity() * 8 / 7 * (size_of::<(u64, Vec<u32>)>() + 1)
    }
}
