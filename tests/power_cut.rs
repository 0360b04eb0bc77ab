//! Proves on a simulated disk that a power cut at any moment loses nothing acknowledged, whatever
//! the disk did with unsynced writes; that a failed sync, read or write is a typed error that ends
//! the handle and nothing else.

#![cfg(feature = "testing")]

mod common_fault;

use common_fault::sim::{Disk, Fault};
use common_fault::{
    Model, Op, Rng, State, as_state, check_inv, check_inv_fully, difference, fill, number, observe,
    on_two_threads, random_op, seed, workload,
};
use vecstash::{SearchOptions, StoreError, VectorStore};

/// A workload that was run on a disk, and where each of its operations was acknowledged.
struct Run {
    disk: Disk,
    ops: Vec<Op>,
    states: Vec<State>,
    /// Operations of the disk when the new store was ready.
    start: usize,
    /// Operations of the disk when operation `i` had been acknowledged.
    acked_at: Vec<usize>,
}

impl Run {
    fn new(seed: u64, n: usize) -> Self {
        let (ops, states) = workload(seed, n, true);
        let disk = Disk::new();
        let mut store = disk.create().expect("a new store on a sound disk");
        let start = disk.operations();
        let mut acked_at = Vec::new();
        for op in &ops {
            if *op == Op::Reopen {
                store.close().expect("close");
                store = disk.open().expect("reopen");
            } else {
                op.run(&store).expect("a sound disk takes every operation");
            }
            acked_at.push(disk.operations());
        }
        store.close().expect("close");
        Self {
            disk,
            ops,
            states,
            start,
            acked_at,
        }
    }

    /// How many operations were acknowledged at a boundary of the disk.
    fn acked(&self, boundary: usize) -> usize {
        self.acked_at.partition_point(|&at| at <= boundary)
    }

    fn model(&self, boundary: usize) -> Model {
        let acked = self.acked(boundary);
        Model {
            acked: self.states[acked].clone(),
            in_flight: self.ops.get(acked).cloned(),
        }
    }

    fn check(&self, boundary: usize, image: Vec<u8>) -> Result<(), String> {
        check_image(image, &self.model(boundary)).map(drop)
    }
}

/// INV of an image: the first open is on one disk, the second on what the first left there.
fn check_image(image: Vec<u8>, model: &Model) -> Result<State, String> {
    let disk = Disk::from_image(image);
    check_inv_fully(&mut || disk.open(), model)
}

fn every_boundary(seed: u64, n: usize) {
    let run = Run::new(seed, n);
    let (start, end) = (run.start, run.disk.operations());
    // Between two syncs the durable image stays the same: neighbours that are equal in bytes and
    // in what was acknowledged need one check.
    let mut distinct: Vec<(usize, Vec<u8>)> = Vec::new();
    let mut checked = 0;
    let check = |batch: &mut Vec<(usize, Vec<u8>)>| {
        let result = on_two_threads(batch.len(), |i| {
            let (boundary, image) = &batch[i];
            run.check(*boundary, image.clone()).map_err(|error| {
                format!(
                    "boundary {boundary} of {end}, {} acknowledged: {error}",
                    run.acked(*boundary)
                )
            })
        });
        result.unwrap_or_else(|error| panic!("VECSTASH_SEED={seed}: {error}"));
    };
    let mut last: Option<(usize, Vec<u8>)> = None;
    for boundary in start..=end {
        let image = run.disk.lost(boundary);
        let acked = run.acked(boundary);
        if last
            .as_ref()
            .is_some_and(|(a, i)| *a == acked && *i == image)
        {
            continue;
        }
        last = Some((acked, image.clone()));
        distinct.push((boundary, image));
        checked += 1;
        if distinct.len() == 16 {
            check(&mut distinct);
            distinct.clear();
        }
    }
    check(&mut distinct);
    println!(
        "seed {seed}: {} boundaries of {n} operations, {checked} distinct images",
        end - start + 1
    );
    assert!(
        checked >= n / 2,
        "{checked} distinct images of {n} operations: the test is blind"
    );
}

#[test]
fn every_boundary_of_a_hundred_commits_all_unsynced_lost() {
    every_boundary(seed(0x5eed_0101), 100);
}

fn random_images(seed: u64, workloads: usize, images: usize) {
    for w in 0..workloads {
        let seed = seed.wrapping_add(w as u64);
        let run = Run::new(seed, 60);
        let (start, end) = (run.start, run.disk.operations());
        let result = on_two_threads(images, |i| {
            let mut rng = Rng::new(seed ^ ((i as u64) << 20));
            let boundary = start + rng.below(end - start + 1);
            let image_seed = rng.next();
            let image = run.disk.random(boundary, image_seed);
            run.check(boundary, image).map_err(|error| {
                format!("image {i}, boundary {boundary} of {end}, image seed {image_seed}: {error}")
            })
        });
        result.unwrap_or_else(|error| panic!("VECSTASH_SEED={seed}: {error}"));
    }
    println!("seed {seed}: {} random images", workloads * images);
}

#[test]
fn random_torn_and_reordered_images() {
    let images = number("VECSTASH_IMAGES", 2_000) as usize;
    random_images(seed(0x5eed_0102), 2, images / 2);
}

/// Row 5: the power goes again while the crashed store is being recovered.
#[test]
fn a_crash_during_recovery() {
    let seed = seed(0x5eed_0103);
    let run = Run::new(seed, 40);
    let (start, end) = (run.start, run.disk.operations());
    let result = on_two_threads(12, |i| {
        let mut rng = Rng::new(seed ^ ((i as u64) << 20));
        let boundary = start + rng.below(end - start + 1);
        let disk = Disk::from_image(run.disk.random(boundary, rng.next()));
        // Dropped and not closed: what recovery itself wrote.
        drop(disk.open().map_err(|error| error.chain())?);
        for nested in 0..=disk.operations() {
            for image in [disk.lost(nested), disk.random(nested, rng.next())] {
                run.check(boundary, image)
                    .map_err(|error| format!("boundary {boundary}, nested {nested}: {error}"))?;
            }
        }
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("VECSTASH_SEED={seed}: {error}"));
}

/// Runs operations until one fails. Returns how many were acknowledged and the error.
fn run_until_error(store: &VectorStore, ops: &[Op], acked: &mut State) -> Option<(Op, StoreError)> {
    for op in ops {
        match op.run(store) {
            Ok(()) => op.apply(acked),
            Err(error) => return Some((op.clone(), error)),
        }
    }
    None
}

fn has_cause(error: &StoreError) -> bool {
    std::error::Error::source(error).is_some()
}

/// After a failed write: no later operation may be acknowledged.
fn refuses_writes(store: &VectorStore, acked: &State, rng: &mut Rng) -> Result<(), String> {
    for _ in 0..5 {
        let op = random_op(rng, acked, false);
        match op.run(store) {
            Err(StoreError::Failed { .. } | StoreError::OutcomeUnknown { .. }) => {}
            Err(error) => return Err(format!("a later {}: {}", op.word(), error.chain())),
            Ok(()) => return Err(format!("a later {} was acknowledged", op.word())),
        }
    }
    Ok(())
}

#[test]
fn every_sync_fails_once_in_both_models() {
    let seed = seed(0x5eed_0104);
    let (ops, states) = workload(seed, 30, false);
    let base = {
        let disk = Disk::new();
        disk.create().expect("create").close().expect("close");
        disk.live()
    };
    let mut failures = 0;
    for keeps_cache in [true, false] {
        let mut without_failure = 0;
        for n in 0..20_000 {
            let at = |error: String| -> String {
                format!("VECSTASH_SEED={seed}: sync {n}, keeps_cache {keeps_cache}: {error}")
            };
            let disk = Disk::from_image(base.clone());
            disk.arm(Fault::Sync(n, keeps_cache));
            let store = match disk.open() {
                Ok(store) => store,
                Err(
                    StoreError::Storage { .. }
                    | StoreError::OutcomeUnknown { .. }
                    | StoreError::Failed { .. }
                    | StoreError::CorruptFile { .. }
                    | StoreError::Io { .. },
                ) => {
                    failures += 1;
                    let image = disk.lost(disk.operations());
                    check_image(image, &Model::default()).unwrap_or_else(|e| panic!("{}", at(e)));
                    continue;
                }
                Err(error) => panic!("{}", at(format!("open: {}", error.chain()))),
            };
            let mut acked = State::new();
            let Some((op, error)) = run_until_error(&store, &ops, &mut acked) else {
                drop(store);
                assert!(
                    difference(&acked, &states[ops.len()]).is_none(),
                    "all acknowledged"
                );
                without_failure += 1;
                if without_failure == 3 {
                    break;
                }
                continue;
            };
            failures += 1;
            match &error {
                StoreError::OutcomeUnknown { .. } => {
                    assert!(has_cause(&error), "{}", at("no cause".into()));
                }
                StoreError::Failed { .. } => {}
                other => panic!("{}", at(format!("{}: {}", op.word(), other.chain()))),
            }
            refuses_writes(&store, &acked, &mut Rng::new(seed))
                .unwrap_or_else(|e| panic!("{}", at(e)));
            drop(store);
            let model = Model {
                acked,
                in_flight: Some(op),
            };
            // The power goes at once.
            let image = disk.lost(disk.operations());
            check_image(image, &model).unwrap_or_else(|e| panic!("{}", at(e)));
            // Or the program reopens the file the kernel shows it, k writes are acknowledged, and
            // then the power goes.
            for k in [0, 1, 5] {
                // Each k on the same disk, one after the other: the model follows.
                let store = disk
                    .open()
                    .unwrap_or_else(|e| panic!("{}", at(format!("reopen: {}", e.chain()))));
                let mut now = as_state(&observe(&store).expect("observe"));
                let mut whole = model.acked.clone();
                model.in_flight.iter().for_each(|op| op.apply(&mut whole));
                if k == 0 {
                    assert!(
                        difference(&now, &model.acked).is_none()
                            || difference(&now, &whole).is_none(),
                        "{}",
                        at("the reopened store is neither".into())
                    );
                }
                let mut rng = Rng::new(seed ^ k);
                for _ in 0..k {
                    let op = random_op(&mut rng, &now, false);
                    op.run(&store)
                        .unwrap_or_else(|e| panic!("{}", at(format!("k = {k}: {}", e.chain()))));
                    op.apply(&mut now);
                }
                let image = disk.lost(disk.operations());
                let model = Model {
                    acked: now,
                    in_flight: None,
                };
                check_image(image, &model)
                    .unwrap_or_else(|e| panic!("{}", at(format!("after {k} more: {e}"))));
                drop(store);
            }
        }
    }
    println!("seed {seed}: {failures} failed syncs");
    assert!(
        failures >= 60,
        "{failures} failed syncs in 2 x 30 commits: the test is blind"
    );
}

/// A store of some rows, as the bytes of a closed file, and what it holds.
fn some_store(seed: u64) -> (Vec<u8>, State) {
    let disk = Disk::new();
    let store = disk.create().expect("create");
    fill(&store, seed, 120).expect("fill");
    let state = as_state(&observe(&store).expect("observe"));
    store.close().expect("close");
    (disk.live(), state)
}

/// Reads everything in several ways. `Ok` means that every answer was whole and right.
fn read_all(store: &VectorStore, want: &State) -> Result<(), StoreError> {
    for (name, table) in want {
        for (key, row) in table.rows.iter().step_by(7) {
            let got = store.get(name, key)?.expect("a stored row is found");
            assert!(
                got.vector == row.vector && got.metadata == row.metadata,
                "a wrong row"
            );
        }
        let handle = store.table(name)?;
        let query = vec![0.3; usize::from(table.schema.dim)];
        for exact in [true, false] {
            let hits = handle.search(&query, &SearchOptions::new(20).exact(exact))?;
            assert_eq!(hits.len(), 20, "a partial list returned as success");
        }
    }
    let seen = as_state(&observe(store)?);
    assert_eq!(difference(&seen, want), None);
    Ok(())
}

#[test]
fn every_read_fails_once() {
    let seed = seed(0x5eed_0105);
    let (image, want) = some_store(seed);
    let (mut failed, mut sound) = (0, 0);
    for n in 0..20_000 {
        let disk = Disk::from_image(image.clone());
        disk.arm(Fault::Read(n));
        let result = disk.open().and_then(|store| read_all(&store, &want));
        match result {
            Ok(()) => {
                sound += 1;
                // A failed read may be one whose answer nobody needed; the last reads are over
                // when several in a row do no harm.
                if sound == 8 {
                    break;
                }
                continue;
            }
            Err(
                StoreError::Storage { .. }
                | StoreError::Io { .. }
                | StoreError::CorruptFile { .. }
                | StoreError::Failed { .. },
            ) => failed += 1,
            Err(error) => panic!("VECSTASH_SEED={seed}: read {n}: {}", error.chain()),
        }
        sound = 0;
        if n % 5 == 0 {
            let store = disk.open().unwrap_or_else(|error| {
                panic!(
                    "VECSTASH_SEED={seed}: reopen after read {n}: {}",
                    error.chain()
                )
            });
            read_all(&store, &want).expect("nothing changed");
        }
    }
    println!("seed {seed}: {failed} failed reads");
    assert!(failed >= 5, "{failed} failed reads: the test is blind");
}

#[test]
fn every_write_fails_once_for_want_of_space() {
    let seed = seed(0x5eed_0106);
    let (ops, _) = workload(seed, 30, false);
    let base = {
        let disk = Disk::new();
        disk.create().expect("create").close().expect("close");
        disk.live()
    };
    let (mut failed, mut sound) = (0, 0);
    for n in 0..20_000 {
        let at = |error: String| format!("VECSTASH_SEED={seed}: write {n}: {error}");
        let disk = Disk::from_image(base.clone());
        disk.arm(Fault::Write(n));
        let mut model = Model::default();
        match disk.open() {
            Ok(store) => match run_until_error(&store, &ops, &mut model.acked) {
                None => {
                    sound += 1;
                    if sound == 8 {
                        break;
                    }
                    continue;
                }
                Some((op, error)) => {
                    match &error {
                        // Before the commit: nothing has changed.
                        StoreError::StorageFull { .. } => {}
                        StoreError::OutcomeUnknown { .. } => model.in_flight = Some(op),
                        other => panic!("{}", at(format!("{}: {}", op.word(), other.chain()))),
                    }
                    assert!(has_cause(&error), "{}", at("no cause".into()));
                    // What the handle still does is its affair, as long as it is true.
                    if model.in_flight.is_some() {
                        refuses_writes(&store, &model.acked, &mut Rng::new(seed))
                            .unwrap_or_else(|e| panic!("{}", at(e)));
                    }
                }
            },
            Err(StoreError::StorageFull { .. } | StoreError::OutcomeUnknown { .. }) => {}
            Err(error) => panic!("{}", at(format!("open: {}", error.chain()))),
        }
        failed += 1;
        sound = 0;
        // The power goes, or space is back and the file is opened again.
        let image = disk.lost(disk.operations());
        check_image(image, &model).unwrap_or_else(|e| panic!("{}", at(format!("power cut: {e}"))));
        check_inv_fully(&mut || disk.open(), &model)
            .unwrap_or_else(|e| panic!("{}", at(format!("space back: {e}"))));
    }
    println!("seed {seed}: {failed} failed writes");
    assert!(
        failed >= 30,
        "{failed} failed writes in 30 commits: the test is blind"
    );
}

/// Every write transaction is a two-phase commit, which is two syncs.
#[test]
fn a_lone_commit_takes_two_syncs() {
    let disk = Disk::new();
    let store = disk.create().expect("create");
    fill(&store, 1, 1).expect("fill");
    let mut rng = Rng::new(7);
    for i in 0..10u8 {
        let before = disk.syncs();
        store
            .upsert("flat", vec![b'k', i], &rng.vector(4), Default::default())
            .expect("upsert");
        assert_eq!(disk.syncs() - before, 2, "upsert {i}");
    }
    check_inv(
        &store,
        &Model {
            acked: as_state(&observe(&store).expect("observe")),
            in_flight: None,
        },
    )
    .expect("INV");
}

#[test]
#[ignore = "every boundary of ten 300-commit workloads; cargo test --release --all-features -- --ignored crash_full"]
fn crash_full_every_boundary() {
    let seed = seed(0x5eed_0107);
    for w in 0..10 {
        every_boundary(seed.wrapping_add(w), 300);
    }
}

#[test]
#[ignore = "500,000 images take hours; cargo test --release --all-features -- --ignored crash_full"]
fn crash_full_random_images() {
    random_images(seed(0x5eed_0108), 100, 5_000);
}
