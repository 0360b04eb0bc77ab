//! Looking after a whole store: compaction, backup, verification.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use redb::backends::FileBackend;
use redb::{Key, ReadableTable, TableDefinition, TableHandle};

use super::error::Health;
use super::open;
use super::read::{OpenTable, RedbSnapshot};
use super::tables::{self, META, SCHEMAS};
use super::{RedbOptions, write};
use crate::error::StoreError;
use crate::inner_storage::format::{self, RowShape, StoredMetadata};
use crate::inner_storage::{Durability, metadata, publish};

/// Bytes copied in one transaction of a backup: enough to pack pages well, little to hold.
const BATCH_BYTES: usize = 32 << 20;

/// Copies what `snapshot` shows into a new file at `path`: table by table through a new redb,
/// since the bytes of a live file are nobody's to copy.
pub(super) fn backup(snapshot: &RedbSnapshot, path: &Path) -> Result<(), StoreError> {
    let created = publish::create(path, &mut |file| {
        let health = Health::new(path.to_owned());
        let backend = FileBackend::new(file).map_err(|error| health.error("creating", error))?;
        let db = open::create(backend, RedbOptions::default().cache_bytes, &health)?;
        let copy = Copy {
            from: snapshot,
            to: &db,
            health: &health,
        };
        copy.table(META)?;
        copy.table(SCHEMAS)?;
        for record in snapshot.records()? {
            copy.table(tables::rows(&format::rows_table(record.id)))?;
            copy.table(tables::payloads(&format::payloads_table(record.id)))?;
            if snapshot.links(record.id)?.is_some() {
                copy.table(tables::links(&format::links_table(record.id)))?;
            }
        }
        open::close(db, &health)
    })?;
    if created {
        Ok(())
    } else {
        Err(StoreError::io(
            "writing a backup to",
            path,
            std::io::ErrorKind::AlreadyExists.into(),
        ))
    }
}

struct Copy<'a> {
    from: &'a RedbSnapshot,
    to: &'a redb::Database,
    health: &'a Health,
}

impl Copy<'_> {
    fn table<K: Key + 'static>(
        &self,
        definition: TableDefinition<'_, K, tables::Bytes>,
    ) -> Result<(), StoreError> {
        let fail = |error: redb::Error| self.health.error("writing a backup", error);
        let from = self
            .from
            .txn
            .open_table(definition)
            .map_err(|e| self.from.fail(e))?;
        let mut entries = from.iter().map_err(|e| self.from.fail(e))?;
        let mut done = false;
        while !done {
            let txn = write::begin(self.to, Durability::Immediate, self.health)?;
            {
                let mut to = txn.open_table(definition).map_err(|e| fail(e.into()))?;
                let mut bytes = 0;
                while bytes < BATCH_BYTES && !done {
                    match entries.next() {
                        Some(entry) => {
                            let (key, value) = entry.map_err(|e| self.from.fail(e))?;
                            bytes += value.value().len() + 64;
                            to.insert(key.value(), value.value())
                                .map_err(|e| fail(e.into()))?;
                        }
                        None => done = true,
                    }
                }
            }
            txn.commit().map_err(|e| fail(e.into()))?;
        }
        Ok(())
    }
}

/// Everything that does not hold, one sentence each.
pub(super) fn verify(snapshot: &RedbSnapshot) -> Result<Vec<String>, StoreError> {
    let mut problems = Vec::new();
    let catalog = snapshot.catalog()?;
    let mut expected: BTreeSet<String> = [format::META, format::SCHEMAS].map(String::from).into();
    let mut optional = HashSet::new();
    let mut ids = HashSet::new();
    for stored in &catalog.tables {
        let (id, name) = (stored.record.id, &stored.record.schema.name);
        expected.insert(format::rows_table(id));
        expected.insert(format::payloads_table(id));
        optional.insert(format::links_table(id));
        if !ids.insert(id) {
            problems.push(format!("table {name} has the id {id} of another table"));
        }
        if id >= catalog.next_table_id {
            problems.push(format!(
                "table {name} has the id {id}, which was never given out"
            ));
        }
        let table = snapshot.open_shape(RowShape::of(&stored.record), name)?;
        verify_rows(snapshot, &table, stored.next_row_id, &mut problems)?;
        snapshot.verify_links(id, name, &mut problems)?;
    }
    let found: BTreeSet<String> = snapshot
        .txn
        .list_tables()
        .map_err(|e| snapshot.fail(e))?
        .map(|table| table.name().to_owned())
        .collect();
    let unknown = found.difference(&expected);
    for name in unknown.filter(|name| !optional.contains(*name)) {
        problems.push(format!("the redb table {name} belongs to no table"));
    }
    for name in expected.difference(&found) {
        problems.push(format!("the redb table {name} is missing"));
    }
    Ok(problems)
}

fn verify_rows(
    snapshot: &RedbSnapshot,
    table: &OpenTable,
    next: crate::ids::RowId,
    problems: &mut Vec<String>,
) -> Result<(), StoreError> {
    let mut ids = HashSet::new();
    let mut owned = HashSet::new();
    let mut damaged = false;
    for entry in table.rows.iter().map_err(|e| snapshot.fail(e))? {
        let (key, value) = entry.map_err(|e| snapshot.fail(e))?;
        let key = key.value();
        // A scan shows such a row as what it is; here it only means that its metadata, if it had
        // any apart, cannot be told from metadata of no row.
        let Ok(row) = table.decode(key, value.value()) else {
            damaged = true;
            continue;
        };
        let mut problem =
            |detail: String| problems.push(table.corrupt_row(key, detail).to_string());
        if !ids.insert(row.id) {
            problem(format!("its id {} is that of another row", row.id));
        }
        if row.id >= next {
            problem(format!("its id {} was never given out", row.id));
        }
        let json = match row.metadata {
            StoredMetadata::Inline(json) => metadata::decode(json),
            StoredMetadata::Apart { len } => {
                owned.insert(row.id.get());
                match table
                    .payloads
                    .get(row.id.get())
                    .map_err(|e| snapshot.fail(e))?
                {
                    None => Err("its metadata is missing".to_owned()),
                    Some(value) => {
                        format::decode_payload(table.shape.table, row.id, len, value.value())
                            .and_then(metadata::decode)
                    }
                }
            }
        };
        if let Err(detail) = json {
            problem(detail);
        }
    }
    for entry in table.payloads.iter().map_err(|e| snapshot.fail(e))? {
        let (id, _) = entry.map_err(|e| snapshot.fail(e))?;
        if !damaged && !owned.contains(&id.value()) {
            problems.push(format!(
                "the metadata of id {} of table {} belongs to no row",
                id.value(),
                table.name
            ));
        }
    }
    Ok(())
}
