//! Power cuts, failed syncs, full disks and flipped bits on a simulated disk.

use super::{State, append, create_table, put, record, row, state, table_key};
use crate::encoding::Codec;
use crate::error::StoreError;
use crate::inner_storage::{Backend, Change, Durability, RedbBackend};
use crate::testing::{FailedSync, Fault, Random, SimDisk};

/// Commits of every kind, one after the other.
fn workload(commits: u64) -> Vec<Vec<Change>> {
    let docs = record(1, "docs", Codec::Int8Quantized, 16);
    let other = record(2, "other", Codec::F32, 8);
    let (docs_key, other_key) = (table_key(&docs), table_key(&other));
    let mut all = vec![vec![create_table(&docs)], vec![create_table(&other)]];
    for i in 0..commits {
        let key = |n: u64| format!("key-{:02}", n % 9).into_bytes();
        all.push(match i % 10 {
            7 => vec![Change::Delete {
                table: docs_key.clone(),
                key: key(i * 5),
            }],
            8 if i < 10 => vec![Change::DropTable(other_key.clone())],
            9 => (0..5)
                .map(|n| {
                    let row = row(&key(i + n), Codec::Int8Quantized, 16, i * 10 + n, n == 2);
                    put(&docs_key, i * 10 + n + 1, row)
                })
                .collect(),
            _ if i < 8 && i % 2 == 0 => {
                let row = row(&key(i), Codec::F32, 8, i, i == 4);
                vec![put(&other_key, i + 1, row), append(&other_key, b"near")]
            }
            6 => vec![Change::ReplaceLinks {
                table: docs_key.clone(),
                groups: (0..i as usize % 4).map(|n| vec![9; n * 3_000]).collect(),
            }],
            _ => {
                let row = row(&key(i), Codec::Int8Quantized, 16, i, i % 3 == 0);
                let group = vec![i as u8; i as usize * 211];
                vec![put(&docs_key, i * 10 + 1, row), append(&docs_key, &group)]
            }
        });
    }
    all
}

/// Runs `all` and notes after how many operations each commit was acknowledged, with the state.
fn run(disk: &SimDisk, all: &[Vec<Change>]) -> Vec<(usize, State)> {
    let backend = RedbBackend::create_sim(disk).unwrap();
    let mut acks = vec![(disk.boundaries(), state(&backend).unwrap())];
    for changes in all {
        backend.commit(changes, Durability::Immediate).unwrap();
        acks.push((disk.boundaries(), state(&backend).unwrap()));
    }
    acks
}

fn assert_recovered(image: Vec<u8>, acks: &[(usize, State)], op: usize) {
    let backend = RedbBackend::open_sim(&SimDisk::from_image(image)).unwrap();
    let got = state(&backend).unwrap();
    let done = acks.iter().rposition(|(at, _)| *at <= op).unwrap();
    let next = acks.get(done + 1);
    assert!(
        got == acks[done].1 || next.is_some_and(|(_, then)| got == *then),
        "power cut at {op}: neither commit {done} nor the one in flight"
    );
    assert_eq!(
        backend.verify().unwrap(),
        Vec::<String>::new(),
        "power cut at {op}"
    );
}

#[test]
fn a_power_cut_at_every_boundary_loses_nothing_acknowledged() {
    let disk = SimDisk::new();
    let acks = run(&disk, &workload(30));
    for op in acks[0].0..=disk.boundaries() {
        assert_recovered(disk.image_all_unsynced_lost(op), &acks, op);
    }
}

#[test]
fn a_power_cut_with_torn_and_reordered_writes_loses_nothing_acknowledged() {
    let disk = SimDisk::new();
    let acks = run(&disk, &workload(30));
    let mut random = Random::new(7);
    for seed in 0..400 {
        let span = (disk.boundaries() - acks[0].0) as u64;
        let op = acks[0].0 + random.below(span + 1) as usize;
        assert_recovered(disk.image_random(op, seed), &acks, op);
    }
}

#[test]
fn a_durable_commit_syncs_twice_and_a_volatile_one_never() {
    let disk = SimDisk::new();
    let backend = RedbBackend::create_sim(&disk).unwrap();
    let table = record(1, "docs", Codec::F32, 4);
    backend
        .commit(&[create_table(&table)], Durability::Immediate)
        .unwrap();
    for i in 1..=20 {
        let key = format!("{i}");
        let change = put(
            &table_key(&table),
            i,
            row(key.as_bytes(), Codec::F32, 4, i, false),
        );
        let before = disk.counts().syncs;
        backend.commit(&[change], Durability::Immediate).unwrap();
        assert_eq!(disk.counts().syncs - before, 2, "two-phase commit");
    }
    let change = put(
        &table_key(&table),
        30,
        row(b"volatile", Codec::F32, 4, 3, false),
    );
    let before = disk.counts().syncs;
    backend.commit(&[change], Durability::Volatile).unwrap();
    assert_eq!(disk.counts().syncs, before, "no sync for a volatile commit");
    let before = disk.counts().syncs;
    backend.flush().unwrap();
    assert_eq!(disk.counts().syncs - before, 2);
    backend.flush().unwrap();
    assert_eq!(disk.counts().syncs - before, 2, "nothing left to flush");
    let before = state(&backend).unwrap();
    let image = disk.image_all_unsynced_lost(disk.boundaries());
    let reopened = RedbBackend::open_sim(&SimDisk::from_image(image)).unwrap();
    assert_eq!(state(&reopened).unwrap(), before);
}

#[test]
fn a_failed_sync_has_an_unknown_outcome_and_ends_the_handle() {
    for model in [FailedSync::CacheKeeps, FailedSync::CacheReverts] {
        for nth in 1..=2 {
            for later in [0_usize, 1, 5] {
                let disk = SimDisk::new();
                let all = workload(20);
                let backend = RedbBackend::create_sim(&disk).unwrap();
                for changes in &all[..12] {
                    backend.commit(changes, Durability::Immediate).unwrap();
                }
                let before = state(&backend).unwrap();
                disk.fail(Fault::Sync(nth, model));
                let failed = backend.commit(&all[12], Durability::Immediate);
                assert!(
                    matches!(failed, Err(StoreError::OutcomeUnknown { .. })),
                    "{failed:?}"
                );
                let refused = backend.commit(&all[13], Durability::Immediate);
                assert!(
                    matches!(refused, Err(StoreError::Failed { .. })),
                    "{refused:?}"
                );
                let flushed = backend.flush();
                assert!(
                    matches!(flushed, Err(StoreError::Failed { .. })),
                    "{flushed:?}"
                );
                drop(backend);
                let backend = RedbBackend::open_sim(&disk).unwrap();
                let reopened = state(&backend).unwrap();
                let mut expected = RedbBackend::create_sim(&SimDisk::new()).unwrap();
                for changes in &all[..13] {
                    expected.commit(changes, Durability::Immediate).unwrap();
                }
                assert!(reopened == before || reopened == state(&expected).unwrap());
                for changes in &all[13..13 + later] {
                    backend.commit(changes, Durability::Immediate).unwrap();
                }
                let acknowledged = state(&backend).unwrap();
                let image = disk.image_all_unsynced_lost(disk.boundaries());
                expected = RedbBackend::open_sim(&SimDisk::from_image(image)).unwrap();
                assert_eq!(
                    state(&expected).unwrap(),
                    acknowledged,
                    "{model:?} {nth} {later}"
                );
            }
        }
    }
}

#[test]
fn a_full_disk_is_named_and_nothing_acknowledged_is_lost() {
    let all = workload(20);
    let states: Vec<State> = run(&SimDisk::new(), &all)
        .into_iter()
        .map(|(_, s)| s)
        .collect();
    let mut failures = 0;
    for nth in 1..60 {
        for fault in [Fault::Write(nth), Fault::SetLen(nth)] {
            let disk = SimDisk::new();
            let backend = RedbBackend::create_sim(&disk).unwrap();
            disk.fail(fault);
            let mut done = 0;
            for changes in &all {
                if let Err(error) = backend.commit(changes, Durability::Immediate) {
                    assert!(
                        error.chain().contains("no storage space"),
                        "{}",
                        error.chain()
                    );
                    failures += 1;
                    break;
                }
                done += 1;
            }
            drop(backend);
            disk.heal();
            let backend = RedbBackend::open_sim(&disk).unwrap();
            assert!(backend.verify().unwrap().is_empty());
            let got = state(&backend).unwrap();
            assert!(got == states[done] || states.get(done + 1).is_some_and(|next| got == *next));
            let more = [create_table(&record(50, "more", Codec::F32, 4))];
            backend.commit(&more, Durability::Immediate).unwrap();
        }
    }
    assert!(failures >= 59, "{failures} faults happened");
}

#[test]
fn every_failing_read_is_an_error_and_never_a_partial_answer() {
    let disk = SimDisk::new();
    run(&disk, &workload(20));
    let image = disk.image();
    let good = state(&RedbBackend::open_sim(&SimDisk::from_image(image.clone())).unwrap()).unwrap();
    for nth in 1..200 {
        let disk = SimDisk::from_image(image.clone());
        disk.fail(Fault::Read(nth));
        match RedbBackend::open_sim(&disk).and_then(|backend| state(&backend)) {
            Ok(got) => assert_eq!(got, good),
            Err(error) => assert!(
                matches!(
                    error,
                    StoreError::Storage { .. } | StoreError::Failed { .. } | StoreError::Io { .. }
                ),
                "read {nth}: {error:?}"
            ),
        }
    }
}

#[test]
fn a_flipped_bit_gives_identical_rows_or_a_typed_error() {
    let disk = SimDisk::new();
    run(&disk, &workload(30));
    let closed = disk.image();
    let good =
        state(&RedbBackend::open_sim(&SimDisk::from_image(closed.clone())).unwrap()).unwrap();
    let used = closed.iter().rposition(|byte| *byte != 0).unwrap() as u64;
    let (mut random, mut refused) = (Random::new(11), 0);
    for case in 0..500 {
        let disk = SimDisk::from_image(closed.clone());
        let end = if case % 4 == 0 { 400 } else { used };
        disk.flip_bit(random.below(end) as usize, random.below(8) as u8);
        let before = disk.image();
        match RedbBackend::open_sim(&disk) {
            Ok(backend) => assert_eq!(state(&backend).unwrap(), good),
            Err(
                error @ (StoreError::CorruptFile { .. }
                | StoreError::NotAStore { .. }
                | StoreError::NewerFormat { .. }),
            ) => {
                assert!(!error.to_string().contains("panic"), "{error}");
                refused += 1;
                assert!(disk.image() == before, "a refused file is left as it was");
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    assert!(refused > 50, "{refused} of 500 refused");
}
