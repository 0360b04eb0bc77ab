//! Where rows live: the `Backend` contract. No geometry, no index, no slots: keys and bytes.

mod check;
mod file;
mod format;
mod memory;
mod metadata;
mod policy;
mod preread;
mod publish;
mod redb;
mod sniff;
mod window;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

pub use self::memory::MemoryBackend;
pub use self::policy::{Durability, Verify};
pub use self::redb::{RedbBackend, RedbOptions, Salvage, SalvageCount};
use crate::error::StoreError;
use crate::ids::{RowId, TableId};
use crate::row::{Record, RecordView, RowKey, VectorRow, Want};
use crate::schema::{TableOptions, TableRecord, TableSchema};

/// Callback type used by [`Backend::for_each_row`].
pub type RowVisitor<'a> = dyn FnMut(&[u8], &VectorRow) -> Result<(), StoreError> + 'a;

/// Callback type used by [`Backend::scan`]: a whole row, or the error that stands in its place.
///
/// Returning the error ends the scan with it; `Break` ends the scan.
pub type RecordVisitor<'a> =
    dyn FnMut(Result<RecordView<'_>, StoreError>) -> Result<ControlFlow<()>, StoreError> + 'a;

/// Callback of [`Backend::scan_links`]: a group's bytes, or what is wrong with it.
///
/// Returning an error ends the scan with it; `Break` ends the scan.
pub type LinksVisitor<'a> =
    dyn FnMut(Result<&[u8], String>) -> Result<ControlFlow<()>, StoreError> + 'a;

/// A table as backends are asked for it: by its id where they number tables, by name elsewhere.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TableKey {
    /// The table's id.
    pub id: TableId,
    /// The table's name.
    pub name: Arc<str>,
}

/// One change of a commit.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Change {
    /// Write a row over whatever its key held.
    Put {
        /// The table.
        table: TableKey,
        /// Id of the row's vector.
        id: RowId,
        /// The row, whole.
        row: VectorRow,
    },
    /// Remove a row, if it is there.
    Delete {
        /// The table.
        table: TableKey,
        /// Key of the row.
        key: RowKey,
    },
    /// Create a table, or replace the record of the table with this id.
    PutTable(Box<TableRecord>),
    /// Remove a table, its rows and everything else about it.
    DropTable(TableKey),
    /// Promise that no row id below `next` will be handed out again.
    ReserveRowIds {
        /// The table.
        table: TableKey,
        /// First id that is still free.
        next: RowId,
    },
    /// Promise that no table id below `next` will be handed out again.
    ReserveTableIds {
        /// First id that is still free.
        next: TableId,
    },
    /// Adds a group to the table's log of links: hints that an open may use and never trusts.
    AppendLinks {
        /// The table.
        table: TableKey,
        /// The group, at most [`LINKS_GROUP_LEN_MAX`](crate::limits::LINKS_GROUP_LEN_MAX) bytes.
        group: Vec<u8>,
    },
    /// Puts these groups in the place of the whole log of links.
    ReplaceLinks {
        /// The table.
        table: TableKey,
        /// The groups, each as long as one that is added.
        groups: Vec<Vec<u8>>,
    },
}

/// A stored table as [`Backend::list_tables`] shows it.
#[derive(Clone, PartialEq, Debug)]
pub struct StoredTable {
    /// The table's record.
    pub record: TableRecord,
    /// First row id that was never promised: new rows are numbered from here. At least one
    /// beyond every stored row's.
    pub next_row_id: RowId,
    /// How many rows are stored, when the backend knows without reading them.
    pub rows: Option<u64>,
}

/// Everything [`Backend::list_tables`] returns.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Catalog {
    /// Every table.
    pub tables: Vec<StoredTable>,
    /// First table id that was never promised.
    pub next_table_id: TableId,
}

impl Catalog {
    /// The record under which a bare schema is stored: the table of its name with its id, options
    /// and fit kept, or a new table with default options.
    fn record_for(self, schema: &TableSchema) -> TableRecord {
        let mut records = self.tables.into_iter().map(|stored| stored.record);
        match records.find(|record| record.schema.name == schema.name) {
            Some(record) => TableRecord {
                schema: schema.clone(),
                ..record
            },
            None => TableRecord {
                id: self.next_table_id,
                schema: schema.clone(),
                options: TableOptions::default(),
                turbo: None,
            },
        }
    }
}

/// What a backend can do beyond the six required methods.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Capabilities {
    /// [`Backend::commit`] takes any list of changes and applies all of them or none, rows keep
    /// their ids, and tables can be dropped and have options.
    pub atomic: bool,
    /// Nothing can be written.
    pub read_only: bool,
    /// The backend keeps logs of links: [`Backend::scan_links`] shows what
    /// [`Change::AppendLinks`] added. Elsewhere they are accepted and forgotten.
    pub links: bool,
}

impl Capabilities {
    /// Atomic commits of any size.
    #[must_use]
    pub const fn atomic() -> Self {
        Self {
            atomic: true,
            read_only: false,
            links: false,
        }
    }
}

/// Storage backend trait.
///
/// Six methods are required. A backend with only those serves tables with default options: its
/// rows are numbered in key order at every open, each write stands alone, and batches, options
/// and `drop_table` answer [`StoreError::Unsupported`]. The provided methods are what a backend
/// adds to do better; [`RedbBackend`] and [`MemoryBackend`] provide all of them.
///
/// Calls may come from any thread. Writes come from one thread at a time.
pub trait Backend: Send + Sync {
    /// Persists `row` under `(table, key)`, over any prior value.
    ///
    /// # Errors
    ///
    /// Whatever keeps the row from being stored; nothing has then changed.
    fn put_row(&self, table: &str, key: &[u8], row: &VectorRow) -> Result<(), StoreError>;

    /// Fetches the row at `(table, key)`; `None` for a missing row.
    ///
    /// # Errors
    ///
    /// A failure to read, or [`StoreError::CorruptRow`].
    fn get_row(&self, table: &str, key: &[u8]) -> Result<Option<VectorRow>, StoreError>;

    /// Removes `(table, key)`. `true` when it was there.
    ///
    /// # Errors
    ///
    /// Whatever keeps the row from being removed; nothing has then changed.
    fn delete_row(&self, table: &str, key: &[u8]) -> Result<bool, StoreError>;

    /// Calls `f` for every row of `table`, in any order, and stops at its first error.
    ///
    /// # Errors
    ///
    /// A failure to read, or the error of `f`.
    fn for_each_row(&self, table: &str, f: &mut RowVisitor<'_>) -> Result<(), StoreError>;

    /// Persists a [`TableSchema`].
    ///
    /// # Errors
    ///
    /// Whatever keeps the schema from being stored; nothing has then changed.
    fn put_schema(&self, schema: &TableSchema) -> Result<(), StoreError>;

    /// Lists every persisted [`TableSchema`].
    ///
    /// # Errors
    ///
    /// A failure to read.
    fn list_schemas(&self) -> Result<Vec<TableSchema>, StoreError>;

    /// What this backend can do beyond the six required methods. Default: nothing.
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    /// Lists every table with its id, options and next row id.
    ///
    /// Default: the schemas in order of their names, numbered from 1, with default options.
    ///
    /// # Errors
    ///
    /// A failure to read.
    fn list_tables(&self) -> Result<Catalog, StoreError> {
        let mut schemas = self.list_schemas()?;
        schemas.sort_by(|a, b| a.name.cmp(&b.name));
        let next_table_id = TableId::new(schemas.len() as u32 + 1);
        let tables = schemas
            .into_iter()
            .zip(1..)
            .map(|(schema, id)| StoredTable {
                record: TableRecord {
                    id: TableId::new(id),
                    schema,
                    options: TableOptions::default(),
                    turbo: None,
                },
                next_row_id: RowId::new(1),
                rows: None,
            })
            .collect();
        Ok(Catalog {
            tables,
            next_table_id,
        })
    }

    /// Applies `changes` in order, all of them or none, and returns once they are as durable as
    /// `durability` says.
    ///
    /// Default: one row written or removed, or one table with default options created; id
    /// promises and links are accepted and forgotten; anything else is
    /// [`StoreError::Unsupported`].
    ///
    /// # Errors
    ///
    /// [`StoreError::OutcomeUnknown`] when the commit itself failed. After any other error nothing
    /// has changed.
    fn commit(&self, changes: &[Change], _durability: Durability) -> Result<(), StoreError> {
        let unsupported = |what| {
            Err(StoreError::Unsupported {
                what,
                remedy: "use RedbBackend or MemoryBackend",
            })
        };
        let mut stored = changes.iter().filter(|change| {
            !matches!(
                change,
                Change::ReserveRowIds { .. }
                    | Change::ReserveTableIds { .. }
                    | Change::AppendLinks { .. }
                    | Change::ReplaceLinks { .. }
            )
        });
        let Some(change) = stored.next() else {
            return Ok(());
        };
        if stored.next().is_some() {
            return unsupported("an atomic batch on a backend of six methods");
        }
        match change {
            Change::Put { table, row, .. } => self.put_row(&table.name, &row.key, row),
            Change::Delete { table, key } => self.delete_row(&table.name, key).map(|_| ()),
            Change::PutTable(record)
                if record.options == TableOptions::default() && record.turbo.is_none() =>
            {
                self.put_schema(&record.schema)
            }
            Change::PutTable(_) => unsupported("table options on a backend of six methods"),
            _ => unsupported("drop_table on a backend of six methods"),
        }
    }

    /// Reads one row, as far as `want` says.
    ///
    /// # Errors
    ///
    /// A failure to read, or [`StoreError::CorruptRow`].
    fn read(&self, table: &TableKey, key: &[u8], want: Want) -> Result<Option<Record>, StoreError> {
        let _ = want;
        let row = self.get_row(&table.name, key)?;
        Ok(row.map(|row| Record { id: None, row }))
    }

    /// Reads many rows, in the order of `keys`.
    ///
    /// # Errors
    ///
    /// As [`Backend::read`], at the first row that fails.
    fn get_many(
        &self,
        table: &TableKey,
        keys: &[&[u8]],
        want: Want,
    ) -> Result<Vec<Option<Record>>, StoreError> {
        keys.iter().map(|key| self.read(table, key, want)).collect()
    }

    /// Shows every row of `table` to `visitor` without decoding its vector or its metadata.
    ///
    /// Backends that number their rows go in key order; the default goes in the order of
    /// [`Backend::for_each_row`].
    ///
    /// # Errors
    ///
    /// A failure to read, or the error of `visitor`.
    fn scan(&self, table: &TableKey, visitor: &mut RecordVisitor<'_>) -> Result<(), StoreError> {
        let mut done = false;
        self.for_each_row(&table.name, &mut |key, row| {
            if !done {
                let view = RecordView {
                    id: None,
                    key,
                    vector: row.vector.view(),
                    created_at: row.created_at,
                    updated_at: row.updated_at,
                };
                done = visitor(Ok(view))?.is_break();
            }
            Ok(())
        })
    }

    /// Shows the groups of a table's log of links in the order they were added. A damaged one is
    /// shown as what is wrong with it, and the scan goes on.
    ///
    /// Default: no group.
    ///
    /// # Errors
    ///
    /// A failure to read, or the error of `visitor`.
    fn scan_links(
        &self,
        table: &TableKey,
        visitor: &mut LinksVisitor<'_>,
    ) -> Result<(), StoreError> {
        let _ = (table, visitor);
        Ok(())
    }

    /// A view of the last commit that later commits do not change; `None` when the backend has
    /// no such thing, and reads then see whatever is there.
    ///
    /// # Errors
    ///
    /// A failure to read.
    fn snapshot(&self) -> Result<Option<Arc<dyn Snapshot>>, StoreError> {
        Ok(None)
    }

    /// Makes every commit before it durable.
    ///
    /// # Errors
    ///
    /// [`StoreError::OutcomeUnknown`] when the sync failed.
    fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Gives unused space back to the file system. `true` when there was any.
    ///
    /// # Errors
    ///
    /// [`StoreError::Busy`] while somebody reads, or a failure to write.
    fn compact(&self) -> Result<bool, StoreError> {
        Err(StoreError::Unsupported {
            what: "compact on this backend",
            remedy: "use RedbBackend",
        })
    }

    /// Writes every table and row of the last commit into a new file at `path`.
    ///
    /// # Errors
    ///
    /// A failure to read or write, or [`StoreError::Io`] when `path` exists.
    fn backup(&self, path: &Path) -> Result<(), StoreError> {
        let _ = path;
        Err(StoreError::Unsupported {
            what: "backup of this backend",
            remedy: "use RedbBackend",
        })
    }

    /// Bytes the backend takes on disk, where that means something.
    ///
    /// # Errors
    ///
    /// A failure to ask the file system.
    fn bytes_on_disk(&self) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }

    /// Checks everything that can be checked without an index and that [`Backend::scan`] does not
    /// show: a damaged row is for the scan to tell. Returns what does not hold, one sentence each.
    ///
    /// # Errors
    ///
    /// A failure to read.
    fn verify(&self) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    /// Releases the file. Every later call answers [`StoreError::Closed`].
    ///
    /// # Errors
    ///
    /// A failure to make the last commits durable.
    fn close(&self) -> Result<(), StoreError> {
        self.flush()
    }
}

/// The rows as one commit left them.
pub trait Snapshot: Send + Sync {
    /// Reads one row, as far as `want` says.
    ///
    /// # Errors
    ///
    /// A failure to read, or [`StoreError::CorruptRow`].
    fn read(&self, table: &TableKey, key: &[u8], want: Want) -> Result<Option<Record>, StoreError>;

    /// Reads many rows, in the order of `keys`, opening the table once.
    ///
    /// # Errors
    ///
    /// As [`Snapshot::read`], at the first row that fails.
    fn get_many(
        &self,
        table: &TableKey,
        keys: &[&[u8]],
        want: Want,
    ) -> Result<Vec<Option<Record>>, StoreError>;

    /// Shows the rows of `table` in key order, those after `after` only, to `visitor`.
    ///
    /// # Errors
    ///
    /// A failure to read, or the error of `visitor`.
    fn scan(
        &self,
        table: &TableKey,
        after: Option<&[u8]>,
        visitor: &mut RecordVisitor<'_>,
    ) -> Result<(), StoreError>;
}

#[cfg(test)]
mod tests;
