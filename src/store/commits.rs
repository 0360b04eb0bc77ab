//! Commits of a store, one at a time, and whether all of them are durable.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};

use super::health::Health;
use crate::error::StoreError;
use crate::inner_storage::{Backend, Change, Durability};

/// A commit of so many changes takes longer than most windows of `Durability::Within`.
const CHANGES_LONG: usize = 4_096;

/// Whether these changes take long to commit.
fn is_long(changes: &[Change]) -> bool {
    let is_long =
        |change: &Change| matches!(change, Change::ReplaceLinks { .. } | Change::DropTable(_));
    changes.len() >= CHANGES_LONG || changes.iter().any(is_long)
}

/// All that writes to the backend goes through here: the one writer, and the thread that flushes,
/// which waits for a commit under way but not for its links.
pub(crate) struct Commits {
    backend: Arc<dyn Backend>,
    health: Arc<Health>,
    durability: Durability,
    turn: Mutex<()>,
    /// Whether a commit that is not yet durable may exist.
    unsynced: AtomicBool,
}

impl Commits {
    pub(crate) fn new(
        backend: Arc<dyn Backend>,
        health: Arc<Health>,
        durability: Durability,
    ) -> Self {
        Self {
            backend,
            health,
            durability,
            turn: Mutex::new(()),
            unsynced: AtomicBool::new(false),
        }
    }

    /// Whether a flush would have something to do.
    pub(crate) fn are_unsynced(&self) -> bool {
        self.unsynced.load(Ordering::Acquire)
    }

    /// Whether acknowledged writes may not be durable yet.
    pub(crate) fn owes_a_flush(&self) -> bool {
        self.durability != Durability::Immediate && self.are_unsynced()
    }

    /// Commits with the durability that the caller of the store chose.
    pub(crate) fn commit(&self, changes: &[Change]) -> Result<(), StoreError> {
        self.commit_with(changes, self.durability)
    }

    pub(crate) fn commit_with(
        &self,
        changes: &[Change],
        durability: Durability,
    ) -> Result<(), StoreError> {
        let turn = self.turn.lock();
        // It may have failed, in a flush, while this one waited.
        self.health.check()?;
        let keeps_a_window = matches!(self.durability, Durability::Within(_));
        if keeps_a_window && is_long(changes) && self.are_unsynced() {
            // What was acknowledged before would have to wait for this one.
            self.flush_in_turn(&turn)?;
        }
        let committed = self.backend.commit(changes, durability);
        // Before anybody has the next turn: a flush after it would seem to have saved everything.
        committed.inspect_err(|error| self.health.note("commit", error))?;
        if durability != Durability::Immediate {
            self.unsynced.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Makes every commit before it durable.
    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        self.flush_in_turn(&self.turn.lock())
    }

    /// As `flush`, where there may be something to do.
    pub(crate) fn flush_unsynced(&self) -> Result<(), StoreError> {
        if !self.are_unsynced() {
            return Ok(());
        }
        let turn = self.turn.lock();
        match self.are_unsynced() {
            true => self.flush_in_turn(&turn),
            false => Ok(()),
        }
    }

    /// Whether a write that has been committed and published may be acknowledged: under the weaker
    /// durabilities not once a flush, which may have been that of its commit, has failed.
    pub(crate) fn check_acknowledgeable(&self) -> Result<(), StoreError> {
        match self.health.check() {
            Err(error) if self.durability != Durability::Immediate => {
                Err(StoreError::OutcomeUnknown {
                    source: error.chain().into(),
                })
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn compact(&self) -> Result<bool, StoreError> {
        let _turn = self.turn.lock();
        let compacted = self.backend.compact();
        compacted.inspect_err(|error| self.health.note("compact", error))
    }

    /// Nothing is committed or flushed from here on, and nothing is under way.
    pub(crate) fn close(&self) {
        let _turn = self.turn.lock();
        self.health.close();
    }

    fn flush_in_turn(&self, _turn: &MutexGuard<'_, ()>) -> Result<(), StoreError> {
        // Of a store that has failed or is closed there is nothing to make durable.
        self.health.check()?;
        self.backend.flush().inspect_err(|error| {
            self.health.fail(format!("flush failed: {}", error.chain()));
        })?;
        self.unsynced.store(false, Ordering::Release);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TableId;
    use crate::inner_storage::{RowVisitor, TableKey};
    use crate::row::VectorRow;
    use crate::schema::TableSchema;

    /// Remembers the changes of each commit; a flush has none. A commit of nothing fails.
    #[derive(Default)]
    struct Heard(Mutex<Vec<Option<usize>>>);

    impl Backend for Heard {
        fn commit(&self, changes: &[Change], _: Durability) -> Result<(), StoreError> {
            self.0.lock().push(Some(changes.len()));
            match changes {
                [] => Err(StoreError::OutcomeUnknown {
                    source: "no disk".into(),
                }),
                _ => Ok(()),
            }
        }

        fn flush(&self) -> Result<(), StoreError> {
            self.0.lock().push(None);
            Ok(())
        }

        fn put_row(&self, _: &str, _: &[u8], _: &VectorRow) -> Result<(), StoreError> {
            unreachable!("commits do not go by single rows")
        }

        fn get_row(&self, _: &str, _: &[u8]) -> Result<Option<VectorRow>, StoreError> {
            unreachable!("commits read nothing")
        }

        fn delete_row(&self, _: &str, _: &[u8]) -> Result<bool, StoreError> {
            unreachable!("commits do not go by single rows")
        }

        fn for_each_row(&self, _: &str, _: &mut RowVisitor<'_>) -> Result<(), StoreError> {
            unreachable!("commits read nothing")
        }

        fn put_schema(&self, _: &TableSchema) -> Result<(), StoreError> {
            unreachable!("commits do not go by single schemas")
        }

        fn list_schemas(&self) -> Result<Vec<TableSchema>, StoreError> {
            unreachable!("commits read nothing")
        }
    }

    fn changes(count: usize) -> Vec<Change> {
        let next = TableId::new(1);
        (0..count)
            .map(|_| Change::ReserveTableIds { next })
            .collect()
    }

    fn recorded(durability: Durability) -> (Arc<Heard>, Commits) {
        let heard = Arc::new(Heard::default());
        let commits = Commits::new(Arc::clone(&heard) as _, Arc::default(), durability);
        (heard, commits)
    }

    fn heard(durability: Durability) -> Vec<Option<usize>> {
        let (heard, commits) = recorded(durability);
        commits.commit(&changes(CHANGES_LONG)).unwrap();
        commits.commit(&changes(CHANGES_LONG - 1)).unwrap();
        commits.commit(&changes(CHANGES_LONG)).unwrap();
        commits.flush_unsynced().unwrap();
        commits.flush_unsynced().unwrap();
        heard.0.lock().clone()
    }

    #[test]
    fn a_long_commit_keeps_no_one_waiting_for_a_flush_and_nothing_is_flushed_twice() {
        let (long, short) = (Some(CHANGES_LONG), Some(CHANGES_LONG - 1));
        assert_eq!(
            heard(Durability::Within(5)),
            [long, short, None, long, None]
        );
        assert_eq!(heard(Durability::Volatile), [long, short, long, None]);
        assert_eq!(heard(Durability::Immediate), [long, short, long]);
    }

    #[test]
    fn a_whole_log_of_links_is_a_long_commit() {
        let (heard, commits) = recorded(Durability::Within(5));
        commits.commit(&changes(2)).unwrap();
        let links = Change::ReplaceLinks {
            table: TableKey {
                id: TableId::new(1),
                name: "docs".into(),
            },
            groups: Vec::new(),
        };
        commits
            .commit_with(&[links], Durability::Immediate)
            .unwrap();
        assert_eq!(*heard.0.lock(), [Some(2), None, Some(1)]);
    }

    #[test]
    fn after_a_failed_commit_nothing_is_said_to_be_saved() {
        let (heard, commits) = recorded(Durability::Within(5));
        commits.commit(&changes(1)).unwrap();
        commits.check_acknowledgeable().unwrap();
        let failed = commits.commit_with(&[], Durability::Immediate);
        assert!(matches!(failed, Err(StoreError::OutcomeUnknown { .. })));
        assert!(matches!(commits.flush(), Err(StoreError::Failed { .. })));
        let next = commits.commit(&changes(1));
        assert!(matches!(next, Err(StoreError::Failed { .. })));
        let told = commits.check_acknowledgeable();
        assert!(matches!(told, Err(StoreError::OutcomeUnknown { .. })));
        assert_eq!(*heard.0.lock(), [Some(1), Some(0)]);
    }

    #[test]
    fn nothing_is_flushed_after_a_close() {
        let (heard, commits) = recorded(Durability::Volatile);
        commits.commit(&changes(1)).unwrap();
        commits.close();
        assert!(matches!(commits.flush_unsynced(), Err(StoreError::Closed)));
        assert_eq!(*heard.0.lock(), [Some(1)]);
    }

    #[test]
    fn what_has_failed_is_not_flushed() {
        let (heard, commits) = recorded(Durability::Volatile);
        commits.commit(&changes(1)).unwrap();
        commits.health.fail("a disk".to_string());
        assert!(matches!(commits.flush(), Err(StoreError::Failed { .. })));
        assert!(commits.are_unsynced());
        assert_eq!(*heard.0.lock(), [Some(1)]);
    }
}
