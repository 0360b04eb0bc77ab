//! Reading: one redb read transaction as a snapshot, its tables opened once and kept.

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::RwLock;
use redb::{
    Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable,
    ReadableTableMetadata,
};

use super::error::Health;
use super::tables::{self, Bytes, META, SCHEMAS};
use crate::encoding::EncodedVector;
use crate::error::StoreError;
use crate::ids::{RowId, TableId};
use crate::inner_storage::format::{self, RowRef, RowShape, StoredMetadata};
use crate::inner_storage::{Catalog, RecordVisitor, Snapshot, StoredTable, TableKey, metadata};
use crate::limits;
use crate::row::{Metadata, Record, RecordView, VectorRow, Want};
use crate::schema::TableRecord;

/// The rows as one commit left them.
pub(super) struct RedbSnapshot {
    pub(super) txn: ReadTransaction,
    health: Arc<Health>,
    tables: RwLock<HashMap<TableId, Arc<OpenTable>>>,
}

/// The two redb tables of one of our tables.
pub(super) struct OpenTable {
    pub(super) shape: RowShape,
    pub(super) name: Arc<str>,
    pub(super) rows: ReadOnlyTable<Bytes, Bytes>,
    pub(super) payloads: ReadOnlyTable<u64, Bytes>,
}

impl RedbSnapshot {
    pub(super) fn new(db: &Database, health: &Arc<Health>) -> Result<Self, StoreError> {
        let txn = db
            .begin_read()
            .map_err(|error| health.error("reading", error))?;
        Ok(Self {
            txn,
            health: Arc::clone(health),
            tables: RwLock::default(),
        })
    }

    pub(super) fn fail(&self, error: impl Into<redb::Error>) -> StoreError {
        self.health.error("reading", error)
    }

    /// The record under `name`.
    pub(super) fn record(&self, name: &str) -> Result<Option<TableRecord>, StoreError> {
        let schemas = self.txn.open_table(SCHEMAS).map_err(|e| self.fail(e))?;
        let Some(value) = schemas.get(name).map_err(|e| self.fail(e))? else {
            return Ok(None);
        };
        self.decode_schema(name, value.value()).map(Some)
    }

    fn decode_schema(&self, name: &str, bytes: &[u8]) -> Result<TableRecord, StoreError> {
        format::decode_schema(name, bytes).map_err(|detail| {
            self.health
                .corrupt(format!("the schema of table {name}: {detail}"))
        })
    }

    /// Every record, in order of the names.
    pub(super) fn records(&self) -> Result<Vec<TableRecord>, StoreError> {
        let schemas = self.txn.open_table(SCHEMAS).map_err(|e| self.fail(e))?;
        let mut records = Vec::new();
        for entry in schemas.iter().map_err(|e| self.fail(e))? {
            let (name, value) = entry.map_err(|e| self.fail(e))?;
            records.push(self.decode_schema(name.value(), value.value())?);
        }
        Ok(records)
    }

    pub(super) fn catalog(&self) -> Result<Catalog, StoreError> {
        let meta = self.txn.open_table(META).map_err(|e| self.fail(e))?;
        let corrupt = |entry: &str, detail| self.health.corrupt(format!("meta {entry}: {detail}"));
        let mut tables = Vec::new();
        let mut next_table_id = TableId::new(1);
        if let Some(value) = meta
            .get(format::META_NEXT_TABLE_ID)
            .map_err(|e| self.fail(e))?
        {
            next_table_id = format::decode_next_table_id(value.value())
                .map_err(|detail| corrupt(format::META_NEXT_TABLE_ID, detail))?;
        }
        for record in self.records()? {
            let entry = format::row_ids_entry(record.id);
            let mut next_row_id = RowId::new(1);
            if let Some(value) = meta.get(entry.as_str()).map_err(|e| self.fail(e))? {
                next_row_id = format::decode_next_row_id(record.id, value.value())
                    .map_err(|detail| corrupt(&entry, detail))?
                    .max(next_row_id);
            }
            let rows = self.open_shape(RowShape::of(&record), &record.schema.name)?;
            let rows = rows.rows.len().map_err(|e| self.fail(e))?;
            tables.push(StoredTable {
                record,
                next_row_id,
                rows: Some(rows),
            });
        }
        Ok(Catalog {
            tables,
            next_table_id,
        })
    }

    /// The table with this id and name, when this snapshot has it.
    pub(super) fn open(&self, key: &TableKey) -> Result<Option<Arc<OpenTable>>, StoreError> {
        if let Some(table) = self.tables.read().get(&key.id) {
            return Ok(Some(Arc::clone(table)));
        }
        let Some(record) = self.record(&key.name)?.filter(|record| record.id == key.id) else {
            return Ok(None);
        };
        let table = self.open_shape(RowShape::of(&record), &record.schema.name)?;
        self.tables.write().insert(key.id, Arc::clone(&table));
        Ok(Some(table))
    }

    pub(super) fn open_shape(
        &self,
        shape: RowShape,
        name: &str,
    ) -> Result<Arc<OpenTable>, StoreError> {
        let rows = format::rows_table(shape.table);
        let payloads = format::payloads_table(shape.table);
        Ok(Arc::new(OpenTable {
            shape,
            name: name.into(),
            rows: self
                .txn
                .open_table(tables::rows(&rows))
                .map_err(|e| self.fail(e))?,
            payloads: self
                .txn
                .open_table(tables::payloads(&payloads))
                .map_err(|e| self.fail(e))?,
        }))
    }

    pub(super) fn read_row(
        &self,
        table: &OpenTable,
        key: &[u8],
        want: Want,
    ) -> Result<Option<Record>, StoreError> {
        if key.len() > limits::KEY_LEN_MAX {
            return Ok(None);
        }
        let Some(value) = table.rows.get(key).map_err(|e| self.fail(e))? else {
            return Ok(None);
        };
        let row = table.decode(key, value.value())?;
        self.own(table, key, &row, want).map(Some)
    }

    /// The parts of `row` that are wanted, as values of their own.
    pub(super) fn own(
        &self,
        table: &OpenTable,
        key: &[u8],
        row: &RowRef<'_>,
        want: Want,
    ) -> Result<Record, StoreError> {
        let vector = if want.vector {
            row.vector().to_owned()
        } else {
            EncodedVector::empty(table.shape.codec)
        };
        let metadata = if want.metadata {
            self.metadata(table, key, row)?
        } else {
            Metadata::new()
        };
        Ok(Record {
            id: Some(row.id),
            row: VectorRow {
                key: key.to_vec(),
                vector,
                metadata,
                created_at: row.created_at,
                updated_at: row.updated_at,
            },
        })
    }

    fn metadata(
        &self,
        table: &OpenTable,
        key: &[u8],
        row: &RowRef<'_>,
    ) -> Result<Metadata, StoreError> {
        let decoded = match row.metadata {
            StoredMetadata::Inline(json) => metadata::decode(json),
            StoredMetadata::Apart { len } => {
                match table.payloads.get(row.id.get()).map_err(|e| self.fail(e))? {
                    None => Err("its metadata is missing".to_owned()),
                    Some(value) => {
                        format::decode_payload(table.shape.table, row.id, len, value.value())
                            .and_then(metadata::decode)
                    }
                }
            }
        };
        decoded.map_err(|detail| table.corrupt_row(key, detail))
    }
}

impl OpenTable {
    pub(super) fn decode<'a>(&self, key: &[u8], bytes: &'a [u8]) -> Result<RowRef<'a>, StoreError> {
        format::decode_row(self.shape, key, bytes).map_err(|detail| self.corrupt_row(key, detail))
    }

    pub(super) fn corrupt_row(&self, key: &[u8], detail: String) -> StoreError {
        StoreError::CorruptRow {
            table: self.name.to_string(),
            key: key.to_vec(),
            detail,
        }
    }
}

impl Snapshot for RedbSnapshot {
    fn read(&self, table: &TableKey, key: &[u8], want: Want) -> Result<Option<Record>, StoreError> {
        match self.open(table)? {
            Some(table) => self.read_row(&table, key, want),
            None => Ok(None),
        }
    }

    fn get_many(
        &self,
        table: &TableKey,
        keys: &[&[u8]],
        want: Want,
    ) -> Result<Vec<Option<Record>>, StoreError> {
        match self.open(table)? {
            Some(table) => keys
                .iter()
                .map(|key| self.read_row(&table, key, want))
                .collect(),
            None => Ok(keys.iter().map(|_| None).collect()),
        }
    }

    fn scan(
        &self,
        table: &TableKey,
        after: Option<&[u8]>,
        visitor: &mut RecordVisitor<'_>,
    ) -> Result<(), StoreError> {
        let Some(table) = self.open(table)? else {
            return Ok(());
        };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = table
            .rows
            .range::<&[u8]>((from, Bound::Unbounded))
            .map_err(|e| self.fail(e))?;
        for entry in range {
            let (key, value) = entry.map_err(|e| self.fail(e))?;
            let key = key.value();
            let flow = match table.decode(key, value.value()) {
                Ok(row) => visitor(Ok(RecordView {
                    id: Some(row.id),
                    key,
                    vector: row.vector(),
                    created_at: row.created_at,
                    updated_at: row.updated_at,
                }))?,
                Err(error) => visitor(Err(error))?,
            };
            if flow.is_break() {
                break;
            }
        }
        Ok(())
    }
}
