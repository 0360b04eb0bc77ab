//! From the walk into the index: while one thread reads and checks rows, another one takes them in.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use crate::encoding::{Codec, EncodedView};
use crate::ids::{RowId, Slot};
use crate::inner_index::Index;

/// Bytes of vectors that are handed over together: with the rows on both sides they stay in a
/// core's cache.
const BATCH_BYTES: usize = 128 << 10;

/// Batches that may wait.
const WAITING: usize = 2;

/// Some rows, their vectors one after another.
#[derive(Default)]
pub(super) struct Batch {
    rows: Vec<(Slot, RowId)>,
    bytes: Vec<u8>,
    params: Vec<f32>,
}

/// An index that is fed, on the caller's thread or by one of its own.
pub(super) enum Feed<'scope> {
    Inline(Box<Index>),
    Apart {
        batch: Boxed,
        full: SyncSender<Boxed>,
        empty: Receiver<Boxed>,
        thread: ScopedJoinHandle<'scope, Index>,
    },
}

pub(super) type Boxed = Box<Batch>;

impl<'scope> Feed<'scope> {
    /// Feeds `index`, whose vectors have this codec and dimension, by a thread of its own if there
    /// is more than one.
    pub(super) fn new<'env>(
        scope: &'scope Scope<'scope, 'env>,
        index: Index,
        shape: (Codec, u16),
        threads: usize,
    ) -> Self {
        if threads < 2 {
            return Self::Inline(Box::new(index));
        }
        let (full, to_load) = sync_channel::<Boxed>(WAITING);
        let (loaded, empty) = sync_channel::<Boxed>(WAITING + 1);
        let take_in = move || {
            let mut index = index;
            for mut batch in to_load {
                batch.load(&mut index, shape);
                batch.clear();
                // Nobody waits for it any more once the walk is over.
                let _ = loaded.try_send(batch);
            }
            index
        };
        Self::Apart {
            batch: Boxed::default(),
            full,
            empty,
            thread: scope.spawn(take_in),
        }
    }

    /// Takes in a row.
    pub(super) fn load(&mut self, slot: Slot, id: RowId, vector: EncodedView<'_>) {
        match self {
            Self::Inline(index) => index.load(slot, id, vector),
            Self::Apart {
                batch, full, empty, ..
            } => {
                batch.rows.push((slot, id));
                batch.bytes.extend_from_slice(vector.bytes);
                batch.params.extend_from_slice(vector.params);
                if batch.bytes.len() >= BATCH_BYTES {
                    let next = empty.try_recv().unwrap_or_default();
                    // The other side has panicked if this fails, and `finish` says so.
                    let _ = full.send(std::mem::replace(batch, next));
                }
            }
        }
    }

    /// The index with every row in it.
    pub(super) fn finish(self) -> Index {
        match self {
            Self::Inline(index) => *index,
            Self::Apart {
                batch,
                full,
                thread,
                ..
            } => {
                let _ = full.send(batch);
                drop(full);
                let index = thread.join();
                index.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }
        }
    }
}

impl Batch {
    fn load(&self, index: &mut Index, (codec, dim): (Codec, u16)) {
        let vector_len = codec.vector_len(usize::from(dim));
        let params_len = codec.params_len();
        for (nth, &(slot, id)) in self.rows.iter().enumerate() {
            let vector = EncodedView {
                codec,
                dim,
                bytes: &self.bytes[nth * vector_len..][..vector_len],
                params: &self.params[nth * params_len..][..params_len],
            };
            index.load(slot, id, vector);
        }
    }

    fn clear(&mut self) {
        self.rows.clear();
        self.bytes.clear();
        self.params.clear();
    }
}
