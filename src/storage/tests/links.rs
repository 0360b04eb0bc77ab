//! Logs of links: kept in order, replaced whole, gone with their table, and damaged one by one.

use std::fs;
use std::ops::ControlFlow;

use redb::{ReadableTable, TableHandle};
use tempfile::TempDir;

use super::damage::tamper;
use super::files::{read_only, store};
use super::twin::both;
use super::{append, create_table, log, put, record, row, state, table_key};
use crate::encoding::Codec;
use crate::error::StoreError;
use crate::inner_storage::{Backend, Change, Durability, MemoryBackend, RedbBackend, TableKey};
use crate::limits::LINKS_GROUP_LEN_MAX;
use crate::row::VectorRow;
use crate::schema::TableSchema;
use crate::testing::SimDisk;

const LINKS: redb::TableDefinition<'static, u64, &[u8]> = redb::TableDefinition::new("links/1");

fn answers() -> TableKey {
    table_key(&record(1, "answers", Codec::Int8Quantized, 16))
}

fn replace(table: &TableKey, groups: &[&[u8]]) -> Change {
    Change::ReplaceLinks {
        table: table.clone(),
        groups: groups.iter().map(|group| group.to_vec()).collect(),
    }
}

fn commit(backend: &dyn Backend, changes: &[Change]) {
    backend.commit(changes, Durability::Immediate).unwrap();
}

/// The groups of a log without damage.
fn groups(backend: &dyn Backend, table: &TableKey) -> Vec<Vec<u8>> {
    let log = log(backend, table).unwrap();
    log.into_iter().map(Result::unwrap).collect()
}

fn redb_tables(backend: RedbBackend) -> Vec<String> {
    let path = backend.path().to_owned();
    backend.close().unwrap();
    let db = redb::Database::open(path).unwrap();
    let txn = db.begin_write().unwrap();
    let tables = txn.list_tables().unwrap();
    tables.map(|table| table.name().to_owned()).collect()
}

#[test]
fn groups_come_back_in_order_and_a_replaced_log_starts_over() {
    let disk = SimDisk::new();
    let mut file = RedbBackend::create_sim(&disk).unwrap();
    let memory = MemoryBackend::new();
    let table = record(1, "docs", Codec::F32, 4);
    let key = table_key(&table);
    let one = |n: u16| append(&key, &n.to_be_bytes());
    let steps: Vec<Vec<Change>> = vec![
        vec![create_table(&table)],
        vec![one(1), one(2)],
        (3..600).map(one).collect(),
        vec![append(&key, b""), append(&key, &[7; LINKS_GROUP_LEN_MAX])],
        vec![replace(&key, &[b"x", b"y"]), append(&key, b"z")],
        vec![append(&key, b"w")],
        vec![append(&key, b"lost"), replace(&key, &[])],
        vec![append(&key, b"again")],
    ];
    let expected: [&[&[u8]]; 4] = [
        &[b"x", b"y", b"z"],
        &[b"x", b"y", b"z", b"w"],
        &[],
        &[b"again"],
    ];
    for (step, changes) in steps.iter().enumerate() {
        for backend in [&file as &dyn Backend, &memory] {
            assert!(backend.capabilities().links);
            commit(backend, changes);
            if let Some(expected) = step.checked_sub(4).map(|at| expected[at]) {
                assert_eq!(groups(backend, &key), expected, "step {step}");
            }
        }
        file.close().unwrap();
        assert!(matches!(log(&file, &key), Err(StoreError::Closed)));
        file = RedbBackend::open_sim(&disk).unwrap();
        assert!(
            state(&file).unwrap() == state(&memory).unwrap(),
            "step {step}"
        );
        assert_eq!(file.verify().unwrap(), Vec::<String>::new());
        if step == 2 {
            let numbers: Vec<_> = (1..600_u16).map(|n| n.to_be_bytes().to_vec()).collect();
            assert_eq!(groups(&file, &key), numbers);
        }
    }
}

#[test]
fn a_scan_ends_where_it_is_told_and_does_not_see_later_commits() {
    for backend in both() {
        let table = record(1, "docs", Codec::F32, 4);
        let key = table_key(&table);
        commit(&*backend, &[create_table(&table)]);
        commit(&*backend, &[append(&key, b"1"), append(&key, b"2")]);
        let mut seen = Vec::new();
        backend
            .scan_links(&key, &mut |group| {
                seen.push(group.unwrap().to_vec());
                let change = match seen.len() {
                    1 => append(&key, b"3"),
                    _ => replace(&key, &[]),
                };
                commit(&*backend, &[change]);
                Ok(ControlFlow::Continue(()))
            })
            .unwrap();
        assert_eq!(seen, [b"1", b"2"]);
        commit(&*backend, &[append(&key, b"4"), append(&key, b"5")]);
        let mut shown = 0;
        let mut show = |end: Result<ControlFlow<()>, StoreError>| {
            let mut end = Some(end);
            backend.scan_links(&key, &mut |_| {
                shown += 1;
                end.take().unwrap()
            })
        };
        show(Ok(ControlFlow::Break(()))).unwrap();
        let error = show(Err(StoreError::Closed));
        assert!(matches!(error, Err(StoreError::Closed)));
        assert_eq!(shown, 2);
    }
}

#[test]
fn a_log_goes_with_its_table_and_is_asked_for_by_id_and_name() {
    for backend in both() {
        let tables = [1, 2].map(|id| record(id, "docs", Codec::F32, 4));
        let [first, second] = [&tables[0], &tables[1]].map(table_key);
        let unknown = backend.commit(&[append(&first, b"1")], Durability::Immediate);
        assert!(matches!(unknown, Err(StoreError::UnknownTable(_))));
        commit(&*backend, &[create_table(&tables[0]), append(&first, b"1")]);
        // A record written again is the same table.
        commit(&*backend, &[create_table(&tables[0])]);
        assert_eq!(groups(&*backend, &first), [b"1"]);
        commit(
            &*backend,
            &[
                append(&first, b"2"),
                Change::DropTable(first.clone()),
                create_table(&tables[1]),
            ],
        );
        assert!(groups(&*backend, &first).is_empty());
        assert!(groups(&*backend, &second).is_empty());
        for change in [append(&first, b"3"), replace(&first, &[b"3"])] {
            let unknown = backend.commit(&[change], Durability::Immediate);
            assert!(matches!(unknown, Err(StoreError::UnknownTable(_))));
        }
        commit(&*backend, &[append(&second, b"4")]);
        assert_eq!(groups(&*backend, &second), [b"4"]);
        assert!(groups(&*backend, &first).is_empty());
        assert_eq!(backend.verify().unwrap(), Vec::<String>::new());
    }
}

#[test]
fn a_group_that_is_too_long_is_refused_with_nothing_changed() {
    for backend in both() {
        let table = record(1, "docs", Codec::F32, 4);
        let key = table_key(&table);
        commit(&*backend, &[create_table(&table), append(&key, b"1")]);
        let before = state(&*backend).unwrap();
        let long = vec![0; LINKS_GROUP_LEN_MAX + 1];
        for change in [append(&key, &long), replace(&key, &[b"2", &long])] {
            let one = put(&key, 1, row(b"k", Codec::F32, 4, 1, false));
            let refused = backend.commit(&[one, append(&key, b"3"), change], Durability::Immediate);
            let Err(error @ StoreError::Limit { .. }) = refused else {
                panic!("{refused:?}");
            };
            let text = error.to_string();
            for word in ["1048577", "0 to 1048576 bytes", "split the group"] {
                assert!(text.contains(word), "{text}");
            }
            assert!(state(&*backend).unwrap() == before);
        }
    }
}

#[test]
fn tables_without_links_have_no_redb_table_for_them() {
    let folder = TempDir::new().unwrap();
    let path = store(&folder);
    let has_links = || {
        let tables = redb_tables(RedbBackend::open(&path).unwrap());
        tables.iter().any(|name| name.starts_with("links/"))
    };
    assert!(!has_links());
    for (change, expected) in [
        (replace(&answers(), &[]), false),
        (append(&answers(), b"1"), true),
        (replace(&answers(), &[b"2"]), true),
        (replace(&answers(), &[]), false),
        (append(&answers(), b"3"), true),
        (Change::DropTable(answers()), false),
    ] {
        commit(&RedbBackend::open(&path).unwrap(), &[change]);
        assert_eq!(has_links(), expected);
    }
}

#[test]
fn a_damaged_group_is_named_and_the_others_are_shown() {
    let folder = TempDir::new().unwrap();
    let path = store(&folder);
    let key = answers();
    let backend = RedbBackend::open(&path).unwrap();
    let texts: [&[u8]; 4] = [b"zero", b"one", b"two", b"three"];
    commit(&backend, &texts.map(|text| append(&key, text)));
    backend.close().unwrap();
    tamper(&path, |txn| {
        let mut links = txn.open_table(LINKS).unwrap();
        let mut flipped = links.get(1).unwrap().unwrap().value().to_vec();
        flipped[2] ^= 1;
        links.insert(1, flipped.as_slice()).unwrap();
        // Whole, and under another number than its own.
        let moved = links.get(3).unwrap().unwrap().value().to_vec();
        links.insert(2, moved.as_slice()).unwrap();
    });
    let backend = RedbBackend::open(&path).unwrap();
    let damage = || Err("the checksum does not match".to_owned());
    let expected = [
        Ok(b"zero".to_vec()),
        damage(),
        damage(),
        Ok(b"three".to_vec()),
    ];
    assert_eq!(log(&backend, &key).unwrap(), expected);
    assert_eq!(
        backend.verify().unwrap(),
        [1, 2].map(|n| format!(
            "group {n} of the links of table answers: the checksum does not match"
        ))
    );
    // A backup is the same, damage and all, and a new group goes behind the last.
    let copy = folder.path().join("copy.vecstash");
    backend.backup(&copy).unwrap();
    let copy = RedbBackend::open(&copy).unwrap();
    commit(&copy, &[append(&key, b"four")]);
    let longer = [expected.as_slice(), &[Ok(b"four".to_vec())]].concat();
    assert_eq!(log(&copy, &key).unwrap(), longer);
    commit(&copy, &[replace(&key, &[b"new"])]);
    assert_eq!(groups(&copy, &key), [b"new"]);
    assert!(copy.verify().unwrap().is_empty());
}

#[test]
fn hostile_logs_are_survived_and_logs_of_no_table_are_named() {
    let folder = TempDir::new().unwrap();
    let path = store(&folder);
    let key = answers();
    let orphan = redb::TableDefinition::<u64, &[u8]>::new("links/9");
    tamper(&path, |txn| {
        let mut links = txn.open_table(LINKS).unwrap();
        links.insert(u64::MAX, b"".as_slice()).unwrap();
        txn.open_table(orphan).unwrap();
    });
    let backend = RedbBackend::open(&path).unwrap();
    assert_eq!(
        log(&backend, &key).unwrap(),
        [Err("the value is empty".to_owned())]
    );
    assert_eq!(
        backend.verify().unwrap(),
        [
            format!(
                "group {} of the links of table answers: the value is empty",
                u64::MAX
            ),
            "the redb table links/9 belongs to no table".to_owned()
        ]
    );
    commit(&backend, &[append(&key, b"first")]);
    assert_eq!(groups(&backend, &key), [b"first"]);
    backend.close().unwrap();
    // Longer than any group may be, under a checksum that is right.
    let mut value = Vec::new();
    let long = vec![0; LINKS_GROUP_LEN_MAX + 1];
    crate::inner_storage::format::encode_links(key.id, 1, &long, &mut value);
    tamper(&path, |txn| {
        let mut links = txn.open_table(LINKS).unwrap();
        links.insert(1, value.as_slice()).unwrap();
    });
    let shown = log(&RedbBackend::open(&path).unwrap(), &key).unwrap();
    assert_eq!(shown[0], Ok(b"first".to_vec()));
    assert!(shown[1].as_ref().unwrap_err().contains("1048577 bytes"));
}

#[test]
fn backups_and_read_only_stores_have_the_log() {
    let folder = TempDir::new().unwrap();
    let path = store(&folder);
    let backend = RedbBackend::open(&path).unwrap();
    let key = answers();
    commit(&backend, &[append(&key, b"1"), append(&key, &[2; 9_000])]);
    let whole = state(&backend).unwrap();
    let copy = folder.path().join("copy.vecstash");
    backend.backup(&copy).unwrap();
    backend.close().unwrap();
    for path in [&path, &copy] {
        let bytes = fs::read(path).unwrap();
        let backend = RedbBackend::open_with(path, &read_only()).unwrap();
        assert!(backend.capabilities().links);
        assert!(state(&backend).unwrap() == whole);
        assert!(backend.verify().unwrap().is_empty());
        let refused = backend.commit(&[append(&key, b"3")], Durability::Immediate);
        assert!(matches!(refused, Err(StoreError::ReadOnly)));
        drop(backend);
        assert!(fs::read(path).unwrap() == bytes);
    }
}

/// A backend of six methods, with none of them in use.
struct Six;

impl Backend for Six {
    fn put_row(&self, _: &str, _: &[u8], _: &VectorRow) -> Result<(), StoreError> {
        Ok(())
    }
    fn get_row(&self, _: &str, _: &[u8]) -> Result<Option<VectorRow>, StoreError> {
        Ok(None)
    }
    fn delete_row(&self, _: &str, _: &[u8]) -> Result<bool, StoreError> {
        Ok(false)
    }
    fn for_each_row(
        &self,
        _: &str,
        _: &mut crate::inner_storage::RowVisitor<'_>,
    ) -> Result<(), StoreError> {
        Ok(())
    }
    fn put_schema(&self, _: &TableSchema) -> Result<(), StoreError> {
        Ok(())
    }
    fn list_schemas(&self) -> Result<Vec<TableSchema>, StoreError> {
        Ok(Vec::new())
    }
}

#[test]
fn a_backend_of_six_methods_forgets_links() {
    let key = answers();
    let one = || put(&key, 1, row(b"k", Codec::Int8Quantized, 16, 1, false));
    assert!(!Six.capabilities().links);
    commit(&Six, &[append(&key, b"1")]);
    commit(&Six, &[one(), append(&key, b"1"), replace(&key, &[b"2"])]);
    assert!(groups(&Six, &key).is_empty());
    let two = Six.commit(&[one(), append(&key, b"1"), one()], Durability::Immediate);
    assert!(matches!(two, Err(StoreError::Unsupported { .. })));
}
