//! What a row costs in memory, counted by the allocator: all of it, the file's page cache apart.

mod common;

use common::alloc::{Counting, live, take_peak};
use common::rng::Rng;
use common::stores::{TempPath, no_metadata};
use vecstash::{
    Codec, Distance, HnswParams, IndexKind, NewRow, OpenOptions, Return, TableOptions, TableSchema,
};

#[global_allocator]
static COUNTING: Counting = Counting;

const ROWS: usize = 20_000;
const DIM: usize = 384;

/// One test alone in its binary, because the counter sees every thread.
#[test]
fn a_row_of_an_int8_graph_costs_at_most_640_bytes() {
    let place = TempPath::new();
    let store = place.open();
    let table = store
        .create_table_with(
            TableSchema {
                name: "t".to_owned(),
                dim: DIM as u16,
                codec: Codec::Int8Quantized,
                distance: Distance::Cosine,
                hnsw: HnswParams {
                    ef_construction: 40,
                    ..HnswParams::default()
                },
            },
            TableOptions::default().index(IndexKind::Hnsw),
        )
        .unwrap();
    let mut rng = Rng::new(1);
    let centres: Vec<_> = (0..500).map(|_| rng.vector(DIM)).collect();
    for first in (0..ROWS).step_by(1000) {
        let batch = (first..first + 1000)
            .map(|row| NewRow {
                key: format!("{row:016}").into_bytes(),
                vector: centres[rng.below(500)]
                    .iter()
                    .map(|x| x + 0.4 * rng.normal())
                    .collect(),
                metadata: no_metadata(),
            })
            .collect();
        table.upsert_many(batch).unwrap();
    }
    let stats = table.stats().unwrap();
    assert_eq!(stats.live_rows, ROWS);
    assert!(
        stats.distinct_vectors > ROWS * 99 / 100,
        "these are no copies"
    );
    let (key, query) = (b"0000000000012345", centres[0].clone());
    assert!(table.contains(key).unwrap());
    drop(table);
    store.close().unwrap();

    // The smallest page cache, and the same one on both sides.
    let options = OpenOptions::new().cache_bytes(1 << 20).threads(2);

    // Once before counting, so that pools and tables of the process exist.
    place.open_with(&options).close().unwrap();

    // The same file without its index: the page cache, as full as a walk over all rows leaves it,
    // and all that is not per row.
    let before = live();
    let bare = place.open_with(&options.clone().read_only(true).index(false));
    let page = bare.table("t").unwrap().scroll(None, ROWS, Return::Keys);
    assert_eq!(page.unwrap().rows.len(), ROWS);
    let without_index = live() - before;
    bare.close().unwrap();

    let before = live();
    take_peak();
    let store = place.open_with(&options);
    let (after, peak) = (live(), take_peak());
    let with_index = after - before;
    let per_row = (with_index - without_index) as f64 / ROWS as f64;
    let stats = store.stats("t").unwrap();
    println!("{per_row:.1} bytes a row; {stats:#?}");
    println!("peak of the open: {} bytes beyond the result", peak - after);
    assert!(per_row <= 640.0, "{per_row} bytes a row");
    // The codes and the keys alone: less would mean that something was not counted.
    assert!(per_row >= (DIM + 16) as f64, "{per_row} bytes a row");

    let said = stats.memory.total() as f64 / ROWS as f64;
    assert!(
        (said - per_row).abs() <= 0.15 * per_row,
        "stats say {said:.1}, counted {per_row:.1}"
    );
    // A rebuild that collects every decoded vector first would need this much on top.
    assert!(
        peak - after < ROWS * DIM * 4,
        "peak {} bytes beyond the result",
        peak - after
    );

    // The table works, and searching leaves nothing behind that grows.
    let warm = |times: usize| {
        for _ in 0..times {
            assert_eq!(store.search("t", &query, 10, None).unwrap().len(), 10);
        }
        live()
    };
    let once = warm(50);
    let often = warm(500);
    assert!(
        often <= once + (1 << 20) + (1 << 18),
        "{once}, then {often}"
    );
}
