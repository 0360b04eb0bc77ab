//! The peers that are Rust crates, each behind one trait.

#[cfg(feature = "dynomite")]
mod dynomite;
mod hannoy;
mod hnsw_rs;
mod redb;
mod turbovec;
mod usearch;
mod vecstash;

use std::path::Path;

use ::vecstash::Distance;

use crate::common::{DataSet, HNSW_F32, HNSW_F32_FULL, HNSW_INT8};

/// What every graph is built with.
pub(crate) const M: usize = 16;
pub(crate) const EF_CONSTRUCTION: usize = 200;

/// Searches for the `k` rows nearest to a vector: row and the peer's own distance, nearest first.
pub(crate) type Searcher<'a> = Box<dyn FnMut(&[f32], usize) -> Vec<(usize, f32)> + 'a>;

/// How the bytes of a peer's index are known.
pub(crate) enum BytesBy {
    /// By the counting allocator, of which `apart` are no part of the index.
    Allocator { apart: usize },
    /// By the resident set of the process: the peer allocates outside Rust.
    Resident,
    /// By the size of a file that is mapped or read.
    File(usize),
}

/// A peer, from its first row to its last durable one.
pub(crate) trait Peer: Sync {
    /// Indexes all rows of the set and returns the seconds it took.
    fn build(&mut self, set: &DataSet, threads: usize) -> f64;

    /// The search at one effort (`ef`), for one thread.
    fn searcher(&self, effort: usize) -> Searcher<'_>;

    /// Whether effort changes anything.
    fn has_effort(&self) -> bool {
        true
    }

    /// How the bytes of the index are known.
    fn bytes(&self) -> BytesBy;

    /// Seconds to make the index durable, 0 where it is; `None` where it cannot be.
    fn save(&mut self) -> Option<f64>;

    /// Forgets everything in memory, opens what was saved and returns the seconds of the opening.
    fn reopen(&mut self, set: &DataSet, threads: usize) -> f64;

    /// Writes rows numbered from `first` in one durable transaction; `false` where there is no
    /// such thing.
    fn upsert(&mut self, _first: usize, _rows: &[&[f32]]) -> bool {
        false
    }
}

/// The names of the Rust peers.
pub(crate) const NAMES: [&str; 11] = [
    "vecstash-int8",
    "vecstash-f32",
    "vecstash-f32-full",
    "usearch-f32",
    "usearch-bf16",
    "usearch-i8",
    "hnsw_rs",
    "hannoy",
    "turbovec",
    "dynomite-vec",
    "redb",
];

/// An empty peer for the set, or why it cannot hold it.
pub(crate) fn start(name: &str, set: &DataSet, folder: &Path) -> Result<Box<dyn Peer>, String> {
    let distance = set.distance;
    let euclidean = distance == Distance::Euclidean;
    let no = |reason: &str| Err(reason.to_string());
    Ok(match name {
        "vecstash-int8" => Box::new(vecstash::Peer::new(folder, HNSW_INT8)),
        "vecstash-f32" => Box::new(vecstash::Peer::new(folder, HNSW_F32)),
        "vecstash-f32-full" => Box::new(vecstash::Peer::new(folder, HNSW_F32_FULL)),
        "usearch-i8" if distance != Distance::Cosine => {
            return no("its i8 keeps directions only");
        }
        "usearch-f32" | "usearch-bf16" | "usearch-i8" => {
            Box::new(usearch::Peer::new(name, set, folder))
        }
        "hnsw_rs" | "hannoy" if distance == Distance::DotProduct => {
            return no("it has no inner product of vectors of any length");
        }
        "hnsw_rs" if euclidean => hnsw_rs::euclidean(folder),
        "hnsw_rs" => hnsw_rs::dot(folder),
        "hannoy" if euclidean => hannoy::euclidean(set, folder),
        "hannoy" => hannoy::cosine(set, folder),
        "turbovec" if euclidean => return no("it has the inner product alone"),
        "turbovec" => Box::new(turbovec::Peer::new(set, folder)),
        #[cfg(feature = "dynomite")]
        "dynomite-vec" => Box::new(dynomite::Peer::new(set)),
        #[cfg(not(feature = "dynomite"))]
        "dynomite-vec" => return no("built without --features dynomite"),
        "redb" => Box::new(redb::Peer::new(set, folder)),
        other => return Err(format!("there is no peer {other}")),
    })
}
