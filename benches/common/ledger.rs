//! What is written to a table while it is searched, and the right answers at every moment.
//!
//! Recall beside a writer is judged against the table as it was when the search began: the nearest
//! of the rows that nobody writes, worked out once, and the rows written up to then. The ledger
//! keeps the distance of every written vector to every query, so that judging costs no scan.

use std::ops::Range;

use vecstash::Metadata;

use super::synth::near;
use super::truth::{distance, keep, limit, nearest};
use super::{DataSet, K, Rows, on_all_cores, row_of};

/// One row as it was written: which one, and how often that one had been written before.
#[derive(Clone, Copy)]
pub(crate) struct Write {
    /// Number of a row held back from the set, from 0.
    held: usize,
    version: usize,
}

/// One answer, and how many writes had been acknowledged before it was asked for and after.
pub(crate) struct Sample {
    pub(crate) query: usize,
    pub(crate) rows: Vec<usize>,
    pub(crate) writes: Range<usize>,
}

/// Every write to a table that held the base of a set, in their order.
pub(crate) struct Ledger<'a> {
    set: &'a DataSet,
    /// Rows that are written over and over first, then rows that become new keys.
    held: &'a Rows,
    /// Rows that are written over and over: so many of the held ones.
    rewritten: usize,
    writes: Vec<Write>,
    /// The write, if there was one, that put an end to each.
    ended: Vec<Option<usize>>,
    /// The writes of each held row.
    of_held: Vec<Vec<usize>>,
    /// Of each query: the distances of the nearest rows of the base.
    in_base: Vec<Vec<f32>>,
    /// Of each query: the distance of every written vector.
    written: Vec<Vec<f32>>,
}

impl<'a> Ledger<'a> {
    pub(crate) fn new(set: &'a DataSet, held: &'a Rows, rewritten: usize) -> Self {
        Self {
            set,
            held,
            rewritten,
            writes: Vec::new(),
            ended: Vec::new(),
            of_held: vec![Vec::new(); held.len()],
            in_base: nearest(&set.base, &set.queries, set.distance),
            written: vec![Vec::new(); set.queries.len()],
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.writes.len()
    }

    /// Rows of the table.
    pub(crate) fn rows(&self) -> usize {
        self.set.base.len() + self.keys()
    }

    /// New keys that are left.
    pub(crate) fn unwritten(&self) -> usize {
        self.held.len() - self.keys()
    }

    /// Keys written so far.
    pub(crate) fn keys(&self) -> usize {
        self.last().count()
    }

    /// The rows there are before anything is measured.
    pub(crate) fn first(&self) -> impl Iterator<Item = Write> + use<> {
        (0..self.rewritten).map(|held| Write { held, version: 0 })
    }

    /// The next `len` new keys, or as many as are left.
    pub(crate) fn inserts(&self, len: usize) -> impl Iterator<Item = Write> + use<> {
        let next = self.keys();
        (next..self.held.len())
            .take(len)
            .map(|held| Write { held, version: 0 })
    }

    /// Overwrites of existing keys without end: each round of them moves every vector a little.
    pub(crate) fn overwrites(&self) -> impl Iterator<Item = Write> + use<> {
        let rewritten = self.rewritten;
        let done = self.len() - self.keys();
        (done..).map(move |number| Write {
            held: number % rewritten,
            version: 1 + number / rewritten,
        })
    }

    /// The last write of every key.
    pub(crate) fn last(&self) -> impl Iterator<Item = Write> {
        let last = |writes: &Vec<usize>| writes.last().map(|&write| self.writes[write]);
        self.of_held.iter().filter_map(last)
    }

    /// The number behind the key of a write.
    pub(crate) fn row(&self, write: Write) -> usize {
        self.set.base.len() + write.held
    }

    pub(crate) fn vector(&self, write: Write) -> Vec<f32> {
        let vector = self.held.row(write.held);
        match write.version {
            0 => vector.to_vec(),
            version => near(vector, version * self.held.len() + write.held),
        }
    }

    /// Tells the versions of a row apart, whatever a codec does to its vector.
    pub(crate) fn metadata(&self, write: Write) -> Metadata {
        Metadata::from([
            ("row".to_string(), self.row(write).into()),
            ("version".to_string(), write.version.into()),
        ])
    }

    /// Enters what has been written since.
    pub(crate) fn enter(&mut self, writes: &[Write]) {
        for &write in writes {
            let number = self.writes.len();
            let of_row = &mut self.of_held[write.held];
            if let Some(&before) = of_row.last() {
                self.ended[before] = Some(number);
            }
            of_row.push(number);
            self.writes.push(write);
            self.ended.push(None);
        }
        let vectors: Vec<_> = writes.iter().map(|&write| self.vector(write)).collect();
        let set = self.set;
        on_all_cores(&mut self.written, 1, |first, part| {
            for (i, written) in part.iter_mut().enumerate() {
                let query = set.queries.row(first + i);
                let of_query = |vector: &Vec<f32>| distance(set.distance, query, vector);
                written.extend(vectors.iter().map(of_query));
            }
        });
    }

    /// The part of the true neighbours that the answers name.
    pub(crate) fn recall(&self, samples: &[Sample]) -> f64 {
        let found: usize = samples.iter().map(|sample| self.found(sample)).sum();
        found as f64 / (self.k() * samples.len()) as f64
    }

    /// Hits that every answer must have.
    pub(crate) fn k(&self) -> usize {
        K.min(self.set.base.len())
    }

    fn found(&self, sample: &Sample) -> usize {
        let written = &self.written[sample.query];
        let lasted =
            |&write: &usize| self.ended[write].is_none_or(|end| end >= sample.writes.start);
        let mut best = self.in_base[sample.query].clone();
        for write in (0..sample.writes.start).filter(lasted) {
            keep(&mut best, self.k(), written[write]);
        }
        let limit = limit(best[self.k() - 1]);
        let query = self.set.queries.row(sample.query);
        let base = &self.set.base;
        let is_near = |&&row: &&usize| match row.checked_sub(base.len()) {
            None => distance(self.set.distance, query, base.row(row)) <= limit,
            // Searches find a row before its write returns, so the one under way counts too.
            Some(held) => self.of_held[held]
                .iter()
                .take_while(|&&write| write <= sample.writes.end)
                .filter(|&write| lasted(write))
                .any(|&write| written[write] <= limit),
        };
        sample.rows.iter().filter(is_near).count()
    }
}

impl Sample {
    /// The answer `hits` of query number `query`.
    pub(crate) fn new(query: usize, hits: &[vecstash::Hit], writes: Range<usize>) -> Self {
        let rows = hits.iter().map(|hit| row_of(&hit.key)).collect();
        Self {
            query,
            rows,
            writes,
        }
    }
}
