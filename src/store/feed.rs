//! From the walk into the table: while one thread reads and checks rows, another one takes them in.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use parking_lot::RwLock;

use super::shared::TableState;
use crate::encoding::{Codec, EncodedView};
use crate::ids::RowId;

/// Bytes of vectors that are handed over together: with the rows on both sides they stay in a
/// core's cache.
const BATCH_BYTES: usize = 128 << 10;

/// How many rows ahead memory is asked for.
const FORESEEN: usize = 8;

/// Batches that may wait.
const WAITING: usize = 2;

/// Some rows, their keys and vectors one after another.
#[derive(Default)]
pub(super) struct Batch {
    /// Ids, and how long the keys are.
    rows: Vec<(RowId, usize)>,
    keys: Vec<u8>,
    bytes: Vec<u8>,
    params: Vec<f32>,
}

/// A table that is fed, by the caller's thread or by one of its own.
pub(super) struct Feed<'scope> {
    table: &'scope RwLock<TableState>,
    shape: (Codec, u16),
    batch: Boxed,
    apart: Option<Apart<'scope>>,
}

/// The thread that takes rows in.
struct Apart<'scope> {
    full: SyncSender<Boxed>,
    empty: Receiver<Boxed>,
    thread: ScopedJoinHandle<'scope, ()>,
}

pub(super) type Boxed = Box<Batch>;

impl<'scope> Feed<'scope> {
    /// Feeds a table, whose vectors have this codec and dimension, by a thread of its own if there
    /// is more than one.
    pub(super) fn new<'env>(
        scope: &'scope Scope<'scope, 'env>,
        table: &'scope RwLock<TableState>,
        shape: (Codec, u16),
        threads: usize,
    ) -> Self {
        let apart = || {
            let (full, to_load) = sync_channel::<Boxed>(WAITING);
            let (loaded, empty) = sync_channel::<Boxed>(WAITING + 1);
            let take_in = move || {
                for mut batch in to_load {
                    batch.load(table, shape, threads);
                    // Nobody waits for it any more once the walk is over.
                    let _ = loaded.try_send(batch);
                }
            };
            let thread = std::thread::Builder::new().name("vecstash-feed".to_owned());
            Some(Apart {
                full,
                empty,
                // Without another thread this one does it all.
                thread: thread.spawn_scoped(scope, take_in).ok()?,
            })
        };
        let apart = if threads > 1 { apart() } else { None };
        Self {
            table,
            shape,
            batch: Boxed::default(),
            apart,
        }
    }

    /// Takes in a row.
    pub(super) fn load(&mut self, id: RowId, key: &[u8], vector: EncodedView<'_>) {
        let batch = &mut self.batch;
        batch.rows.push((id, key.len()));
        batch.keys.extend_from_slice(key);
        vector.append_bytes(&mut batch.bytes);
        batch.params.extend_from_slice(vector.params);
        if batch.bytes.len() < BATCH_BYTES {
            return;
        }
        match &self.apart {
            None => batch.load(self.table, self.shape, 1),
            Some(apart) => {
                let next = apart.empty.try_recv().unwrap_or_default();
                // The other side has panicked if this fails, and `finish` says so.
                let _ = apart.full.send(std::mem::replace(batch, next));
            }
        }
    }

    /// Returns once every row is in the table.
    pub(super) fn finish(mut self) {
        let Some(Apart { full, thread, .. }) = self.apart else {
            return self.batch.load(self.table, self.shape, 1);
        };
        let _ = full.send(self.batch);
        drop(full);
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Batch {
    /// Takes the rows into the table, and empties the batch.
    fn load(&mut self, table: &RwLock<TableState>, (codec, dim): (Codec, u16), threads: usize) {
        let vector_len = codec.vector_len(usize::from(dim));
        let params_len = codec.params_len();
        let mut state = table.write();
        let mut keys = &self.keys[..];
        for (nth, &(id, key_len)) in self.rows.iter().enumerate() {
            if let (Some(&(id, _)), Some(index)) = (self.rows.get(nth + FORESEEN), &state.index) {
                index.foresee(id);
            }
            let key;
            (key, keys) = keys.split_at(key_len);
            let vector = EncodedView {
                codec,
                dim,
                bytes: &self.bytes[nth * vector_len..][..vector_len],
                params: &self.params[nth * params_len..][..params_len],
            };
            state.load(id, key, vector, threads);
        }
        drop(state);
        self.rows.clear();
        self.keys.clear();
        self.bytes.clear();
        self.params.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distance::Distance;
    use crate::ids::TableId;
    use crate::schema::{HnswParams, TableOptions, TableRecord, TableSchema};

    /// Rows come in batches that are looked up many times, every third one a copy.
    #[test]
    fn every_row_is_found_by_its_key_whoever_looks_it_up() {
        let record = TableRecord {
            id: TableId::new(1),
            schema: TableSchema {
                name: "t".into(),
                dim: 8,
                codec: Codec::Int8Quantized,
                distance: Distance::Euclidean,
                hnsw: HnswParams::default(),
            },
            options: TableOptions::default(),
            turbo: None,
        };
        for threads in [1, 2] {
            let table = RwLock::new(TableState::empty(&record).unwrap());
            let rows = 3_001;
            std::thread::scope(|scope| {
                let mut feed = Feed::new(scope, &table, (Codec::Int8Quantized, 8), threads);
                for row in 0..rows {
                    let from = (row - row % 3) as f32;
                    let vector: Vec<f32> = (0..8).map(|i| (from * 0.7 + i as f32).sin()).collect();
                    let encoded = Codec::Int8Quantized.encoder().encode(&vector).unwrap();
                    let key = format!("key {row}").into_bytes();
                    feed.load(RowId::new(row), &key, encoded.view());
                }
                feed.finish();
            });
            let mut state = table.into_inner();
            state.look_up(threads);
            for row in 0..rows {
                let (slot, id) = state.find(format!("key {row}").as_bytes()).unwrap();
                assert_eq!(id, RowId::new(row));
                assert_eq!(state.keys.key(slot), format!("key {row}").as_bytes());
            }
            assert_eq!(state.keys.len(), rows as usize);
            let index = state.index.as_mut().unwrap();
            index.build(&|_, _| true).unwrap();
            assert_eq!(index.distinct(), rows.div_ceil(3) as usize);
            assert_eq!(index.check(), [""; 0]);
        }
    }
}
