//! Logs that lost something, or say what is not so.

use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::super::read::{Head, List, Lists, Nodes};
use super::*;

/// Links of what is left must not lead to rows that came later and were given the places of what
/// was lost.
#[test]
fn a_lost_end_of_the_whole_is_not_taken_for_what_came_later() {
    let before = built();
    let hints = before.hints();
    assert!(hints.len() >= 2, "{} groups", hints.len());
    let mut lost = hints.clone();
    // The last one tells how many of a sample are found.
    let (sample, end) = (lost.pop().unwrap(), lost.pop().unwrap());
    assert!(Head::of(&sample).is_none());
    let records = Head::of(&end).unwrap().records as usize;
    let rows: Vec<(Slot, RowId)> = (0..ROWS).map(|row| (Slot::new(row), id_of(row))).collect();
    // Later groups of rows that the log has already: they get places of their own, vacant ones.
    lost.extend(before.hints_of(&rows[..records.min(100)]));
    let mut after = loaded(0..ROWS, &lost);
    let linked = after.build(&|_, _| true).unwrap();
    println!("{linked:?} {records} of {} groups", hints.len());
    assert_eq!(after.check(), [""; 0]);
    let named = |index: &Hnsw, row: usize| {
        let graph = index.graph.as_ref().unwrap();
        let node = index.rows.node(Slot::new(row)).unwrap();
        let links = graph.links(0, node).iter();
        let mut rows: Vec<u64> = links.map(|link| index.first_row(link).get()).collect();
        rows.sort_unstable();
        rows
    };
    let same = (0..ROWS).filter(|&row| {
        let (now, then) = (named(&after, row), named(&before, row));
        now.iter().filter(|id| then.contains(id)).count() * 10 >= now.len() * 6
    });
    let same = same.count();
    assert!(same > ROWS * 8 / 10, "{same} nodes have their old links");
}

/// Lists that tell of nothing are no graph, and repairs of one by one would take for ever.
#[test]
fn empty_lists_are_refused() {
    let before = built();
    let mut hints = before.hints();
    let (_sample, lists) = hints.split_last_mut().unwrap();
    for group in lists {
        let head = Head::of(group).unwrap();
        let lists_at = Nodes::of(group, &head).unwrap().lists_at;
        group[lists_at..].fill(0);
    }
    let mut after = loaded(0..ROWS, &hints);
    let linked = after.build(&|_, _| true).unwrap();
    assert!(linked.refused);
    assert_eq!(after.check(), [""; 0]);
}

/// Nobody numbers two rows alike, except whoever wrote a file to harm us.
#[test]
fn a_row_id_twice_is_survived() {
    let hints = built().hints();
    let mut after = loaded_as(0..ROWS, &hints, |row| id_of(if row == 9 { 3 } else { row }));
    let linked = after.build(&|_, _| true).unwrap();
    assert_eq!((linked.added, linked.gone), (1, 1));
    assert_eq!(after.len(), ROWS);
}

#[test]
fn ten_thousand_damaged_groups_are_read_without_harm() {
    let hints = built().hints();
    let group = &hints[0];
    let mut list = List::default();
    for case in 0..10_000u64 {
        let draw = |nth: u64| xxh3_64_with_seed(&nth.to_le_bytes(), case) as usize;
        let mut damaged = group.clone();
        for nth in 0..1 + case % 8 {
            let at = draw(nth) % damaged.len();
            damaged[at] = draw(100 + nth) as u8;
        }
        if case % 2 == 1 {
            damaged.truncate(draw(200) % damaged.len());
        }
        let Some(head) = Head::of(&damaged) else {
            continue;
        };
        let Some(nodes) = Nodes::of(&damaged, &head) else {
            continue;
        };
        assert_eq!(nodes.ids.len(), head.records as usize);
        let mut lists = Lists::of(&damaged[nodes.lists_at..]);
        let mut count = 0;
        while lists.next(7, &mut list).is_some() {
            assert!(list.mutual <= list.links.len());
            count += 1;
        }
        assert!(nodes.ids.len() + count <= damaged.len() / 2);
    }
}

#[test]
fn damaged_hints_give_sound_graphs() {
    let before = built();
    let hints = before.hints();
    for case in 0..60u64 {
        let draw = |nth: u64| xxh3_64_with_seed(&nth.to_le_bytes(), case) as usize;
        let mut damaged = hints.clone();
        for group in &mut damaged {
            for nth in 0..1 << (case % 12) {
                // Not the fingerprint, or nothing of it would be read.
                let at = 9 + draw(nth) % (group.len() - 9);
                group[at] ^= 1 << (draw(nth + 5_000) % 8);
            }
        }
        let mut after = loaded(0..ROWS, &damaged);
        after.build(&|_, _| true).unwrap();
        assert_eq!(after.check(), [""; 0], "case {case}");
    }
}

/// Hints as one of ten thousand mishaps leaves them.
fn mishap(hints: &[Vec<u8>], case: u64) -> Vec<Vec<u8>> {
    let draw = |nth: u64| xxh3_64_with_seed(&nth.to_le_bytes(), case) as usize;
    let mut groups = hints.to_vec();
    // The last one tells of a sample of nodes, and of no links.
    let (any, lists) = (draw(0) % groups.len(), draw(0) % (groups.len() - 1));
    match case % 5 {
        // Groups lost, or all of them.
        0 if case.is_multiple_of(2) => drop(groups.remove(any)),
        0 => groups.clear(),
        1 => {
            let len = draw(1) % groups[any].len();
            groups[any].truncate(len);
        }
        // Links told of other rows: the bytes of a group from some record on, or whole groups.
        2 => {
            let (head, records) = groups[lists].split_at_mut(30);
            records.rotate_left(draw(1) % records.len());
            head[9..17].copy_from_slice(&(draw(2) as u64 % 50).to_le_bytes());
        }
        3 => {
            let group = &mut groups[any];
            for nth in 0..1 << (draw(1) % 12) {
                let at = 9 + draw(nth + 2) % (group.len() - 9);
                group[at] = draw(nth + 5_000) as u8;
            }
        }
        _ => {
            for byte in groups[lists].iter_mut().skip(21) {
                *byte = xxh3_64_with_seed(&[*byte], case) as u8;
            }
        }
    }
    groups
}

#[test]
#[ignore = "minutes in a release build"]
fn crash_full_ten_thousand_mishaps_cost_no_recall() {
    let (before, hints) = {
        let before = built();
        let hints = before.hints();
        (before, hints)
    };
    let queries: Vec<Vec<f32>> = (0..20)
        .map(|query| {
            let draw = |i: u8| xxh3_64_with_seed(&[i], 5_000_000 + query) as f32 / u64::MAX as f32;
            let value = |i: u8| draw(100 + i).mul_add(0.2, center(query as usize, i));
            (0..16).map(value).collect()
        })
        .collect();
    let spec = SearchSpec {
        k: 10,
        ef: 16,
        rerank: 24,
    };
    let exact: Vec<Vec<(RowId, u32)>> = queries
        .iter()
        .map(|query| {
            let mut scan = before.scan_start(query, ROWS);
            while !before.scan_step(&mut scan, ROWS) {}
            let all = scan.finish().into_iter();
            all.map(|near| (near.id, near.distance.to_bits())).collect()
        })
        .collect();
    let found = |index: &Hnsw| -> usize {
        let of = |(query, exact): (&Vec<f32>, &Vec<(RowId, u32)>)| {
            let hits = index.search(query, &spec);
            for hit in &hits {
                let is_it =
                    |&(id, bits): &(RowId, u32)| id == hit.id && bits == hit.distance.to_bits();
                assert!(exact.iter().any(is_it), "a distance differs");
            }
            let nearest = &exact[..10];
            hits.iter()
                .filter(|hit| nearest.iter().any(|near| near.0 == hit.id))
                .count()
        };
        queries.iter().zip(&exact).map(of).sum()
    };
    let wanted = found(&before) as f64 / 200.0;
    let rows: Vec<EncodedVector> = (0..ROWS).map(encoded).collect();
    let run = |case: u64| -> (usize, bool) {
        let mut after = loaded(0..0, &mishap(&hints, case));
        for (row, encoded) in rows.iter().enumerate() {
            after.load(Slot::new(row), id_of(row), encoded.view());
            if row % 200 == 199 {
                after.join_twins();
            }
        }
        let linked = after.build(&|_, _| true).unwrap();
        after.publish(id_of(ROWS));
        assert_eq!(after.len(), ROWS);
        if case.is_multiple_of(10) {
            assert_eq!(after.check(), [""; 0], "case {case}");
        }
        (found(&after), linked.refused)
    };
    let ran: Vec<(usize, bool)> = (0..10_000).into_par_iter().map(run).collect();
    let (mut sums, mut refused) = ([0; 5], 0);
    for (case, (found, was_refused)) in ran.into_iter().enumerate() {
        sums[case % 5] += found;
        refused += usize::from(was_refused);
    }
    println!("recall {wanted:.4} built, {refused} of 10,000 refused");
    for sum in sums {
        let recall = sum as f64 / (2_000.0 * 200.0);
        println!("  {recall:.4}");
        assert!(recall > wanted - 0.005, "{recall} where {wanted} is built");
    }
}
