//! Reading what is left of a damaged file: every row whose own checksum holds, page checks off.

use std::fs::OpenOptions;
use std::ops::{Bound, ControlFlow};
use std::path::Path;

use redb::backends::FileBackend;
use redb::{
    Builder, ConcurrencyMode, ReadOnlyDatabase, ReadableDatabase, ReadableTable, StorageBackend,
};

use super::error::Health;
use super::tables::{self, SCHEMAS};
use crate::error::StoreError;
use crate::ids::{RowId, TableId};
use crate::inner_storage::file::{Access, Guard};
use crate::inner_storage::format::{self, RowShape, StoredMetadata};
use crate::inner_storage::{metadata, sniff};
use crate::row::VectorRow;
use crate::schema::TableRecord;

/// Where redb's header keeps which commit is the latest, and whether it was closed cleanly.
const FLAGS_AT: u64 = 9;
const PRIMARY_SLOT: u8 = 1;
const RECOVERY_REQUIRED: u8 = 2;

const OP: &str = "salvaging";

/// A damaged store file, open for taking out what is whole.
///
/// The file is opened for reading only and stays as it is, byte for byte. Nothing but the rows'
/// own checksums is verified, so redb walks pages that may be nonsense: **a call may panic, abort
/// the process or not return**. Run it in a child process, as `vecstash salvage` does, and start
/// again behind the last row it got, or backwards from the end.
pub struct Salvage {
    db: ReadOnlyDatabase,
    health: Health,
    tables: Vec<TableRecord>,
    lost_tables: Vec<String>,
}

/// How far a walk over one table got.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct SalvageCount {
    /// Rows shown.
    pub rows: u64,
    /// Rows left out because their bytes, or their metadata, are damaged.
    pub damaged: u64,
    /// Whether the walk reached the end, or the visitor's `Break`: `false` when a page on the
    /// way could not be read.
    pub complete: bool,
}

impl Salvage {
    /// Opens the file at `path`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotAStore`], [`StoreError::AlreadyOpen`], [`StoreError::Io`], or
    /// [`StoreError::CorruptFile`] when the list of tables cannot be read.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        sniff::check(path)?;
        let mut first_error = None;
        // The older commit slot is a second chance: what it leads to may be overwritten since,
        // which the rows' checksums tell.
        for other_slot in [false, true] {
            match Self::open_slot(path, other_slot) {
                Ok(salvage) => return Ok(salvage),
                Err(error @ StoreError::AlreadyOpen { .. }) => return Err(error),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or(StoreError::Closed))
    }

    fn open_slot(path: &Path, other_slot: bool) -> Result<Self, StoreError> {
        let health = Health::new(path.to_owned());
        let io = |error| StoreError::io(OP, path, error);
        let file = OpenOptions::new().read(true).open(path).map_err(io)?;
        let backend = FileBackend::new(file).map_err(|error| health.error(OP, error))?;
        let guard = Guard::new(backend, Access::Read).map_err(io)?;
        let mut flags = [0];
        guard.read(FLAGS_AT, &mut flags).map_err(io)?;
        // In memory only: a repair would read every page, and give up at the first bad one.
        flags[0] &= !RECOVERY_REQUIRED;
        if other_slot {
            flags[0] ^= PRIMARY_SLOT;
        }
        guard.write(FLAGS_AT, &flags).map_err(io)?;
        // In this mode a reader loads no allocator state, one thing less that can be damaged.
        let db = Builder::new()
            .set_concurrency_mode(ConcurrencyMode::SingleWriter)
            .set_cache_size(super::options::CACHE_BYTES)
            .open_read_only_with_backend(guard)
            .map_err(|error| health.error(OP, error))?;
        let (mut tables, mut lost_tables) = (Vec::new(), Vec::new());
        {
            let fail = |error: redb::Error| health.error(OP, error);
            let txn = db.begin_read().map_err(|e| fail(e.into()))?;
            let schemas = txn.open_table(SCHEMAS).map_err(|e| fail(e.into()))?;
            for entry in schemas.iter().map_err(|e| fail(e.into()))? {
                let (name, value) = entry.map_err(|e| fail(e.into()))?;
                // A damaged record says nothing about its rows: its table is lost.
                match format::decode_schema(name.value(), value.value()) {
                    Ok(record) => tables.push(record),
                    Err(_) => lost_tables.push(name.value().to_owned()),
                }
            }
        }
        Ok(Self {
            db,
            health,
            tables,
            lost_tables,
        })
    }

    /// Every table whose record is whole.
    ///
    /// # Errors
    ///
    /// None at present.
    pub fn tables(&self) -> Result<Vec<TableRecord>, StoreError> {
        Ok(self.tables.clone())
    }

    /// Names of the tables whose records are damaged, so that nothing can be read of their rows.
    #[must_use]
    pub fn lost_tables(&self) -> &[String] {
        &self.lost_tables
    }

    /// Shows the rows of `table` that are whole, with their metadata, in key order after `after`;
    /// with `reverse` from the end backwards, those before `after`.
    ///
    /// # Errors
    ///
    /// [`StoreError::UnknownTable`], or a failure to open the table. A page that cannot be read
    /// on the way is no error: the count says that the walk is not complete.
    pub fn rows(
        &self,
        table: TableId,
        after: Option<&[u8]>,
        reverse: bool,
        visitor: &mut dyn FnMut(RowId, VectorRow) -> ControlFlow<()>,
    ) -> Result<SalvageCount, StoreError> {
        let Some(record) = self.tables.iter().find(|record| record.id == table) else {
            return Err(StoreError::UnknownTable(table.to_string()));
        };
        let shape = RowShape::of(record);
        let fail = |error: redb::Error| self.health.error(OP, error);
        let txn = self.db.begin_read().map_err(|e| fail(e.into()))?;
        let rows = format::rows_table(table);
        let rows = txn
            .open_table(tables::rows(&rows))
            .map_err(|e| fail(e.into()))?;
        let payloads = format::payloads_table(table);
        // Without it the rows whose metadata is inline are still whole.
        let payloads = txn.open_table(tables::payloads(&payloads)).ok();
        let edge = after.map_or(Bound::Unbounded, Bound::Excluded);
        let bounds = if reverse {
            (Bound::Unbounded, edge)
        } else {
            (edge, Bound::Unbounded)
        };
        let mut range = rows.range::<&[u8]>(bounds).map_err(|e| fail(e.into()))?;
        let mut count = SalvageCount::default();
        loop {
            let entry = if reverse {
                range.next_back()
            } else {
                range.next()
            };
            let (key, value) = match entry {
                None => break,
                Some(Ok(entry)) => entry,
                Some(Err(_)) => return Ok(count),
            };
            let Some((id, row)) = whole(shape, key.value(), value.value(), payloads.as_ref())
            else {
                count.damaged += 1;
                continue;
            };
            count.rows += 1;
            if visitor(id, row).is_break() {
                break;
            }
        }
        count.complete = true;
        Ok(count)
    }
}

/// The row with everything that belongs to it, if all of it is sound.
fn whole(
    shape: RowShape,
    key: &[u8],
    bytes: &[u8],
    payloads: Option<&redb::ReadOnlyTable<u64, tables::Bytes>>,
) -> Option<(RowId, VectorRow)> {
    let row = format::decode_row(shape, key, bytes).ok()?;
    let metadata = match row.metadata {
        StoredMetadata::Inline(json) => metadata::decode(json).ok()?,
        StoredMetadata::Apart { len } => {
            let value = payloads?.get(row.id.get()).ok()??;
            let json = format::decode_payload(shape.table, row.id, len, value.value()).ok()?;
            metadata::decode(json).ok()?
        }
    };
    let row_out = VectorRow {
        key: key.to_vec(),
        vector: row.vector().to_owned(),
        metadata,
        created_at: row.created_at,
        updated_at: row.updated_at,
    };
    Some((row.id, row_out))
}
