//! The log of links: what a table's graph looks like, kept in the file so that the next open need
//! not find it again.
//!
//! The whole graph is written with the first change of a table that is large enough, again whenever
//! a quarter of its rows have changed since, and at a close after fewer changes. An open writes
//! nothing, so that a full disk keeps nobody from reading. Rows that come in between are added a
//! thousand at a time. A crash loses the last of these at most, and the open that follows
//! searches for what their links are. Nothing but the time of an open depends on the log.

use super::shared::{Seat, StoreCore, TableCore};
use crate::error::StoreError;
use crate::ids::{RowId, Slot};
use crate::inner_index::{Index, Linked};
use crate::inner_storage::{Change, Durability};

/// New rows that are added to the log together: a group then fills its pages.
const PENDING: usize = 1_000;

/// The log is written anew when one row in so many has changed, and at a close already when one
/// in so many has.
const CHANGED_SHARE: usize = 4;
const CHANGED_SHARE_AT_CLOSE: usize = 20;

/// What a table's log knows of its graph.
#[derive(Default)]
pub(crate) struct HintLog {
    /// Whether the log tells of the graph, but for what changed since.
    logged: bool,
    /// Rows that came and rows that went since the whole graph was written.
    changed: usize,
    /// Rows that came since anything was written.
    pending: Vec<(Slot, RowId)>,
    /// Whether the backend has refused: it is not asked again before the next open.
    refused: bool,
}

impl HintLog {
    /// The log as an open found it.
    pub(crate) fn opened(linked: &Linked, rows: usize) -> Self {
        Self {
            logged: linked.hinted > 0
                && linked.relinked + linked.gone <= rows / CHANGED_SHARE_AT_CLOSE,
            changed: linked.relinked + linked.gone + linked.added,
            ..Self::default()
        }
    }
}

/// A failure costs the next open time, and what the backend's failures cost anyway.
fn tell_unwritten(table: &TableCore, error: &StoreError) {
    tracing::error!(table = %table.key.name, error = %error.chain(), "links not kept");
}

impl StoreCore {
    /// How many rows a table has, if it keeps hints.
    fn hinted_rows(&self, table: &TableCore) -> Option<usize> {
        if !self.capabilities.links || self.capabilities.read_only {
            return None;
        }
        let state = table.state.read();
        let is_linked = state.index.as_ref().is_some_and(Index::is_linked);
        let rows = state.keys.len();
        (is_linked && rows >= self.options.hinted_rows_min).then_some(rows)
    }

    /// Notes what a published change brought and took, and writes what is due. The rows are
    /// durable and found already, so a failure is no answer to their writer.
    pub(crate) fn keep_hints(&self, seat: &mut Seat, table: &TableCore, published: Published) {
        let Some(rows) = self.hinted_rows(table) else {
            *table.hints.lock() = HintLog::default();
            return;
        };
        let mut log = table.hints.lock();
        if log.refused {
            return;
        }
        log.changed += published.came.len() + published.went;
        log.pending.extend(published.came);
        let is_due = !log.logged || published.anew || log.changed > rows / CHANGED_SHARE;
        let written = match () {
            () if is_due => self.log_all(seat, table, &mut log),
            // The next durable commit takes it along; an fsync of its own would be for nothing.
            () if log.pending.len() >= PENDING => {
                self.log_pending(seat, table, &mut log, Durability::Volatile)
            }
            () => Ok(()),
        };
        if let Err(error) = written {
            *log = HintLog {
                refused: true,
                ..HintLog::default()
            };
            tell_unwritten(table, &error);
        }
    }

    /// Writes what a close finds missing in the log.
    fn complete_hints(&self, seat: &mut Seat, table: &TableCore) -> Result<(), StoreError> {
        let Some(rows) = self.hinted_rows(table) else {
            return Ok(());
        };
        let mut log = table.hints.lock();
        if log.refused {
            Ok(())
        } else if !log.logged || log.changed > rows / CHANGED_SHARE_AT_CLOSE {
            self.log_all(seat, table, &mut log)
        } else if log.pending.is_empty() {
            Ok(())
        } else {
            self.log_pending(seat, table, &mut log, Durability::Immediate)
        }
    }

    /// As `complete_hints` for every table.
    pub(crate) fn complete_all_hints(&self, seat: &mut Seat) {
        for table in self.all_tables() {
            if let Err(error) = self.complete_hints(seat, &table) {
                tell_unwritten(&table, &error);
            }
        }
    }

    fn log_all(
        &self,
        _seat: &mut Seat,
        table: &TableCore,
        log: &mut HintLog,
    ) -> Result<(), StoreError> {
        let groups = self.install(|| {
            let state = table.state.read();
            state
                .index
                .as_ref()
                .map(|index| index.hints())
                .unwrap_or_default()
        });
        let change = Change::ReplaceLinks {
            table: table.key.clone(),
            groups,
        };
        // Durable at once: weaker commits stay in memory, and this one may be large.
        self.commits.commit_with(&[change], Durability::Immediate)?;
        *log = HintLog {
            logged: true,
            ..HintLog::default()
        };
        Ok(())
    }

    fn log_pending(
        &self,
        _seat: &mut Seat,
        table: &TableCore,
        log: &mut HintLog,
        durability: Durability,
    ) -> Result<(), StoreError> {
        let rows = std::mem::take(&mut log.pending);
        let groups = {
            let state = table.state.read();
            let index = state.index.as_ref();
            index.map(|index| index.hints_of(&rows)).unwrap_or_default()
        };
        let changes: Vec<Change> = groups
            .into_iter()
            .map(|group| Change::AppendLinks {
                table: table.key.clone(),
                group,
            })
            .collect();
        self.commits.commit_with(&changes, durability)
    }
}

/// What a commit changed of a table's index.
pub(crate) struct Published {
    pub(crate) came: Vec<(Slot, RowId)>,
    pub(crate) went: usize,
    /// Whether the whole graph was built anew.
    pub(crate) anew: bool,
}

impl Published {
    /// A graph of all rows that came into the old one's place.
    pub(crate) const ANEW: Self = Self {
        came: Vec::new(),
        went: 0,
        anew: true,
    };
}
