//! The golden store file of this format, which opens for ever.

use std::fs;

use tempfile::TempDir;

use super::contents;
use super::files::store;
use crate::ids::RowId;
use crate::inner_storage::format::tests::{golden_folder, write_goldens};
use crate::inner_storage::{Backend, RedbBackend};

#[test]
fn the_golden_store_opens_and_holds_what_its_list_says() {
    let golden = golden_folder().join("store.vecstash");
    let list = golden_folder().join("store.json");
    let folder = TempDir::new().unwrap();
    if write_goldens() {
        let live = RedbBackend::open(store(&folder)).unwrap();
        live.compact().unwrap();
        let path = live.path().to_owned();
        let listing: Vec<_> = contents(&live)
            .unwrap()
            .into_iter()
            .flat_map(|(table, rows)| {
                rows.into_values().map(move |(id, row)| {
                    serde_json::json!({
                        "table": table,
                        "id": id.unwrap().get(),
                        "key": String::from_utf8(row.key.clone()).unwrap(),
                        "row": row,
                    })
                })
            })
            .collect();
        live.close().unwrap();
        fs::copy(path, &golden).unwrap();
        fs::write(
            &list,
            serde_json::to_string_pretty(&listing).unwrap() + "\n",
        )
        .unwrap();
    }
    // A copy: a read-write open alters the file.
    let copy = folder.path().join("copy.vecstash");
    fs::copy(&golden, &copy).unwrap();
    let backend = RedbBackend::open(&copy).unwrap();
    assert!(backend.verify().unwrap().is_empty());
    let listed: Vec<serde_json::Value> =
        serde_json::from_str(&fs::read_to_string(&list).unwrap()).unwrap();
    let found = contents(&backend).unwrap();
    assert_eq!(
        listed.len(),
        found.values().map(|rows| rows.len()).sum::<usize>()
    );
    for entry in listed {
        let row: crate::row::VectorRow = serde_json::from_value(entry["row"].clone()).unwrap();
        let id = RowId::new(entry["id"].as_u64().unwrap());
        assert_eq!(
            found[entry["table"].as_str().unwrap()][&row.key],
            (Some(id), row)
        );
    }
}
