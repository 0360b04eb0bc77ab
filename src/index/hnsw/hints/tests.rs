//! Hints that are right give the graph back; hints that are not do no harm.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::super::Hnsw;
use super::read::{Head, List, Records};
use crate::distance::Distance;
use crate::encoding::{Codec, EncodedView};
use crate::ids::{RowId, Slot};
use crate::inner_index::Entry;
use crate::inner_index::tests::spec;

const ROWS: usize = 2_400;

fn id_of(row: usize) -> RowId {
    RowId::new(row as u64 + 7)
}

/// An index of rows in loose clusters, loaded and not linked; a row's slot is its number.
fn loaded(rows: impl Iterator<Item = usize>) -> Hnsw {
    loaded_as(rows, id_of)
}

fn loaded_as(rows: impl Iterator<Item = usize>, id_of: impl Fn(usize) -> RowId) -> Hnsw {
    let mut index = Hnsw::new(&spec(16, Codec::Int8Quantized, Distance::Euclidean));
    for row in rows {
        let draw =
            |seed: usize, i: u8| xxh3_64_with_seed(&[i], seed as u64) as f32 / u64::MAX as f32;
        let value = |i: u8| draw(1_000_000 + row % 40, i) + 0.2 * draw(row, i);
        let vector: Vec<f32> = (0..16).map(value).collect();
        let encoded = Codec::Int8Quantized.encoder().encode(&vector).unwrap();
        index.load(Slot::new(row), id_of(row), encoded.view());
    }
    index
}

fn built() -> Hnsw {
    let mut index = loaded(0..ROWS);
    index.build(&|_, _| true).unwrap();
    index
}

/// The links of every node on every level, in no order.
fn links(index: &Hnsw) -> Vec<Vec<u32>> {
    let graph = index.graph.as_ref().unwrap();
    let mut all = Vec::new();
    for node in 0..index.nodes.len() as u32 {
        for level in 0..=index.nodes.level(node) {
            let mut links = graph.links(level, node).to_vec();
            links.sort_unstable();
            all.push(links);
        }
    }
    all
}

#[test]
fn hints_give_the_same_graph_back_in_any_order_of_loading() {
    let before = built();
    let hints = before.hints();
    for order in [(0..ROWS).collect::<Vec<_>>(), (0..ROWS).rev().collect()] {
        let mut after = loaded(order.into_iter());
        let linked = after.build_from(&hints, &|_, _| true).unwrap();
        assert_eq!((linked.hinted, linked.relinked), (ROWS, 0));
        assert_eq!(links(&after), links(&before));
        let entries = [&before, &after].map(|index| index.graph.as_ref().unwrap().entry());
        assert_eq!(entries[0], entries[1]);
        assert_eq!(after.check(), [""; 0]);
    }
}

#[test]
fn rows_that_came_later_are_told_of_by_their_ids() {
    let mut before = built();
    let hints = before.hints();
    let all = loaded(0..ROWS + 100);
    let mut came = Vec::new();
    for row in ROWS..ROWS + 100 {
        let point = all.nodes.point(all.rows.node(Slot::new(row)).unwrap());
        let params = [point.terms.min, point.terms.scale];
        let patch = before.prepare(vec![Entry {
            slot: Slot::new(row),
            id: id_of(row),
            vector: EncodedView {
                codec: Codec::Int8Quantized,
                dim: 16,
                bytes: &point.bytes[..16],
                params: &params,
            },
            plan: None,
        }]);
        before.apply(patch);
        came.push((Slot::new(row), id_of(row)));
    }
    let later = before.hints_of(&came);
    let mut after = loaded(0..ROWS + 100);
    let linked = after
        .build_from(&[hints, later].concat(), &|_, _| true)
        .unwrap();
    assert_eq!((linked.added, linked.gone), (0, 0));
    assert_eq!(after.check(), [""; 0]);
    let graph = after.graph.as_ref().unwrap();
    for row in ROWS..ROWS + 100 {
        let node = after.rows.node(Slot::new(row)).unwrap();
        assert!(graph.links(0, node).len() >= 4, "row {row}");
    }
}

/// A node that lives again keeps its level, which its new row would not be drawn.
#[test]
fn rows_written_again_keep_the_levels_above() {
    let mut before = built();
    for row in 0..ROWS {
        let node = before.rows.node(Slot::new(row)).unwrap();
        let point = before.nodes.point(node);
        let (bytes, terms) = (point.bytes[..16].to_vec(), *point.terms);
        before.remove(Slot::new(row));
        let params = [terms.min, terms.scale];
        let patch = before.prepare(vec![Entry {
            slot: Slot::new(row),
            id: id_of(ROWS + row),
            vector: EncodedView {
                codec: Codec::Int8Quantized,
                dim: 16,
                bytes: &bytes,
                params: &params,
            },
            plan: None,
        }]);
        before.apply(patch);
    }
    before.publish(id_of(2 * ROWS));
    assert_eq!(before.nodes.len(), ROWS, "every row found its node");
    let hints = before.hints();
    let mut after = loaded_as(0..ROWS, |row| id_of(ROWS + row));
    let linked = after.build_from(&hints, &|_, _| true).unwrap();
    assert_eq!((linked.hinted, linked.relinked), (ROWS, 0));
    assert_eq!(links(&after), links(&before));
}

/// Under inner products a row is not its own nearest.
#[test]
fn hints_serve_inner_products_of_rows_of_very_different_lengths() {
    let load = || {
        let mut index = Hnsw::new(&spec(16, Codec::Int8Quantized, Distance::DotProduct));
        for row in 0..ROWS {
            let draw = |i: u8| xxh3_64_with_seed(&[i], row as u64) as f32 / u64::MAX as f32 - 0.5;
            let length = (3.0 * draw(99)).exp();
            let vector: Vec<f32> = (0..16).map(|i| length * draw(i)).collect();
            let encoded = Codec::Int8Quantized.encoder().encode(&vector).unwrap();
            index.load(Slot::new(row), id_of(row), encoded.view());
        }
        index
    };
    let mut before = load();
    before.build(&|_, _| true).unwrap();
    let mut after = load();
    let linked = after.build_from(&before.hints(), &|_, _| true).unwrap();
    assert!(!linked.refused);
    assert_eq!(links(&after), links(&before));
}

/// Nobody numbers two rows alike, except whoever wrote a file to harm us.
#[test]
fn a_row_id_twice_is_survived() {
    let hints = built().hints();
    let mut after = loaded_as(0..ROWS, |row| id_of(if row == 9 { 3 } else { row }));
    let linked = after.build_from(&hints, &|_, _| true).unwrap();
    assert!(linked.refused);
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
        let mut records = Records::of(&damaged, &head);
        let mut count = 0;
        let show = |_: u8, list: &List| assert!(list.mutual <= list.links.len());
        while records.next(show, &mut list).is_some() {
            count += 1;
        }
        // A record takes four bytes at least.
        assert!(count <= damaged.len() / 4);
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
        let mut after = loaded(0..ROWS);
        after.build_from(&damaged, &|_, _| true).unwrap();
        assert_eq!(after.check(), [""; 0], "case {case}");
    }
}
