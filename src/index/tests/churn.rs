//! Indexes that live: inserts, twins, removals, turnovers.

use super::*;

fn glove() -> (Vec<Vec<f32>>, Vec<Vec<f32>>) {
    fixture("glove4k")
}

/// A vector near another: every coordinate within half of `width`, the same for the same seed.
fn moved(vector: &[f32], seed: u64, width: f32) -> Vec<f32> {
    let coordinates = vector.iter().enumerate();
    let moved = coordinates.map(|(i, x)| {
        let hash = xxhash_rust::xxh3::xxh3_64_with_seed(&[i as u8], seed);
        x + ((hash >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * width
    });
    moved.collect()
}

#[test]
fn inserts_cross_into_a_graph() {
    let (base, queries) = glove();
    let mut bench = Bench::new(spec(100, Codec::Int8Quantized, Distance::Cosine));
    for group in base.chunks(40) {
        bench.insert(group);
    }
    bench.maintain(64);
    bench.assert_sound();
    let found = bench.recall(&queries, 64);
    println!("inserted live: {found:.4} at ef 64");
    assert!(found >= 0.95, "{found}");
}

#[test]
fn half_removed_and_inserted_again() {
    let (base, queries) = glove();
    for codec in [Codec::Int8Quantized, Codec::F32] {
        for distance in DISTANCES {
            let mut bench = Bench::load(spec(100, codec, distance), &base);
            for slot in (0..base.len()).step_by(2) {
                bench.remove(slot);
                let patch = (slot % 64 == 0).then(|| bench.index.maintain(500));
                if let Some(patch) = patch.flatten() {
                    bench.index.apply(patch);
                }
            }
            let middle = [64, 256].map(|ef| bench.recall(&queries, ef));
            let again: Vec<Vec<f32>> = base.iter().step_by(2).cloned().collect();
            for group in again.chunks(50) {
                bench.insert(group);
                bench.maintain(500);
            }
            bench.assert_sound();
            let found = [64, 256].map(|ef| bench.recall(&queries, ef));
            println!("{codec} {distance}: half {middle:.4?}, again {found:.4?}");
            assert!(found[0] >= 0.95 && found[1] >= 0.985, "{found:?}");
            assert!(middle[0] >= 0.95 && middle[1] >= 0.985, "{middle:?}");
        }
    }
}

#[test]
fn rows_written_again_find_their_nodes() {
    let (base, queries) = glove();
    let mut bench = Bench::load(spec(100, Codec::Int8Quantized, Distance::Cosine), &base);
    let (memory, recall) = (bench.index.memory(), bench.recall(&queries, 16));
    for slot in 0..200 {
        bench.remove(slot);
    }
    assert_eq!(bench.index.dead(), 200);
    bench.insert(&base[..200]);
    assert_eq!(bench.index.dead(), 0);
    assert_eq!(bench.index.memory().codes, memory.codes);
    assert_eq!(bench.recall(&queries, 16), recall);
    bench.assert_sound();
}

/// Links to what is dead make room for others, but what lives again is found as what is new.
#[test]
fn rows_that_come_back_among_others_are_found_as_new_ones() {
    let (base, queries) = glove();
    let gone = &base[..150];
    // Many for each of those that are gone, around it.
    let others: Vec<Vec<f32>> = (0..20 * gone.len())
        .map(|nth| moved(&gone[nth % gone.len()], nth as u64, 0.5))
        .collect();
    for distance in [Distance::Euclidean, Distance::DotProduct] {
        let spec = spec(100, Codec::Int8Quantized, distance);
        let mut bench = Bench::load(spec.clone(), &base);
        (0..gone.len()).for_each(|slot| bench.remove(slot));
        for rows in others.chunks(50) {
            bench.insert(rows);
        }
        assert_eq!(bench.index.dead(), gone.len());
        bench.insert(gone);
        assert_eq!(bench.index.dead(), 0);
        bench.maintain(usize::MAX);
        bench.assert_sound();
        let mut new = Bench::load(spec, &base[150..]);
        for rows in others.chunks(50) {
            new.insert(rows);
        }
        new.insert(gone);
        new.maintain(usize::MAX);
        // Their own surroundings, and those of others.
        let [after, new] =
            [&bench, &new].map(|bench| [gone, &queries].map(|queries| bench.recall(queries, 24)));
        println!("{distance}: {after:.4?} after, {new:.4?} of new rows");
        assert!(after[0] >= new[0] - 0.02 && after[1] >= new[1] - 0.04);
    }
}

/// A document's rows go and come back with a few that are new. While all of them are gone nothing
/// leads to where the new ones belong.
#[test]
fn rows_that_come_with_or_before_their_neighbourhood_are_found() {
    let (base, _) = glove();
    let rows = 110u64;
    let document: Vec<Vec<f32>> = (0..rows).map(|row| moved(&base[0], row, 0.3)).collect();
    let (new, old) = document.split_at(4);
    for distance in [Distance::Euclidean, Distance::Cosine] {
        for groups in [vec![&document[..]], vec![new, old], vec![old, new]] {
            let spec = spec(100, Codec::Int8Quantized, distance);
            let mut bench = Bench::load(spec, &[old, &base[100..]].concat());
            (0..old.len()).for_each(|slot| bench.remove(slot));
            for rows in groups {
                bench.insert(rows);
            }
            assert_eq!(bench.index.dead(), 0);
            bench.maintain(usize::MAX);
            bench.assert_sound();
            let is_found = |row: &&Vec<f32>| bench.search(row, 1, 16) == bench.truth(row, 1);
            assert_eq!(new.iter().filter(is_found).count(), new.len());
        }
    }
}

/// Nodes that die and live again while a sweep is under way: lists of the doomed hold them, and go.
#[test]
fn rows_that_come_back_within_a_sweep_are_found() {
    let (base, _) = glove();
    let spec = spec(100, Codec::Int8Quantized, Distance::Euclidean);
    let mut bench = Bench::load(spec, &base);
    // All but a few of what is near some rows.
    let mut gone = Vec::new();
    for row in [3, 500, 1_500, 2_500] {
        let near = bench.truth(&base[row], 200);
        gone.extend(near.iter().map(|(_, id)| id.get() as usize - 1));
    }
    gone.sort_unstable();
    gone.dedup();
    let (back, gone): (Vec<usize>, Vec<usize>) = gone.iter().partition(|&slot| slot % 10 == 0);
    gone.iter().for_each(|&slot| bench.remove(slot));
    let patch = bench.index.maintain(100).expect("a sweep is due");
    bench.index.apply(patch);
    back.iter().for_each(|&slot| bench.remove(slot));
    for _ in 0..base.len() / 100 - 2 {
        let patch = bench.index.maintain(100).expect("the sweep goes on");
        bench.index.apply(patch);
    }
    assert_eq!(bench.index.dead(), gone.len() + back.len());
    let rows: Vec<Vec<f32>> = back.iter().map(|&slot| base[slot].clone()).collect();
    bench.insert(&rows);
    assert_eq!(bench.index.dead(), gone.len());
    bench.maintain(usize::MAX);
    assert_eq!(bench.index.dead(), 0);
    bench.assert_sound();
    let found = bench.recall(&rows, 16);
    println!(
        "{} rows that came back within a sweep: {found:.4}",
        rows.len()
    );
    assert!(found >= 0.99, "{found}");
}

#[test]
fn a_sweep_ends_while_rows_come_in_one_by_one() {
    let (base, _) = glove();
    let (first, rest) = base.split_at(2_500);
    let mut bench = Bench::load(spec(100, Codec::Int8Quantized, Distance::Euclidean), first);
    for slot in 0..300 {
        bench.remove(slot);
    }
    for row in rest {
        bench.insert(std::slice::from_ref(row));
        if let Some(patch) = bench.index.maintain(64) {
            bench.index.apply(patch);
        }
    }
    assert_eq!(bench.index.dead(), 0);
}

#[test]
fn a_table_that_is_mostly_dead_is_linked_anew() {
    let (base, queries) = glove();
    let mut bench = Bench::load(spec(100, Codec::Int8Quantized, Distance::Euclidean), &base);
    for slot in (0..base.len()).filter(|slot| slot % 20 > 7) {
        bench.remove(slot);
    }
    let dead = bench.index.dead();
    assert!(dead > base.len() / 2);
    bench.maintain(1);
    assert_eq!(bench.index.dead(), 0);
    bench.assert_sound();
    let recall = bench.recall(&queries, 64);
    assert!(recall >= 0.97, "{recall}");
}

#[test]
fn five_turnovers_cost_nothing() {
    let (base, queries) = glove();
    let (first, second) = base.split_at(3_000);
    let mut bench = Bench::load(spec(100, Codec::Int8Quantized, Distance::Euclidean), first);
    let before = bench.recall(&queries, 64);
    let mut source = second.iter().chain(first).cycle();
    let mut oldest = 0;
    for _ in 0..5 * 3_000 / 50 {
        for _ in 0..50 {
            bench.remove(oldest % 3_000);
            oldest += 1;
        }
        let group: Vec<Vec<f32>> = source.by_ref().take(50).cloned().collect();
        bench.insert(&group);
        for _ in 0..40 {
            let Some(patch) = bench.index.maintain(100) else {
                break;
            };
            bench.index.apply(patch);
        }
        assert!(bench.index.dead() <= 1_000, "{} dead", bench.index.dead());
    }
    bench.maintain(usize::MAX);
    bench.assert_sound();
    let after = bench.recall(&queries, 64);
    println!("turnovers: {before:.4} before, {after:.4} after");
    assert!(after >= before - 0.01);
}

#[test]
fn copies_of_a_few_rows_do_no_harm() {
    let (base, queries) = glove();
    let mut rows = base.clone();
    for copy in 0..base.len() * 3 / 7 {
        rows.push(base[copy % 20].clone());
    }
    for codec in [Codec::Int8Quantized, Codec::F32] {
        let built = Bench::load(spec(100, codec, Distance::Cosine), &rows);
        let mut live = Bench::new(spec(100, codec, Distance::Cosine));
        for group in shuffled(rows.len()).chunks(100) {
            let group: Vec<Vec<f32>> = group.iter().map(|&place| rows[place].clone()).collect();
            live.insert(&group);
        }
        live.maintain(usize::MAX);
        for bench in [built, live] {
            bench.assert_sound();
            assert_eq!(bench.index.distinct(), base.len());
            let found = bench.recall(&queries, 64);
            println!("{codec} 30 % copies: {found:.4}");
            assert!(found >= 0.95, "{found}");
        }
    }
}

#[test]
fn every_row_ten_times() {
    let (base, queries) = glove();
    let base = &base[..2_500];
    let rows: Vec<Vec<f32>> = (0..10).flat_map(|_| base.iter().cloned()).collect();
    let mut bench = Bench::load(spec(100, Codec::Int8Quantized, Distance::Euclidean), &rows);
    bench.assert_sound();
    assert_eq!(bench.index.distinct(), base.len());
    assert!(bench.recall(&queries, 64) >= 0.95);
    for slot in (0..rows.len()).filter(|slot| slot % 10 != 3) {
        bench.remove(slot);
    }
    bench.maintain(usize::MAX);
    bench.assert_sound();
    assert!(bench.recall(&queries, 64) >= 0.95);
}

#[test]
fn near_duplicates_see_each_other() {
    let (base, _) = glove();
    // 60 tight clusters of 50: what a cache of paraphrases looks like.
    let mut rows = Vec::new();
    for (place, center) in base[..60].iter().enumerate() {
        for copy in 0..50u64 {
            rows.push(moved(center, place as u64 * 50 + copy, 2e-2));
        }
    }
    let mut live = Bench::new(spec(100, Codec::Int8Quantized, Distance::Euclidean));
    for group in rows.chunks(50) {
        live.insert(group);
    }
    live.maintain(usize::MAX);
    live.assert_sound();
    let queries: Vec<Vec<f32>> = rows.iter().step_by(31).cloned().collect();
    let mut built = Bench::load(spec(100, Codec::Int8Quantized, Distance::Euclidean), &rows);
    // The clusters are no wider than the steps of the query's code: only scoring tells their
    // rows apart.
    (live.rerank, built.rerank) = (64, 64);
    let found = [&live, &built].map(|bench| [16, 64, 256].map(|ef| bench.recall(&queries, ef)));
    println!("near duplicates, live and built: {found:.4?}");
    assert!(found.iter().all(|found| found[1] >= 0.95), "{found:?}");
}

#[test]
fn rows_are_hidden_until_they_are_published() {
    let (base, _) = glove();
    for rows in [500, 3_000] {
        let mut bench = Bench::load(
            spec(100, Codec::Int8Quantized, Distance::Cosine),
            &base[..rows],
        );
        let before = bench.search(&base[3_500], 10, 64);
        let version = bench.index.version();
        // A new node, a twin of it and a twin of an old node.
        let group = [base[3_500].clone(), base[3_500].clone(), base[3].clone()];
        bench.insert_hidden(&group);
        assert_ne!(bench.index.version(), version);
        assert_eq!(bench.search(&base[3_500], 10, 64), before);
        assert_eq!(bench.scan(&base[3_500], 10), before);
        assert_eq!(bench.search(&base[3], 2, 64)[0].1, RowId::new(4));
        bench.index.publish(RowId::new(bench.next_id));
        let after = bench.search(&base[3_500], 2, 64);
        let ids = after.iter().map(|(_, id)| id.get()).collect::<Vec<_>>();
        assert_eq!(ids, [rows as u64 + 1, rows as u64 + 2]);
        bench.assert_sound();
    }
}

#[test]
fn removals_leave_k_rows_and_no_removed_one() {
    let (base, queries) = glove();
    let mut bench = Bench::load(spec(100, Codec::Int8Quantized, Distance::Cosine), &base);
    // The nearest 1,500 of a query: a dead region around where searches for it end.
    let near = bench.truth(&queries[0], 1_500);
    for (_, id) in near {
        bench.remove(id.get() as usize - 1);
    }
    // `finish` refuses rows that are gone.
    assert_eq!(bench.search(&queries[0], 10, 16).len(), 10);
    assert!(bench.recall(&queries, 64) >= 0.95);
    assert_eq!(bench.search(&queries[0], 4_000, 16).len(), 2_500);
    for slot in 0..base.len() {
        bench.remove(slot);
    }
    assert!(bench.search(&queries[0], 10, 16).is_empty());
    bench.maintain(100);
    bench.assert_sound();
    bench.insert(&base[..100]);
    assert_eq!(
        bench.search(&base[3], 1, 16)[0].0,
        bench.truth(&base[3], 1)[0].0
    );
    bench.assert_sound();
}

#[test]
fn plans_from_before_a_release_are_void() {
    let (base, _) = glove();
    let spec = spec(100, Codec::Int8Quantized, Distance::Cosine);
    let mut bench = Bench::load(spec, &base[..3_900]);
    let late: Vec<EncodedVector> = base[3_900..].iter().map(|v| bench.encode(v)).collect();
    let plans: Vec<Option<Plan>> = late.iter().map(|v| bench.index.plan(v.view())).collect();
    for slot in 0..1_500 {
        bench.remove(slot);
    }
    bench.maintain(1_000);
    assert_eq!(bench.index.dead(), 0);
    let mut entries = Vec::new();
    for (nth, (vector, plan)) in late.iter().zip(plans).enumerate() {
        assert!(plan.is_some());
        entries.push(Entry {
            slot: Slot::new(nth),
            id: RowId::new(bench.next_id + nth as u64),
            vector: vector.view(),
            plan,
        });
    }
    let patch = bench.index.prepare(entries);
    bench.index.apply(patch);
    let wrong = bench.index.check();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_eq!(bench.index.len(), 2_500);
}

/// What a plan led to may die and live again before the plan is followed.
#[test]
fn plans_lead_once_to_what_lives_again() {
    let (mut base, _) = glove();
    // Of very different lengths, which inner products take for near and far.
    for (row, vector) in base.iter_mut().enumerate() {
        let length = 1.0 + (row % 7) as f32;
        vector.iter_mut().for_each(|value| *value *= length);
    }
    let (first, late) = base.split_at(3_000);
    let (late, crowd) = late.split_at(200);
    for distance in DISTANCES {
        let spec = spec(100, Codec::Int8Quantized, distance);
        let mut bench = Bench::load(spec, first);
        let late: Vec<EncodedVector> = late.iter().map(|row| bench.encode(row)).collect();
        let planned = late.iter().map(|row| bench.index.plan(row.view()));
        let plans: Vec<Option<Plan>> = planned.collect();
        let gone = (0..first.len()).step_by(12);
        let rows: Vec<EncodedVector> = gone
            .clone()
            .map(|slot| bench.encode(&first[slot]))
            .collect();
        gone.for_each(|slot| bench.remove(slot));
        for rows in crowd.chunks(50) {
            bench.insert(rows);
        }
        assert_eq!(bench.index.dead(), rows.len());
        let mut entries = Vec::new();
        let plans = plans.into_iter().chain(rows.iter().map(|_| None));
        for (vector, plan) in late.iter().chain(&rows).zip(plans) {
            let nth = entries.len();
            entries.push(Entry {
                slot: Slot::new(bench.rows.len() + nth),
                id: RowId::new(bench.next_id + nth as u64),
                vector: vector.view(),
                plan,
            });
        }
        let patch = bench.index.prepare(entries);
        bench.index.apply(patch);
        assert_eq!(bench.index.dead(), 0);
        let wrong = bench.index.check();
        assert!(wrong.is_empty(), "{distance}: {wrong:?}");
    }
}
