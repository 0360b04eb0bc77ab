//! Proves that a damaged file gives identical data or a typed error, never a wrong row and never a
//! panic, and that damaged row bytes on sound pages are named, quarantined and repaired.
//! Run in release too: debug builds of redb assert more.

mod common_fault;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};

use common_fault::{Rng, Seen, check_inv_fully, make_store, observe, on_two_threads, raw, seed};
use vecstash::{Metadata, OnCorrupt, OpenOptions, Return, SearchOptions, StoreError, VectorStore};

/// How a damaged file was met.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Met {
    Identical,
    Refused,
}

/// Opens a damaged copy: its data is identical, or the error has a type that says so.
fn meet(path: &Path, want: &Seen) -> Result<Met, String> {
    let tried = catch_unwind(AssertUnwindSafe(|| -> Result<Seen, StoreError> {
        let store = VectorStore::open_path(path)?;
        let seen = observe(&store)?;
        for (name, table) in &seen {
            let query = vec![0.5; usize::from(table.schema.dim)];
            store.search(name, &query, 10, None)?;
        }
        let report = store.check()?;
        assert!(
            report.is_clean(),
            "check of an accepted file: {:?}",
            report.problems
        );
        Ok(seen)
    }));
    match tried {
        Err(_) => Err("a panic".to_string()),
        Ok(Ok(seen)) if seen == *want => Ok(Met::Identical),
        Ok(Ok(_)) => Err("wrong data".to_string()),
        Ok(Err(
            StoreError::CorruptFile { .. }
            | StoreError::CorruptRow { .. }
            | StoreError::NotAStore { .. }
            | StoreError::NewerFormat { .. }
            | StoreError::Storage { .. }
            | StoreError::Io { .. },
        )) => Ok(Met::Refused),
        Ok(Err(error)) => Err(format!("an error of another kind: {error:?}")),
    }
}

/// Meets `n` damaged copies of one store; `damage` makes each. Returns (identical, refused).
fn meet_all(
    seed: u64,
    n: usize,
    damage: impl Fn(usize, &mut Rng, &mut Vec<u8>) -> String + Sync,
) -> (usize, usize) {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("sound.vecstash");
    let want = make_store(&path, seed, 60).expect("make");
    let sound = std::fs::read(&path).expect("read");
    let result = on_two_threads(n, |i| {
        let mut rng = Rng::new(seed ^ ((i as u64) << 24));
        let mut bytes = sound.clone();
        let what = damage(i, &mut rng, &mut bytes);
        let path = dir.path().join(format!("damaged {i}.vecstash"));
        std::fs::write(&path, &bytes).map_err(|error| error.to_string())?;
        let met = meet(&path, &want).map_err(|error| format!("copy {i}, {what}: {error}"));
        let _ = std::fs::remove_file(&path);
        met
    });
    let met = result.unwrap_or_else(|error| panic!("VECSTASH_SEED={seed}: {error}"));
    let identical = met.iter().filter(|&&met| met == Met::Identical).count();
    println!(
        "seed {seed}: {identical} identical, {} refused",
        met.len() - identical
    );
    (identical, met.len() - identical)
}

/// One flipped bit: three in four within a 512 B sector that holds something.
fn flip(rng: &mut Rng, bytes: &mut [u8]) -> String {
    let mut at = rng.below(bytes.len());
    if rng.chance(75) {
        for _ in 0..10_000 {
            let sector = at / 512 * 512;
            let end = (sector + 512).min(bytes.len());
            if bytes[sector..end].iter().any(|&byte| byte != 0) {
                break;
            }
            at = rng.below(bytes.len());
        }
    }
    let bit = rng.below(8);
    bytes[at] ^= 1 << bit;
    format!("bit {bit} of byte {at}")
}

#[test]
fn four_hundred_flipped_bits() {
    let (_, refused) = meet_all(seed(0x5eed_0201), 400, |_, rng, bytes| flip(rng, bytes));
    assert!(
        refused > 20,
        "{refused} of 400 noticed: the flips miss the data"
    );
}

#[test]
fn spoiled_sectors() {
    meet_all(seed(0x5eed_0202), 60, |_, rng, bytes| {
        let sector = rng.below(bytes.len() / 512) * 512;
        let zero = rng.chance(50);
        for byte in &mut bytes[sector..sector + 512] {
            *byte = if zero { 0 } else { rng.next() as u8 };
        }
        format!("sector at {sector} spoiled (zero: {zero})")
    });
}

/// Every length class: the first sectors one by one, then evenly over the file, each also one
/// byte off.
fn truncate(samples: usize) -> impl Fn(usize, &mut Rng, &mut Vec<u8>) -> String + Sync {
    move |i, rng, bytes| {
        let sectors = bytes.len().div_ceil(512);
        let sector = if i < 24 {
            i
        } else {
            (i - 24) * sectors / (samples - 24)
        };
        let off = rng.below(3) as i64 - 1;
        let len = (sector as i64 * 512 + off).clamp(1, bytes.len() as i64 - 1) as usize;
        bytes.truncate(len);
        format!("cut to {len} bytes")
    }
}

#[test]
fn truncations() {
    let (_, refused) = meet_all(seed(0x5eed_0203), 160, truncate(160));
    assert!(refused > 100, "{refused} of 160 truncations were noticed");
}

#[test]
#[ignore = "100,000 flips and 2,000 truncations take an hour; cargo test --release --all-features -- --ignored crash_full"]
fn crash_full_corruption() {
    for round in 0..50 {
        let seed = seed(0x5eed_0204).wrapping_add(round);
        meet_all(seed, 2_000, |_, rng, bytes| flip(rng, bytes));
    }
    meet_all(seed(0x5eed_0205), 2_000, truncate(2_000));
}

// ---------------------------------------------------------------------------------------------
// Hostile row bytes that redb holds valid

const KEY: &[u8] = b"row 0007";

/// Row bytes that are no row, made from those of a sound one.
fn hostile(sound: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<(String, Vec<u8>)> = vec![
        ("nothing".into(), Vec::new()),
        ("one byte".into(), vec![1]),
        ("the first byte".into(), sound[..1].to_vec()),
        ("zeros".into(), vec![0; sound.len()]),
        ("ones".into(), vec![0xff; sound.len()]),
        ("many ones".into(), vec![0xff; 100_000]),
        ("text".into(), b"{\"key\": \"row 0007\"}".to_vec()),
        ("half".into(), sound[..sound.len() / 2].to_vec()),
        ("one byte less".into(), sound[..sound.len() - 1].to_vec()),
        ("one byte more".into(), [sound, &[0]].concat()),
        ("twice".into(), [sound, sound].concat()),
        ("another version".into(), {
            let mut bytes = sound.to_vec();
            bytes[0] = bytes[0].wrapping_add(100);
            bytes
        }),
    ];
    let step = (sound.len() / 12).max(1);
    for at in (0..sound.len()).step_by(step) {
        let mut bytes = sound.to_vec();
        bytes[at] ^= 0x10;
        all.push((format!("a flipped bit in byte {at}"), bytes));
    }
    for length in [1u64 << 31, 1 << 40, 1 << 63, u64::MAX] {
        for at in (0..sound.len().saturating_sub(8)).step_by(step) {
            let mut bytes = sound.to_vec();
            bytes[at..at + 8].copy_from_slice(&length.to_le_bytes());
            if bytes != sound {
                all.push((format!("length {length} at byte {at}"), bytes));
            }
        }
    }
    all
}

/// A closed store, and for each table the name of its rows table and the raw row at `KEY`.
fn store_with_raw_rows(path: &Path) -> (Seen, Vec<(String, Vec<u8>)>) {
    let want = make_store(path, 5, 12).expect("make");
    let found = raw::find_row(path, KEY);
    assert_eq!(found.len(), want.len(), "rows/<id> tables with the key");
    (want, found)
}

#[test]
fn hostile_rows_are_named_and_quarantined() {
    let dir = tempfile::tempdir().expect("tempdir");
    let sound = dir.path().join("sound.vecstash");
    let (want, found) = store_with_raw_rows(&sound);
    for (redb_table, row) in &found {
        for (what, bytes) in hostile(row) {
            let at = format!("{redb_table}, {what}");
            let path = dir.path().join("hostile.vecstash");
            std::fs::copy(&sound, &path).expect("copy");
            raw::put_raw_row(&path, redb_table, KEY, &bytes);

            // By default the open fails and names the row.
            let error = match VectorStore::open_path(&path) {
                Err(error) => error,
                Ok(_) => panic!("{at}: opened"),
            };
            let StoreError::CorruptRow { table, key, .. } = &error else {
                panic!("{at}: {error:?}");
            };
            assert_eq!(key, KEY, "{at}");
            assert!(want.contains_key(table), "{at}: table {table:?}");
            let text = error.to_string();
            assert!(
                text.contains("row 0007") && text.contains(table.as_str()),
                "{at}: {text}"
            );
            let table = table.clone();

            // On request the row is left out, reported, and kept.
            let quarantine = || {
                OpenOptions::new()
                    .on_corrupt(OnCorrupt::Quarantine)
                    .threads(1)
                    .open(&path)
                    .unwrap_or_else(|error| panic!("{at}: quarantine: {}", error.chain()))
            };
            let store = quarantine();
            let report = store.open_report();
            for one in &report.tables {
                let expected = u64::from(one.name == table);
                assert_eq!(one.quarantined_rows, expected, "{at}: {}", one.name);
                assert_eq!(one.quarantined.len() as u64, expected, "{at}: {}", one.name);
                for row in &one.quarantined {
                    assert!(row.key == KEY && !row.detail.is_empty(), "{at}: {row:?}");
                }
            }
            let mut without = want.clone();
            let left = without.get_mut(&table).expect("table");
            left.rows.remove(KEY);
            assert!(
                observe(&store).expect("observe") == without,
                "{at}: other rows changed"
            );
            store.close().expect("close");

            // A store without indexes, which has not looked at any row, passes over it as well.
            let reader = OpenOptions::new()
                .on_corrupt(OnCorrupt::Quarantine)
                .read_only(true)
                .open(&path)
                .unwrap_or_else(|error| panic!("{at}: read only: {}", error.chain()));
            let page = reader.table(&table).expect("table");
            let page = page
                .scroll(None, usize::MAX, Return::Keys)
                .unwrap_or_else(|error| panic!("{at}: scroll: {}", error.chain()));
            let keys: BTreeSet<_> = page.rows.into_iter().map(|row| row.key).collect();
            let sound: BTreeSet<_> = without[&table].rows.keys().cloned().collect();
            assert_eq!(keys, sound, "{at}");
            reader.close().expect("close");

            let store = quarantine();
            let stats = store.stats(&table).expect("stats");
            assert_eq!((stats.live_rows, stats.quarantined_rows), (11, 1), "{at}");
            let check = store.check().expect("check");
            assert_eq!(check.quarantined_rows, 1, "{at}");
            assert!(check.is_clean(), "{at}: {:?}", check.problems);
            match store.get(&table, KEY) {
                Ok(None) | Err(StoreError::CorruptRow { .. }) => {}
                other => panic!("{at}: get: {other:?}"),
            }
            let query = vec![0.5; usize::from(want[&table].schema.dim)];
            for exact in [true, false] {
                let options = SearchOptions::new(100).exact(exact).returning(Return::Keys);
                let hits = store.table(&table).expect("table").search(&query, &options);
                let hits = hits.unwrap_or_else(|error| panic!("{at}: {}", error.chain()));
                assert!(
                    hits.len() == 11 && hits.iter().all(|hit| hit.key != KEY),
                    "{at}"
                );
            }
            store.close().expect("close");
            let kept = raw::find_row(&path, KEY);
            assert!(
                kept.iter()
                    .any(|(name, row)| name == redb_table && *row == bytes),
                "{at}: not kept on disk"
            );
        }
    }
}

#[test]
fn quarantined_rows_can_be_deleted_and_overwritten() {
    let dir = tempfile::tempdir().expect("tempdir");
    let sound = dir.path().join("sound.vecstash");
    let (want, found) = store_with_raw_rows(&sound);
    for (redb_table, row) in &found {
        for overwrite in [false, true] {
            let at = format!("{redb_table}, overwrite {overwrite}");
            let path = dir.path().join("hostile.vecstash");
            std::fs::copy(&sound, &path).expect("copy");
            raw::put_raw_row(&path, redb_table, KEY, &row[..row.len() / 2]);
            let Err(StoreError::CorruptRow { table, .. }) = VectorStore::open_path(&path) else {
                panic!("{at}: no CorruptRow");
            };
            let store = OpenOptions::new()
                .on_corrupt(OnCorrupt::Quarantine)
                .open(&path)
                .expect("quarantine");
            let mut expected = want.clone();
            let rows = &mut expected.get_mut(&table).expect("table").rows;
            rows.remove(KEY);
            if overwrite {
                let vector = vec![0.75; usize::from(want[&table].schema.dim)];
                store
                    .upsert(&table, KEY.to_vec(), &vector, Metadata::new())
                    .unwrap_or_else(|error| panic!("{at}: {}", error.chain()));
                let written = store.get(&table, KEY).expect("get").expect("there");
                rows.insert(KEY.to_vec(), written);
            } else {
                store
                    .delete(&table, KEY)
                    .unwrap_or_else(|error| panic!("{at}: {}", error.chain()));
            }
            let stats = store.stats(&table).expect("stats");
            assert_eq!(stats.quarantined_rows, 0, "{at}: healed");
            assert_eq!(stats.live_rows, expected[&table].rows.len(), "{at}");
            store.close().expect("close");
            // The default open accepts it again, and INV holds.
            let model = common_fault::Model {
                acked: common_fault::as_state(&expected),
                in_flight: None,
            };
            check_inv_fully(&mut || VectorStore::open_path(&path), &model)
                .unwrap_or_else(|error| panic!("{at}: {error}"));
        }
    }
}

#[test]
fn every_row_damaged_is_still_an_open() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("all.vecstash");
    let want = make_store(&path, 6, 9).expect("make");
    for name in raw::table_names(&path)
        .iter()
        .filter(|name| name.starts_with("rows/"))
    {
        for (key, _) in raw::raw_rows(&path, name) {
            raw::put_raw_row(&path, name, &key, b"spoiled");
        }
    }
    let store = OpenOptions::new()
        .on_corrupt(OnCorrupt::Quarantine)
        .open(&path)
        .expect("quarantine");
    assert_eq!(store.open_report().rows, 0);
    for (name, table) in &want {
        let stats = store.stats(name).expect("stats");
        assert_eq!(
            (stats.live_rows, stats.quarantined_rows),
            (0, table.rows.len()),
            "{name}"
        );
        let query = vec![0.5; usize::from(table.schema.dim)];
        assert!(
            store
                .search(name, &query, 5, None)
                .expect("search")
                .is_empty()
        );
        store.drop_table(name).expect("drop");
    }
    store.close().expect("close");
    let store = VectorStore::open_path(&path).expect("nothing damaged is left");
    assert!(store.tables().is_empty());
}

// ---------------------------------------------------------------------------------------------
// Hostile lengths: opened by a child that may not have much memory

const CHILD: &str = "VECSTASH_CORRUPTION_CHILD";

/// Not a test of its own: opens the store in the environment, both ways.
#[test]
fn child_of_little_memory() {
    let Ok(path) = std::env::var(CHILD) else {
        return;
    };
    let open = |on_corrupt| {
        let options = OpenOptions::new()
            .threads(1)
            .cache_bytes(1 << 20)
            .on_corrupt(on_corrupt);
        options
            .open(&path)
            .and_then(|store| observe(&store))
            .map(drop)
    };
    let refused = matches!(open(OnCorrupt::Fail), Err(StoreError::CorruptRow { .. }));
    let opened = open(OnCorrupt::Quarantine).is_ok();
    std::process::exit(if refused && opened { 40 } else { 41 });
}

#[test]
fn hostile_lengths_allocate_little() {
    let dir = tempfile::tempdir().expect("tempdir");
    let sound = dir.path().join("sound.vecstash");
    let (_, found) = store_with_raw_rows(&sound);
    let exe = std::env::current_exe().expect("this binary");
    for (redb_table, row) in &found {
        let lengths = hostile(row)
            .into_iter()
            .filter(|(what, _)| what.starts_with("length"));
        for (what, bytes) in lengths.step_by(7) {
            let path = dir.path().join("hostile.vecstash");
            std::fs::copy(&sound, &path).expect("copy");
            raw::put_raw_row(&path, redb_table, KEY, &bytes);
            // 1 GB of address space: an allocation of 2^31 bytes would abort.
            let status = Command::new("sh")
                .arg("-c")
                .arg("ulimit -v 1000000 && exec \"$0\" child_of_little_memory --exact --nocapture --test-threads=1")
                .arg(&exe)
                .env(CHILD, &path)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .status()
                .expect("sh");
            assert_eq!(status.code(), Some(40), "{redb_table}, {what}: {status}");
        }
    }
}
