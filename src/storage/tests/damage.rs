//! Damaged files: what is refused, what is passed over, what is taken out.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use tempfile::TempDir;

use super::files::{read_only, store};
use super::{contents, put, record, row, table_key};
use crate::encoding::Codec;
use crate::error::StoreError;
use crate::ids::RowId;
use crate::inner_storage::{Backend, Durability, RedbBackend, Salvage};
use crate::testing::Random;

/// Changes a value behind the backend's back, with redb's own checksums in order.
pub(super) fn tamper(path: &Path, change: impl FnOnce(&redb::WriteTransaction)) {
    let db = redb::Database::open(path).unwrap();
    let txn = db.begin_write().unwrap();
    change(&txn);
    txn.commit().unwrap();
}

#[test]
fn a_damaged_row_is_named_passed_over_and_replaced() {
    let folder = TempDir::new().unwrap();
    let path = store(&folder);
    let rows = redb::TableDefinition::<&[u8], &[u8]>::new("rows/1");
    tamper(&path, |txn| {
        let mut rows = txn.open_table(rows).unwrap();
        rows.insert(b"answers-03".as_slice(), b"nonsense".as_slice())
            .unwrap();
    });
    let backend = RedbBackend::open(&path).unwrap();
    let table = record(1, "answers", Codec::Int8Quantized, 16);
    let (mut good, mut bad) = (0, 0);
    backend
        .scan(&table_key(&table), &mut |view| {
            match view {
                Ok(_) => good += 1,
                Err(StoreError::CorruptRow { table, key, .. }) => {
                    assert_eq!(
                        (table.as_str(), key.as_slice()),
                        ("answers", &b"answers-03"[..])
                    );
                    bad += 1;
                }
                Err(error) => return Err(error),
            }
            Ok(ControlFlow::Continue(()))
        })
        .unwrap();
    assert_eq!((good, bad), (9, 1));
    // The row, and the metadata that now belongs to nobody.
    // Damaged rows are for the scan to tell.
    assert!(backend.verify().unwrap().is_empty());
    let again = row(b"answers-03", Codec::Int8Quantized, 16, 3, false);
    let change = put(&table_key(&table), 30, again.clone());
    backend.commit(&[change], Durability::Immediate).unwrap();
    assert_eq!(
        backend.get_row("answers", b"answers-03").unwrap(),
        Some(again)
    );
    assert!(backend.verify().unwrap().is_empty());
    backend.close().unwrap();
    let payloads = redb::TableDefinition::<u64, &[u8]>::new("payloads/1");
    tamper(&path, |txn| {
        txn.open_table(payloads).unwrap().remove(6).unwrap();
    });
    let backend = RedbBackend::open(&path).unwrap();
    let lost = backend.get_row("answers", b"answers-06");
    assert!(matches!(lost, Err(StoreError::CorruptRow { .. })));
    assert_eq!(backend.verify().unwrap().len(), 1);
    assert!(backend.delete_row("answers", b"answers-06").unwrap());
    assert!(backend.verify().unwrap().is_empty());
}

#[test]
fn salvage_takes_what_is_whole_and_leaves_the_file_as_it_is() {
    let folder = TempDir::new().unwrap();
    let path = store(&folder);
    let whole = contents(&RedbBackend::open_with(&path, &read_only()).unwrap()).unwrap();
    let bytes = fs::read(&path).unwrap();
    // One row's vector, wherever redb has put it: its page checksum no longer holds.
    let victim = &whole["docs"][&b"docs-05"[..]].1.vector.bytes;
    let at = bytes
        .windows(victim.len())
        .rposition(|window| window == victim)
        .unwrap();
    let mut damaged = bytes.clone();
    damaged[at] ^= 1;
    fs::write(&path, &damaged).unwrap();
    let opened = RedbBackend::open(&path);
    assert!(
        matches!(opened, Err(StoreError::CorruptFile { .. })),
        "{opened:?}"
    );
    let salvage = Salvage::open(&path).unwrap();
    let tables = salvage.tables().unwrap();
    assert_eq!(tables.len(), 2);
    for reverse in [false, true] {
        for table in &tables {
            let mut got: Vec<(RowId, crate::row::VectorRow)> = Vec::new();
            let count = salvage
                .rows(table.id, None, reverse, &mut |id, row| {
                    got.push((id, row));
                    ControlFlow::Continue(())
                })
                .unwrap();
            let expected = &whole[&table.schema.name];
            let lost = u64::from(table.schema.name == "docs");
            assert_eq!(
                (count.rows, count.damaged, count.complete),
                (10 - lost, lost, true)
            );
            assert!(
                got.iter()
                    .all(|(id, row)| expected[&row.key] == (Some(*id), row.clone()))
            );
            let mut rest = 0;
            let from = format!("{}-08", table.schema.name);
            let after = Some(from.as_bytes());
            salvage
                .rows(table.id, after, reverse, &mut |_, _| {
                    rest += 1;
                    ControlFlow::Continue(())
                })
                .unwrap();
            assert_eq!(rest, if reverse { 7 - lost } else { 2 });
        }
    }
    drop(salvage);
    assert!(fs::read(&path).unwrap() == damaged);
    assert!(matches!(
        Salvage::open(folder.path()),
        Err(StoreError::NotAStore { .. })
    ));
}

#[test]
fn salvage_names_the_tables_it_can_say_nothing_about() {
    let folder = TempDir::new().unwrap();
    let path = store(&folder);
    let schemas = redb::TableDefinition::<&str, &[u8]>::new("schemas");
    tamper(&path, |txn| {
        let mut schemas = txn.open_table(schemas).unwrap();
        schemas.insert("docs", b"nonsense".as_slice()).unwrap();
    });
    let salvage = Salvage::open(&path).unwrap();
    assert_eq!(salvage.lost_tables(), ["docs"]);
    let tables = salvage.tables().unwrap();
    let names: Vec<&str> = tables.iter().map(|table| &*table.schema.name).collect();
    assert_eq!(names, ["answers"]);
}

#[test]
fn a_flipped_bit_in_a_file_is_found_and_the_file_left_as_it_is() {
    let folder = TempDir::new().unwrap();
    let path = store(&folder);
    let whole = contents(&RedbBackend::open_with(&path, &read_only()).unwrap()).unwrap();
    let bytes = fs::read(&path).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64;
    let mut random = Random::new(5);
    for _ in 0..60 {
        let mut damaged = bytes.clone();
        damaged[random.below(used) as usize] ^= 1 << random.below(8);
        fs::write(&path, &damaged).unwrap();
        match RedbBackend::open_with(&path, &read_only()) {
            Ok(backend) => assert_eq!(contents(&backend).unwrap(), whole),
            Err(
                StoreError::CorruptFile { .. }
                | StoreError::NotAStore { .. }
                | StoreError::NewerFormat { .. },
            ) => {}
            Err(error) => panic!("{error:?}"),
        }
        assert!(fs::read(&path).unwrap() == damaged);
    }
}
