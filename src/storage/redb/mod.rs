//! [`RedbBackend`]: the rows of a store in one redb file.

mod error;
mod links;
mod maintain;
mod open;
mod options;
mod read;
mod salvage;
mod tables;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use redb::{Database, ReadableTable};

use self::error::Health;
pub use self::options::RedbOptions;
use self::read::RedbSnapshot;
pub use self::salvage::{Salvage, SalvageCount};
use super::{
    Backend, Capabilities, Catalog, Change, Durability, LinksVisitor, RecordVisitor, RowVisitor,
    Snapshot, TableKey,
};
use crate::error::StoreError;
use crate::inner_storage::preread::Preread;
use crate::row::{Record, VectorRow, Want};
use crate::schema::{TableRecord, TableSchema};

/// A [`Backend`] that keeps its rows in one redb file.
///
/// Every commit is two-phase, every byte of the file is checked at open, and a new file appears
/// whole or not at all. After a failed commit or a failed I/O the backend refuses to write
/// ([`StoreError::Failed`]) until the file is opened again. Dropping it closes the file.
pub struct RedbBackend {
    health: Arc<Health>,
    read_only: bool,
    /// Taken for reading by every call, briefly, and for writing by `compact` and `close`.
    /// `None` after `close`.
    db: RwLock<Option<Database>>,
    /// Commits that no fsync has followed yet.
    unsynced: AtomicBool,
    /// How long the file is.
    bytes: Box<dyn Fn() -> std::io::Result<u64> + Send + Sync>,
    /// What is still being read ahead, for whoever reads all rows next.
    _ahead: Option<Preread>,
}

impl std::fmt::Debug for RedbBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedbBackend")
            .field("path", &self.health.path)
            .field("read_only", &self.read_only)
            .finish_non_exhaustive()
    }
}

impl RedbBackend {
    /// Opens the store file at `path`, or creates it.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotAStore`], [`StoreError::NewerFormat`], [`StoreError::AlreadyOpen`],
    /// [`StoreError::CorruptFile`] or [`StoreError::Io`]; the file is then as it was.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(path, &RedbOptions::default())
    }

    /// As [`RedbBackend::open`], with options.
    ///
    /// # Errors
    ///
    /// As [`RedbBackend::open`].
    pub fn open_with(path: impl AsRef<Path>, options: &RedbOptions) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let health = Health::new(path.to_owned());
        let (db, ahead) = open::open(path, options, &health)?;
        let path: PathBuf = path.to_owned();
        let bytes = Box::new(move || Ok(std::fs::metadata(&path)?.len()));
        Ok(Self {
            _ahead: ahead,
            ..Self::new(db, health, options.read_only, bytes)
        })
    }

    fn new(
        db: Database,
        health: Health,
        read_only: bool,
        bytes: Box<dyn Fn() -> std::io::Result<u64> + Send + Sync>,
    ) -> Self {
        Self {
            health: Arc::new(health),
            read_only,
            db: RwLock::new(Some(db)),
            unsynced: AtomicBool::new(false),
            bytes,
            _ahead: None,
        }
    }

    /// The path this backend was opened with.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.health.path
    }

    /// Opens the store that a simulated disk holds, by the same code as a file.
    ///
    /// # Errors
    ///
    /// As [`RedbBackend::open`].
    #[cfg(any(test, feature = "testing"))]
    pub fn open_sim(disk: &crate::testing::SimDisk) -> Result<Self, StoreError> {
        let health = Health::new(PathBuf::from("simulated disk"));
        let db = open::open_guarded(disk.clone(), &RedbOptions::default(), &health)?;
        Ok(Self::on_sim(db, health, disk))
    }

    /// Creates a store on an empty simulated disk.
    ///
    /// # Errors
    ///
    /// A failure of the disk.
    #[cfg(any(test, feature = "testing"))]
    pub fn create_sim(disk: &crate::testing::SimDisk) -> Result<Self, StoreError> {
        let health = Health::new(PathBuf::from("simulated disk"));
        let db = open::create(disk.clone(), options::CACHE_BYTES, &health)?;
        open::initialize(&db, &health)?;
        Ok(Self::on_sim(db, health, disk))
    }

    #[cfg(any(test, feature = "testing"))]
    fn on_sim(db: Database, health: Health, disk: &crate::testing::SimDisk) -> Self {
        let disk = disk.clone();
        Self::new(
            db,
            health,
            false,
            Box::new(move || Ok(disk.image().len() as u64)),
        )
    }

    fn read_view(&self) -> Result<RedbSnapshot, StoreError> {
        let db = self.db.read();
        RedbSnapshot::new(db.as_ref().ok_or(StoreError::Closed)?, &self.health)
    }

    /// Applies `changes` in one transaction.
    fn transact(&self, changes: &[Change], durability: Durability) -> Result<(), StoreError> {
        let db = self.db.read();
        let db = db.as_ref().ok_or(StoreError::Closed)?;
        if self.read_only {
            return Err(StoreError::ReadOnly);
        }
        self.health.check()?;
        let txn = write::begin(db, durability, &self.health)?;
        if let Err(error) = write::apply(&txn, changes, &self.health) {
            // What made the change fail is the news, not what the abort says of it.
            let _ = txn.abort();
            return Err(error);
        }
        let durable = durability == Durability::Immediate;
        if durable {
            // Before the commit: a weaker commit that follows sets the flag again.
            self.unsynced.store(false, Ordering::Release);
        }
        txn.commit()
            .map_err(|error| self.health.unknown_outcome(error))?;
        if !durable {
            self.unsynced.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn find(&self, view: &RedbSnapshot, table: &str) -> Result<Option<TableKey>, StoreError> {
        Ok(view.record(table)?.map(|record| key_of(&record)))
    }
}

fn key_of(record: &TableRecord) -> TableKey {
    TableKey {
        id: record.id,
        name: record.schema.name.as_str().into(),
    }
}

impl Backend for RedbBackend {
    fn put_row(&self, table: &str, key: &[u8], row: &VectorRow) -> Result<(), StoreError> {
        let view = self.read_view()?;
        let Some(stored) = view
            .catalog()?
            .tables
            .into_iter()
            .find(|stored| stored.record.schema.name == table)
        else {
            return Err(StoreError::UnknownTable(table.to_owned()));
        };
        let table = key_of(&stored.record);
        // The same vector keeps its id; a damaged row has none worth keeping.
        let prior = view.read(&table, key, Want::VECTOR).ok().flatten();
        drop(view);
        let kept = prior
            .filter(|prior| prior.row.vector == row.vector)
            .and_then(|prior| prior.id);
        let id = kept.unwrap_or(stored.next_row_id);
        let mut row = row.clone();
        row.key = key.to_vec();
        self.transact(&[Change::Put { table, id, row }], Durability::Immediate)
    }

    fn get_row(&self, table: &str, key: &[u8]) -> Result<Option<VectorRow>, StoreError> {
        let view = self.read_view()?;
        let Some(table) = self.find(&view, table)? else {
            return Ok(None);
        };
        Ok(view.read(&table, key, Want::ALL)?.map(|record| record.row))
    }

    fn delete_row(&self, table: &str, key: &[u8]) -> Result<bool, StoreError> {
        let view = self.read_view()?;
        let Some(table) = self.find(&view, table)? else {
            return Ok(false);
        };
        // A damaged row is there, and deleting it is its remedy.
        if let Ok(None) = view.read(&table, key, Want::HEADER) {
            return Ok(false);
        }
        drop(view);
        self.transact(
            &[Change::Delete {
                table,
                key: key.to_vec(),
            }],
            Durability::Immediate,
        )?;
        Ok(true)
    }

    fn for_each_row(&self, table: &str, f: &mut RowVisitor<'_>) -> Result<(), StoreError> {
        let view = self.read_view()?;
        let Some(table) = self
            .find(&view, table)?
            .map(|key| view.open(&key))
            .transpose()?
            .flatten()
        else {
            return Ok(());
        };
        for entry in table.rows.iter().map_err(|e| view.fail(e))? {
            let (key, value) = entry.map_err(|e| view.fail(e))?;
            let key = key.value();
            let row = table.decode(key, value.value())?;
            f(key, &view.own(&table, key, &row, Want::ALL)?.row)?;
        }
        Ok(())
    }

    fn put_schema(&self, schema: &TableSchema) -> Result<(), StoreError> {
        let record = self.list_tables()?.record_for(schema);
        self.transact(&[Change::PutTable(Box::new(record))], Durability::Immediate)
    }

    fn list_schemas(&self) -> Result<Vec<TableSchema>, StoreError> {
        Ok(self
            .read_view()?
            .records()?
            .into_iter()
            .map(|record| record.schema)
            .collect())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            read_only: self.read_only,
            links: true,
            ..Capabilities::atomic()
        }
    }

    fn list_tables(&self) -> Result<Catalog, StoreError> {
        self.read_view()?.catalog()
    }

    fn commit(&self, changes: &[Change], durability: Durability) -> Result<(), StoreError> {
        self.transact(changes, durability)
    }

    fn read(&self, table: &TableKey, key: &[u8], want: Want) -> Result<Option<Record>, StoreError> {
        self.read_view()?.read(table, key, want)
    }

    fn get_many(
        &self,
        table: &TableKey,
        keys: &[&[u8]],
        want: Want,
    ) -> Result<Vec<Option<Record>>, StoreError> {
        self.read_view()?.get_many(table, keys, want)
    }

    fn scan(&self, table: &TableKey, visitor: &mut RecordVisitor<'_>) -> Result<(), StoreError> {
        self.read_view()?.scan(table, None, visitor)
    }

    fn scan_links(
        &self,
        table: &TableKey,
        visitor: &mut LinksVisitor<'_>,
    ) -> Result<(), StoreError> {
        self.read_view()?.scan_links(table, visitor)
    }

    fn snapshot(&self) -> Result<Option<Arc<dyn Snapshot>>, StoreError> {
        Ok(Some(Arc::new(self.read_view()?)))
    }

    fn flush(&self) -> Result<(), StoreError> {
        // A failed commit may have been the one that was to make others durable.
        self.health.check()?;
        if self.read_only || !self.unsynced.load(Ordering::Acquire) {
            return self
                .db
                .read()
                .as_ref()
                .map(|_| ())
                .ok_or(StoreError::Closed);
        }
        // An empty durable commit publishes every commit before it.
        self.transact(&[], Durability::Immediate)
    }

    fn compact(&self) -> Result<bool, StoreError> {
        let mut db = self.db.write();
        let db = db.as_mut().ok_or(StoreError::Closed)?;
        if self.read_only {
            return Err(StoreError::ReadOnly);
        }
        self.health.check()?;
        db.compact()
            .map_err(|error| self.health.error("compacting", error))
    }

    fn backup(&self, path: &Path) -> Result<(), StoreError> {
        maintain::backup(&self.read_view()?, path)
    }

    fn bytes_on_disk(&self) -> Result<Option<u64>, StoreError> {
        (self.bytes)()
            .map(Some)
            .map_err(|e| StoreError::io("asking the length of", self.path(), e))
    }

    fn verify(&self) -> Result<Vec<String>, StoreError> {
        maintain::verify(&self.read_view()?)
    }

    fn close(&self) -> Result<(), StoreError> {
        let flushed = self.flush();
        let Some(db) = self.db.write().take() else {
            return Err(StoreError::Closed);
        };
        let closed = open::close(db, &self.health);
        flushed.and(closed)
    }
}
