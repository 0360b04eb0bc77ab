//! Staging a group: what every key holds now, what it will hold, and the changes in between.

use std::collections::HashMap;
use std::sync::Arc;

use super::group::{Operation, WriteOutcome};
use super::shared::{StoreCore, TableCore};
use crate::encoding::EncodedVector;
use crate::error::StoreError;
use crate::ids::{RowId, Slot, TableId};
use crate::inner_index::Plan;
use crate::inner_storage::Change;
use crate::row::{Metadata, RowKey, VectorRow, Want};

/// How many row ids the file promises at a time: one small write per this many rows.
pub(crate) const ROW_IDS_AHEAD: u64 = 4_096;

/// A row as it will be, before it has its final id.
struct Draft {
    vector: EncodedVector,
    /// `Some` when the vector is already stored under this id and need not be indexed again.
    id: Option<RowId>,
    metadata: Metadata,
    /// Whether `metadata` is what will be stored; a row read for its vector alone has none.
    complete: bool,
    created_at: u64,
    updated_at: u64,
    plan: Option<Plan>,
}

/// One key of one table in a group: what it held before the group and what it holds by now.
struct Cell {
    /// The slot and id before the group.
    before: Option<(Slot, RowId)>,
    /// Stored before the group but quarantined, so without a slot.
    quarantined: bool,
    now: Option<Draft>,
    /// Whether `now` differs from what is stored.
    touched: bool,
}

impl Cell {
    /// Applies one operation; `true` when the key's vector stayed what it was.
    fn apply(&mut self, operation: Operation, now_ms: u64) -> bool {
        match operation {
            Operation::Upsert {
                vector,
                metadata,
                plan,
                ..
            } => {
                let prior = self.now.take();
                let same = prior.as_ref().is_some_and(|row| row.vector == vector);
                let times = prior.as_ref().map(|row| (row.created_at, row.updated_at));
                let (created_at, last) = times.unwrap_or((now_ms, now_ms));
                self.now = Some(Draft {
                    id: prior.and_then(|row| row.id).filter(|_| same),
                    vector,
                    metadata,
                    complete: true,
                    created_at,
                    updated_at: now_ms.max(last).max(created_at),
                    plan,
                });
                self.touched = true;
                same
            }
            Operation::SetMetadata { metadata, .. } => {
                // `Stage::add` has seen that the row exists at this point of the request.
                if let Some(row) = &mut self.now {
                    row.metadata = metadata;
                    row.complete = true;
                    row.updated_at = now_ms.max(row.updated_at).max(row.created_at);
                    self.touched = true;
                }
                true
            }
            Operation::Delete { .. } => {
                let quarantined = std::mem::take(&mut self.quarantined);
                self.touched |= self.now.take().is_some() || quarantined;
                false
            }
        }
    }
}

/// What a request does to one key, all its operations together.
struct Count {
    was: bool,
    is: bool,
    same_vector: bool,
}

impl Count {
    fn before(cell: &Cell) -> Self {
        let was = cell.now.is_some() || cell.quarantined;
        Self {
            was,
            is: was,
            same_vector: true,
        }
    }

    fn add_to(&self, outcome: &mut WriteOutcome) {
        match (self.was, self.is) {
            (false, true) => outcome.inserted += 1,
            (true, true) => {
                outcome.updated += 1;
                outcome.unchanged_vectors += usize::from(self.same_vector);
            }
            (true, false) => outcome.deleted += 1,
            (false, false) => {}
        }
    }
}

/// Every key that a group touches.
#[derive(Default)]
pub(crate) struct Stage {
    tables: HashMap<TableId, Arc<TableCore>>,
    cells: HashMap<(TableId, RowKey), Cell>,
    /// Keys in the order they were first touched: the order of their new row ids.
    order: Vec<(TableId, RowKey)>,
}

/// A row to be indexed once its commit is durable.
pub(crate) struct Fresh {
    pub(crate) key: RowKey,
    pub(crate) id: RowId,
    pub(crate) vector: EncodedVector,
    pub(crate) plan: Option<Plan>,
}

/// What a commit means for one table's index.
pub(crate) struct TableChange {
    pub(crate) table: Arc<TableCore>,
    /// Rows to index, in ascending order of ids.
    pub(crate) fresh: Vec<Fresh>,
    /// Keys that lose the slot they had, because they were deleted.
    pub(crate) removed: Vec<RowKey>,
    /// Keys that were quarantined and are no longer.
    pub(crate) healed: Vec<RowKey>,
    /// First row id that stays free.
    pub(crate) next_row_id: RowId,
}

/// A staged group: the changes for the backend and for the indexes.
pub(crate) struct Staged {
    pub(crate) changes: Vec<Change>,
    pub(crate) tables: Vec<TableChange>,
}

impl Stage {
    /// Adds a request, all of it or nothing.
    pub(crate) fn add(
        &mut self,
        core: &StoreCore,
        operations: Vec<Operation>,
    ) -> Result<WriteOutcome, StoreError> {
        // Everything that can refuse the request comes first: dropped tables, failing reads, rows
        // that must exist. What follows only moves values.
        let mut exists: HashMap<(TableId, &[u8]), bool> = HashMap::new();
        for operation in &operations {
            let (table, key) = operation.target();
            table.check_live()?;
            self.load(core, table, key)?;
            let id = (table.key.id, key.as_slice());
            match operation {
                Operation::Upsert { .. } => exists.insert(id, true),
                Operation::Delete { .. } => exists.insert(id, false),
                Operation::SetMetadata { .. } => {
                    let there = exists.get(&id).copied();
                    if !there.unwrap_or_else(|| self.holds(table.key.id, key)) {
                        return Err(StoreError::RowNotFound {
                            table: table.key.name.to_string(),
                            key: key.clone(),
                        });
                    }
                    None
                }
            };
        }
        let now_ms = core.now_ms();
        let mut counts: HashMap<(TableId, RowKey), Count> = HashMap::new();
        for operation in operations {
            let (table, key) = operation.target();
            let id = (table.key.id, key.clone());
            let cell = self.cells.get_mut(&id).expect("loaded above");
            let count = counts.entry(id).or_insert_with(|| Count::before(cell));
            count.same_vector &= cell.apply(operation, now_ms);
            count.is = cell.now.is_some();
        }
        let mut outcome = WriteOutcome::default();
        for count in counts.values() {
            count.add_to(&mut outcome);
        }
        Ok(outcome)
    }

    fn holds(&self, table: TableId, key: &RowKey) -> bool {
        self.cells
            .get(&(table, key.clone()))
            .is_some_and(|cell| cell.now.is_some())
    }

    /// Reads what a key holds, once per group.
    fn load(
        &mut self,
        core: &StoreCore,
        table: &Arc<TableCore>,
        key: &RowKey,
    ) -> Result<(), StoreError> {
        let id = (table.key.id, key.clone());
        if self.cells.contains_key(&id) {
            return Ok(());
        }
        // The directory knows every row, so a key it does not know costs no read.
        let before = table.state.read().find(key);
        let now = match before {
            Some((_, row_id)) => {
                let record = core.reader().read(&table.key, key, Want::VECTOR)?;
                let record = record.ok_or_else(|| {
                    table.corrupt(key, "the index knows this row and the file does not")
                })?;
                Some(Draft {
                    vector: record.row.vector,
                    id: Some(row_id),
                    metadata: Metadata::new(),
                    complete: false,
                    created_at: record.row.created_at,
                    updated_at: record.row.updated_at,
                    plan: None,
                })
            }
            None => None,
        };
        let quarantined = before.is_none() && table.quarantined.lock().contains_key(key);
        self.tables
            .entry(table.key.id)
            .or_insert_with(|| Arc::clone(table));
        self.order.push(id.clone());
        self.cells.insert(
            id,
            Cell {
                before,
                quarantined,
                now,
                touched: false,
            },
        );
        Ok(())
    }

    /// Numbers the new vectors and writes down what changes, sorted by key as the file is.
    pub(crate) fn finish(mut self) -> Staged {
        let mut changes = Vec::new();
        let mut tables: HashMap<TableId, TableChange> = HashMap::new();
        for id in std::mem::take(&mut self.order) {
            let cell = self.cells.remove(&id).expect("ordered once");
            if !cell.touched {
                continue;
            }
            let table = &self.tables[&id.0];
            let change = tables.entry(id.0).or_insert_with(|| TableChange {
                table: Arc::clone(table),
                fresh: Vec::new(),
                removed: Vec::new(),
                healed: Vec::new(),
                next_row_id: table.row_ids.lock().next,
            });
            stage_cell(change, id.1, cell, &mut changes);
        }
        changes.sort_by(|a, b| sort_key(a).cmp(&sort_key(b)));
        for change in tables.values() {
            let ids = change.table.row_ids.lock();
            if change.next_row_id > ids.reserved {
                changes.insert(
                    0,
                    Change::ReserveRowIds {
                        table: change.table.key.clone(),
                        next: RowId::new(change.next_row_id.get() + ROW_IDS_AHEAD),
                    },
                );
            }
        }
        let mut tables: Vec<_> = tables.into_values().collect();
        tables.sort_by_key(|change| change.table.key.id);
        Staged { changes, tables }
    }
}

fn stage_cell(change: &mut TableChange, key: RowKey, cell: Cell, changes: &mut Vec<Change>) {
    if change.table.quarantined.lock().contains_key(&key) {
        change.healed.push(key.clone());
    }
    let table = change.table.key.clone();
    let Some(row) = cell.now else {
        if cell.before.is_some() {
            change.removed.push(key.clone());
        }
        changes.push(Change::Delete { table, key });
        return;
    };
    debug_assert!(row.complete, "a row is only touched with its metadata");
    let id = row.id.unwrap_or_else(|| {
        let id = change.next_row_id;
        change.next_row_id = RowId::new(id.get() + 1);
        change.fresh.push(Fresh {
            key: key.clone(),
            id,
            vector: row.vector.clone(),
            plan: row.plan,
        });
        id
    });
    changes.push(Change::Put {
        table,
        id,
        row: VectorRow {
            key,
            vector: row.vector,
            metadata: row.metadata,
            created_at: row.created_at,
            updated_at: row.updated_at,
        },
    });
}

fn sort_key(change: &Change) -> (TableId, &[u8]) {
    match change {
        Change::Put { table, row, .. } => (table.id, &row.key),
        Change::Delete { table, key } => (table.id, key),
        _ => (TableId::default(), &[]),
    }
}

impl Operation {
    fn target(&self) -> (&Arc<TableCore>, &RowKey) {
        match self {
            Self::Upsert { table, key, .. }
            | Self::SetMetadata { table, key, .. }
            | Self::Delete { table, key } => (table, key),
        }
    }
}

/// Remembers what a commit promised about row ids. Called once it is durable.
pub(crate) fn keep_row_ids(change: &TableChange) {
    let mut ids = change.table.row_ids.lock();
    if change.next_row_id > ids.reserved {
        ids.reserved = RowId::new(change.next_row_id.get() + ROW_IDS_AHEAD);
    }
    ids.next = ids.next.max(change.next_row_id);
}
