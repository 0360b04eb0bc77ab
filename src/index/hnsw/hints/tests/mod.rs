//! Hints that are right give the graph back; hints that are not do no harm.

mod damage;
mod lost;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::super::Hnsw;
use super::sample;
use crate::distance::Distance;
use crate::encoding::{Codec, EncodedVector, EncodedView};
use crate::ids::{RowId, Slot};
use crate::inner_index::tests::spec;
use crate::inner_index::{Entry, SearchSpec};

const ROWS: usize = 2_400;

fn id_of(row: usize) -> RowId {
    RowId::new(row as u64 + 7)
}

/// An index of rows in loose clusters, loaded and not linked; a row's slot is its number.
fn loaded(rows: impl Iterator<Item = usize>, hints: &[Vec<u8>]) -> Hnsw {
    loaded_as(rows, hints, id_of)
}

fn loaded_as(
    rows: impl Iterator<Item = usize>,
    hints: &[Vec<u8>],
    id_of: impl Fn(usize) -> RowId,
) -> Hnsw {
    let mut index = Hnsw::new(&spec(16, Codec::Int8Quantized, Distance::Euclidean));
    index.reserve(ROWS);
    index.expect(hints.to_vec());
    for row in rows {
        index.load(Slot::new(row), id_of(row), encoded(row).view());
        if row.is_multiple_of(200) {
            index.join_twins();
        }
    }
    index
}

/// The code of a row: one of forty clusters, and somewhere in it.
fn encoded(row: usize) -> EncodedVector {
    let draw = |i: u8| xxh3_64_with_seed(&[i], row as u64) as f32 / u64::MAX as f32;
    let vector: Vec<f32> = (0..16).map(|i| center(row, i) + 0.2 * draw(i)).collect();
    Codec::Int8Quantized.encoder().encode(&vector).unwrap()
}

/// The centre of the cluster that a row is in.
fn center(row: usize, i: u8) -> f32 {
    xxh3_64_with_seed(&[i], 1_000_000 + row as u64 % 40) as f32 / u64::MAX as f32
}

fn built() -> Hnsw {
    let mut index = loaded(0..ROWS, &[]);
    index.build(&|_, _| true).unwrap();
    index
}

/// The links of every node on every level, in no order.
fn links(index: &Hnsw) -> Vec<Vec<u32>> {
    let graph = index.graph.as_ref().unwrap();
    let mut all = Vec::new();
    for node in index.nodes.live_nodes() {
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
        let mut after = loaded(order.into_iter(), &hints);
        let linked = after.build(&|_, _| true).unwrap();
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
    let all = loaded(0..ROWS + 100, &[]);
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
    let mut after = loaded(0..ROWS + 100, &[hints, later].concat());
    let linked = after.build(&|_, _| true).unwrap();
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
    let mut after = loaded_as(0..ROWS, &hints, |row| id_of(ROWS + row));
    let linked = after.build(&|_, _| true).unwrap();
    assert_eq!((linked.hinted, linked.relinked), (ROWS, 0));
    assert_eq!(links(&after), links(&before));
}

/// Under inner products a row is not its own nearest.
#[test]
fn hints_serve_inner_products_of_rows_of_very_different_lengths() {
    let load = |hints: Vec<Vec<u8>>| {
        let mut index = Hnsw::new(&spec(16, Codec::Int8Quantized, Distance::DotProduct));
        index.reserve(ROWS);
        index.expect(hints);
        for row in 0..ROWS {
            let draw = |i: u8| xxh3_64_with_seed(&[i], row as u64) as f32 / u64::MAX as f32 - 0.5;
            let length = (3.0 * draw(99)).exp();
            let vector: Vec<f32> = (0..16).map(|i| length * draw(i)).collect();
            let encoded = Codec::Int8Quantized.encoder().encode(&vector).unwrap();
            index.load(Slot::new(row), id_of(row), encoded.view());
        }
        index
    };
    let mut before = load(Vec::new());
    before.build(&|_, _| true).unwrap();
    let mut after = load(before.hints());
    let linked = after.build(&|_, _| true).unwrap();
    assert!(!linked.refused);
    assert_eq!(links(&after), links(&before));
}

/// Copies have no place of their own in a log, and may be read before the row that has.
#[test]
fn rows_that_share_a_node_find_it_in_any_order_of_loading() {
    let many = |hints: Vec<Vec<u8>>, backwards: bool| {
        let mut index = loaded(0..0, &[]);
        index.reserve(2 * ROWS);
        index.expect(hints);
        let all = loaded(0..ROWS, &[]);
        let rows: Vec<usize> = match backwards {
            false => (0..2 * ROWS).collect(),
            true => (0..2 * ROWS).rev().collect(),
        };
        for row in rows {
            let node = all.rows.node(Slot::new(row % ROWS)).unwrap();
            let point = all.nodes.point(node);
            let vector = EncodedView {
                codec: Codec::Int8Quantized,
                dim: 16,
                bytes: &point.bytes[..16],
                params: &[point.terms.min, point.terms.scale],
            };
            index.load(Slot::new(row), id_of(row), vector);
            if row.is_multiple_of(200) {
                index.join_twins();
            }
        }
        index
    };
    let mut before = many(Vec::new(), false);
    before.build(&|_, _| true).unwrap();
    let mut prints = Vec::new();
    for backwards in [false, true] {
        let mut after = many(before.hints(), backwards);
        let linked = after.build(&|_, _| true).unwrap();
        assert_eq!((linked.hinted, linked.added, linked.gone), (ROWS, 0, 0));
        assert_eq!(links(&after), links(&before));
        assert_eq!(after.check(), [""; 0]);
        assert_eq!(after.len(), 2 * ROWS);
        assert_eq!(after.nodes.len(), ROWS, "no numbers of copies are left");
        prints.push(after.fingerprint());
    }
    assert_eq!(prints[0], prints[1]);
}

/// What rows that are gone led to takes their places, so that lists stay as long as they were.
#[test]
fn rows_that_are_gone_leave_their_neighbours_to_each_other() {
    let before = built();
    let mut after = loaded((0..ROWS).filter(|row| row % 8 != 0), &before.hints());
    let progress = |done: usize, total: usize| {
        assert!(
            done <= total && total == ROWS - ROWS / 8,
            "{done} of {total}"
        );
        true
    };
    let linked = after.build(&progress).unwrap();
    assert_eq!((linked.added, linked.gone), (0, ROWS / 8));
    assert_eq!(after.check(), [""; 0]);
    let mean = |index: &Hnsw| {
        let graph = index.graph.as_ref().unwrap();
        let nodes = index.nodes.live_nodes();
        let links: usize = nodes.map(|node| graph.links(0, node).len()).sum();
        links as f64 / index.nodes.live() as f64
    };
    assert!(mean(&after) > 0.95 * mean(&before));
    assert!(linked.relinked < ROWS / 100, "{} relinked", linked.relinked);

    // Rows that come get the numbers that are free, then new ones.
    assert_eq!(after.nodes.len(), ROWS);
    for row in ROWS..ROWS + ROWS / 4 {
        let patch = after.prepare(vec![Entry {
            slot: Slot::new(row),
            id: id_of(row),
            vector: encoded(row).view(),
            plan: None,
        }]);
        after.apply(patch);
        after.publish(id_of(row + 1));
    }
    assert_eq!(after.nodes.len(), ROWS + ROWS / 8);
    assert_eq!(after.check(), [""; 0]);
    let hints = after.hints();
    let there = (0..ROWS + ROWS / 4).filter(|row| row % 8 != 0 || *row >= ROWS);
    let mut again = loaded(there, &hints);
    let linked = again.build(&|_, _| true).unwrap();
    assert_eq!((linked.added, linked.gone, linked.refused), (0, 0, false));
    assert_eq!(again.check(), [""; 0]);
}

/// Rows of which no graph of so few links leads to all: what the log says of the graph that was
/// written is what the one that was read is held to.
#[test]
fn tables_hard_for_any_graph_are_not_built_again() {
    let load = |hints: &[Vec<u8>]| {
        let mut spec = spec(48, Codec::Int8Quantized, Distance::Euclidean);
        (spec.hnsw.m, spec.hnsw.m0) = (2, 3);
        let mut index = Hnsw::new(&spec);
        index.reserve(ROWS);
        index.expect(hints.to_vec());
        for row in 0..ROWS {
            let draw = |i: u8| xxh3_64_with_seed(&[i], row as u64) as f32 / u64::MAX as f32;
            let vector: Vec<f32> = (0..48).map(|i| 3.0 * center(row, i) + draw(i)).collect();
            let encoded = Codec::Int8Quantized.encoder().encode(&vector).unwrap();
            index.load(Slot::new(row), id_of(row), encoded.view());
        }
        let linked = index.build(&|_, _| true).unwrap();
        (index, linked)
    };
    let (before, _) = load(&[]);
    let hints = before.hints();
    let (after, linked) = load(&hints);
    assert_eq!((linked.hinted, linked.refused), (ROWS, false));
    assert_eq!(links(&after), links(&before));
    let fingerprint = before.hint_fingerprint();
    let said = sample::said(&hints, fingerprint).unwrap();
    assert!((60..230).contains(&said), "{said} are found");
    // Logs that do not say so, or are not the one of which it was said, are held to a graph in which
    // all are found.
    let lists = &hints[..hints.len() - 1];
    let mut damaged = hints.clone();
    let end = damaged[0].len() - 1;
    damaged[0][end] ^= 1;
    let mut lost = hints.clone();
    lost.remove(1);
    for other in [lists, &damaged, &lost] {
        assert_eq!(sample::said(other, fingerprint), None);
        assert!(load(other).1.refused);
    }
    assert_eq!(sample::said(&hints, fingerprint + 1), None);
}
