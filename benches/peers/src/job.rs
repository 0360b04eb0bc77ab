//! What a process that measures one peer is told and what it answers; peers.py speaks it, too.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use vecstash::Distance;

/// One run of one peer.
#[derive(Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) peer: String,
    /// Holds `base.npy` and `query.npy`, and is the peer's to write to.
    pub(crate) folder: PathBuf,
    pub(crate) distance: Distance,
    pub(crate) k: usize,
    pub(crate) efforts: Vec<usize>,
    pub(crate) threads: usize,
    /// Every rate is measured for at least this long.
    pub(crate) seconds: f64,
    /// Rows whose nearest row is asked for.
    pub(crate) own: Vec<usize>,
}

/// What one run measured.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Answer {
    /// Why there is nothing to measure; all else is then empty.
    pub(crate) refused: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) build_seconds: f64,
    /// Bytes of the index, keys apart, and how they were counted: `alloc`, `rss` or `file`.
    pub(crate) bytes: f64,
    pub(crate) bytes_by: String,
    pub(crate) save_seconds: Option<f64>,
    /// From nothing in memory to the first answer.
    pub(crate) reopen_seconds: Option<f64>,
    /// Durable rows a second, one a transaction.
    pub(crate) upserts_single: Option<f64>,
    /// Durable rows a second, 1,000 a transaction.
    pub(crate) upserts_batch: Option<f64>,
    /// The nearest row of each of `Job::own`.
    pub(crate) own: Vec<usize>,
    pub(crate) points: Vec<Point>,
}

/// One point of a sweep.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Point {
    pub(crate) effort: usize,
    /// The rows found for the first queries: all of them, unless the peer is very slow.
    pub(crate) hits: Vec<Vec<usize>>,
    /// Searches a second on one thread and on `Job::threads`.
    pub(crate) qps: [f64; 2],
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

impl Answer {
    /// There is nothing to measure.
    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self {
            refused: Some(reason.into()),
            ..Self::default()
        }
    }
}
