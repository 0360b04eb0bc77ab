//! A sample of nodes that are looked for: what tells a graph of right links from one of wrong ones.
//!
//! In some tables not every row finds itself, whatever graph there is. So a log tells how many of the
//! sample found themselves in the graph it was written from, and an open asks for about as many; but
//! only where the log is, byte for byte, the one that was written. Any other is held to a graph in
//! which all are found.
//!
//! ```text
//! group    kind u8 = 2 | fingerprint u64 | found u64 | hash of the groups of the whole graph u64
//! ```

use std::sync::atomic::Ordering::Relaxed;

use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::super::Hnsw;
use super::super::graph::Graph;
use super::super::insert::{Space, search_candidates};
use super::{BY_PLACE, SAMPLE};
use crate::pool::map;

/// Nodes that are looked for, and how hard.
const NODES: usize = 256;
const EF: usize = 64;

/// How many fewer than are said to be found may be found, of those that are said to be and of those
/// that are not: rows that changed since make it another sample, in which by chance others are lost.
const LOST_SHARE: usize = 10;
const MISSED_SHARE: usize = 4;

const GROUP_LEN: usize = 1 + 8 + 8 + 8;

impl Hnsw {
    /// A group that tells how many of a sample walks over this graph find, to go with `groups` of
    /// the nodes `live`. The best that any graph of this table came to is what counts: graphs that wear
    /// out are not held to what is left of them.
    pub(super) fn sample_group(&self, graph: &Graph, live: &[u32], groups: &[Vec<u8>]) -> Vec<u8> {
        let found = self.found(graph, &sample(live.len(), live.iter().copied()));
        let best = self.best_sample.fetch_max(found, Relaxed).max(found);
        let mut group = Vec::with_capacity(GROUP_LEN);
        group.push(SAMPLE);
        group.extend(self.hint_fingerprint().to_le_bytes());
        group.extend(u64::from(best).to_le_bytes());
        group.extend(hash(groups).to_le_bytes());
        group
    }

    /// Whether walks lead to what they look for about as often as the log says that they did: over
    /// links that look right and are wrong they do not.
    pub(super) fn finds_itself(&self, graph: &Graph, said: Option<u16>) -> bool {
        let found = self.found(graph, &sample(self.nodes.live(), self.nodes.live_nodes()));
        let is_enough = usize::from(found) >= found_min(said);
        if is_enough {
            // For the next time that the log is written.
            let best = said.map_or(found, |said| said.max(found));
            self.best_sample.store(best, Relaxed);
        }
        is_enough
    }

    /// How many of a sample walks find.
    fn found(&self, graph: &Graph, sample: &[u32]) -> u16 {
        let space = Space::of(&self.nodes);
        let found = map(sample, |&node| {
            let point = self.nodes.point(node);
            let pools = search_candidates(&self.parts(), graph, point, 0, EF);
            let pool = pools.into_iter().next().unwrap_or_default();
            // Under inner products longer rows are nearer to a row than it is itself.
            let own = space.near(node, node).key;
            let nearer = || pool.len() == EF && pool.iter().all(|near| near.key <= own);
            pool.iter().any(|near| near.node == node) || nearer()
        });
        found.into_iter().map(u16::from).sum()
    }
}

/// A sample of `count` nodes, spread over them evenly.
fn sample(count: usize, nodes: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut sample = Vec::with_capacity(NODES);
    for (place, node) in nodes.enumerate() {
        while sample.len() < NODES && sample.len() * count / NODES == place {
            sample.push(node);
        }
    }
    sample
}

/// How many of the sample must be found where the log says that so many were.
fn found_min(said: Option<u16>) -> usize {
    let said = said.map_or(NODES, usize::from);
    let missed = NODES - said;
    (said - said / LOST_SHARE).saturating_sub(missed / MISSED_SHARE)
}

/// What the groups of a log written under `fingerprint` say of the sample; nothing where they are not
/// those that it was said of.
pub(super) fn said(groups: &[Vec<u8>], fingerprint: u64) -> Option<u16> {
    let (found, written) = groups.iter().find_map(|group| read(group, fingerprint))?;
    // All of the sample is what nothing said comes to as well.
    (usize::from(found) == NODES || hash(groups) == written).then_some(found)
}

/// What a group of a sample says, and of which groups, if it is one.
fn read(group: &[u8], fingerprint: u64) -> Option<(u16, u64)> {
    let group: &[u8; GROUP_LEN] = group.try_into().ok()?;
    let number = |at: usize| {
        group[at..at + 8]
            .first_chunk()
            .map(|&bytes| u64::from_le_bytes(bytes))
    };
    let found = u16::try_from(number(9)?).ok()?;
    let is_one = group[0] == SAMPLE && number(1)? == fingerprint && usize::from(found) <= NODES;
    Some((found, number(17)?)).filter(|_| is_one)
}

/// A hash of the groups of the whole graph among these, which are many megabytes.
fn hash(groups: &[Vec<u8>]) -> u64 {
    let is_whole = |group: &&Vec<u8>| group.first() == Some(&BY_PLACE);
    let hashes = groups
        .par_iter()
        .filter(is_whole)
        .map(|group| xxh3_64(group).to_le_bytes());
    xxh3_64(hashes.collect::<Vec<[u8; 8]>>().as_flattened())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_wanted_as_are_said_but_for_what_chance_may_take() {
        assert_eq!(found_min(None), 231);
        assert_eq!(found_min(Some(256)), 231);
        assert_eq!(found_min(Some(231)), 202);
        assert_eq!(found_min(Some(128)), 84);
        assert_eq!(found_min(Some(0)), 0);
    }

    #[test]
    fn a_sample_is_spread_over_those_that_are_there() {
        let run = |node: &u32| !(3_000..4_000).contains(node);
        let nodes: Vec<u32> = (0..10_000).filter(run).collect();
        let taken = sample(nodes.len(), nodes.iter().copied());
        assert_eq!(taken.len(), NODES);
        let places: Vec<usize> = taken
            .iter()
            .map(|node| nodes.binary_search(node).unwrap())
            .collect();
        let apart = places.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(apart.clone().min() >= Some(35) && apart.max() <= Some(36));
        assert_eq!(sample(2, [5, 9].into_iter())[126..130], [5, 5, 9, 9]);
        assert!(sample(0, std::iter::empty()).is_empty());
    }

    #[test]
    fn nothing_else_is_taken_for_a_group_of_a_sample() {
        let mut group = vec![SAMPLE];
        for number in [7u64, 200, 9] {
            group.extend(number.to_le_bytes());
        }
        assert_eq!(read(&group, 7), Some((200, 9)));
        assert_eq!(read(&group, 8), None);
        assert_eq!(read(&group[..GROUP_LEN - 1], 7), None);
        let other = |at: usize, byte: u8| {
            let mut other = group.clone();
            other[at] = byte;
            read(&other, 7)
        };
        assert_eq!(other(0, BY_PLACE), None);
        // More than there are, and more than a number takes.
        assert_eq!((other(10, 1), other(15, 1)), (None, None));
        group.push(0);
        assert_eq!(read(&group, 7), None);
    }
}
