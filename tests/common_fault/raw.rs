//! What these tests know of the file itself: redb, and the names of its tables.

use std::path::Path;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableHandle};

/// Names of the redb tables of a closed store.
pub(crate) fn table_names(path: &Path) -> Vec<String> {
    let db = Database::open(path).expect("a closed store opens with redb");
    let read = db.begin_read().expect("read");
    let mut names: Vec<String> = read
        .list_tables()
        .expect("tables")
        .map(|table| table.name().to_string())
        .collect();
    names.sort();
    names
}

/// Every raw row of one rows table (`rows/<id>`), in key order.
pub(crate) fn raw_rows(path: &Path, table: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let db = Database::open(path).expect("a closed store opens with redb");
    let read = db.begin_read().expect("read");
    let rows = read
        .open_table(TableDefinition::<&[u8], &[u8]>::new(table))
        .expect("rows are &[u8] -> &[u8]");
    rows.iter()
        .expect("iter")
        .map(|entry| {
            let (key, value) = entry.expect("entry");
            (key.value().to_vec(), value.value().to_vec())
        })
        .collect()
}

/// Names of the rows tables that hold `key`, with the key's raw bytes.
pub(crate) fn find_row(path: &Path, key: &[u8]) -> Vec<(String, Vec<u8>)> {
    table_names(path)
        .into_iter()
        .filter(|name| name.starts_with("rows/"))
        .filter_map(|name| {
            let rows = raw_rows(path, &name);
            let row = rows.into_iter().find(|(k, _)| k == key)?;
            Some((name, row.1))
        })
        .collect()
}

/// Writes raw bytes under a key of one rows table, with checksums that redb holds valid.
pub(crate) fn put_raw_row(path: &Path, table: &str, key: &[u8], value: &[u8]) {
    let db = Database::open(path).expect("a closed store opens with redb");
    let mut write = db.begin_write().expect("write");
    write.set_two_phase_commit(true);
    {
        let mut rows = write
            .open_table(TableDefinition::<&[u8], &[u8]>::new(table))
            .expect("rows are &[u8] -> &[u8]");
        rows.insert(key, value).expect("insert");
    }
    write.commit().expect("commit");
}

/// Sets the number of the file's format, which stands after a version byte and 16 bytes of magic
/// for ever. Returns how many entries were written: 1, or this adapter must learn the format.
pub(crate) fn set_format_version(path: &Path, version: u32) -> usize {
    const NUMBER: std::ops::Range<usize> = 17..21;
    let db = Database::open(path).expect("a closed store opens with redb");
    let mut written = 0;
    let write = db.begin_write().expect("write");
    if let Ok(mut meta) = write.open_table(TableDefinition::<&str, &[u8]>::new("meta")) {
        let value = meta.get("format").expect("get");
        let value = value.map(|value| value.value().to_vec());
        if let Some(mut value) = value.filter(|value| value.len() >= NUMBER.end) {
            value[NUMBER].copy_from_slice(&version.to_le_bytes());
            meta.insert("format", value.as_slice()).expect("insert");
            written += 1;
        }
    }
    write.commit().expect("commit");
    written
}

/// Overwrites every value of `meta` with bytes that mean nothing. Returns how many.
pub(crate) fn spoil_meta(path: &Path) -> usize {
    let db = Database::open(path).expect("a closed store opens with redb");
    let mut written = 0;
    let write = db.begin_write().expect("write");
    if let Ok(mut meta) = write.open_table(TableDefinition::<&str, &[u8]>::new("meta")) {
        let names: Vec<String> = meta
            .iter()
            .expect("iter")
            .map(|entry| entry.expect("entry").0.value().to_string())
            .collect();
        for name in names {
            meta.insert(name.as_str(), &b"\xff\xfe garbage \x00"[..])
                .expect("insert");
            written += 1;
        }
    } else if let Ok(mut meta) = write.open_table(TableDefinition::<&str, u64>::new("meta")) {
        let names: Vec<String> = meta
            .iter()
            .expect("iter")
            .map(|entry| entry.expect("entry").0.value().to_string())
            .collect();
        for name in names {
            meta.insert(name.as_str(), u64::MAX - 7).expect("insert");
            written += 1;
        }
    }
    write.commit().expect("commit");
    written
}
