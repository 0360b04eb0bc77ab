//! Files: foreign, contested, read-only, copied.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::{contents, create_table, put, record, row, table_key};
use crate::encoding::Codec;
use crate::error::StoreError;
use crate::inner_storage::{Backend, Durability, RedbBackend, RedbOptions, Salvage};

/// Two tables with 20 rows, every third with large metadata.
fn fill(backend: &RedbBackend) {
    let tables = [
        record(1, "answers", Codec::Int8Quantized, 16),
        record(2, "docs", Codec::F32, 8),
    ];
    for table in &tables {
        let mut changes = vec![create_table(table)];
        let schema = &table.schema;
        changes.extend((1..=10).map(|i| {
            let key = format!("{}-{i:02}", schema.name);
            let row = row(key.as_bytes(), schema.codec, schema.dim, i, i % 3 == 0);
            put(&table_key(table), i, row)
        }));
        backend.commit(&changes, Durability::Immediate).unwrap();
    }
}

pub(super) fn store(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("store.vecstash");
    let backend = RedbBackend::open(&path).unwrap();
    fill(&backend);
    backend.close().unwrap();
    path
}

pub(super) fn read_only() -> RedbOptions {
    RedbOptions::default().read_only(true)
}

#[test]
fn foreign_files_are_named_and_left_byte_identical() {
    let folder = TempDir::new().unwrap();
    let good = fs::read(store(&folder)).unwrap();
    let mut version = good.clone();
    // Both commit slots name redb's format in their first byte.
    (version[64], version[192]) = (4, 4);
    let mut old = good.clone();
    (old[64], old[192]) = (2, 2);
    let foreign_redb = |table: &str, wrong_types: bool| {
        let path = folder.path().join("other.redb");
        let _ = fs::remove_file(&path);
        let db = redb::Database::create(&path).unwrap();
        let txn = db.begin_write().unwrap();
        if wrong_types {
            let table = redb::TableDefinition::<u64, u64>::new(table);
            txn.open_table(table).unwrap().insert(1, 2).unwrap();
        } else {
            let table = redb::TableDefinition::<&str, &[u8]>::new(table);
            txn.open_table(table)
                .unwrap()
                .insert("format", b"mine".as_slice())
                .unwrap();
        }
        txn.commit().unwrap();
        drop(db);
        fs::read(&path).unwrap()
    };
    let newer = {
        let path = folder.path().join("newer.vecstash");
        drop(RedbBackend::open(&path).unwrap());
        let db = redb::Database::open(&path).unwrap();
        let txn = db.begin_write().unwrap();
        let meta = redb::TableDefinition::<&str, &[u8]>::new("meta");
        let value = crate::inner_storage::format::encode_format(7);
        txn.open_table(meta)
            .unwrap()
            .insert("format", value.as_slice())
            .unwrap();
        txn.commit().unwrap();
        drop(db);
        fs::read(&path).unwrap()
    };
    let tar = [vec![b'a'; 257], b"ustar\0".to_vec(), vec![0; 300]].concat();
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("png", b"\x89PNG\r\n\x1A\n....".to_vec(), "a PNG image"),
        ("jpeg", b"\xFF\xD8\xFF\xE0....".to_vec(), "a JPEG image"),
        ("gif", b"GIF89a".to_vec(), "a GIF image"),
        ("pdf", b"%PDF-1.7".to_vec(), "a PDF document"),
        ("zip", b"PK\x03\x04....".to_vec(), "a ZIP archive"),
        ("gzip", b"\x1F\x8B\x08".to_vec(), "a gzip archive"),
        ("zstd", b"\x28\xB5\x2F\xFD".to_vec(), "a zstd archive"),
        (
            "sqlite",
            b"SQLite format 3\0....".to_vec(),
            "an SQLite database",
        ),
        ("elf", b"\x7FELF\x02".to_vec(), "a program (ELF)"),
        ("parquet", b"PAR1....".to_vec(), "a Parquet file"),
        ("numpy", b"\x93NUMPY".to_vec(), "a NumPy array"),
        ("tar", tar, "a tar archive"),
        ("script", b"#!/bin/sh\n".to_vec(), "a script"),
        ("json", b"{\"a\": 1}".to_vec(), "a JSON text"),
        ("html", b"<html></html>".to_vec(), "a markup text"),
        ("text", b"hello\n".to_vec(), "a text"),
        ("empty", Vec::new(), "an empty file"),
        ("one byte", vec![7], "it begins with"),
        ("zeros", vec![0; 8_192], "a file of zeros"),
        (
            "magic only",
            b"redb\x1A\x0A\xA9\x0D\x0A".to_vec(),
            "cut off after 9 bytes",
        ),
        (
            "other redb",
            foreign_redb("things", false),
            "another program's redb file",
        ),
        (
            "its own meta",
            foreign_redb("meta", false),
            "another program's redb file",
        ),
        (
            "meta of other types",
            foreign_redb("meta", true),
            "another program's redb file",
        ),
        (
            "newer vecstash",
            newer,
            "has format 7, and this version reads up to 1",
        ),
        (
            "newer redb",
            version,
            "has format 4, and this version reads up to 3",
        ),
        ("older redb", old, "old format 2"),
        ("cut in half", good[..good.len() / 2].to_vec(), "is damaged"),
        ("cut by a byte", good[..good.len() - 1].to_vec(), ""),
        ("header only", good[..320].to_vec(), "is damaged"),
        ("no pages", good[..4_096].to_vec(), "is damaged"),
        (
            "zeroed pages",
            [&good[..4_096], &vec![0; good.len() - 4_096]].concat(),
            "is damaged",
        ),
    ];
    assert!(cases.len() >= 20);
    for (name, bytes, expected) in &cases {
        let path = folder.path().join("foreign");
        for options in [RedbOptions::default(), read_only()] {
            fs::write(&path, bytes).unwrap();
            let Err(error) = RedbBackend::open_with(&path, &options) else {
                assert!(expected.is_empty(), "{name} was opened");
                continue;
            };
            let typed = matches!(
                error,
                StoreError::NotAStore { .. }
                    | StoreError::NewerFormat { .. }
                    | StoreError::CorruptFile { .. }
            );
            assert!(
                typed && error.to_string().contains(expected),
                "{name}: {error:?}"
            );
            assert!(fs::read(&path).unwrap() == *bytes, "{name} was altered");
        }
    }
}

#[test]
fn what_is_not_a_regular_file_is_named_without_waiting() {
    let folder = TempDir::new().unwrap();
    let open = |path: &Path| RedbBackend::open(path).unwrap_err().to_string();
    assert!(open(folder.path()).contains("a folder"));
    assert!(open(Path::new("/")).contains("a folder"));
    let fifo = folder.path().join("fifo");
    if Command::new("mkfifo")
        .arg(&fifo)
        .status()
        .is_ok_and(|status| status.success())
    {
        assert!(open(&fifo).contains("a FIFO"));
    }
    if cfg!(unix) {
        assert!(open(Path::new("/dev/null")).contains("a device"));
    }
    let missing = folder.path().join("no/such/folder/store");
    assert!(matches!(
        RedbBackend::open(&missing),
        Err(StoreError::Io { .. })
    ));
    let missing = folder.path().join("missing");
    for options in [RedbOptions::default().create(false), read_only()] {
        let opened = RedbBackend::open_with(&missing, &options);
        assert!(matches!(opened, Err(StoreError::Io { .. })));
        assert!(!missing.exists());
    }
}

#[test]
fn a_second_open_is_refused_and_the_first_is_unharmed() {
    let folder = TempDir::new().unwrap();
    let path = store(&folder);
    let first = RedbBackend::open(&path).unwrap();
    let state = contents(&first).unwrap();
    for options in [RedbOptions::default(), read_only()] {
        let second = RedbBackend::open_with(&path, &options);
        assert!(matches!(second, Err(StoreError::AlreadyOpen { .. })));
        let (path, options) = (path.clone(), options.clone());
        let third = std::thread::spawn(move || RedbBackend::open_with(path, &options).err());
        assert!(matches!(
            third.join().unwrap(),
            Some(StoreError::AlreadyOpen { .. })
        ));
    }
    assert!(matches!(
        Salvage::open(&path),
        Err(StoreError::AlreadyOpen { .. })
    ));
    // A child process runs this very binary, on the test below.
    let child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "inner_storage::tests::files::child_finds_the_file_open",
        ])
        .env("VECSTASH_OPEN_ELSEWHERE", &path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && said.contains("1 passed"),
        "{said}"
    );
    assert_eq!(contents(&first).unwrap(), state);
    drop(first);
    assert_eq!(contents(&RedbBackend::open(&path).unwrap()).unwrap(), state);
}

#[test]
fn child_finds_the_file_open() {
    if let Some(path) = std::env::var_os("VECSTASH_OPEN_ELSEWHERE") {
        assert!(matches!(
            RedbBackend::open(path),
            Err(StoreError::AlreadyOpen { .. })
        ));
    }
}

#[test]
fn two_creators_of_one_path_never_lose_a_row() {
    let folder = TempDir::new().unwrap();
    for round in 0..200 {
        let path = folder.path().join(format!("{round}.vecstash"));
        let start = std::sync::Barrier::new(2);
        let written = std::thread::scope(|scope| {
            let threads = [1, 2].map(|id| {
                let (path, start) = (&path, &start);
                scope.spawn(move || {
                    start.wait();
                    let backend = match RedbBackend::open(path) {
                        Ok(backend) => backend,
                        Err(StoreError::AlreadyOpen { .. }) => return None,
                        Err(error) => panic!("{error:?}"),
                    };
                    let table = record(id, &format!("t{id}"), Codec::F32, 4);
                    let one = put(&table_key(&table), 1, row(b"k", Codec::F32, 4, 1, false));
                    backend
                        .commit(&[create_table(&table), one], Durability::Immediate)
                        .unwrap();
                    Some(format!("t{id}"))
                })
            });
            threads.map(|thread| thread.join().unwrap())
        });
        assert!(written.iter().any(Option::is_some));
        let found = contents(&RedbBackend::open(&path).unwrap()).unwrap();
        assert!(written.iter().flatten().all(|name| found[name].len() == 1));
    }
    let left = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 200, "no temporary file stays behind");
}

#[test]
fn read_only_leaves_clean_and_crashed_files_byte_identical() {
    let folder = TempDir::new().unwrap();
    let path = store(&folder);
    let crashed = folder.path().join("crashed.vecstash");
    let live = RedbBackend::open(&path).unwrap();
    fs::copy(&path, &crashed).unwrap();
    let state = contents(&live).unwrap();
    drop(live);
    for path in [path, crashed] {
        let before = fs::read(&path).unwrap();
        let backend = RedbBackend::open_with(&path, &read_only()).unwrap();
        let beside = RedbBackend::open_with(&path, &read_only()).unwrap();
        let writer = RedbBackend::open(&path);
        assert!(matches!(writer, Err(StoreError::AlreadyOpen { .. })));
        assert_eq!(contents(&backend).unwrap(), state);
        assert!(backend.capabilities().read_only && backend.verify().unwrap().is_empty());
        let refused = backend.commit(&[], Durability::Immediate);
        assert!(matches!(refused, Err(StoreError::ReadOnly)));
        assert!(matches!(backend.compact(), Err(StoreError::ReadOnly)));
        backend.close().unwrap();
        drop(beside);
        assert!(fs::read(&path).unwrap() == before);
    }
}

#[test]
fn compact_waits_for_no_snapshot_and_close_ends_every_call() {
    let folder = TempDir::new().unwrap();
    let backend = RedbBackend::open(store(&folder)).unwrap();
    let snapshot = backend.snapshot().unwrap();
    assert!(matches!(backend.compact(), Err(StoreError::Busy { .. })));
    drop(snapshot);
    backend.compact().unwrap();
    let snapshot = backend.snapshot().unwrap().unwrap();
    let key = table_key(&backend.list_tables().unwrap().tables[0].record);
    backend.close().unwrap();
    let late = snapshot.read(&key, b"answers-01", crate::row::Want::ALL);
    assert!(
        matches!(late, Err(StoreError::Closed) | Ok(Some(_))),
        "{late:?}"
    );
    assert!(matches!(backend.flush(), Err(StoreError::Closed)));
    assert!(matches!(backend.verify(), Err(StoreError::Closed)));
    assert!(matches!(
        backend.commit(&[], Durability::Immediate),
        Err(StoreError::Closed)
    ));
    assert!(matches!(backend.close(), Err(StoreError::Closed)));
    RedbBackend::open(backend.path()).unwrap();
}

#[test]
fn a_backup_holds_the_same_and_never_replaces_a_file() {
    let folder = TempDir::new().unwrap();
    let backend = RedbBackend::open(store(&folder)).unwrap();
    let copy = folder.path().join("copy.vecstash");
    backend.backup(&copy).unwrap();
    let restored = RedbBackend::open(&copy).unwrap();
    assert_eq!(contents(&restored).unwrap(), contents(&backend).unwrap());
    assert_eq!(
        restored.list_tables().unwrap(),
        backend.list_tables().unwrap()
    );
    assert!(restored.verify().unwrap().is_empty());
    assert!(matches!(backend.backup(&copy), Err(StoreError::Io { .. })));
}
