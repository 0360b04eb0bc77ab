//! Opening and creating a store file: prove what it is, check all of it, and only then write.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::backends::FileBackend;
use redb::{Builder, Database, ReadableDatabase, StorageBackend};

use super::RedbOptions;
use super::error::Health;
use super::tables::{META, SCHEMAS};
use super::write;
use crate::error::StoreError;
use crate::ids::TableId;
use crate::inner_storage::file::{Access, Guard};
use crate::inner_storage::preread::Preread;
use crate::inner_storage::{Durability, Verify, format, publish, sniff};

/// How often an open looks again when the file comes or goes meanwhile.
const ATTEMPTS: usize = 8;

/// Opens the file at `path`, or creates it when that is asked for and it is missing. It is read
/// ahead as long as what comes with it is kept.
pub(super) fn open(
    path: &Path,
    options: &RedbOptions,
    health: &Health,
) -> Result<(Database, Option<Preread>), StoreError> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match fs::metadata(path) {
            Ok(_) => {}
            Err(error)
                if error.kind() == ErrorKind::NotFound
                    && options.create
                    && !options.read_only
                    && attempts <= ATTEMPTS =>
            {
                publish::create(path, &mut |file| initialize_file(file, health))?;
                continue;
            }
            Err(error) => return Err(StoreError::io("opening", path, error)),
        }
        sniff::check(path)?;
        let file = OpenOptions::new()
            .read(true)
            .write(!options.read_only)
            .open(path)
            .map_err(|error| StoreError::io("opening", path, error))?;
        let backend = FileBackend::new(file).map_err(|error| health.error("opening", error))?;
        // All of it is about to be read.
        let ahead = Preread::start(path);
        return Ok((open_guarded(backend, options, health)?, ahead));
    }
}

/// Opens what `backend` holds without a write reaching it before it has proved to be ours.
pub(super) fn open_guarded<B: StorageBackend>(
    backend: B,
    options: &RedbOptions,
    health: &Health,
) -> Result<Database, StoreError> {
    let access = if options.read_only {
        Access::Read
    } else {
        Access::Write
    };
    let guard = Guard::new(backend, access)
        .map_err(|error| StoreError::io("reading the length of", &health.path, error))?;
    let redb_side = guard.clone();
    // With the integrity check no damaged file is known to panic; a file nobody has met yet
    // must not take the application with it all the same.
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let db = Builder::new()
            .set_check_integrity_on_open(options.verify == Verify::Full)
            .set_cache_size(options.cache_bytes)
            .create_with_backend(redb_side)
            .map_err(|error| opening_error(health, error))?;
        prove(&db, health)?;
        Ok::<_, StoreError>(db)
    }));
    let db = match opened {
        Ok(db) => db?,
        Err(_) => return Err(health.corrupt("reading it ended in a panic")),
    };
    guard
        .release()
        .map_err(|error| health.error("writing the opened file", redb::Error::Io(error)))?;
    Ok(db)
}

/// "Not redb" and "cut off" come as I/O errors, and neither is one.
fn opening_error(health: &Health, error: redb::DatabaseError) -> StoreError {
    match error {
        redb::DatabaseError::Storage(redb::StorageError::Io(error)) => match error.kind() {
            ErrorKind::InvalidData => StoreError::NotAStore {
                path: health.path.clone(),
                detail: error.to_string(),
            },
            ErrorKind::UnexpectedEof => StoreError::CorruptFile {
                path: health.path.clone(),
                detail: "it is cut off".to_owned(),
                source: Some(Box::new(error)),
            },
            _ => health.error("opening", redb::Error::Io(error)),
        },
        redb::DatabaseError::RepairAborted => health.corrupt("its repair was aborted"),
        error => health.error("opening", error),
    }
}

/// Reads `meta` before anything else: is it ours, and do we know its format?
pub(super) fn prove(db: &Database, health: &Health) -> Result<(), StoreError> {
    let foreign = || StoreError::NotAStore {
        path: health.path.clone(),
        detail: "another program's redb file".to_owned(),
    };
    let txn = db
        .begin_read()
        .map_err(|error| health.error("opening", error))?;
    let meta = match txn.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::Storage(error)) => return Err(health.error("opening", error)),
        Err(_) => return Err(foreign()),
    };
    let entry = meta
        .get(format::META_FORMAT)
        .map_err(|error| health.error("opening", error))?
        .ok_or_else(foreign)?;
    match format::decode_format(entry.value()) {
        None => return Err(foreign()),
        Some(Err(detail)) => return Err(health.corrupt(detail)),
        Some(Ok(found)) if found > format::FORMAT => {
            return Err(StoreError::NewerFormat {
                path: health.path.clone(),
                found,
                supported: format::FORMAT,
            });
        }
        Some(Ok(_)) => {}
    }
    if let Some(id) = meta
        .get(format::META_STORE_ID)
        .map_err(|error| health.error("opening", error))?
    {
        format::decode_store_id(id.value())
            .map_err(|detail| health.corrupt(format!("store_id: {detail}")))?;
    }
    txn.open_table(SCHEMAS)
        .map_err(|error| health.error("opening", error))?;
    Ok(())
}

fn initialize_file(file: File, health: &Health) -> Result<(), StoreError> {
    let backend = FileBackend::new(file).map_err(|error| health.error("creating", error))?;
    let db = create(backend, RedbOptions::default().cache_bytes, health)?;
    initialize(&db, health)?;
    close(db, health)
}

/// A new redb on an empty backend.
pub(super) fn create<B: StorageBackend>(
    backend: B,
    cache_bytes: usize,
    health: &Health,
) -> Result<Database, StoreError> {
    Builder::new()
        .set_check_integrity_on_open(true)
        .set_cache_size(cache_bytes)
        .create_with_backend(backend)
        .map_err(|error| opening_error(health, error))
}

/// Writes the first transaction of a store: what makes the file ours.
pub(super) fn initialize(db: &Database, health: &Health) -> Result<(), StoreError> {
    let txn = write::begin(db, Durability::Immediate, health)?;
    {
        let mut meta = txn
            .open_table(META)
            .map_err(|e| health.error("creating", e))?;
        for (entry, value) in [
            (format::META_FORMAT, format::encode_format(format::FORMAT)),
            (format::META_STORE_ID, format::encode_store_id(random_id())),
            (
                format::META_NEXT_TABLE_ID,
                format::encode_next_table_id(TableId::new(1)),
            ),
        ] {
            meta.insert(entry, value.as_slice())
                .map_err(|e| health.error("creating", e))?;
        }
        txn.open_table(SCHEMAS)
            .map_err(|e| health.error("creating", e))?;
    }
    txn.commit()
        .map_err(|error| health.error("creating", error))
}

pub(super) fn close(db: Database, health: &Health) -> Result<(), StoreError> {
    db.close().map_err(|error| health.error("closing", error))
}

/// Tells stores apart; nothing depends on its quality.
fn random_id() -> [u8; 16] {
    let state = RandomState::new();
    let now = std::time::SystemTime::now();
    let halves = [1_u8, 2].map(|half| state.hash_one((half, now, std::process::id())));
    let mut id = [0; 16];
    id[..8].copy_from_slice(&halves[0].to_le_bytes());
    id[8..].copy_from_slice(&halves[1].to_le_bytes());
    id
}
