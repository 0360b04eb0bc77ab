//! From redb's errors to ours, and the memory of the first failure of a handle.

use std::path::PathBuf;

use parking_lot::Mutex;

use crate::error::StoreError;

/// Newest redb file format that redb 4 reads.
const REDB_FORMAT: u32 = 3;

/// Healthy until the first failure that leaves redb's own state in doubt, then Failed until the
/// file is opened again. An I/O error is such a failure, even a passing one on a read: redb
/// refuses every uncached read and every write after it. An fsync is never tried twice.
#[derive(Debug)]
pub(super) struct Health {
    pub(super) path: PathBuf,
    failed: Mutex<Option<String>>,
}

impl Health {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            failed: Mutex::new(None),
        }
    }

    /// The error of every write after a failure.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        match &*self.failed.lock() {
            None => Ok(()),
            Some(reason) => Err(StoreError::Failed {
                reason: reason.clone(),
            }),
        }
    }

    fn latch(&self, reason: String) {
        self.failed.lock().get_or_insert(reason);
    }

    /// What an error of redb means, when `op` was being done.
    pub(super) fn error(&self, op: &'static str, error: impl Into<redb::Error>) -> StoreError {
        let path = || self.path.clone();
        match error.into() {
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => {
                StoreError::AlreadyOpen { path: path() }
            }
            redb::Error::DatabaseClosed => StoreError::Closed,
            redb::Error::TransactionInProgress => StoreError::Busy {
                what: "a snapshot of the store is still in use",
            },
            redb::Error::UpgradeRequired(version) => StoreError::NotAStore {
                path: path(),
                detail: format!("a redb file of the old format {version}"),
            },
            redb::Error::Corrupted(detail) => match newer_format(&detail) {
                Some(found) => StoreError::NewerFormat {
                    path: path(),
                    found,
                    supported: REDB_FORMAT,
                },
                None => self.corrupt(detail),
            },
            error @ (redb::Error::TableTypeMismatch { .. }
            | redb::Error::TypeDefinitionChanged { .. }
            | redb::Error::TableIsMultimap(_)
            | redb::Error::TableDoesNotExist(_)) => self.corrupt(error.to_string()),
            redb::Error::PreviousIo | redb::Error::LockPoisoned(_) => {
                self.latch(format!("{op} failed"));
                match self.check() {
                    Err(failed) => failed,
                    Ok(()) => StoreError::Closed,
                }
            }
            redb::Error::Io(source) => {
                self.latch(format!("{op} failed: {source}"));
                StoreError::storage(op, source)
            }
            other => {
                self.latch(format!("{op} failed: {other}"));
                StoreError::storage(op, Box::new(other) as crate::error::Cause)
            }
        }
    }

    /// The outcome of a commit that failed: redb itself does not know it.
    pub(super) fn unknown_outcome(&self, error: impl Into<redb::Error>) -> StoreError {
        let error = error.into();
        self.latch(format!("a commit failed: {error}"));
        let source: crate::error::Cause = match error {
            redb::Error::Io(source) => Box::new(source),
            other => Box::new(other),
        };
        StoreError::OutcomeUnknown { source }
    }

    /// Something in the file that redb's checks let pass and that is not as we wrote it.
    pub(super) fn corrupt(&self, detail: impl Into<String>) -> StoreError {
        StoreError::CorruptFile {
            path: self.path.clone(),
            detail: detail.into(),
            source: None,
        }
    }
}

/// The number in `Expected file format version <= 3, found 4`, which is all redb says.
fn newer_format(detail: &str) -> Option<u32> {
    let (_, found) = detail
        .split_once("Expected file format version <= ")?
        .1
        .split_once("found ")?;
    found.trim().parse().ok()
}
