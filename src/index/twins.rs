//! Finds the code that equals a given one, so that equal vectors share one place.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::codes::{Codes, Point};
use crate::numbers::Numbers;

/// Numbers of codes, by what they hold.
#[derive(Default)]
pub(super) struct Twins {
    numbers: Numbers,
}

impl Twins {
    /// The code that equals `point`, which has this hash.
    pub(super) fn find(&self, codes: &Codes, point: Point<'_>, hash: CodeHash) -> Option<u32> {
        let equal = |number| codes.point(number).equals(&point);
        self.numbers.find(hash.0, equal)
    }

    /// Remembers the code `number`, which has no twin here and this hash.
    pub(super) fn insert(&mut self, codes: &Codes, number: u32, hash: CodeHash) {
        let rehash = |number| CodeHash::of(codes.point(number)).0;
        self.numbers.insert(hash.0, number, rehash);
    }

    /// Puts the code `number` in the place of `old`, which equals it.
    pub(super) fn replace(&mut self, codes: &Codes, old: u32, number: u32, hash: CodeHash) {
        let rehash = |number| CodeHash::of(codes.point(number)).0;
        let is_old = |other| other == old;
        self.numbers
            .replace_or_insert(hash.0, number, is_old, rehash);
    }

    /// Brings codes that are to be found and added into an order in which that is fast.
    pub(super) fn arrange(&self, codes: &mut Vec<(CodeHash, u32)>) {
        self.numbers.arrange(codes);
    }

    pub(super) fn remove(&mut self, codes: &Codes, number: u32) {
        let hash = CodeHash::of(codes.point(number)).0;
        self.numbers.remove(hash, |other| other == number);
    }

    pub(super) fn reserve(&mut self, codes: &Codes, additional: usize) {
        let rehash = |number| CodeHash::of(codes.point(number)).0;
        self.numbers.reserve(additional, rehash);
    }

    /// Follows codes to the places they have been put.
    pub(super) fn renumber(&mut self, new_of_old: &[u32]) {
        self.numbers.replace(|old| new_of_old[old as usize]);
    }

    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Allocated bytes.
    pub(super) fn memory(&self) -> usize {
        self.numbers.memory()
    }
}

/// The hash of a code.
#[derive(Clone, Copy)]
pub(super) struct CodeHash(u64);

impl From<CodeHash> for u64 {
    fn from(hash: CodeHash) -> Self {
        hash.0
    }
}

impl CodeHash {
    pub(super) fn of(point: Point<'_>) -> Self {
        let min = u64::from(point.terms.min.to_bits());
        let scale = u64::from(point.terms.scale.to_bits());
        Self(xxh3_64_with_seed(point.bytes, min << 32 | scale))
    }
}
