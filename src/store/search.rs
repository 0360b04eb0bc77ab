//! The search journey: traverse under the read lock, let go of it, score what needs its row, and
//! hydrate the hits from the snapshot that belongs to the index state they were found in.

use std::collections::BinaryHeap;
use std::ops::ControlFlow;

use super::options::{Hit, OnCorrupt, Return, SearchOptions};
use super::shared::{Reader, StoreCore, TableCore, TableState};

use crate::error::{EncodingError, StoreError};
use crate::ids::RowId;
use crate::inner_index::{Candidate, ExactQuery, Index, Scan, SearchSpec};
use crate::limits;
use crate::row::{Record, RowKey, Want};
use crate::schema::IndexKind;

/// Rows an exact scan compares before it gives the lock back: under a millisecond, so that a
/// waiting writer, and the readers behind it, never wait longer for a scan.
const SCAN_ROWS: usize = 4_096;

/// How often an exact scan starts again because rows changed under it, before it holds the lock.
const SCAN_ATTEMPTS: usize = 3;

/// How often a search on a backend without snapshots looks again for rows that changed under it.
const LIVE_ATTEMPTS: usize = 3;

/// Candidates re-scored where the caller names no number: HNSW, and turbo.
const RERANK_HNSW: usize = 24;
const RERANK_TURBO: usize = 30;

/// One in so many of an HNSW walk's pool is re-scored at least: whoever pays for a large pool wants
/// what codes cannot tell apart told apart.
const RERANK_SHARE: usize = 4;

/// A candidate with the key it had when the index was asked.
struct Found {
    key: RowKey,
    id: RowId,
    distance: f32,
    exact: bool,
}

/// Keys that are asked for together: of more the first would be gone when they are read.
const KEYS_AHEAD: usize = 256;

/// What the index said, and the rows that agree with it.
struct Answer {
    found: Vec<Found>,
    reader: Reader,
}

/// One search of one table.
pub(crate) struct Search<'a> {
    core: &'a StoreCore,
    table: &'a TableCore,
    query: &'a [f32],
    options: &'a SearchOptions,
}

impl<'a> Search<'a> {
    /// Checks a query and its options.
    pub(crate) fn new(
        core: &'a StoreCore,
        table: &'a TableCore,
        query: &'a [f32],
        options: &'a SearchOptions,
    ) -> Result<Self, StoreError> {
        core.health.check()?;
        table.check_live()?;
        table.check_dim(query)?;
        check_query(query)?;
        if options.max_distance.is_some_and(f32::is_nan) {
            return Err(StoreError::Limit {
                what: "max_distance",
                value: "NaN".into(),
                limit: "a number".into(),
                remedy: "leave it out to have no threshold",
            });
        }
        Ok(Self {
            core,
            table,
            query,
            options,
        })
    }

    /// The hits, nearest first.
    pub(crate) fn run(&self) -> Result<Vec<Hit>, StoreError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            if let Some(hits) = self.attempt(attempt == LIVE_ATTEMPTS)? {
                // Rows that a drop took away meanwhile are no answer.
                self.table.check_live()?;
                return Ok(hits);
            }
        }
    }

    /// One attempt; `None` when rows changed between index and backend, which only a backend
    /// without snapshots lets happen. The last attempt leaves such rows out.
    fn attempt(&self, last: bool) -> Result<Option<Vec<Hit>>, StoreError> {
        let Answer { found, reader } = self.ask()?;
        let Some(mut scored) = self.score(found, &reader, last)? else {
            return Ok(None);
        };
        scored.sort_by(|a, b| {
            let by_distance = a.distance.total_cmp(&b.distance);
            by_distance.then(a.id.cmp(&b.id))
        });
        if let Some(max) = self.options.max_distance {
            scored.retain(|found| found.distance <= max);
        }
        scored.truncate(self.options.k);
        self.hydrate(scored, &reader, last)
    }

    /// Asks the index, or every row where the caller wants an exact answer.
    fn ask(&self) -> Result<Answer, StoreError> {
        // What is still being loaded is not linked yet, and only HNSW tables show what they have.
        let is_opening = self.table.is_opening();
        if is_opening && self.table.kind != IndexKind::Hnsw {
            return self.scan_rows();
        }
        if self.options.exact || is_opening {
            return match self.scan_memory()? {
                Some(answer) => Ok(answer),
                None => self.scan_rows(),
            };
        }
        let state = self.table.state.read();
        let index = self.table.index(&state)?;
        let candidates = index.search(self.query, &self.spec(index));
        Ok(self.answer(&state, candidates))
    }

    fn spec(&self, index: &Index) -> SearchSpec {
        // No pool is larger than the table, whatever the caller says.
        let rows = index.len();
        let k = self.options.k.min(rows);
        let schema = &self.table.record.schema;
        let ef = self.options.ef.unwrap_or(schema.hnsw.ef_search);
        let default = match self.table.kind {
            IndexKind::Turbo => RERANK_TURBO,
            _ => RERANK_HNSW.max(ef / RERANK_SHARE),
        };
        let rerank = self
            .options
            .rerank
            .unwrap_or(default.max(k.saturating_mul(2)));
        SearchSpec {
            k,
            ef: ef.max(k).min(rows.max(1)),
            rerank: rerank.clamp(k, rows.max(k)),
        }
    }

    /// An exact scan of what is in memory, giving the lock back every few thousand rows; `None`
    /// where the rows are not in memory.
    fn scan_memory(&self) -> Result<Option<Answer>, StoreError> {
        for _ in 0..SCAN_ATTEMPTS {
            let (mut scan, version) = {
                let state = self.table.state.read();
                let index = self.table.index(&state)?;
                let Some(scan) = self.start_scan(index) else {
                    return Ok(None);
                };
                (scan, index.version())
            };
            loop {
                let state = self.table.state.read();
                let index = self.table.index(&state)?;
                if index.version() != version {
                    break;
                }
                if index.scan_step(&mut scan, SCAN_ROWS) {
                    return Ok(Some(self.answer(&state, scan.finish())));
                }
            }
        }
        // Writers never pause. One scan under one lock is then the only consistent one.
        let state = self.table.state.read();
        let index = self.table.index(&state)?;
        let Some(mut scan) = self.start_scan(index) else {
            return Ok(None);
        };
        while !index.scan_step(&mut scan, SCAN_ROWS) {}
        Ok(Some(self.answer(&state, scan.finish())))
    }

    fn start_scan(&self, index: &Index) -> Option<Scan> {
        index.scan_start(self.query, self.options.k.min(index.len()))
    }

    /// Keys and rows for what the index found; called with the state lock held.
    fn answer(&self, state: &TableState, candidates: Vec<Candidate>) -> Answer {
        let slots = candidates.iter().map(|candidate| candidate.slot);
        state.keys.prefetch(slots.take(KEYS_AHEAD));
        let found = candidates
            .into_iter()
            .map(|candidate| Found {
                key: state.keys.key(candidate.slot).to_vec(),
                id: candidate.id,
                distance: candidate.distance,
                exact: candidate.exact,
            })
            .collect();
        Answer {
            found,
            reader: self.core.reader_beside(self.table),
        }
    }

    /// An exact scan of the rows on disk, for tables whose memory holds estimates only.
    fn scan_rows(&self) -> Result<Answer, StoreError> {
        let reader = self.core.reader();
        let query = ExactQuery::new(self.table.record.schema.distance, self.query);
        let mut scratch = Vec::new();
        let mut best: BinaryHeap<Ranked> = BinaryHeap::new();
        let k = self.options.k;
        let mut unnumbered = 0;
        reader.scan(&self.table.key, &mut |row| {
            let row = match row {
                Ok(row) => row,
                // Damaged rows are in quarantine, or the store would not be open: unless it still
                // is to be.
                Err(error) if self.core.options.on_corrupt == OnCorrupt::Fail => {
                    return Err(error);
                }
                Err(_) => return Ok(ControlFlow::Continue(())),
            };
            unnumbered += 1;
            let distance = query.score_view(row.vector, &mut scratch);
            let id = row.id.unwrap_or(RowId::new(unnumbered));
            let worst = best.peek().filter(|_| best.len() >= k);
            let nearer = worst.is_none_or(|worst| {
                distance
                    .total_cmp(&worst.distance)
                    .then(id.cmp(&worst.id))
                    .is_lt()
            });
            if nearer && k > 0 {
                if best.len() >= k {
                    best.pop();
                }
                best.push(Ranked {
                    distance,
                    id,
                    key: row.key.to_vec(),
                });
            }
            Ok(ControlFlow::Continue(()))
        })?;
        let found = best
            .into_iter()
            .map(|ranked| Found {
                key: ranked.key,
                id: ranked.id,
                distance: ranked.distance,
                exact: true,
            })
            .collect();
        Ok(Answer { found, reader })
    }

    /// Replaces estimates by distances computed from the stored rows.
    fn score(
        &self,
        mut found: Vec<Found>,
        reader: &Reader,
        last: bool,
    ) -> Result<Option<Vec<Found>>, StoreError> {
        if found.iter().all(|found| found.exact) {
            return Ok(Some(found));
        }
        // In key order, neighbours in the file are read together.
        found.sort_by(|a, b| a.key.cmp(&b.key));
        let keys: Vec<&[u8]> = found.iter().map(|found| &found.key[..]).collect();
        let records = reader.get_many(&self.table.key, &keys, Want::VECTOR)?;
        let query = ExactQuery::new(self.table.record.schema.distance, self.query);
        let mut scratch = Vec::new();
        let mut scored = Vec::with_capacity(found.len());
        for (mut found, record) in found.into_iter().zip(records) {
            match record.filter(|record| is_same(record, found.id)) {
                Some(record) => {
                    found.distance = query.score_view(record.row.vector.view(), &mut scratch);
                    found.exact = true;
                    scored.push(found);
                }
                None if last => {}
                None => return Ok(None),
            }
        }
        Ok(Some(scored))
    }

    /// Reads of each hit what the caller asked for.
    fn hydrate(
        &self,
        scored: Vec<Found>,
        reader: &Reader,
        last: bool,
    ) -> Result<Option<Vec<Hit>>, StoreError> {
        let want = match self.options.returning {
            Return::Keys => {
                let bare = |found: Found| Hit {
                    key: found.key,
                    distance: found.distance,
                    row: None,
                };
                return Ok(Some(scored.into_iter().map(bare).collect()));
            }
            Return::Metadata => Want::METADATA,
            Return::Rows => Want::ALL,
        };
        let keys: Vec<&[u8]> = scored.iter().map(|found| &found.key[..]).collect();
        let records = reader.get_many(&self.table.key, &keys, want)?;
        let mut hits = Vec::with_capacity(scored.len());
        for (found, record) in scored.into_iter().zip(records) {
            match record.filter(|record| is_same(record, found.id)) {
                Some(record) => hits.push(Hit {
                    key: found.key,
                    distance: found.distance,
                    row: Some(record.row),
                }),
                None if last => {}
                None => return Ok(None),
            }
        }
        Ok(Some(hits))
    }
}

/// Whether a record holds the vector that was found; a backend without ids cannot say, and is
/// believed.
fn is_same(record: &Record, id: RowId) -> bool {
    record.id.is_none_or(|stored| stored == id)
}

/// Checks that a query is finite and within the magnitude of what tables hold.
pub(crate) fn check_query(query: &[f32]) -> Result<(), StoreError> {
    for (index, &value) in query.iter().enumerate() {
        if !value.is_finite() {
            return Err(EncodingError::NotFinite { index, value }.into());
        }
        if value.abs() > limits::MAGNITUDE_MAX {
            let error = EncodingError::Magnitude {
                index,
                value,
                max: limits::MAGNITUDE_MAX,
                codec: "a query",
            };
            return Err(error.into());
        }
    }
    Ok(())
}

/// A row of the scan on disk, ordered by (distance, row id), the farthest on top of the heap.
struct Ranked {
    distance: f32,
    id: RowId,
    key: RowKey,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let by_distance = self.distance.total_cmp(&other.distance);
        by_distance.then(self.id.cmp(&other.id))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}
