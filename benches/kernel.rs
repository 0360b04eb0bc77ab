//! How fast each set of kernels is. Every bench first asserts its answer against the scalar twin.

#![allow(missing_docs)] // criterion_group! makes a function without any

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use vecstash::testing::kernel::{BLOCK, KernelSet, kernels};

/// Rows of a leaf.
const LEAF: u32 = 256;

/// Bytes that look random and are the same in every run.
fn bytes(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}

fn bench(criterion: &mut Criterion) {
    for dim in [128usize, 384, 1_536] {
        let padded = dim.next_multiple_of(BLOCK);
        let (a, b) = (bytes(padded, 1), bytes(padded, 2));
        let many: Vec<Vec<u8>> = (10..10 + LEAF).map(|seed| bytes(padded, seed)).collect();
        let leaf: Vec<&[u8]> = many.iter().map(Vec::as_slice).collect();
        let few = [leaf[0], leaf[1], leaf[2], leaf[3]];
        let x: Vec<f32> = bytes(dim, 3)
            .iter()
            .map(|&byte| f32::from(byte) / 255.0)
            .collect();
        let y: Vec<f32> = bytes(dim, 4)
            .iter()
            .map(|&byte| f32::from(byte) / 255.0)
            .collect();
        let (min, scale) = (-0.25, 1.0 / 255.0);

        type Run<'a> = Box<dyn Fn(&KernelSet) -> f64 + 'a>;
        let runs: [(&str, Run<'_>); 9] = [
            (
                "dots of four rows",
                Box::new(|set| set.dots(&a, few).iter().copied().map(f64::from).sum()),
            ),
            (
                "products of a leaf with itself",
                Box::new(|set| set.products(&leaf, &leaf).into()),
            ),
            ("dot_u8u8", Box::new(|set| set.dot_u8u8(&a, &b).into())),
            ("l2_squared", Box::new(|set| set.l2_squared(&x, &y).into())),
            ("dot", Box::new(|set| set.dot(&x, &y).into())),
            (
                "l2_squared_u8",
                Box::new(|set| set.l2_squared_u8(&x, &a, min, scale).into()),
            ),
            (
                "dot_u8",
                Box::new(|set| set.dot_u8(&x, &a, min, scale).into()),
            ),
            (
                "l2_squared_refined",
                Box::new(|set| {
                    let per_byte = if dim <= 256 { 4 } else { 5 };
                    let (codes, digits) = (&a[..dim], &b[..dim.div_ceil(per_byte)]);
                    set.l2_squared_refined(&x, codes, digits, min, scale).into()
                }),
            ),
            (
                "dot_refined",
                Box::new(|set| {
                    let per_byte = if dim <= 256 { 4 } else { 5 };
                    let (codes, digits) = (&a[..dim], &b[..dim.div_ceil(per_byte)]);
                    set.dot_refined(&x, codes, digits, min, scale).into()
                }),
            ),
        ];
        let sets = kernels();
        let twin = sets.last().expect("the scalar twin is always there");
        for (name, run) in &runs {
            let mut group = criterion.benchmark_group(*name);
            group.throughput(Throughput::Elements(dim as u64));
            for set in &sets {
                assert_eq!(run(set), run(twin), "{name} of {} is wrong", set.name());
                group.bench_function(BenchmarkId::new(set.name(), dim), |bencher| {
                    bencher.iter(|| run(black_box(set)));
                });
            }
            group.finish();
        }
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
