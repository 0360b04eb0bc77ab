//! Whether a store may still work: healthy, failed for good, or closed.

use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;

use crate::error::StoreError;

const HEALTHY: u8 = 0;
const FAILED: u8 = 1;
const CLOSED: u8 = 2;

/// One way only: healthy, then failed or closed. A reopen starts anew; nothing is ever retried,
/// because after one failed fsync a second one may succeed without having written anything.
#[derive(Default)]
pub(crate) struct Health {
    state: AtomicU8,
    reason: Mutex<Option<String>>,
}

impl Health {
    /// An error unless the store is healthy.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match self.state.load(Ordering::Acquire) {
            HEALTHY => Ok(()),
            CLOSED => Err(StoreError::Closed),
            _ => Err(StoreError::Failed {
                reason: self.reason.lock().clone().unwrap_or_default(),
            }),
        }
    }

    /// Refuses all further work; the first reason stays.
    pub(crate) fn fail(&self, reason: String) {
        let mut first = self.reason.lock();
        if first.is_none() {
            tracing::error!(reason, "the store refuses further work");
            *first = Some(reason);
        }
        // A closed store stays closed.
        let _ = self
            .state
            .compare_exchange(HEALTHY, FAILED, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Refuses all further work after an error that leaves no other way.
    pub(crate) fn note(&self, op: &str, error: &StoreError) {
        let latched = matches!(
            error,
            StoreError::OutcomeUnknown { .. }
                | StoreError::Storage { .. }
                | StoreError::StorageFull { .. }
                | StoreError::Failed { .. }
        );
        if latched {
            self.fail(format!("{op} failed: {}", error.chain()));
        }
    }

    /// Refuses all further work because the caller closed the store. `false` when it already was.
    pub(crate) fn close(&self) -> bool {
        self.state.swap(CLOSED, Ordering::AcqRel) != CLOSED
    }
}
