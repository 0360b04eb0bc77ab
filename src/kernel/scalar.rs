//! The scalar twin: what every other implementation is compared with.
//!
//! The float kernels here are also what the other sets compile: the same source, in functions
//! that may use wider registers. 32 lanes fill two AVX-512 registers, four of AVX2 or eight of
//! NEON, and Rust never fuses or reorders float operations by itself, so how wide the registers
//! are cannot change a bit of the answer.

use super::matrix::{self, Plain};
use super::refined::{dot_refined, l2_squared_refined};
use super::{Kernels, Probe, ROWS_MAX, bytes_of, lists, pairs, probe};

/// The set that runs everywhere.
pub(super) const KERNELS: Kernels = Kernels {
    name: "scalar",
    dot_u8u8,
    l2_squared,
    dot,
    l2_squared_u8,
    dot_u8,
    l2_squared_refined,
    dot_refined,
    aim: probe::aim_bytes,
    dots,
    near: |keys, k, limit, masks| {
        // SAFETY: `Plain` asks nothing of the CPU.
        let bound = unsafe { lists::bound::<lists::Plain>(keys, k) };
        self::masks(keys, bound.min(limit), masks);
    },
    // SAFETY: `Plain` asks nothing of the CPU.
    offer: |node, keys, k, lists| unsafe { lists::offer::<lists::Plain>(node, keys, k, lists) },
    insert: lists::insert,
    // SAFETY: `Plain` asks nothing of the CPU.
    pack: |codes, to| unsafe { matrix::pack::<Plain>(codes, to) },
    // SAFETY: `Plain` asks nothing of the CPU, and panels of this set are packed one line above.
    products: |rows, first, panel, to| unsafe {
        matrix::products::<Plain, 2>(rows, first, panel, to);
    },
    l2_keys: pairs::l2_keys,
    dot_keys: pairs::dot_keys,
    cosine_keys: pairs::cosine_keys,
};

/// Partial sums kept side by side.
pub(super) const LANES: usize = 32;

fn dot_u8u8(a: &[u8], b: &[u8]) -> i32 {
    super::check_blocks(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(&x, &y)| i32::from(x) * (i32::from(y) - 128))
        .sum()
}

fn dots(probe: &Probe, rows: &[&[u8]], to: &mut [i32; ROWS_MAX]) {
    let code = bytes_of(&probe.words);
    for (row, to) in rows.iter().zip(to) {
        super::check_blocks(row.len(), code.len());
        let pairs = row.iter().zip(code);
        *to = pairs
            .map(|(&x, &y)| i32::from(x) * i32::from(y.cast_signed()))
            .sum();
    }
}

/// Which of these keys are not above `limit`.
pub(super) fn masks(keys: &[f32], limit: f32, masks: &mut [u64]) {
    for (keys, mask) in keys.chunks(64).zip(masks) {
        *mask = 0;
        for (lane, &key) in keys.iter().enumerate() {
            *mask |= u64::from(key <= limit) << lane;
        }
    }
}

/// See [`Kernels::l2_squared`].
#[inline(always)]
pub(super) fn l2_squared(a: &[f32], b: &[f32]) -> f32 {
    debug_assert_eq!(a.len(), b.len());
    accumulate(a, b, |x, y| {
        let difference = x - y;
        difference * difference
    })
}

/// See [`Kernels::dot`].
#[inline(always)]
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    debug_assert_eq!(a.len(), b.len());
    accumulate(a, b, |x, y| x * y)
}

/// See [`Kernels::l2_squared_u8`]. Bit for bit [`l2_squared`] of the decoded codes.
#[inline(always)]
pub(super) fn l2_squared_u8(q: &[f32], codes: &[u8], min: f32, scale: f32) -> f32 {
    debug_assert!(q.len() <= codes.len());
    accumulate(q, codes, |x, code| {
        let difference = x - (min + scale * f32::from(code));
        difference * difference
    })
}

/// See [`Kernels::dot_u8`]. Bit for bit [`dot`] of the decoded codes.
#[inline(always)]
pub(super) fn dot_u8(q: &[f32], codes: &[u8], min: f32, scale: f32) -> f32 {
    debug_assert!(q.len() <= codes.len());
    accumulate(q, codes, |x, code| x * (min + scale * f32::from(code)))
}

/// Sums `term` over the pairs: pair `i` goes to lane `i % 32`, and the lanes are folded in halves.
#[inline(always)]
fn accumulate<T: Copy>(a: &[f32], b: &[T], term: impl Fn(f32, T) -> f32) -> f32 {
    let len = a.len().min(b.len());
    let (a_chunks, a_tail) = a[..len].as_chunks::<LANES>();
    let (b_chunks, b_tail) = b[..len].as_chunks::<LANES>();
    let mut lanes = [0.0f32; LANES];
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += term(x[lane], y[lane]);
        }
    }
    for (lane, (&x, &y)) in lanes.iter_mut().zip(a_tail.iter().zip(b_tail)) {
        *lane += term(x, y);
    }
    fold(lanes)
}

/// The sum of all lanes, in halves.
#[inline(always)]
pub(super) fn fold(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
    }
    lanes[0]
}
