//! AVX2 with byte products: for the CPUs that have those of AVX-512 without its registers.

use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_dpbusd_avx_epi32, _mm256_loadu_si256, _mm256_set1_epi8,
    _mm256_set1_epi32, _mm256_setzero_si256, _mm256_storeu_si256, _mm256_xor_si256,
};

use super::avx2::{Side, by_turns, fold, insert_enabled, load, masks_enabled};
use crate::kernel::matrix::Lanes;
use crate::kernel::probe::aim_bytes;
use crate::kernel::{Probe, ROWS_MAX, bytes_of, check_blocks, kernel_set};

kernel_set!("avxvnni", "avx2,avxvnni", 2);

#[derive(Clone, Copy)]
struct Tile(__m256i);

impl Lanes for Tile {
    const WIDTH: usize = 8;
    const STEP: usize = 4;

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the CPU has the feature, by the caller's promise.
        Self(unsafe { _mm256_setzero_si256() })
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn load(words: *const i32) -> Self {
        // SAFETY: as above; the words are readable, and `loadu` asks for no alignment.
        Self(unsafe { _mm256_loadu_si256(words.cast()) })
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn broadcast(word: i32) -> Self {
        // SAFETY: the CPU has the feature, by the caller's promise.
        Self(unsafe { _mm256_set1_epi32(word) })
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn mac(self, row: Self, columns: Self) -> Self {
        // SAFETY: the CPU has the feature, by the caller's promise.
        Self(unsafe { _mm256_dpbusd_avx_epi32(self.0, row.0, columns.0) })
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn store(self, out: *mut i32) {
        // SAFETY: as above; the words are writable, and `storeu` asks for no alignment.
        unsafe { _mm256_storeu_si256(out.cast(), self.0) }
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn words(bytes: *const u8) -> Self {
        // SAFETY: as above; 32 bytes are readable, and `loadu` asks for no alignment.
        unsafe {
            let bytes = _mm256_loadu_si256(bytes.cast());
            Self(_mm256_xor_si256(bytes, _mm256_set1_epi8(i8::MIN)))
        }
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn zip(self, other: Self) -> [Self; 2] {
        // SAFETY: the CPU has the feature, by the caller's promise.
        unsafe { by_turns(self.0, other.0).map(Self) }
    }
}

#[target_feature(enable = "avx2,avxvnni")]
fn dot_u8u8_enabled(a: &[u8], b: &[u8]) -> i32 {
    let flip = _mm256_set1_epi8(i8::MIN);
    sum(a, b, |y| _mm256_xor_si256(load(y), flip))
}

#[target_feature(enable = "avx2,avxvnni")]
fn aim_enabled(code: &[u8], to: &mut Probe) {
    aim_bytes(code, to);
}

#[target_feature(enable = "avx2,avxvnni")]
fn dots_enabled(probe: &Probe, rows: &[&[u8]], to: &mut [i32; ROWS_MAX]) {
    let code = bytes_of(&probe.words);
    for (row, to) in rows.iter().zip(to) {
        check_blocks(row.len(), code.len());
        *to = sum(row, code, |y| load(y));
    }
}

#[inline]
#[target_feature(enable = "avx2,avxvnni")]
fn sum(a: &[u8], b: &[u8], signed: impl Fn(&[u8; 32]) -> __m256i) -> i32 {
    let (a, _) = a.as_chunks::<32>();
    let (b, _) = b.as_chunks::<32>();
    let mut sums = [_mm256_setzero_si256(); 2];
    // A block is two registers wide, so nothing is left over.
    let (a_pairs, _) = a.as_chunks::<2>();
    let (b_pairs, _) = b.as_chunks::<2>();
    for (x, y) in a_pairs.iter().zip(b_pairs) {
        for lane in 0..2 {
            sums[lane] = _mm256_dpbusd_avx_epi32(sums[lane], load(&x[lane]), signed(&y[lane]));
        }
    }
    fold(_mm256_add_epi32(sums[0], sums[1]))
}
