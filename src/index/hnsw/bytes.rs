//! What a row takes in memory, on graphs of the right size that lead nowhere.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::graph::{Edits, EntryPoint, Graph, ListEdit};
use super::{Hnsw, Slot};
use crate::distance::Distance;
use crate::encoding::{Codec, EncodedVector};
use crate::ids::RowId;
use crate::inner_index::SearchSpec;
use crate::inner_index::tests::spec;

const DIM: usize = 128;

/// An index that `load` and `build` would make, but for the order of its nodes and its links.
fn index(rows: usize) -> Hnsw {
    let mut index = Hnsw::new(&spec(DIM, Codec::Int8Quantized, Distance::Euclidean));
    index.reserve(rows);
    for row in 0..rows {
        let words =
            (0..DIM as u64 / 8).map(|word| xxh3_64_with_seed(&word.to_le_bytes(), row as u64));
        let vector = EncodedVector {
            codec: Codec::Int8Quantized,
            bytes: words.flat_map(u64::to_le_bytes).collect(),
            params: vec![0.0, 1.0],
            dim: DIM as u16,
        };
        index.load(Slot::new(row), RowId::new(row as u64 + 1), vector.view());
    }
    index.settle();
    let order = index.nodes.by_row_id(&index.rows);
    index.renumber(&order);
    index.graph = Some(graph(&mut index, rows as u32));
    index
}

fn graph(index: &mut Hnsw, nodes: u32) -> Graph {
    let mut graph = Graph::new(&index.params);
    graph.reserve(nodes as usize);
    let levels: Vec<u8> = (0..nodes)
        .map(|node| index.level_of(RowId::new(u64::from(node) + 1)))
        .collect();
    for level in (0..=levels.iter().copied().max().unwrap_or(0)).rev() {
        let members = (0..nodes).filter(|&node| levels[node as usize] >= level);
        let members: Vec<u32> = members.collect();
        graph.reserve_level(level, members.len());
        graph.begin_at(Some(EntryPoint {
            node: members[0],
            level,
        }));
        let lists = (0..members.len()).map(|place| ListEdit {
            level,
            node: members[place],
            links: vec![members[(place + 1) % members.len()]],
        });
        let lists = lists.collect();
        graph.apply(Edits { lists, entry: None });
    }
    graph
}

/// Bytes of a row: its code, its links, and the rest.
fn bytes_of_a_row(rows: usize) -> [f64; 3] {
    let index = index(rows);
    let spec = SearchSpec {
        k: 1,
        ef: 10,
        rerank: 10,
    };
    assert_eq!(index.search(&[100.0; DIM], &spec).len(), 1);
    let memory = index.memory();
    let parts = [memory.codes, memory.links, memory.other];
    let each = parts.map(|bytes| bytes as f64 / rows as f64);
    println!(
        "{rows} rows: {each:.2?}, {:.2} in all",
        each.iter().sum::<f64>()
    );
    each
}

#[test]
fn a_row_of_128_coordinates_takes_less_than_299() {
    for rows in [70_000, 100_000, 150_000] {
        let [codes, links, other] = bytes_of_a_row(rows);
        assert!(codes < 176.1 && links < 101.5 && other < 20.7);
    }
}

#[test]
#[ignore = "half a gigabyte"]
fn a_row_among_a_million_takes_less_than_298() {
    let each = bytes_of_a_row(1_000_000);
    assert!(each.iter().sum::<f64>() < 298.0);
}
