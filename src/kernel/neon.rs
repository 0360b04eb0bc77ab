//! The aarch64 set: NEON, with widening multiplies.
//!
//! The wrappers leave this file only inside the set that `available` hands out after asking the
//! CPU, as in the x86 file. The dot product instruction would be faster and is not yet in stable
//! Rust. The tests of this folder have passed under `qemu-aarch64`; no aarch64 hardware has run
//! them, and nothing here has been timed.

use std::arch::aarch64::{
    int8x16_t, int32x4_t, vaddq_s32, vaddvq_s32, vdupq_n_s32, vdupq_n_u8, veorq_u8, vget_high_s8,
    vget_low_s8, vld1q_u8, vmull_s8, vpadalq_s16, vpaddlq_s8, vreinterpretq_s8_u8,
};
use std::arch::is_aarch64_feature_detected;

use super::{Kernels, Probe, ROWS_MAX, RankLine, bytes_of, check_blocks, kernel_set};

/// The sets this CPU can run, fastest first.
pub(super) fn available() -> Vec<Kernels> {
    let mut sets = Vec::new();
    if is_aarch64_feature_detected!("neon") {
        sets.push(KERNELS);
    }
    sets
}

kernel_set!("neon", "neon", 2);

/// The compiler turns the plain twin into NEON multiplies.
type Tile = super::matrix::Plain;
type Side = super::lists::Plain;

#[target_feature(enable = "neon")]
fn dot_u8u8_enabled(a: &[u8], b: &[u8]) -> i32 {
    sum(a, b, |y| signed(y))
}

#[target_feature(enable = "neon")]
fn aim_enabled(code: &[u8], to: &mut Probe) {
    super::probe::aim_bytes(code, to);
}

#[target_feature(enable = "neon")]
fn dots_enabled(probe: &Probe, rows: &[&[u8]], to: &mut [i32; ROWS_MAX]) {
    let code = bytes_of(&probe.words);
    for (row, to) in rows.iter().zip(to) {
        check_blocks(row.len(), code.len());
        *to = sum(row, code, |y| {
            // SAFETY: `y` is 16 readable bytes.
            vreinterpretq_s8_u8(unsafe { vld1q_u8(y.as_ptr()) })
        });
    }
}

/// Without a minimum of 64 bits, no faster than finding the place.
#[target_feature(enable = "neon")]
fn insert_enabled(list: &mut [RankLine], rank: u64) {
    super::lists::insert(list, rank);
}

#[target_feature(enable = "neon")]
fn masks_enabled(keys: &[f32], limit: f32, masks: &mut [u64]) {
    super::scalar::masks(keys, limit, masks);
}

/// These unsigned bytes less 128, as signed ones.
#[inline]
#[target_feature(enable = "neon")]
fn signed(bytes: &[u8; 16]) -> int8x16_t {
    // SAFETY: `bytes` is 16 readable bytes.
    let bytes = unsafe { vld1q_u8(bytes.as_ptr()) };
    vreinterpretq_s8_u8(veorq_u8(bytes, vdupq_n_u8(0x80)))
}

/// NEON multiplies signed by signed, so `a` is shifted down by 128 and what that takes away,
/// 128 times the sum of `b`, is added at the end.
#[inline]
#[target_feature(enable = "neon")]
fn sum(a: &[u8], b: &[u8], load: impl Fn(&[u8; 16]) -> int8x16_t) -> i32 {
    let (a, _) = a.as_chunks::<16>();
    let (b, _) = b.as_chunks::<16>();
    let mut products: [int32x4_t; 2] = [vdupq_n_s32(0); 2];
    let mut taken = vdupq_n_s32(0);
    for (x, y) in a.iter().zip(b) {
        let (x, y) = (signed(x), load(y));
        // One product is at most 128 * 128, so 16 bits hold it; pairs are added in 32.
        products[0] = vpadalq_s16(products[0], vmull_s8(vget_low_s8(x), vget_low_s8(y)));
        products[1] = vpadalq_s16(products[1], vmull_s8(vget_high_s8(x), vget_high_s8(y)));
        taken = vpadalq_s16(taken, vpaddlq_s8(y));
    }
    vaddvq_s32(vaddq_s32(products[0], products[1])) + 128 * vaddvq_s32(taken)
}
