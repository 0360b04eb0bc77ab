//! The indexes against brute force, on real vectors.

mod churn;
mod hard;
mod npy;
mod recall;
mod refined;
mod same;

use super::*;
use crate::encoding::EncodedVector;

const DISTANCES: [Distance; 3] = [Distance::Euclidean, Distance::Cosine, Distance::DotProduct];

/// An HNSW table of default parameters.
pub(super) fn spec(dim: usize, codec: Codec, distance: Distance) -> IndexSpec {
    IndexSpec {
        dim,
        codec,
        distance,
        hnsw: HnswParams::default(),
        kind: IndexKind::Hnsw,
        resident: Residence::Compact,
        fit: None,
    }
}

/// An index and what was written to it, the way the store goes about it.
struct Bench {
    index: Index,
    spec: IndexSpec,
    /// Stored vectors by slot.
    rows: Vec<Option<(RowId, EncodedVector)>>,
    next_id: u64,
    rerank: usize,
}

impl Bench {
    fn new(spec: IndexSpec) -> Self {
        Self {
            index: Index::new(&spec).unwrap(),
            spec,
            rows: Vec::new(),
            next_id: 1,
            rerank: 24,
        }
    }

    /// Loads and builds, in the order of `order`, which names places of `vectors`.
    fn load_in_order(spec: IndexSpec, vectors: &[Vec<f32>], order: &[usize]) -> Self {
        let mut bench = Self::new(spec);
        bench.rows = vec![None; vectors.len()];
        bench.next_id = vectors.len() as u64 + 1;
        bench.index.reserve(vectors.len());
        for (slot, &place) in order.iter().enumerate() {
            let encoded = bench.encode(&vectors[place]);
            let id = RowId::new(place as u64 + 1);
            bench.index.load(Slot::new(slot), id, encoded.view());
            bench.rows[slot] = Some((id, encoded));
            if slot % 200 == 199 {
                bench.index.join_twins();
            }
        }
        bench.index.build(&|_, _| true).unwrap();
        bench
    }

    fn load(spec: IndexSpec, vectors: &[Vec<f32>]) -> Self {
        let order: Vec<usize> = (0..vectors.len()).collect();
        Self::load_in_order(spec, vectors, &order)
    }

    fn encode(&self, vector: &[f32]) -> EncodedVector {
        self.spec.codec.encoder().encode(vector).unwrap()
    }

    /// Writes one group of rows into vacant slots and shows them; returns the slots.
    fn insert(&mut self, vectors: &[Vec<f32>]) -> Vec<usize> {
        let slots = self.insert_hidden(vectors);
        self.index.publish(RowId::new(self.next_id));
        slots
    }

    fn insert_hidden(&mut self, vectors: &[Vec<f32>]) -> Vec<usize> {
        let mut vacant: Vec<usize> = (0..self.rows.len())
            .filter(|&s| self.rows[s].is_none())
            .collect();
        vacant.extend(self.rows.len()..self.rows.len() + vectors.len());
        vacant.truncate(vectors.len());
        let encoded: Vec<EncodedVector> = vectors.iter().map(|v| self.encode(v)).collect();
        let mut entries = Vec::new();
        for (encoded, &slot) in encoded.iter().zip(&vacant) {
            entries.push(Entry {
                slot: Slot::new(slot),
                id: RowId::new(self.next_id),
                vector: encoded.view(),
                plan: self.index.plan(encoded.view()),
            });
            self.next_id += 1;
        }
        let ids: Vec<RowId> = entries.iter().map(|entry| entry.id).collect();
        let patch = self.index.prepare(entries);
        self.index.apply(patch);
        for ((encoded, id), &slot) in encoded.into_iter().zip(ids).zip(&vacant) {
            let len = self.rows.len().max(slot + 1);
            self.rows.resize(len, None);
            self.rows[slot] = Some((id, encoded));
        }
        vacant
    }

    fn remove(&mut self, slot: usize) {
        self.index.remove(Slot::new(slot));
        self.rows[slot] = None;
    }

    /// The vector in a slot, as stored.
    fn decoded(&self, slot: usize) -> Vec<f32> {
        let (_, encoded) = self.rows[slot].as_ref().expect("a live row");
        encoded.decode().unwrap()
    }

    /// Clean-up to its end, in slices of `budget`.
    fn maintain(&mut self, budget: usize) {
        while let Some(patch) = self.index.maintain(budget) {
            self.index.apply(patch);
        }
    }

    fn live(&self) -> impl Iterator<Item = (usize, &RowId, &EncodedVector)> {
        let rows = self.rows.iter().enumerate();
        rows.filter_map(|(slot, row)| row.as_ref().map(|(id, vector)| (slot, id, vector)))
    }

    /// The best `k`, by the definition of an exact distance.
    fn truth(&self, query: &[f32], k: usize) -> Vec<(f32, RowId)> {
        let exact = ExactQuery::new(self.spec.distance, query);
        let mut scratch = Vec::new();
        let mut all: Vec<(f32, RowId)> = self
            .live()
            .map(|(_, &id, vector)| (exact.score_view(vector.view(), &mut scratch), id))
            .collect();
        all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        all.truncate(k);
        all
    }

    /// What the store makes of candidates: the exact distances of their rows, the best `k`.
    fn finish(&self, query: &[f32], candidates: Vec<Candidate>, k: usize) -> Vec<(f32, RowId)> {
        let exact = ExactQuery::new(self.spec.distance, query);
        let mut found = Vec::new();
        for candidate in candidates {
            let (id, vector) = self.rows[candidate.slot.index()]
                .as_ref()
                .expect("a live row");
            assert_eq!(*id, candidate.id);
            let distance = exact.score_view(vector.view(), &mut Vec::new());
            if candidate.exact {
                assert_eq!(candidate.distance.to_bits(), distance.to_bits());
            }
            found.push((distance, *id));
        }
        found.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        found.truncate(k);
        found
    }

    fn search(&self, query: &[f32], k: usize, ef: usize) -> Vec<(f32, RowId)> {
        let spec = SearchSpec {
            k,
            ef,
            rerank: self.rerank,
        };
        self.finish(query, self.index.search(query, &spec), k)
    }

    fn scan(&self, query: &[f32], k: usize) -> Vec<(f32, RowId)> {
        let mut scan = self.index.scan_start(query, k).expect("rows in memory");
        while !self.index.scan_step(&mut scan, 700) {}
        self.finish(query, scan.finish(), k)
    }

    /// Recall at 10 by distance, against the best of these rows as stored.
    fn recall(&self, queries: &[Vec<f32>], ef: usize) -> f64 {
        let mut hits = 0;
        for query in queries {
            let worst = self.truth(query, 10)[9].0;
            let found = self.search(query, 10, ef);
            assert_eq!(found.len(), 10);
            hits += found
                .iter()
                .filter(|(distance, _)| *distance <= worst)
                .count();
        }
        hits as f64 / (10 * queries.len()) as f64
    }

    fn assert_sound(&self) {
        let wrong = self.index.check();
        assert!(
            wrong.is_empty(),
            "{} faults, {:?}",
            wrong.len(),
            &wrong[..wrong.len().min(5)]
        );
        assert_eq!(self.index.len(), self.live().count());
    }
}

fn fixture(name: &str) -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
    let base = npy::read(&format!("{name}/base")).rows();
    let queries = npy::read(&format!("{name}/query")).rows();
    (base, queries)
}

/// A shuffle of `0..len`, the same every time.
fn shuffled(len: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..len).collect();
    order.sort_by_key(|&place| xxhash_rust::xxh3::xxh3_64(&place.to_le_bytes()));
    order
}
