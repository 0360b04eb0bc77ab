//! The nearest few of many keys.

use crate::kernel::Kernels;

/// A column and its key.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Pick {
    pub(super) key: f32,
    pub(super) column: u32,
}

/// Keys looked at together; lists of keys are filled up to whole chunks with infinity.
pub(super) const CHUNK: usize = 64;

/// Nothing is below these.
const NO_BOUNDS: [f32; CHUNK] = [f32::NEG_INFINITY; CHUNK];

/// The places of the set bits, lowest first.
fn lanes(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lane = (mask != 0).then(|| mask.trailing_zeros() as usize)?;
        mask &= mask - 1;
        Some(lane)
    })
}

/// The `k` nearest of what was offered, nearest first, of equals those offered first.
pub(super) struct Picks {
    kernels: &'static Kernels,
    k: usize,
    picks: Vec<Pick>,
}

impl Picks {
    pub(super) fn new(kernels: &'static Kernels, k: usize) -> Self {
        Self {
            kernels,
            k,
            picks: Vec::with_capacity(k + 1),
        }
    }

    /// The `k` nearest columns.
    pub(super) fn select(&mut self, keys: &[f32]) -> &[Pick] {
        self.picks.clear();
        let mut bound = f32::INFINITY;
        for (chunk, keys) in keys.as_chunks::<CHUNK>().0.iter().enumerate() {
            for lane in lanes((self.kernels.below)(keys, &NO_BOUNDS, bound)) {
                let key = keys[lane];
                if key < bound {
                    let column = (chunk * CHUNK + lane) as u32;
                    let place = self.picks.partition_point(|pick| pick.key <= key);
                    self.picks.insert(place, Pick { key, column });
                    self.picks.truncate(self.k);
                    if self.picks.len() == self.k {
                        bound = self.picks[self.k - 1].key;
                    }
                }
            }
        }
        &self.picks
    }
}

/// The `k` nearest mates of every member of a leaf, from keys shown once for each pair.
pub(super) struct Mates {
    kernels: &'static Kernels,
    k: usize,
    picks: Vec<Pick>,
    /// The key of each member's `k`-th nearest so far.
    bounds: Vec<f32>,
}

const NOBODY: Pick = Pick {
    key: f32::INFINITY,
    column: u32::MAX,
};

impl Mates {
    pub(super) fn new(kernels: &'static Kernels) -> Self {
        Self {
            kernels,
            k: 0,
            picks: Vec::new(),
            bounds: Vec::new(),
        }
    }

    /// Begins with members that want `k` mates each, nearer than these bounds.
    pub(super) fn begin(&mut self, k: usize, bounds: impl Iterator<Item = f32>) {
        self.k = k;
        self.bounds.clear();
        self.bounds.extend(bounds);
        let members = self.bounds.len();
        self.picks.clear();
        self.picks.resize(members * k, NOBODY);
        let padded = members.next_multiple_of(CHUNK);
        self.bounds.resize(padded, f32::NEG_INFINITY);
    }

    /// Takes the keys of `row` to every member behind it.
    pub(super) fn offer(&mut self, row: usize, keys: &[f32]) {
        let first = (row + 1) / CHUNK;
        for chunk in first..keys.len() / CHUNK {
            let start = chunk * CHUNK;
            let (keys, _) = keys[start..].as_chunks::<CHUNK>();
            let (bounds, _) = self.bounds[start..].as_chunks::<CHUNK>();
            let mut mask = (self.kernels.below)(&keys[0], &bounds[0], self.bounds[row]);
            if start <= row {
                mask &= u64::MAX << (row - start) << 1;
            }
            for lane in lanes(mask) {
                let (column, key) = (start + lane, keys[0][lane]);
                if key < self.bounds[row] {
                    self.take(row, column, key);
                }
                if key < self.bounds[column] {
                    self.take(column, row, key);
                }
            }
        }
    }

    fn take(&mut self, member: usize, mate: usize, key: f32) {
        let picks = &mut self.picks[member * self.k..(member + 1) * self.k];
        let mut place = self.k - 1;
        while place > 0 && picks[place - 1].key > key {
            picks[place] = picks[place - 1];
            place -= 1;
        }
        picks[place] = Pick {
            key,
            column: mate as u32,
        };
        self.bounds[member] = self.bounds[member].min(picks[self.k - 1].key);
    }

    /// What was picked for a member, nearest first.
    pub(super) fn of(&self, member: usize) -> impl Iterator<Item = Pick> + '_ {
        let picks = self.picks[member * self.k..(member + 1) * self.k].iter();
        picks.copied().filter(|pick| pick.column != NOBODY.column)
    }
}
