//! The nearest few of many keys.

use super::super::search::{Near, Rank};
use crate::kernel::{Kernels, LANES, Places};

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

/// The `k` nearest of some keys; of equals the first.
pub(super) struct Picks {
    kernels: &'static Kernels,
    k: usize,
    picks: Vec<Rank>,
    masks: Vec<u64>,
}

impl Picks {
    pub(super) fn new(kernels: &'static Kernels, k: usize) -> Self {
        Self {
            kernels,
            k,
            picks: Vec::new(),
            masks: Vec::new(),
        }
    }

    /// The nearest columns, of which there are at least as many; keys are finite, and those up to
    /// whole groups of `LANES` infinite.
    pub(super) fn select(&mut self, keys: &[f32]) -> impl Iterator<Item = u32> + '_ {
        let picks = self.pick(keys, 0, f32::INFINITY);
        picks.iter().map(|pick| pick.node())
    }

    /// As [`Self::select`], with their keys, and of fewer columns all.
    pub(super) fn nearest(&mut self, keys: &[f32]) -> impl Iterator<Item = Near> + '_ {
        let nears = self
            .pick(keys, 0, f32::INFINITY)
            .iter()
            .map(|pick| pick.near());
        nears.take_while(|near| near.node != u32::MAX)
    }

    /// The nearest of the nodes from `first` on that have these keys, below `bound`, in order.
    /// Places for which there are none are left to nobody.
    fn pick(&mut self, keys: &[f32], first: usize, bound: f32) -> &[Rank] {
        let Self {
            kernels,
            k,
            picks,
            masks,
        } = self;
        picks.clear();
        masks.resize(keys.len().div_ceil(u64::BITS as usize), 0);
        (kernels.near)(keys, *k, bound, masks);
        let hits = masks.iter().enumerate();
        let hits = hits.flat_map(|(nth, &mask)| lanes(mask).map(move |lane| 64 * nth + lane));
        let ranks = hits.filter(|&at| keys[at] < bound).map(|at| {
            let (key, node) = (keys[at], (first + at) as u32);
            Rank::new(Near { key, node })
        });
        if *k <= LANES {
            picks.resize(*k, Rank::nobody(bound));
            ranks.for_each(|rank| keep(picks, rank));
            return picks;
        }
        // Nearly all of them, and a long list: cheaper to divide than to keep in order.
        picks.extend(ranks);
        if picks.len() > *k {
            picks.select_nth_unstable(*k - 1);
            picks.truncate(*k);
        }
        picks.sort_unstable();
        picks.resize(*k, Rank::nobody(bound));
        picks
    }
}

/// The `k` nearest mates of every member of a leaf, from keys shown once for each pair.
pub(super) struct Mates {
    picks: Picks,
    /// For every `LANES` members the first places of their lists, the second ones, and so on.
    lists: Vec<Places>,
    /// Mates are nearer than these.
    wanted: Vec<f32>,
}

impl Mates {
    pub(super) fn new(kernels: &'static Kernels) -> Self {
        Self {
            picks: Picks::new(kernels, 0),
            lists: Vec::new(),
            wanted: Vec::new(),
        }
    }

    /// Begins with members that want `k` mates each, nearer than these bounds.
    pub(super) fn begin(&mut self, k: usize, bounds: impl Iterator<Item = f32>) {
        self.picks.k = k;
        self.wanted.clear();
        self.wanted.extend(bounds);
        self.lists.clear();
        for bounds in self.wanted.chunks(LANES) {
            let mut keys = [f32::NEG_INFINITY; LANES];
            keys[..bounds.len()].copy_from_slice(bounds);
            let nodes = [u32::MAX; LANES];
            let places = std::iter::repeat_n(Places { keys, nodes }, k);
            self.lists.extend(places);
        }
    }

    /// Takes the keys of `row` to every member; those up to itself, as far as its group of `LANES`
    /// begins, are infinite. The last row comes first.
    pub(super) fn offer(&mut self, row: usize, keys: &[f32]) {
        let (group, lane, k) = (row / LANES, row % LANES, self.picks.k);
        let first = group * LANES;
        let keys = &keys[first..];
        let lists = &mut self.lists[group * k..];
        let picks = self.picks.pick(keys, first, self.wanted[row]);
        for (place, pick) in lists.iter_mut().zip(picks) {
            let near = pick.near();
            place.keys[lane] = near.key;
            place.nodes[lane] = near.node;
        }
        (self.picks.kernels.offer)(row as u32, keys, k, lists);
    }

    /// What was picked for a member, nearest first: mates and their keys.
    pub(super) fn of(&self, member: usize) -> impl Iterator<Item = Near> + '_ {
        let (places, lane) = self.places(member);
        let nears = places.iter().map(move |place| Near {
            key: place.keys[lane],
            node: place.nodes[lane],
        });
        nears.take_while(|near| near.node != u32::MAX)
    }

    /// Whether a member that was picked for a mate, with this key, is news to the mate: near
    /// enough, and not picked for it as well.
    pub(super) fn is_news(&self, mate: usize, member: usize, key: f32) -> bool {
        if key >= self.wanted[mate] {
            return false;
        }
        let (places, lane) = self.places(mate);
        match places.last().map(|last| last.keys[lane]) {
            Some(last) if key < last => false,
            Some(last) if key > last => true,
            // As near as the last: it may have come too late.
            _ => places
                .iter()
                .all(|place| place.nodes[lane] != member as u32),
        }
    }

    fn places(&self, member: usize) -> (&[Places], usize) {
        let (group, k) = (member / LANES, self.picks.k);
        (&self.lists[group * k..(group + 1) * k], member % LANES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::kernels;

    /// Keys of a symmetric table with many ties; members from `len` on are padding.
    fn key(a: usize, b: usize, len: usize) -> f32 {
        match a.max(b) < len && a != b {
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
            let padded = len.next_multiple_of(LANES);
            for row in (0..len).rev() {
                let shown = |column: usize| match column <= row {
                    true => f32::INFINITY,
                    false => key(row, column, len),
                };
                let keys: Vec<f32> = (0..padded).map(shown).collect();
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
    fn of_fewer_columns_than_are_asked_for_all_are_near() {
        for columns in [1usize, 5, 16, 40] {
            let mut keys: Vec<f32> = (0..columns).map(|at| (columns - at) as f32).collect();
            keys.resize(columns.next_multiple_of(LANES), f32::INFINITY);
            for k in [columns + 1, columns + 60] {
                let mut picks = Picks::new(kernels(), k);
                let nodes: Vec<u32> = picks.nearest(&keys).map(|near| near.node).collect();
                assert_eq!(nodes, (0..columns as u32).rev().collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn few_columns_and_equal_ones_are_picked_as_well() {
        for columns in [1usize, 2, 5, 8, 9, 16, 17, 63, 64, 70] {
            for step in [0.0f32, 0.5, -0.5] {
                let mut keys: Vec<f32> = (0..columns).map(|at| at as f32 * step).collect();
                keys.resize(columns.next_multiple_of(LANES), f32::INFINITY);
                for k in (1..=columns.min(12)).chain([columns]) {
                    let mut order: Vec<u32> = (0..columns as u32).collect();
                    order.sort_by(|&a, &b| keys[a as usize].total_cmp(&keys[b as usize]));
                    let mut picks = Picks::new(kernels(), k);
                    let picked: Vec<u32> = picks.select(&keys).collect();
                    assert_eq!(picked, order[..k], "{k} of {columns}, {step}");
                    let nears: Vec<Near> = picks.nearest(&keys).collect();
                    let near = |&node: &u32| Near {
                        key: keys[node as usize],
                        node,
                    };
                    assert_eq!(nears, order[..k].iter().map(near).collect::<Vec<_>>());
                }
            }
        }
    }
}
