//! Finds the code that equals a given one, so that equal vectors share one place.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::codes::{Codes, Point};
use super::numbers::Numbers;

/// Numbers of codes, by what they hold.
#[derive(Default)]
pub(super) struct Twins {
    numbers: Numbers,
}

impl Twins {
    /// The code that equals `point`.
    pub(super) fn find(&self, codes: &Codes, point: Point<'_>) -> Option<u32> {
        let equal = |number| codes.point(number).equals(&point);
        self.numbers.find(hash(point), equal)
    }

    /// Remembers a code that has no twin here.
    pub(super) fn insert(&mut self, codes: &Codes, number: u32) {
        let rehash = |number| hash(codes.point(number));
        self.numbers.insert(rehash(number), number, rehash);
    }

    pub(super) fn remove(&mut self, codes: &Codes, number: u32) {
        let hash = hash(codes.point(number));
        self.numbers.remove(hash, |other| other == number);
    }

    pub(super) fn reserve(&mut self, codes: &Codes, additional: usize) {
        let rehash = |number| hash(codes.point(number));
        self.numbers.reserve(additional, rehash);
    }

    pub(super) fn clear(&mut self) {
        self.numbers.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Allocated bytes.
    pub(super) fn memory(&self) -> usize {
        self.numbers.memory()
    }
}

fn hash(point: Point<'_>) -> u64 {
    let min = u64::from(point.terms.min.to_bits());
    let scale = u64::from(point.terms.scale.to_bits());
    xxh3_64_with_seed(point.bytes, min << 32 | scale)
}
