//! Writing: the changes of one commit, in order, in one redb transaction.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use redb::{Database, ReadableTable, Table, WriteTransaction};

use super::error::Health;
use super::links::LinksLog;
use super::tables::{self, Bytes, META, SCHEMAS};
use crate::error::StoreError;
use crate::ids::{RowId, TableId};
use crate::inner_storage::format::{self, RowShape, StoredMetadata};
use crate::inner_storage::{Change, Durability, TableKey, check};
use crate::row::VectorRow;
use crate::schema::TableRecord;

pub(super) const OP: &str = "writing";

/// Begins a write transaction: the only place that does. Two-phase commit, always: with redb's
/// one-phase commit a single failed fsync has lost acknowledged rows after a reopen.
pub(super) fn begin(
    db: &Database,
    durability: Durability,
    health: &Health,
) -> Result<WriteTransaction, StoreError> {
    let mut txn = db.begin_write().map_err(|error| health.error(OP, error))?;
    txn.set_two_phase_commit(true);
    let durability = match durability {
        Durability::Immediate => redb::Durability::Immediate,
        Durability::Within(_) | Durability::Volatile => redb::Durability::None,
    };
    txn.set_durability(durability)
        .map_err(|error| health.error(OP, error))?;
    Ok(txn)
}

/// Applies `changes` to `txn`. After an error the transaction is good for nothing but an abort.
pub(super) fn apply(
    txn: &WriteTransaction,
    changes: &[Change],
    health: &Health,
) -> Result<(), StoreError> {
    let mut writer = Writer::new(txn, health)?;
    let mut value = Vec::new();
    for change in changes {
        match change {
            Change::Put { table, id, row } => writer.put(table, *id, row)?,
            Change::Delete { table, key } => writer.delete(table, key)?,
            Change::PutTable(record) => writer.put_table(record)?,
            Change::DropTable(table) => writer.drop_table(table)?,
            Change::ReserveRowIds { table, next } => {
                let known = writer.table(table)?;
                check::row_ids_end(*next)?;
                known.next = known.next.max(*next);
            }
            Change::ReserveTableIds { next } => writer.reserve_table_ids(*next)?,
            Change::AppendLinks { table, group } => writer
                .table(table)?
                .links
                .append(group, &mut value, health)?,
            Change::ReplaceLinks { table, groups } => writer
                .table(table)?
                .links
                .replace(groups, &mut value, health)?,
        }
    }
    writer.finish()
}

struct Writer<'t> {
    txn: &'t WriteTransaction,
    health: &'t Health,
    meta: Table<'t, &'static str, Bytes>,
    schemas: Table<'t, &'static str, Bytes>,
    tables: HashMap<TableId, OpenTable<'t>>,
    /// Values are put together here.
    value: Vec<u8>,
}

/// A table that a change of this commit has touched.
struct OpenTable<'t> {
    shape: RowShape,
    name: String,
    rows: Table<'t, Bytes, Bytes>,
    payloads: Table<'t, u64, Bytes>,
    links: LinksLog<'t>,
    /// First row id not promised, as `meta` has it and as this commit leaves it.
    stored_next: RowId,
    next: RowId,
    /// A damaged row was overwritten or removed, and what it had in `payloads` is unknown.
    lost_track: bool,
}

impl<'t> Writer<'t> {
    fn new(txn: &'t WriteTransaction, health: &'t Health) -> Result<Self, StoreError> {
        Ok(Self {
            txn,
            health,
            meta: txn.open_table(META).map_err(|e| health.error(OP, e))?,
            schemas: txn.open_table(SCHEMAS).map_err(|e| health.error(OP, e))?,
            tables: HashMap::new(),
            value: Vec::new(),
        })
    }

    fn fail(&self, error: impl Into<redb::Error>) -> StoreError {
        self.health.error(OP, error)
    }

    fn record(&self, name: &str) -> Result<Option<TableRecord>, StoreError> {
        let Some(value) = self.schemas.get(name).map_err(|e| self.fail(e))? else {
            return Ok(None);
        };
        format::decode_schema(name, value.value())
            .map(Some)
            .map_err(|detail| {
                self.health
                    .corrupt(format!("the schema of table {name}: {detail}"))
            })
    }

    fn table(&mut self, key: &TableKey) -> Result<&mut OpenTable<'t>, StoreError> {
        if !self.tables.contains_key(&key.id) {
            let Some(record) = self.record(&key.name)?.filter(|record| record.id == key.id) else {
                return Err(StoreError::UnknownTable(key.name.to_string()));
            };
            let opened = self.open(&record)?;
            self.tables.insert(key.id, opened);
        }
        match self.tables.entry(key.id) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(_) => Err(StoreError::UnknownTable(key.name.to_string())),
        }
    }

    fn open(&self, record: &TableRecord) -> Result<OpenTable<'t>, StoreError> {
        let id = record.id;
        let entry = format::row_ids_entry(id);
        let stored_next = match self.meta.get(entry.as_str()).map_err(|e| self.fail(e))? {
            Some(value) => format::decode_next_row_id(id, value.value())
                .map_err(|detail| self.health.corrupt(format!("meta {entry}: {detail}")))?,
            None => RowId::new(1),
        };
        let rows = format::rows_table(id);
        let payloads = format::payloads_table(id);
        Ok(OpenTable {
            shape: RowShape::of(record),
            name: record.schema.name.clone(),
            rows: self
                .txn
                .open_table(tables::rows(&rows))
                .map_err(|e| self.fail(e))?,
            payloads: self
                .txn
                .open_table(tables::payloads(&payloads))
                .map_err(|e| self.fail(e))?,
            links: LinksLog::new(self.txn, id),
            stored_next,
            next: stored_next,
            lost_track: false,
        })
    }

    fn put(&mut self, key: &TableKey, id: RowId, row: &VectorRow) -> Result<(), StoreError> {
        let health = self.health;
        let mut value = std::mem::take(&mut self.value);
        let table = self.table(key)?;
        check::row_id(id)?;
        let json = check::row(&table.name, table.shape.codec, table.shape.dim, row)?;
        let apart = format::encode_row(table.shape.table, id, row, &json, &mut value);
        let old = table.rows.insert(row.key.as_slice(), value.as_slice());
        let old = old
            .map_err(|e| health.error(OP, e))?
            .map(|old| payload_of(table.shape, &row.key, old.value()));
        table.forget_payload(old, apart.then_some(id), health)?;
        if apart {
            format::encode_payload(table.shape.table, id, &json, &mut value);
            table
                .payloads
                .insert(id.get(), value.as_slice())
                .map_err(|e| health.error(OP, e))?;
        }
        table.next = table.next.max(RowId::new(id.get().saturating_add(1)));
        self.value = value;
        Ok(())
    }

    fn delete(&mut self, key: &TableKey, row: &[u8]) -> Result<(), StoreError> {
        let health = self.health;
        let table = self.table(key)?;
        let old = table
            .rows
            .remove(row)
            .map_err(|e| health.error(OP, e))?
            .map(|old| payload_of(table.shape, row, old.value()));
        table.forget_payload(old, None, health)
    }

    fn put_table(&mut self, record: &TableRecord) -> Result<(), StoreError> {
        let name = record.schema.name.as_str();
        check::new_record(record, self.record(name)?.as_ref())?;
        let value = format::encode_schema(record)
            .map_err(|detail| StoreError::storage("encoding a schema", detail))?;
        self.schemas
            .insert(name, value.as_slice())
            .map_err(|e| self.health.error(OP, e))?;
        if !self.tables.contains_key(&record.id) {
            // Opening creates both redb tables, so that schemas and row tables match.
            let opened = self.open(record)?;
            self.tables.insert(record.id, opened);
        }
        self.reserve_table_ids(TableId::new(record.id.get().saturating_add(1)))
    }

    fn drop_table(&mut self, key: &TableKey) -> Result<(), StoreError> {
        if self
            .record(&key.name)?
            .is_none_or(|record| record.id != key.id)
        {
            return Err(StoreError::UnknownTable(key.name.to_string()));
        }
        // An open table cannot be deleted.
        self.tables.remove(&key.id);
        let health = self.health;
        let fail = |error: redb::TableError| health.error(OP, error);
        self.txn
            .delete_table(tables::rows(&format::rows_table(key.id)))
            .map_err(fail)?;
        self.txn
            .delete_table(tables::payloads(&format::payloads_table(key.id)))
            .map_err(fail)?;
        LinksLog::new(self.txn, key.id).remove(health)?;
        let entry = format::row_ids_entry(key.id);
        self.meta
            .remove(entry.as_str())
            .map_err(|e| health.error(OP, e))?;
        self.schemas
            .remove(&*key.name)
            .map_err(|e| health.error(OP, e))?;
        Ok(())
    }

    fn reserve_table_ids(&mut self, next: TableId) -> Result<(), StoreError> {
        let stored = match self
            .meta
            .get(format::META_NEXT_TABLE_ID)
            .map_err(|e| self.fail(e))?
        {
            Some(value) => format::decode_next_table_id(value.value())
                .map_err(|detail| self.health.corrupt(format!("meta next_table_id: {detail}")))?,
            None => TableId::new(1),
        };
        if next > stored {
            let value = format::encode_next_table_id(next);
            self.meta
                .insert(format::META_NEXT_TABLE_ID, value.as_slice())
                .map_err(|e| self.health.error(OP, e))?;
        }
        Ok(())
    }

    /// Writes what the changes have gathered.
    fn finish(mut self) -> Result<(), StoreError> {
        for (id, table) in &mut self.tables {
            if table.next > table.stored_next {
                let value = format::encode_next_row_id(*id, table.next);
                self.meta
                    .insert(format::row_ids_entry(*id).as_str(), value.as_slice())
                    .map_err(|e| self.health.error(OP, e))?;
            }
            if table.lost_track {
                table.sweep_payloads(self.health)?;
            }
        }
        Ok(())
    }
}

/// The entry of `payloads` that a stored row owns; an error when its bytes do not say.
fn payload_of(shape: RowShape, key: &[u8], bytes: &[u8]) -> Result<Option<RowId>, String> {
    let row = format::decode_row(shape, key, bytes)?;
    Ok(match row.metadata {
        StoredMetadata::Apart { .. } => Some(row.id),
        StoredMetadata::Inline(_) => None,
    })
}

impl OpenTable<'_> {
    /// Removes the payload of a row that is gone, unless the row in its place uses it.
    fn forget_payload(
        &mut self,
        old: Option<Result<Option<RowId>, String>>,
        kept: Option<RowId>,
        health: &Health,
    ) -> Result<(), StoreError> {
        match old {
            Some(Ok(Some(id))) if kept != Some(id) => {
                self.payloads
                    .remove(id.get())
                    .map_err(|e| health.error(OP, e))?;
            }
            Some(Err(_)) => self.lost_track = true,
            _ => {}
        }
        Ok(())
    }

    /// Removes every payload that no sound row owns. Walks the table: only after damage. While
    /// other rows are damaged too, their payloads stay, for theirs could be any of them.
    fn sweep_payloads(&mut self, health: &Health) -> Result<(), StoreError> {
        let mut owned = std::collections::HashSet::new();
        for entry in self.rows.iter().map_err(|e| health.error(OP, e))? {
            let (key, value) = entry.map_err(|e| health.error(OP, e))?;
            match payload_of(self.shape, key.value(), value.value()) {
                Ok(id) => owned.extend(id.map(RowId::get)),
                Err(_) => return Ok(()),
            }
        }
        self.payloads
            .retain(|id, _| owned.contains(&id))
            .map_err(|e| health.error(OP, e))
    }
}
