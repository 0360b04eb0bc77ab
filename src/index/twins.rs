//! Finds the code that equals a given one, so that equal vectors share one place.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::codes::{Codes, Point};

/// Numbers of codes, by what they hold.
#[derive(Default)]
pub(super) struct Twins {
    table: HashTable<u32>,
}

impl Twins {
    /// The code that equals `point`.
    pub(super) fn find(&self, codes: &Codes, point: Point<'_>) -> Option<u32> {
        let equal = |&number: &u32| codes.point(number).equals(&point);
        self.table.find(hash(point), equal).copied()
    }

    /// Remembers a code that has no twin here.
    pub(super) fn insert(&mut self, codes: &Codes, number: u32) {
        let rehash = |&number: &u32| hash(codes.point(number));
        self.table
            .insert_unique(hash(codes.point(number)), number, rehash);
    }

    pub(super) fn remove(&mut self, codes: &Codes, number: u32) {
        let found = self
            .table
            .find_entry(hash(codes.point(number)), |&other| other == number);
        if let Ok(entry) = found {
            entry.remove();
        }
    }

    pub(super) fn reserve(&mut self, codes: &Codes, additional: usize) {
        self.table
            .reserve(additional, |&number| hash(codes.point(number)));
    }

    pub(super) fn clear(&mut self) {
        self.table.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Allocated bytes.
    pub(super) fn memory(&self) -> usize {
        self.table.allocation_size()
    }
}

fn hash(point: Point<'_>) -> u64 {
    let min = u64::from(point.terms.min.to_bits());
    let scale = u64::from(point.terms.scale.to_bits());
    xxh3_64_with_seed(point.bytes, min << 32 | scale)
}
