//! Group commit: writers queue up, whoever gets the seat writes for all that wait.
//!
//! No timer: the next group is whoever arrived during the last sync. Each request is atomic by
//! itself, and all requests of a group share one transaction and its fsyncs.

use std::sync::Arc;

use parking_lot::Mutex;

use super::shared::{Seat, StoreCore, TableCore};
use crate::encoding::EncodedVector;
use crate::error::StoreError;
use crate::inner_index::Plan;
use crate::row::{Metadata, RowKey};

/// How many operations one group takes on at most, so that the first to wait is not kept for ever.
const GROUP_LEN_MAX: usize = 4_096;

/// One checked operation of a request: nothing about it can be refused for its content any more.
pub(crate) enum Operation {
    Upsert {
        table: Arc<TableCore>,
        key: RowKey,
        vector: EncodedVector,
        metadata: Metadata,
        plan: Option<Plan>,
    },
    SetMetadata {
        table: Arc<TableCore>,
        key: RowKey,
        metadata: Metadata,
    },
    Delete {
        table: Arc<TableCore>,
        key: RowKey,
    },
}

/// How many rows a batch inserted, updated and deleted, counted by key: what a key held before the
/// batch against what it holds after.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct WriteOutcome {
    /// Keys that were not there and are now.
    pub inserted: usize,
    /// Keys that were there and still are.
    pub updated: usize,
    /// Of the updated keys, those whose stored vector stayed the same: no index work was done.
    pub unchanged_vectors: usize,
    /// Keys that were there and no longer are.
    pub deleted: usize,
}

/// A request on its way through the queue.
pub(crate) struct Request {
    operations: Mutex<Vec<Operation>>,
    len: usize,
    result: Mutex<Option<Result<WriteOutcome, StoreError>>>,
}

impl Request {
    pub(crate) fn take_operations(&self) -> Vec<Operation> {
        std::mem::take(&mut *self.operations.lock())
    }

    /// The first answer stays.
    pub(crate) fn answer(&self, result: Result<WriteOutcome, StoreError>) {
        self.result.lock().get_or_insert(result);
    }
}

/// Requests that wait for the seat.
#[derive(Default)]
pub(crate) struct Queue(Mutex<Vec<Arc<Request>>>);

impl Queue {
    fn push(&self, request: Arc<Request>) {
        self.0.lock().push(request);
    }

    /// The requests of the next group: one where the backend is not atomic, else as many as fit.
    fn take(&self, atomic: bool) -> Vec<Arc<Request>> {
        let mut waiting = self.0.lock();
        let mut operations = 0;
        let fits = waiting.iter().take_while(|request| {
            operations += request.len;
            atomic && operations <= GROUP_LEN_MAX
        });
        let count = fits.count().max(1).min(waiting.len());
        waiting.drain(..count).collect()
    }
}

impl StoreCore {
    /// Writes these operations, all or none, together with whatever else is waiting; returns once
    /// they are as durable as the store promises and every search finds them.
    pub(crate) fn submit(&self, operations: Vec<Operation>) -> Result<WriteOutcome, StoreError> {
        self.check_writable()?;
        if operations.is_empty() {
            return Ok(WriteOutcome::default());
        }
        let request = Arc::new(Request {
            len: operations.len(),
            operations: Mutex::new(operations),
            result: Mutex::new(None),
        });
        self.queue.push(Arc::clone(&request));
        loop {
            let mut seat = self.seat.lock();
            if let Some(result) = request.result.lock().take() {
                return result;
            }
            let group = self.queue.take(self.capabilities.atomic);
            self.run_group(&mut seat, &group);
        }
    }

    /// Writes one group and answers each of its requests, whatever happens.
    fn run_group(&self, seat: &mut Seat, group: &[Arc<Request>]) {
        struct AnswerAll<'a>(&'a StoreCore, &'a [Arc<Request>]);
        impl Drop for AnswerAll<'_> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0.health.fail("a panic while writing".to_string());
                }
                for request in self.1 {
                    request.answer(Err(StoreError::Failed {
                        reason: "the writer ended without an answer".to_string(),
                    }));
                }
            }
        }
        let answers = AnswerAll(self, group);
        if let Err(error) = self.check_writable() {
            for request in group {
                request.answer(Err(repeat(&error)));
            }
        } else {
            self.write_group(seat, group);
        }
        drop(answers);
    }
}

/// The same error once more, for another request of the same group. Causes cannot be cloned, so
/// their text stands for them.
pub(crate) fn repeat(error: &StoreError) -> StoreError {
    let cause = |error: &StoreError| -> crate::error::Cause {
        let text = error.chain();
        let shown = error.to_string();
        text.strip_prefix(&format!("{shown}: "))
            .unwrap_or("see the first request of the group")
            .into()
    };
    match error {
        StoreError::OutcomeUnknown { .. } => StoreError::OutcomeUnknown {
            source: cause(error),
        },
        StoreError::StorageFull { op, .. } => StoreError::StorageFull {
            op,
            source: cause(error),
        },
        StoreError::Failed { reason } => StoreError::Failed {
            reason: reason.clone(),
        },
        StoreError::Closed => StoreError::Closed,
        StoreError::ReadOnly => StoreError::ReadOnly,
        StoreError::UnknownTable(name) => StoreError::UnknownTable(name.clone()),
        StoreError::Backend(text) => StoreError::Backend(text.clone()),
        StoreError::Unsupported { what, remedy } => StoreError::Unsupported { what, remedy },
        other => StoreError::Storage {
            op: "the shared commit",
            source: other.chain().into(),
        },
    }
}
