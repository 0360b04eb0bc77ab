//! AVX-512 with its byte products.

use std::arch::x86_64::{
    __m512, __m512i, __mmask16, _CMP_LE_OQ, _CMP_LT_OQ, _mm512_add_epi32, _mm512_add_ps,
    _mm512_alignr_epi64, _mm512_cmp_ps_mask, _mm512_cmpeq_epi64_mask, _mm512_dpbusd_epi32,
    _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_blend_ps, _mm512_max_epu64, _mm512_min_epu64,
    _mm512_min_ps, _mm512_permutex2var_epi32, _mm512_reduce_add_epi32, _mm512_set1_epi8,
    _mm512_set1_epi32, _mm512_set1_epi64, _mm512_set1_ps, _mm512_setr_epi32, _mm512_setzero_si512,
    _mm512_storeu_ps, _mm512_storeu_si512, _mm512_xor_si512,
};

use crate::kernel::lists::Keys;
use crate::kernel::matrix::Lanes;
use crate::kernel::probe::aim_bytes;
use crate::kernel::{BLOCK, LANES, Probe, ROWS_MAX, RankLine, bytes_of, check_blocks, kernel_set};

kernel_set!("avx512", "avx512f,avx512bw,avx512vnni", 4);

#[derive(Clone, Copy)]
struct Tile(__m512i);

impl Lanes for Tile {
    const WIDTH: usize = 16;
    const STEP: usize = 4;

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the CPU has the feature, by the caller's promise.
        Self(unsafe { _mm512_setzero_si512() })
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn load(words: *const i32) -> Self {
        // SAFETY: as above; the words are readable, and `loadu` asks for no alignment.
        Self(unsafe { _mm512_loadu_si512(words.cast()) })
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn broadcast(word: i32) -> Self {
        // SAFETY: the CPU has the feature, by the caller's promise.
        Self(unsafe { _mm512_set1_epi32(word) })
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn mac(self, row: Self, columns: Self) -> Self {
        // SAFETY: the CPU has the feature, by the caller's promise.
        Self(unsafe { _mm512_dpbusd_epi32(self.0, row.0, columns.0) })
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn store(self, out: *mut i32) {
        // SAFETY: as above; the words are writable, and `storeu` asks for no alignment.
        unsafe { _mm512_storeu_si512(out.cast(), self.0) }
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn words(bytes: *const u8) -> Self {
        // SAFETY: as above; 64 bytes are readable, and `loadu` asks for no alignment.
        unsafe {
            let bytes = _mm512_loadu_si512(bytes.cast());
            Self(_mm512_xor_si512(bytes, _mm512_set1_epi8(i8::MIN)))
        }
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn zip(self, other: Self) -> [Self; 2] {
        // SAFETY: the CPU has the feature, by the caller's promise.
        unsafe {
            let low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            let high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
            [low, high].map(|by| Self(_mm512_permutex2var_epi32(self.0, by, other.0)))
        }
    }
}

#[derive(Clone, Copy)]
struct Side(__m512);

impl Keys for Side {
    const WIDTH: usize = 16;
    type Mask = __mmask16;

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn load(keys: *const f32) -> Self {
        // SAFETY: the CPU has the feature, and the keys are readable, by the caller's promise;
        // `loadu` asks for no alignment.
        Self(unsafe { _mm512_loadu_ps(keys) })
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: as above; the keys are writable, and `storeu` asks for no alignment.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn splat(key: f32) -> Self {
        // SAFETY: the CPU has the feature, by the caller's promise.
        Self(unsafe { _mm512_set1_ps(key) })
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn below(self, others: Self) -> Self::Mask {
        // SAFETY: the CPU has the feature, by the caller's promise.
        unsafe { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, others.0) }
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn min(self, others: Self) -> Self {
        // SAFETY: the CPU has the feature, by the caller's promise.
        Self(unsafe { _mm512_min_ps(self.0, others.0) })
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn add(self, others: Self) -> Self {
        // SAFETY: the CPU has the feature, by the caller's promise.
        Self(unsafe { _mm512_add_ps(self.0, others.0) })
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn any(mask: Self::Mask) -> bool {
        mask != 0
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn or_else(self, mask: Self::Mask, others: Self) -> Self {
        // SAFETY: the CPU has the feature, by the caller's promise.
        Self(unsafe { _mm512_mask_blend_ps(mask, others.0, self.0) })
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn dot_u8u8_enabled(a: &[u8], b: &[u8]) -> i32 {
    let flip = _mm512_set1_epi8(i8::MIN);
    sum(a, b, |y| _mm512_xor_si512(load(y), flip))
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn aim_enabled(code: &[u8], to: &mut Probe) {
    aim_bytes(code, to);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn dots_enabled(probe: &Probe, rows: &[&[u8]], to: &mut [i32; ROWS_MAX]) {
    let code = bytes_of(&probe.words);
    for (row, to) in rows.iter().zip(to) {
        check_blocks(row.len(), code.len());
        *to = sum(row, code, |y| load(y));
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn load(bytes: &[u8; BLOCK]) -> __m512i {
    // SAFETY: `bytes` is 64 readable bytes, and `loadu` asks for no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn sum(a: &[u8], b: &[u8], signed: impl Fn(&[u8; BLOCK]) -> __m512i) -> i32 {
    let (a, _) = a.as_chunks::<BLOCK>();
    let (b, _) = b.as_chunks::<BLOCK>();
    let mut sums = [_mm512_setzero_si512(); 4];
    // Four sums at a time, because each product waits five cycles for its own sum.
    let (a_fours, a_rest) = a.as_chunks::<4>();
    let (b_fours, b_rest) = b.as_chunks::<4>();
    for (x, y) in a_fours.iter().zip(b_fours) {
        for lane in 0..4 {
            sums[lane] = _mm512_dpbusd_epi32(sums[lane], load(&x[lane]), signed(&y[lane]));
        }
    }
    for (lane, (x, y)) in a_rest.iter().zip(b_rest).enumerate() {
        sums[lane] = _mm512_dpbusd_epi32(sums[lane], load(x), signed(y));
    }
    _mm512_reduce_add_epi32(_mm512_add_epi32(
        _mm512_add_epi32(sums[0], sums[1]),
        _mm512_add_epi32(sums[2], sums[3]),
    ))
}

/// Which of these keys are not above `limit`: the vector form of `scalar::masks`.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn masks_enabled(keys: &[f32], limit: f32, masks: &mut [u64]) {
    let limit = _mm512_set1_ps(limit);
    for (keys, mask) in keys.chunks(64).zip(masks) {
        *mask = 0;
        for (at, keys) in keys.as_chunks::<LANES>().0.iter().enumerate() {
            // SAFETY: `keys` is 16 readable floats, and `loadu` asks for no alignment.
            let keys = unsafe { _mm512_loadu_ps(keys.as_ptr()) };
            let near = _mm512_cmp_ps_mask::<_CMP_LE_OQ>(keys, limit);
            *mask |= u64::from(near) << (LANES * at);
        }
    }
}

/// The vector form of `lists::insert`: every place takes the new rank or what stood before it, if that
/// is less than its own, and nobody has to find where.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn insert_enabled(list: &mut [RankLine], rank: u64) {
    let load = |line: &RankLine| {
        // SAFETY: `line` is 64 readable bytes, and `loadu` asks for no alignment.
        unsafe { _mm512_loadu_si512(line.0.as_ptr().cast()) }
    };
    let new = _mm512_set1_epi64(rank.cast_signed());
    let known = list.iter().fold(0, |known, line| {
        known | _mm512_cmpeq_epi64_mask(load(line), new)
    });
    // One that is there already becomes one that is above all.
    let rank = rank | 0u64.wrapping_sub(u64::from(known != 0));
    let new = _mm512_set1_epi64(rank.cast_signed());
    let mut before = _mm512_setzero_si512();
    for line in list {
        let old = load(line);
        let shifted = _mm512_alignr_epi64::<7>(old, before);
        let kept = _mm512_min_epu64(_mm512_max_epu64(shifted, new), old);
        // SAFETY: `line` is 64 writable bytes, and `storeu` asks for no alignment.
        unsafe { _mm512_storeu_si512(line.0.as_mut_ptr().cast(), kept) };
        before = old;
    }
}
