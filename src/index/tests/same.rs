//! The same graph whoever builds it: any number of threads, any set of kernels.

use super::*;
use crate::kernel::testing::kernels;

/// Set where this test runs once more, to print what it built and no more.
const PRINTS: &str = "VECSTASH_TEST_PRINTS";

/// Rows in clusters of all widths: several rounds of leaves, and levels above that are divided.
fn rows() -> Vec<Vec<f32>> {
    let mut state = 7u64;
    let mut draw = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let centres: Vec<Vec<f32>> = (0..60)
        .map(|_| (0..16).map(|_| 10.0 * draw()).collect())
        .collect();
    (0..14_000)
        .map(|row| {
            let width = 1.0 + (row % 7) as f32;
            let centre = centres[row * row % 60].iter();
            centre.map(|at| at + width * (draw() - 0.5)).collect()
        })
        .collect()
}

/// Builds, deletes more than half of the rows and builds again, over the gaps.
fn built(rows: &[Vec<f32>], distance: Distance, threads: usize) -> [u64; 2] {
    let mut spec = spec(16, Codec::Int8Quantized, distance);
    (spec.hnsw.m, spec.hnsw.m0) = (4, 8);
    crate::pool::new(threads).unwrap().install(|| {
        let mut bench = Bench::load(spec, rows);
        let first = bench.index.fingerprint();
        for slot in (0..rows.len()).filter(|slot| slot * slot % 19 < 9) {
            bench.remove(slot);
        }
        assert!(bench.index.dead() > rows.len() / 2);
        bench.maintain(100_000);
        assert_eq!(bench.index.dead(), 0);
        bench.assert_sound();
        let found = bench.recall(&rows[..200], 64);
        assert!(found > 0.9, "{found}");
        [first, bench.index.fingerprint()]
    })
}

fn all(threads: usize) -> Vec<[u64; 2]> {
    let rows = rows();
    let distances = DISTANCES.iter();
    distances
        .map(|&distance| built(&rows, distance, threads))
        .collect()
}

#[test]
fn a_graph_is_the_same_for_all_threads_and_kernels() {
    if std::env::var_os(PRINTS).is_some() {
        println!("<{} {:x?}>", crate::kernel::kernels().name, all(2));
        return;
    }
    let own = all(1);
    assert_eq!(own, all(8));
    for set in kernels() {
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        let test = "inner_index::tests::same::a_graph_is_the_same_for_all_threads_and_kernels";
        again.args(["--exact", test, "--nocapture"]);
        let again = again.env("VECSTASH_KERNEL", set.name()).env(PRINTS, "1");
        let output = again.output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        let wanted = format!("<{} {own:x?}>", set.name());
        assert!(
            output.status.success() && printed.contains(&wanted),
            "{wanted} and not {printed}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
