//! AVX2 alone. Bytes are widened to 16 bits before they are multiplied: the byte product of AVX2
//! saturates its pair sums at 32,767, and two products of 255 by 127 come to 64,770.

use std::arch::x86_64::{
    __m256, __m256i, _CMP_LE_OQ, _CMP_LT_OQ, _mm_add_epi32, _mm_cvtsi128_si32, _mm_loadu_si128,
    _mm_shuffle_epi32, _mm256_add_epi32, _mm256_add_ps, _mm256_and_si256, _mm256_blendv_ps,
    _mm256_castsi256_si128, _mm256_cmp_ps, _mm256_cvtepu8_epi16, _mm256_extracti128_si256,
    _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_min_ps, _mm256_movemask_ps,
    _mm256_permute2x128_si256, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32,
    _mm256_set1_ps, _mm256_setzero_si256, _mm256_slli_epi16, _mm256_srai_epi16, _mm256_srli_epi16,
    _mm256_storeu_ps, _mm256_storeu_si256, _mm256_sub_epi16, _mm256_unpackhi_epi32,
    _mm256_unpacklo_epi32, _mm256_xor_si256,
};

use crate::kernel::lists::Keys;
use crate::kernel::matrix::Lanes;
use crate::kernel::{
    BLOCK, Block, Probe, ROWS_MAX, RankLine, bytes_of, bytes_of_mut, check_blocks, kernel_set,
};

kernel_set!("avx2", "avx2", 2);

#[derive(Clone, Copy)]
struct Tile(__m256i);

impl Lanes for Tile {
    const WIDTH: usize = 8;
    const STEP: usize = 2;

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
        Self(unsafe { _mm256_add_epi32(self.0, _mm256_madd_epi16(row.0, columns.0)) })
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
        // SAFETY: as above; sixteen bytes are readable, and `loadu` asks for no alignment.
        unsafe {
            let wide = _mm256_cvtepu8_epi16(_mm_loadu_si128(bytes.cast()));
            Self(_mm256_sub_epi16(wide, _mm256_set1_epi16(128)))
        }
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn zip(self, other: Self) -> [Self; 2] {
        // SAFETY: the CPU has the feature, by the caller's promise.
        unsafe { by_turns(self.0, other.0).map(Self) }
    }
}

/// The words of two registers by turns: those of the lower halves, then those of the upper.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn by_turns(a: __m256i, b: __m256i) -> [__m256i; 2] {
    // Half by half, and then the halves in order.
    let (low, high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    [
        _mm256_permute2x128_si256::<0x20>(low, high),
        _mm256_permute2x128_si256::<0x31>(low, high),
    ]
}

#[derive(Clone, Copy)]
pub(super) struct Side(__m256);

impl Keys for Side {
    const WIDTH: usize = 8;
    type Mask = __m256;

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn load(keys: *const f32) -> Self {
        // SAFETY: the CPU has the feature, and the keys are readable, by the caller's promise;
        // `loadu` asks for no alignment.
        Self(unsafe { _mm256_loadu_ps(keys) })
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as above; the keys are writable, and `storeu` asks for no alignment.
        unsafe { _mm256_storeu_ps(to, self.0) }
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn splat(key: f32) -> Self {
        // SAFETY: the CPU has the feature, by the caller's promise.
        Self(unsafe { _mm256_set1_ps(key) })
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn below(self, others: Self) -> Self::Mask {
        // SAFETY: the CPU has the feature, by the caller's promise.
        unsafe { _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, others.0) }
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn min(self, others: Self) -> Self {
        // SAFETY: the CPU has the feature, by the caller's promise.
        Self(unsafe { _mm256_min_ps(self.0, others.0) })
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn add(self, others: Self) -> Self {
        // SAFETY: the CPU has the feature, by the caller's promise.
        Self(unsafe { _mm256_add_ps(self.0, others.0) })
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn any(mask: Self::Mask) -> bool {
        // SAFETY: the CPU has the feature, by the caller's promise.
        unsafe { _mm256_movemask_ps(mask) != 0 }
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn or_else(self, mask: Self::Mask, others: Self) -> Self {
        // SAFETY: the CPU has the feature, by the caller's promise.
        Self(unsafe { _mm256_blendv_ps(others.0, self.0, mask) })
    }
}

#[target_feature(enable = "avx2")]
fn dot_u8u8_enabled(a: &[u8], b: &[u8]) -> i32 {
    let flip = _mm256_set1_epi8(i8::MIN);
    let mut sums = [_mm256_setzero_si256(); 2];
    for (x, y) in a.as_chunks::<32>().0.iter().zip(b.as_chunks::<32>().0) {
        let [x_even, x_odd] = halves(load(x));
        let [y_even, y_odd] = signed_halves(_mm256_xor_si256(load(y), flip));
        sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(x_even, y_even));
        sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(x_odd, y_odd));
    }
    fold(_mm256_add_epi32(sums[0], sums[1]))
}

/// The probe's bytes less 128, widened: of every 32 bytes first the even ones, then the odd ones.
#[target_feature(enable = "avx2")]
fn aim_enabled(code: &[u8], to: &mut Probe) {
    let flip = _mm256_set1_epi8(i8::MIN);
    to.words.resize(2 * code.len() / BLOCK, Block::ZERO);
    let to = bytes_of_mut(&mut to.words).as_chunks_mut::<32>().0;
    for (to, bytes) in to
        .as_chunks_mut::<2>()
        .0
        .iter_mut()
        .zip(code.as_chunks::<32>().0)
    {
        let halves = signed_halves(_mm256_xor_si256(load(bytes), flip));
        for (to, half) in to.iter_mut().zip(halves) {
            // SAFETY: `to` is 32 writable bytes, and `storeu` asks for no alignment.
            unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), half) };
        }
    }
}

#[target_feature(enable = "avx2")]
fn dots_enabled(probe: &Probe, rows: &[&[u8]], to: &mut [i32; ROWS_MAX]) {
    for (rows, to) in rows.chunks(4).zip(to.as_chunks_mut::<4>().0) {
        match *rows {
            [a, b, c, d] => *to = dots_of(probe, [a, b, c, d]),
            [a, b, c] => [to[0], to[1], to[2]] = dots_of(probe, [a, b, c]),
            [a, b] => [to[0], to[1]] = dots_of(probe, [a, b]),
            [a] => [to[0]] = dots_of(probe, [a]),
            _ => {}
        }
    }
}

/// Some rows at once, so that the probe is read once for all of them.
#[inline]
#[target_feature(enable = "avx2")]
fn dots_of<const N: usize>(probe: &Probe, rows: [&[u8]; N]) -> [i32; N] {
    let (halves_of_probe, _) = bytes_of(&probe.words).as_chunks::<32>();
    let (probe, _) = halves_of_probe.as_chunks::<2>();
    let mut chunks: [&[[u8; 32]]; N] = [&[]; N];
    for (chunks, row) in chunks.iter_mut().zip(rows) {
        assert_eq!(row.len(), 32 * probe.len(), "a probe of another length");
        *chunks = row.as_chunks::<32>().0;
    }
    let mut sums = [_mm256_setzero_si256(); N];
    for (at, [even, odd]) in probe.iter().enumerate() {
        let (even, odd) = (load(even), load(odd));
        for (sum, row) in sums.iter_mut().zip(chunks) {
            let [row_even, row_odd] = halves(load(&row[at]));
            let products = _mm256_madd_epi16(row_even, even);
            *sum = _mm256_add_epi32(*sum, products);
            let products = _mm256_madd_epi16(row_odd, odd);
            *sum = _mm256_add_epi32(*sum, products);
        }
    }
    let mut folded = [0; N];
    for (to, sum) in folded.iter_mut().zip(sums) {
        *to = fold(sum);
    }
    folded
}

/// The even and the odd bytes as unsigned numbers of 16 bits.
#[inline]
#[target_feature(enable = "avx2")]
fn halves(bytes: __m256i) -> [__m256i; 2] {
    let low = _mm256_set1_epi16(0xff);
    [_mm256_and_si256(bytes, low), _mm256_srli_epi16::<8>(bytes)]
}

/// The even and the odd bytes as signed numbers of 16 bits: shifts copy the sign.
#[inline]
#[target_feature(enable = "avx2")]
fn signed_halves(bytes: __m256i) -> [__m256i; 2] {
    let even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(bytes));
    [even, _mm256_srai_epi16::<8>(bytes)]
}

#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: `bytes` is 32 readable bytes, and `loadu` asks for no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// The sum of the eight lanes.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn fold(sum: __m256i) -> i32 {
    let (low, high) = (
        _mm256_castsi256_si128(sum),
        _mm256_extracti128_si256::<1>(sum),
    );
    let four = _mm_add_epi32(low, high);
    let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
    let one = _mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two));
    _mm_cvtsi128_si32(one)
}

/// Without a minimum of 64 bits, no faster than finding the place.
#[target_feature(enable = "avx2")]
pub(super) fn insert_enabled(list: &mut [RankLine], rank: u64) {
    crate::kernel::lists::insert(list, rank);
}

/// Which of these keys are not above `limit`: the vector form of `scalar::masks`.
#[target_feature(enable = "avx2")]
pub(super) fn masks_enabled(keys: &[f32], limit: f32, masks: &mut [u64]) {
    let limit = _mm256_set1_ps(limit);
    for (keys, mask) in keys.chunks(64).zip(masks) {
        *mask = 0;
        for (at, keys) in keys.as_chunks::<8>().0.iter().enumerate() {
            // SAFETY: `keys` is eight readable floats, and `loadu` asks for no alignment.
            let keys = unsafe { _mm256_loadu_ps(keys.as_ptr()) };
            let near = _mm256_cmp_ps::<_CMP_LE_OQ>(keys, limit);
            *mask |= u64::from(_mm256_movemask_ps(near) as u8) << (8 * at);
        }
    }
}
