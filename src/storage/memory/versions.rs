//! Versions by key and commit: what the backend in memory keeps, and when it lets go.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::encoding::EncodedVector;
use crate::error::StoreError;
use crate::ids::{RowId, TableId};
use crate::inner_storage::{Change, TableKey, check};
use crate::row::{Metadata, Record, RowKey, VectorRow, Want};
use crate::schema::TableRecord;

#[derive(Default)]
pub(super) struct State {
    pub(super) closed: bool,
    /// Number of the last commit.
    pub(super) last: u64,
    pub(super) next_table_id: u32,
    pub(super) tables: BTreeMap<TableId, MemoryTable>,
    /// Commit numbers that snapshots hold, with how many hold each.
    pub(super) snapshots: BTreeMap<u64, usize>,
    /// What each commit superseded, oldest first: a key, or with `None` a whole table.
    pub(super) superseded: VecDeque<(u64, TableId, Option<RowKey>)>,
}

pub(super) struct MemoryTable {
    pub(super) record: TableRecord,
    pub(super) created: u64,
    pub(super) dropped: Option<u64>,
    pub(super) next_row_id: RowId,
    pub(super) live: u64,
    pub(super) rows: BTreeMap<RowKey, Vec<Version>>,
    /// The log of links of the last commit: a scan holds on to the one it began with.
    pub(super) links: Arc<Vec<Arc<[u8]>>>,
}

pub(super) struct Version {
    pub(super) commit: u64,
    pub(super) row: Option<Arc<StoredRow>>,
}

pub(super) struct StoredRow {
    pub(super) id: RowId,
    pub(super) row: VectorRow,
}

impl State {
    pub(super) fn live_table(&self, name: &str) -> Option<&MemoryTable> {
        self.tables
            .values()
            .find(|t| t.dropped.is_none() && t.record.schema.name == name)
    }

    pub(super) fn table(&self, key: &TableKey) -> Result<&MemoryTable, StoreError> {
        self.tables
            .get(&key.id)
            .filter(|t| t.dropped.is_none() && *t.record.schema.name == *key.name)
            .ok_or_else(|| StoreError::UnknownTable(key.name.to_string()))
    }

    /// The row that a snapshot of `commit` sees.
    pub(super) fn seen(&self, table: TableId, key: &[u8], commit: u64) -> Option<Arc<StoredRow>> {
        let table = self
            .tables
            .get(&table)
            .filter(|table| table.seen_by(commit))?;
        newest(table.rows.get(key)?, commit).cloned()
    }

    /// Checks a whole commit, so that applying it cannot fail half way.
    pub(super) fn check(&self, changes: &[Change]) -> Result<(), StoreError> {
        // Tables as the changes before this one leave them; `None` is dropped.
        let mut names: BTreeMap<String, Option<TableRecord>> = BTreeMap::new();
        for change in changes {
            let record = |key: &TableKey| {
                let found = match names.get(&*key.name) {
                    Some(found) => found.as_ref(),
                    None => self.live_table(&key.name).map(|table| &table.record),
                };
                found
                    .filter(|record| record.id == key.id)
                    .ok_or_else(|| StoreError::UnknownTable(key.name.to_string()))
            };
            match change {
                Change::Put { table, id, row } => {
                    let schema = &record(table)?.schema;
                    check::row_id(*id)?;
                    check::row(&schema.name, schema.codec, schema.dim, row)?;
                }
                Change::Delete { table, .. } => {
                    record(table)?;
                }
                Change::ReserveRowIds { table, next } => {
                    record(table)?;
                    check::row_ids_end(*next)?;
                }
                Change::PutTable(new) => {
                    let name = new.schema.name.as_str();
                    let old = match names.get(name) {
                        Some(old) => old.as_ref(),
                        None => self.live_table(name).map(|table| &table.record),
                    };
                    check::new_record(new, old)?;
                    names.insert(name.to_owned(), Some((**new).clone()));
                }
                Change::DropTable(table) => {
                    record(table)?;
                    names.insert(table.name.to_string(), None);
                }
                Change::ReserveTableIds { .. } => {}
                Change::AppendLinks { table, group } => {
                    record(table)?;
                    check::links(group)?;
                }
                Change::ReplaceLinks { table, groups } => {
                    record(table)?;
                    for group in groups {
                        check::links(group)?;
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn apply(&mut self, change: &Change) {
        let commit = self.last;
        match change {
            Change::Put { table, id, row } => {
                let stored = Arc::new(StoredRow {
                    id: *id,
                    row: row.clone(),
                });
                self.push(table.id, row.key.clone(), Some(stored));
                if let Some(table) = self.tables.get_mut(&table.id) {
                    let next = RowId::new(id.get().saturating_add(1));
                    table.next_row_id = table.next_row_id.max(next);
                }
            }
            Change::Delete { table, key } => self.push(table.id, key.clone(), None),
            Change::PutTable(record) => {
                self.reserve_table_ids(record.id.get().saturating_add(1));
                self.tables
                    .entry(record.id)
                    .and_modify(|table| table.record = (**record).clone())
                    .or_insert_with(|| MemoryTable {
                        record: (**record).clone(),
                        created: commit,
                        dropped: None,
                        next_row_id: RowId::new(1),
                        live: 0,
                        rows: BTreeMap::new(),
                        links: Arc::default(),
                    });
            }
            Change::DropTable(table) => {
                if let Some(found) = self.tables.get_mut(&table.id) {
                    found.dropped = Some(commit);
                    self.superseded.push_back((commit, table.id, None));
                }
            }
            Change::ReserveRowIds { table, next } => {
                if let Some(table) = self.tables.get_mut(&table.id) {
                    table.next_row_id = table.next_row_id.max(*next);
                }
            }
            Change::ReserveTableIds { next } => self.reserve_table_ids(next.get()),
            Change::AppendLinks { table, group } => {
                if let Some(table) = self.tables.get_mut(&table.id) {
                    Arc::make_mut(&mut table.links).push(group.as_slice().into());
                }
            }
            Change::ReplaceLinks { table, groups } => {
                if let Some(table) = self.tables.get_mut(&table.id) {
                    let groups = groups.iter().map(|group| group.as_slice().into());
                    table.links = Arc::new(groups.collect());
                }
            }
        }
    }

    pub(super) fn reserve_table_ids(&mut self, next: u32) {
        self.next_table_id = self.next_table_id.max(next);
    }

    /// Puts a version on top of a key's chain; `None` for a row that is gone.
    pub(super) fn push(&mut self, table: TableId, key: RowKey, row: Option<Arc<StoredRow>>) {
        let commit = self.last;
        let Some(found) = self.tables.get_mut(&table) else {
            return;
        };
        let chain = found.rows.entry(key.clone()).or_default();
        let was = chain.last().is_some_and(|version| version.row.is_some());
        found.live = found.live + u64::from(row.is_some()) - u64::from(was);
        chain.push(Version { commit, row });
        self.superseded.push_back((commit, table, Some(key)));
    }

    /// Removes what neither a snapshot nor the next one can see.
    pub(super) fn prune(&mut self) {
        let oldest = self.snapshots.keys().next().copied().unwrap_or(self.last);
        while let Some((commit, ..)) = self.superseded.front()
            && *commit <= oldest
        {
            let Some((_, table, key)) = self.superseded.pop_front() else {
                return;
            };
            let Some(key) = key else {
                self.tables.remove(&table);
                continue;
            };
            let Some(found) = self.tables.get_mut(&table) else {
                continue;
            };
            if let Some(chain) = found.rows.get_mut(&key) {
                let seen = chain.iter().rposition(|version| version.commit <= oldest);
                chain.drain(..seen.unwrap_or(0));
                if matches!(chain.as_slice(), [Version { row: None, commit }] if *commit <= oldest)
                {
                    found.rows.remove(&key);
                }
            }
        }
    }
}

impl MemoryTable {
    pub(super) fn seen_by(&self, commit: u64) -> bool {
        self.created <= commit && self.dropped.is_none_or(|dropped| dropped > commit)
    }
}

pub(super) fn newest(chain: &[Version], commit: u64) -> Option<&Arc<StoredRow>> {
    chain
        .iter()
        .rev()
        .find(|version| version.commit <= commit)?
        .row
        .as_ref()
}

impl StoredRow {
    pub(super) fn record(&self, want: Want) -> Record {
        let row = &self.row;
        Record {
            id: Some(self.id),
            row: VectorRow {
                key: row.key.clone(),
                vector: if want.vector {
                    row.vector.clone()
                } else {
                    EncodedVector::empty(row.vector.codec)
                },
                metadata: if want.metadata {
                    row.metadata.clone()
                } else {
                    Metadata::new()
                },
                created_at: row.created_at,
                updated_at: row.updated_at,
            },
        }
    }
}
