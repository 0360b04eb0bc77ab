//! The nearest few of many keys.

use super::super::search::{Near, Rank};
use crate::kernel::Kernels;

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

/// Puts `rank` into a sorted list, whose last then goes; nothing happens where it comes last.
///
/// Where it belongs cannot be foretold, so that branches would be guessed wrong: a short list is
/// passed as a whole, without any.
#[inline]
fn keep(list: &mut [Rank], rank: Rank) {
    if let Ok(three) = <&mut [Rank; 3]>::try_from(&mut *list) {
        pass(three, rank);
    } else if let Ok(four) = <&mut [Rank; 4]>::try_from(&mut *list) {
        pass(four, rank);
    } else if let Ok(eight) = <&mut [Rank; 8]>::try_from(&mut *list) {
        pass(eight, rank);
    } else if list.last().is_some_and(|&last| rank < last) {
        let mut place = list.len() - 1;
        while place > 0 && list[place - 1] > rank {
            list[place] = list[place - 1];
            place -= 1;
        }
        list[place] = rank;
    }
}

#[inline(always)]
fn pass<const K: usize>(list: &mut [Rank; K], mut rank: Rank) {
    for kept in list {
        let (lower, higher) = (rank.min(*kept), rank.max(*kept));
        *kept = lower;
        rank = higher;
    }
}

/// A place in a list for which nothing has been found: whatever is nearer than `key` takes it.
fn nobody(key: f32) -> Rank {
    let node = u32::MAX;
    Rank::new(Near { key, node })
}

/// Something that the `k` least of these keys are below, if it can be told at little cost: the
/// least keys of eight parts bound as many keys. Keys that are infinite are below nothing.
fn first_bound(keys: &[f32; CHUNK], k: usize) -> f32 {
    const PARTS: usize = 8;
    let mut least = [f32::INFINITY; PARTS];
    for keys in keys.as_chunks::<PARTS>().0 {
        for (least, &key) in least.iter_mut().zip(keys) {
            *least = if key < *least { key } else { *least };
        }
    }
    least.sort_unstable_by(f32::total_cmp);
    match k.checked_sub(1).and_then(|last| least.get(last)) {
        // Not the number next to 0, which a process may have told its cores to take for 0.
        Some(key) => key.next_up().max(f32::MIN_POSITIVE),
        None => f32::INFINITY,
    }
}

/// The `k` nearest of some keys; of equals the first.
pub(super) struct Picks {
    kernels: &'static Kernels,
    picks: Vec<Rank>,
}

impl Picks {
    pub(super) fn new(kernels: &'static Kernels, k: usize) -> Self {
        Self {
            kernels,
            picks: vec![nobody(f32::INFINITY); k],
        }
    }

    /// The `k` nearest columns, of which there are as many; keys are finite.
    pub(super) fn select(&mut self, keys: &[f32]) -> impl Iterator<Item = u32> + '_ {
        self.picks.fill(nobody(f32::INFINITY));
        let (chunks, _) = keys.as_chunks::<CHUNK>();
        let mut bound = chunks
            .first()
            .map_or(f32::INFINITY, |first| first_bound(first, self.picks.len()));
        for (chunk, keys) in chunks.iter().enumerate() {
            for lane in lanes((self.kernels.below)(keys, &NO_BOUNDS, bound)) {
                let (key, node) = (keys[lane], (chunk * CHUNK + lane) as u32);
                keep(&mut self.picks, Rank::new(Near { key, node }));
            }
            bound = self.picks.last().map_or(bound, |last| last.near().key);
        }
        self.picks.iter().map(|pick| pick.node())
    }
}

/// The `k` nearest mates of every member of a leaf, from keys shown once for each pair.
pub(super) struct Mates {
    kernels: &'static Kernels,
    k: usize,
    picks: Vec<Rank>,
    /// The key of each member's `k`-th nearest so far.
    bounds: Vec<f32>,
    /// What the bounds began with.
    wanted: Vec<f32>,
}

impl Mates {
    pub(super) fn new(kernels: &'static Kernels) -> Self {
        Self {
            kernels,
            k: 0,
            picks: Vec::new(),
            bounds: Vec::new(),
            wanted: Vec::new(),
        }
    }

    /// Begins with members that want `k` mates each, nearer than these bounds.
    pub(super) fn begin(&mut self, k: usize, bounds: impl Iterator<Item = f32>) {
        self.k = k;
        self.wanted.clear();
        self.wanted.extend(bounds);
        self.bounds.clone_from(&self.wanted);
        self.picks.clear();
        let bounds = self.bounds.iter();
        let none = bounds.flat_map(|&bound| std::iter::repeat_n(nobody(bound), k));
        self.picks.extend(none);
        let padded = self.bounds.len().next_multiple_of(CHUNK);
        self.bounds.resize(padded, f32::NEG_INFINITY);
    }

    /// Takes the keys of `row` to every member behind it.
    pub(super) fn offer(&mut self, row: usize, keys: &[f32]) {
        let first = (row + 1) / CHUNK;
        for chunk in first..keys.len() / CHUNK {
            let start = chunk * CHUNK;
            let (keys, _) = keys[start..].as_chunks::<CHUNK>();
            let (bounds, _) = self.bounds[start..].as_chunks::<CHUNK>();
            let behind = match start <= row {
                true => u64::MAX << (row - start) << 1,
                false => u64::MAX,
            };
            let below = self.kernels.below;
            let for_columns = below(&keys[0], &bounds[0], f32::NEG_INFINITY) & behind;
            let for_row = below(&keys[0], &NO_BOUNDS, self.bounds[row]) & behind;
            for lane in lanes(for_row) {
                self.take(row, start + lane, keys[0][lane]);
            }
            for lane in lanes(for_columns) {
                self.take(start + lane, row, keys[0][lane]);
            }
        }
    }

    #[inline]
    fn take(&mut self, member: usize, mate: usize, key: f32) {
        let node = mate as u32;
        let picks = &mut self.picks[member * self.k..(member + 1) * self.k];
        keep(picks, Rank::new(Near { key, node }));
        self.bounds[member] = picks[self.k - 1].near().key;
    }

    /// What was picked for a member, nearest first: mates and their keys.
    pub(super) fn of(&self, member: usize) -> impl Iterator<Item = Near> + '_ {
        let picks = self.picks[member * self.k..(member + 1) * self.k].iter();
        picks
            .map(|pick| pick.near())
            .filter(|near| near.node != u32::MAX)
    }

    /// Whether a member that was picked for a mate, with this key, is news to the mate: near
    /// enough, and not picked for it as well.
    pub(super) fn is_news(&self, mate: usize, member: usize, key: f32) -> bool {
        let node = member as u32;
        let picks = &self.picks[mate * self.k..(mate + 1) * self.k];
        key < self.wanted[mate] && !picks.contains(&Rank::new(Near { key, node }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::kernels;

    /// Keys of a symmetric table with many ties; members from `len` on are padding.
    fn key(a: usize, b: usize, len: usize) -> f32 {
        match a.max(b) < len {
            true => ((a.min(b) * 7 + a.max(b) * 13) % 11) as f32 - 3.0,
            false => f32::INFINITY,
        }
    }

    #[test]
    fn every_pair_is_told_to_both_or_is_too_far_for_them() {
        for (len, k) in [(2, 4), (5, 4), (9, 8), (64, 3), (130, 4), (200, 32)] {
            let wanted = |member: usize| match member % 3 {
                0 => f32::INFINITY,
                1 => 2.0,
                _ => -1.0,
            };
            let mut mates = Mates::new(kernels());
            mates.begin(k, (0..len).map(wanted));
            let padded = len.next_multiple_of(CHUNK);
            for row in (0..len).rev() {
                let keys: Vec<f32> = (0..padded).map(|column| key(row, column, len)).collect();
                mates.offer(row, &keys);
            }
            for member in 0..len {
                let near: Vec<Near> = mates.of(member).collect();
                assert!(near.is_sorted_by(|a, b| a.key <= b.key));
                let mut all: Vec<f32> = (0..len)
                    .filter(|&mate| mate != member)
                    .map(|mate| key(member, mate, len))
                    .filter(|&key| key < wanted(member))
                    .collect();
                all.sort_by(f32::total_cmp);
                all.truncate(k);
                let keys: Vec<f32> = near.iter().map(|near| near.key).collect();
                assert_eq!(keys, all, "{len} members, {k} mates, member {member}");
                // Of a pair that one of them picked, the other one hears unless it is too far.
                for Near { key, node } in near {
                    let mate = node as usize;
                    let picked = mates.of(mate).any(|near| near.node as usize == member);
                    let hears = picked || mates.is_news(mate, member, key);
                    assert_eq!(hears, key < wanted(mate), "{member} and {mate}");
                    assert!(!(picked && mates.is_news(mate, member, key)));
                }
            }
        }
    }

    #[test]
    fn the_nearest_columns_are_picked_and_of_equals_the_first() {
        let keys: Vec<f32> = (0..128).map(|column| (column * 37 % 50) as f32).collect();
        for k in [1, 3, 4, 8, 11] {
            let mut order: Vec<u32> = (0..128).collect();
            order.sort_by(|&a, &b| {
                keys[a as usize]
                    .total_cmp(&keys[b as usize])
                    .then(a.cmp(&b))
            });
            let mut picks = Picks::new(kernels(), k);
            for _ in 0..2 {
                assert_eq!(picks.select(&keys).collect::<Vec<_>>(), order[..k]);
            }
        }
    }

    #[test]
    fn few_columns_and_equal_ones_are_picked_as_well() {
        for columns in [1usize, 2, 5, 8, 9, 63, 64, 70] {
            for step in [0.0f32, 0.5, -0.5] {
                let mut keys: Vec<f32> = (0..columns).map(|at| at as f32 * step).collect();
                keys.resize(columns.next_multiple_of(CHUNK), f32::INFINITY);
                for k in (1..=columns.min(12)).chain([columns]) {
                    let mut order: Vec<u32> = (0..columns as u32).collect();
                    order.sort_by(|&a, &b| keys[a as usize].total_cmp(&keys[b as usize]));
                    let mut picks = Picks::new(kernels(), k);
                    let picked: Vec<u32> = picks.select(&keys).collect();
                    assert_eq!(picked, order[..k], "{k} of {columns}, {step}");
                }
            }
        }
    }
}
