//! The file and its twin in memory, given the same random commits, agree after each.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::{Shared, append, create_table, put, record, row, state, table_key};
use crate::encoding::Codec;
use crate::error::StoreError;
use crate::ids::{RowId, TableId};
use crate::inner_storage::{Backend, Change, Durability, MemoryBackend, RedbBackend};
use crate::limits;
use crate::row::Want;
use crate::testing::{Random, SimDisk};

#[test]
fn both_backends_agree_after_every_random_commit_and_reopen() {
    for seed in 0..8 {
        let disk = SimDisk::new();
        let mut file = RedbBackend::create_sim(&disk).unwrap();
        let memory = MemoryBackend::new();
        let mut random = Random::new(seed);
        let mut next_id = 1;
        for step in 0..120 {
            let changes: Vec<Change> = (0..=random.below(4))
                .map(|_| change(&mut random, &mut next_id))
                .collect();
            let level = [Durability::Immediate, Durability::Volatile][random.below(2) as usize];
            let results = [file.commit(&changes, level), memory.commit(&changes, level)];
            let texts = results.map(|result| result.err().map(|error| error.to_string()));
            assert_eq!(texts[0], texts[1], "seed {seed}, step {step}");
            if random.below(10) == 0 {
                file.close().unwrap();
                assert!(matches!(file.list_tables(), Err(StoreError::Closed)));
                file = RedbBackend::open_sim(&disk).unwrap();
            }
            if random.below(20) == 0 {
                file.compact().unwrap();
            }
            assert_eq!(state(&file).unwrap(), state(&memory).unwrap());
            assert_eq!(file.list_tables().unwrap(), memory.list_tables().unwrap());
        }
        assert_eq!(file.verify().unwrap(), Vec::<String>::new());
    }
}

fn change(random: &mut Random, next_id: &mut u64) -> Change {
    let codecs = [Codec::F32, Codec::Fp16, Codec::Int8Quantized];
    let which = random.below(3) as usize;
    let table = record(which as u32 + 1, ["a", "b", "c"][which], codecs[which], 6);
    let key = format!("k{}", random.below(12)).into_bytes();
    match random.below(14) {
        0 => create_table(&table),
        1 if random.below(4) == 0 => Change::DropTable(table_key(&table)),
        2 | 3 => Change::Delete {
            table: table_key(&table),
            key,
        },
        4 => Change::ReserveRowIds {
            table: table_key(&table),
            next: RowId::new(*next_id + 3),
        },
        5 if random.below(8) == 0 => {
            put(&table_key(&table), 1, row(&[], codecs[which], 6, 1, false))
        }
        12 => append(&table_key(&table), &random.next_u64().to_le_bytes()),
        13 if random.below(3) == 0 => Change::ReplaceLinks {
            table: table_key(&table),
            groups: (0..random.below(3)).map(|n| vec![n as u8; 40]).collect(),
        },
        6 if random.below(4) == 0 => Change::ReserveTableIds {
            next: TableId::new(9),
        },
        _ => {
            *next_id += 1;
            let large = random.below(3) == 0;
            put(
                &table_key(&table),
                *next_id,
                row(&key, codecs[which], 6, *next_id, large),
            )
        }
    }
}

pub(super) fn both() -> [Shared; 2] {
    [
        Arc::new(MemoryBackend::new()),
        Arc::new(RedbBackend::create_sim(&SimDisk::new()).unwrap()),
    ]
}

#[test]
fn a_snapshot_does_not_see_later_commits() {
    for backend in both() {
        let table = record(1, "docs", Codec::F32, 4);
        let key = table_key(&table);
        let one = |i: u64| {
            put(
                &key,
                i + 1,
                row(&i.to_be_bytes(), Codec::F32, 4, i, i.is_multiple_of(2)),
            )
        };
        let mut changes = vec![create_table(&table)];
        changes.extend((0..600).map(one));
        backend.commit(&changes, Durability::Immediate).unwrap();
        let snapshot = backend.snapshot().unwrap().unwrap();
        let mut later: Vec<Change> = (0..600_u64)
            .map(|i| Change::Delete {
                table: key.clone(),
                key: i.to_be_bytes().to_vec(),
            })
            .collect();
        later.push(put(&key, 900, row(b"new", Codec::F32, 4, 3, false)));
        backend.commit(&later, Durability::Immediate).unwrap();
        backend
            .commit(&[Change::DropTable(key.clone())], Durability::Immediate)
            .unwrap();
        let mut keys = Vec::new();
        let after = 9_u64.to_be_bytes();
        snapshot
            .scan(&key, Some(&after), &mut |view| {
                keys.push(view?.key.to_vec());
                Ok(if keys.len() == 580 {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                })
            })
            .unwrap();
        assert_eq!(
            keys,
            (10..590_u64)
                .map(|i| i.to_be_bytes().to_vec())
                .collect::<Vec<_>>()
        );
        let read = |want| {
            snapshot
                .read(&key, &2_u64.to_be_bytes(), want)
                .unwrap()
                .unwrap()
        };
        assert_eq!(
            read(Want::ALL).row,
            row(&2_u64.to_be_bytes(), Codec::F32, 4, 2, true)
        );
        assert!(read(Want::HEADER).row.metadata.is_empty());
        assert!(
            backend
                .read(&key, &2_u64.to_be_bytes(), Want::ALL)
                .unwrap()
                .is_none()
        );
        assert!(
            snapshot
                .read(&key, &[0; 5_000], Want::ALL)
                .unwrap()
                .is_none()
        );
        drop(snapshot);
        backend.compact().unwrap();
        assert!(backend.list_tables().unwrap().tables.is_empty());
    }
}

#[test]
fn the_six_methods_number_rows_and_keep_the_id_of_an_unchanged_vector() {
    for backend in both() {
        let schema = record(1, "docs", Codec::Fp16, 4).schema;
        let first = row(b"a", Codec::Fp16, 4, 1, false);
        let missing = backend.put_row("docs", b"a", &first);
        assert!(matches!(missing, Err(StoreError::UnknownTable(_))));
        backend.put_schema(&schema).unwrap();
        assert_eq!(
            backend.list_schemas().unwrap(),
            std::slice::from_ref(&schema)
        );
        let key = table_key(&backend.list_tables().unwrap().tables[0].record);
        let id = |k: &[u8]| {
            backend
                .read(&key, k, Want::HEADER)
                .unwrap()
                .unwrap()
                .id
                .unwrap()
                .get()
        };
        backend.put_row("docs", b"a", &first).unwrap();
        backend.put_row("docs", b"b", &first).unwrap();
        assert_eq!((id(b"a"), id(b"b")), (1, 2));
        let mut changed = row(b"a", Codec::Fp16, 4, 1, true);
        backend.put_row("docs", b"a", &changed).unwrap();
        assert_eq!(id(b"a"), 1);
        changed.vector = row(b"a", Codec::Fp16, 4, 5, true).vector;
        backend.put_row("docs", b"a", &changed).unwrap();
        assert_eq!(id(b"a"), 3);
        assert_eq!(backend.get_row("docs", b"a").unwrap(), Some(changed));
        let mut seen = 0;
        backend
            .for_each_row("docs", &mut |_, _| {
                seen += 1;
                Ok(())
            })
            .unwrap();
        assert_eq!(seen, 2);
        assert!(backend.delete_row("docs", b"a").unwrap());
        assert!(!backend.delete_row("docs", b"a").unwrap());
        assert!(!backend.delete_row("none", b"a").unwrap());
        assert_eq!(backend.get_row("docs", b"a").unwrap(), None);
        assert_eq!(
            backend.list_tables().unwrap().tables[0].next_row_id,
            RowId::new(4)
        );
        assert!(backend.verify().unwrap().is_empty());
    }
}

/// An open refuses a file whose next row id is beyond all others, so nothing may put it there.
#[test]
fn ids_at_the_end_of_their_range_are_refused_and_change_nothing() {
    for backend in both() {
        let table = record(1, "docs", Codec::F32, 4);
        let key = table_key(&table);
        let one = row(b"one", Codec::F32, 4, 1, false);
        let commit = |change| backend.commit(&[change], Durability::Immediate);
        let reserve = |next| Change::ReserveRowIds {
            table: key.clone(),
            next: RowId::new(next),
        };
        commit(create_table(&table)).unwrap();
        let before = state(&*backend).unwrap();
        for refused in [
            put(&key, limits::ROW_ID_END, one.clone()),
            put(&key, u64::MAX, one.clone()),
            reserve(limits::ROW_ID_END + 1),
            reserve(u64::MAX),
        ] {
            let error = commit(refused).unwrap_err();
            assert!(matches!(error, StoreError::Limit { .. }), "{error:?}");
            assert_eq!(state(&*backend).unwrap(), before);
        }
        commit(put(&key, limits::ROW_ID_END - 1, one)).unwrap();
        commit(reserve(limits::ROW_ID_END)).unwrap();
        let next = backend.list_tables().unwrap().tables[0].next_row_id;
        assert_eq!(next, RowId::new(limits::ROW_ID_END));
    }
}
