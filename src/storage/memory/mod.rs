//! [`MemoryBackend`]: the obviously right twin of the file, for tests and for stores that need
//! no disk.
//!
//! Every key has a chain of versions, each marked with the commit that wrote it. A snapshot is a
//! commit number: it sees each key's newest version that is not younger. A version that no
//! snapshot can see any more is removed by the next commit, by way of a queue of what was
//! superseded when; so a commit costs what it changes, however large the tables are.

mod versions;

use std::ops::Bound;
use std::sync::Arc;

use parking_lot::RwLock;

use self::versions::{State, StoredRow, newest};
use super::{
    Backend, Capabilities, Catalog, Change, Durability, LinksVisitor, RecordVisitor, RowVisitor,
    Snapshot, StoredTable, TableKey,
};
use crate::error::StoreError;
use crate::ids::TableId;
use crate::row::{Record, RecordView, VectorRow, Want};
use crate::schema::TableSchema;

/// Rows that a scan takes out of the lock at once.
const SCAN_CHUNK: usize = 256;

/// A [`Backend`] in memory: atomic commits, snapshots, nothing on disk.
#[derive(Default)]
pub struct MemoryBackend {
    state: Arc<RwLock<State>>,
}

impl MemoryBackend {
    /// An empty backend.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn view(&self) -> Result<MemorySnapshot, StoreError> {
        let mut state = self.state.write();
        if state.closed {
            return Err(StoreError::Closed);
        }
        let commit = state.last;
        *state.snapshots.entry(commit).or_insert(0) += 1;
        drop(state);
        Ok(MemorySnapshot {
            state: Arc::clone(&self.state),
            commit,
        })
    }

    fn key(&self, table: &str) -> Result<Option<TableKey>, StoreError> {
        let state = self.state.read();
        if state.closed {
            return Err(StoreError::Closed);
        }
        Ok(state.live_table(table).map(|found| TableKey {
            id: found.record.id,
            name: table.into(),
        }))
    }
}

/// The rows as one commit left them: a number, registered so that what it sees stays.
struct MemorySnapshot {
    state: Arc<RwLock<State>>,
    commit: u64,
}

impl Drop for MemorySnapshot {
    fn drop(&mut self) {
        let mut state = self.state.write();
        if let Some(holders) = state.snapshots.get_mut(&self.commit) {
            *holders -= 1;
            if *holders == 0 {
                state.snapshots.remove(&self.commit);
            }
        }
    }
}

impl MemorySnapshot {
    /// Calls `f` for each row after `after`, without holding the lock: `f` may write.
    fn walk(
        &self,
        table: TableId,
        after: Option<&[u8]>,
        f: &mut dyn FnMut(&StoredRow) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let mut last = after.map(<[u8]>::to_vec);
        loop {
            let mut chunk = Vec::with_capacity(SCAN_CHUNK);
            let mut next = None;
            {
                let state = self.state.read();
                let found = state.tables.get(&table).filter(|t| t.seen_by(self.commit));
                let from = last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
                let rows = found.map(|t| t.rows.range::<[u8], _>((from, Bound::Unbounded)));
                for (key, chain) in rows.into_iter().flatten().take(SCAN_CHUNK) {
                    chunk.extend(newest(chain, self.commit).cloned());
                    next = Some(key.clone());
                }
            }
            for row in &chunk {
                if !f(row)? {
                    return Ok(());
                }
            }
            match next {
                Some(key) => last = Some(key),
                None => return Ok(()),
            }
        }
    }
}

impl Snapshot for MemorySnapshot {
    fn read(&self, table: &TableKey, key: &[u8], want: Want) -> Result<Option<Record>, StoreError> {
        let row = self.state.read().seen(table.id, key, self.commit);
        Ok(row.map(|row| row.record(want)))
    }

    fn get_many(
        &self,
        table: &TableKey,
        keys: &[&[u8]],
        want: Want,
    ) -> Result<Vec<Option<Record>>, StoreError> {
        keys.iter().map(|key| self.read(table, key, want)).collect()
    }

    fn scan(
        &self,
        table: &TableKey,
        after: Option<&[u8]>,
        visitor: &mut RecordVisitor<'_>,
    ) -> Result<(), StoreError> {
        self.walk(table.id, after, &mut |stored| {
            let row = &stored.row;
            let flow = visitor(Ok(RecordView {
                id: Some(stored.id),
                key: &row.key,
                vector: row.vector.view(),
                created_at: row.created_at,
                updated_at: row.updated_at,
            }))?;
            Ok(flow.is_continue())
        })
    }
}

impl Backend for MemoryBackend {
    fn put_row(&self, table: &str, key: &[u8], row: &VectorRow) -> Result<(), StoreError> {
        let Some(table) = self.key(table)? else {
            return Err(StoreError::UnknownTable(table.to_owned()));
        };
        let mut row = row.clone();
        row.key = key.to_vec();
        // The same vector keeps its id.
        let prior = self.view()?.read(&table, key, Want::VECTOR)?;
        let id = match prior
            .filter(|prior| prior.row.vector == row.vector)
            .and_then(|p| p.id)
        {
            Some(id) => id,
            None => self.state.read().table(&table)?.next_row_id,
        };
        self.commit(&[Change::Put { table, id, row }], Durability::Immediate)
    }

    fn get_row(&self, table: &str, key: &[u8]) -> Result<Option<VectorRow>, StoreError> {
        let Some(table) = self.key(table)? else {
            return Ok(None);
        };
        Ok(self
            .view()?
            .read(&table, key, Want::ALL)?
            .map(|record| record.row))
    }

    fn delete_row(&self, table: &str, key: &[u8]) -> Result<bool, StoreError> {
        let Some(table) = self.key(table)? else {
            return Ok(false);
        };
        if self.view()?.read(&table, key, Want::HEADER)?.is_none() {
            return Ok(false);
        }
        let change = Change::Delete {
            table,
            key: key.to_vec(),
        };
        self.commit(&[change], Durability::Immediate).map(|()| true)
    }

    fn for_each_row(&self, table: &str, f: &mut RowVisitor<'_>) -> Result<(), StoreError> {
        let Some(table) = self.key(table)? else {
            return Ok(());
        };
        self.view()?.walk(table.id, None, &mut |stored| {
            f(&stored.row.key, &stored.row)?;
            Ok(true)
        })
    }

    fn put_schema(&self, schema: &TableSchema) -> Result<(), StoreError> {
        let record = self.list_tables()?.record_for(schema);
        self.commit(&[Change::PutTable(Box::new(record))], Durability::Immediate)
    }

    fn list_schemas(&self) -> Result<Vec<TableSchema>, StoreError> {
        Ok(self
            .list_tables()?
            .tables
            .into_iter()
            .map(|table| table.record.schema)
            .collect())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            links: true,
            ..Capabilities::atomic()
        }
    }

    fn list_tables(&self) -> Result<Catalog, StoreError> {
        let state = self.state.read();
        if state.closed {
            return Err(StoreError::Closed);
        }
        let mut tables: Vec<StoredTable> = state
            .tables
            .values()
            .filter(|table| table.dropped.is_none())
            .map(|table| StoredTable {
                record: table.record.clone(),
                next_row_id: table.next_row_id,
                rows: Some(table.live),
            })
            .collect();
        tables.sort_by(|a, b| a.record.schema.name.cmp(&b.record.schema.name));
        Ok(Catalog {
            tables,
            next_table_id: TableId::new(state.next_table_id.max(1)),
        })
    }

    fn commit(&self, changes: &[Change], _durability: Durability) -> Result<(), StoreError> {
        let mut state = self.state.write();
        if state.closed {
            return Err(StoreError::Closed);
        }
        state.check(changes)?;
        state.last += 1;
        for change in changes {
            state.apply(change);
        }
        state.prune();
        Ok(())
    }

    fn read(&self, table: &TableKey, key: &[u8], want: Want) -> Result<Option<Record>, StoreError> {
        let state = self.state.read();
        if state.closed {
            return Err(StoreError::Closed);
        }
        let row = state.seen(table.id, key, state.last);
        drop(state);
        Ok(row.map(|row| row.record(want)))
    }

    fn get_many(
        &self,
        table: &TableKey,
        keys: &[&[u8]],
        want: Want,
    ) -> Result<Vec<Option<Record>>, StoreError> {
        self.view()?.get_many(table, keys, want)
    }

    fn scan(&self, table: &TableKey, visitor: &mut RecordVisitor<'_>) -> Result<(), StoreError> {
        self.view()?.scan(table, None, visitor)
    }

    fn scan_links(
        &self,
        table: &TableKey,
        visitor: &mut LinksVisitor<'_>,
    ) -> Result<(), StoreError> {
        let state = self.state.read();
        if state.closed {
            return Err(StoreError::Closed);
        }
        let links = state.table(table).map(|found| Arc::clone(&found.links));
        // The visitor may write.
        drop(state);
        for group in links.unwrap_or_default().iter() {
            if visitor(Ok(group))?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn snapshot(&self) -> Result<Option<Arc<dyn Snapshot>>, StoreError> {
        Ok(Some(Arc::new(self.view()?)))
    }

    fn compact(&self) -> Result<bool, StoreError> {
        Ok(false)
    }

    fn close(&self) -> Result<(), StoreError> {
        let mut state = self.state.write();
        if state.closed {
            return Err(StoreError::Closed);
        }
        state.closed = true;
        Ok(())
    }
}
