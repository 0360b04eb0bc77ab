//! Links as hints: what a store keeps of a graph so that the next open need not find it again.
//!
//! `write` makes groups of bytes of a graph, `read` takes them apart again, `log` knows before the
//! rows are read which of them has which place, `told` makes lists of it, `restore` a graph, of which
//! `sample` tells whether it leads where it should.
//!
//! A hint is never trusted: whatever it says, an open has the same rows and the same
//! distances, and what it says of rows that are not there, or twice, is passed over. Distances are
//! always computed; a graph that does not find its own rows is built anew.
//!
//! ```text
//! group    kind u8 | fingerprint u64 | first place u64 | records u32 | node ... | lists ...
//! node     row id, zigzag from the node before | levels above the lowest
//! lists    of each node in turn, a list for each level from 0 on
//! list     mutual links | one-way links | first, zigzag from its own place or row id | gaps ...
//! ```
//!
//! Numbers are varints of seven bits a byte, least first. Groups of the whole graph (kind 0) name
//! nodes by place: the how-manyeth record of the log they stand for, which for near nodes is near,
//! so that a link takes a byte or two; they tell every list in full, as links of one way, so that an
//! open fills lists one after another. Groups added later (kind 1) name nodes by row id, and tell
//! links that the other node's list holds as well as mutual. A node is named by its first row. With the
//! whole graph goes a group (kind 2, see `sample`) that tells how many of a sample of its nodes walks find.

mod log;
mod read;
mod restore;
mod sample;
#[cfg(test)]
mod tests;
mod told;
mod write;

use xxhash_rust::xxh3::xxh3_64;

pub(crate) use self::log::Log;
use super::Hnsw;

/// Groups that name nodes by place, and by row id.
const BY_PLACE: u8 = 0;
const BY_ROW_ID: u8 = 1;

/// A group that tells of a sample of nodes, how many of them were found.
const SAMPLE: u8 = 2;

/// Bytes before the first record of a group.
const HEAD_LEN: usize = 1 + 8 + 8 + 4;

/// Counted up when groups of before would be misread.
const VERSION: u8 = 2;

/// Bytes at which a group of many ends: a value that fits the next power of two.
const GROUP_BYTES: usize = if cfg!(test) { 4 << 10 } else { 60 << 10 };

/// A node that lost links and has fewer left is searched for and linked anew.
const LINKS_MIN: usize = 6;

/// What an open made of hints.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Linked {
    /// Nodes whose links were taken from hints; none where the graph was built from all pairs.
    pub(crate) hinted: usize,
    /// Nodes that hints said nothing of.
    pub(crate) added: usize,
    /// Hints that were about rows that are gone.
    pub(crate) gone: usize,
    /// Nodes that hints said too little of and that were searched for.
    pub(crate) relinked: usize,
    /// Whether hints were there and of no use.
    pub(crate) refused: bool,
}

impl Hnsw {
    /// What hints must have been written under to be read.
    pub(super) fn hint_fingerprint(&self) -> u64 {
        let geometry = self.nodes.codes.geometry;
        let params = &self.params;
        let parts = format!(
            "{VERSION} {} {} {} {} {} {}",
            geometry.dim,
            geometry.distance,
            params.m,
            params.m0,
            params.ef_construction,
            params.seed
        );
        xxh3_64(parts.as_bytes())
    }
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}
