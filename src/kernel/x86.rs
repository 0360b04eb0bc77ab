//! The x86-64 sets: AVX-512 with VNNI, AVX2 with VNNI, AVX2.
//!
//! The functions that need a CPU feature are private to their module, and the safe wrappers
//! around them leave this file only inside a set that `available` hands out, which it does only
//! after asking the CPU: holding the set is the proof that its functions may run.

use std::arch::is_x86_feature_detected;

use super::Kernels;

/// The sets this CPU can run, fastest first.
pub(super) fn available() -> Vec<Kernels> {
    let mut sets = Vec::new();
    if is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vnni")
    {
        sets.push(avx512::KERNELS);
    }
    if is_x86_feature_detected!("avx2") {
        if is_x86_feature_detected!("avxvnni") {
            sets.push(avxvnni::KERNELS);
        }
        sets.push(avx2::KERNELS);
    }
    sets
}

mod avx512 {
    use std::arch::x86_64::{
        __m512i, _mm512_add_epi32, _mm512_dpbusd_epi32, _mm512_loadu_si512,
        _mm512_reduce_add_epi32, _mm512_set1_epi8, _mm512_setzero_si512, _mm512_xor_si512,
    };

    use crate::kernel::{BLOCK, check_blocks, kernel_set};

    kernel_set!("avx512", "avx512f,avx512bw,avx512vnni");

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn dot_u8i8_enabled(a: &[u8], b: &[i8]) -> i32 {
        let (b, _) = b.as_chunks();
        // SAFETY: each `y` is 64 readable bytes, and `loadu` asks for no alignment.
        sum(a, b, |y| unsafe { _mm512_loadu_si512(y.as_ptr().cast()) })
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn dot_u8u8_enabled(a: &[u8], b: &[u8]) -> i32 {
        let (b, _) = b.as_chunks();
        let flip = _mm512_set1_epi8(i8::MIN);
        sum(a, b, |y| {
            // SAFETY: each `y` is 64 readable bytes, and `loadu` asks for no alignment.
            _mm512_xor_si512(unsafe { _mm512_loadu_si512(y.as_ptr().cast()) }, flip)
        })
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn sum<T>(a: &[u8], b: &[[T; BLOCK]], signed: impl Fn(&[T; BLOCK]) -> __m512i) -> i32 {
        let (a, _) = a.as_chunks::<BLOCK>();
        let mut sums = [_mm512_setzero_si512(); 4];
        let mut add = |lane: usize, x: &[u8; BLOCK], y: &[T; BLOCK]| {
            // SAFETY: `x` is 64 readable bytes, and `loadu` asks for no alignment.
            let x = unsafe { _mm512_loadu_si512(x.as_ptr().cast()) };
            sums[lane] = _mm512_dpbusd_epi32(sums[lane], x, signed(y));
        };
        // Four sums at a time, because each product waits five cycles for its own sum.
        let (a_fours, a_rest) = a.as_chunks::<4>();
        let (b_fours, b_rest) = b.as_chunks::<4>();
        for (x, y) in a_fours.iter().zip(b_fours) {
            for lane in 0..4 {
                add(lane, &x[lane], &y[lane]);
            }
        }
        for (lane, (x, y)) in a_rest.iter().zip(b_rest).enumerate() {
            add(lane, x, y);
        }
        _mm512_reduce_add_epi32(_mm512_add_epi32(
            _mm512_add_epi32(sums[0], sums[1]),
            _mm512_add_epi32(sums[2], sums[3]),
        ))
    }
}

/// For the CPUs that have the byte products of AVX-512 without its registers.
mod avxvnni {
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi32, _mm256_dpbusd_avx_epi32, _mm256_loadu_si256, _mm256_set1_epi8,
        _mm256_setzero_si256, _mm256_xor_si256,
    };

    use super::avx2::fold;
    use crate::kernel::{check_blocks, kernel_set};

    kernel_set!("avxvnni", "avx2,avxvnni");

    #[target_feature(enable = "avx2,avxvnni")]
    fn dot_u8i8_enabled(a: &[u8], b: &[i8]) -> i32 {
        let (b, _) = b.as_chunks();
        // SAFETY: each `y` is 32 readable bytes, and `loadu` asks for no alignment.
        sum(a, b, |y| unsafe { _mm256_loadu_si256(y.as_ptr().cast()) })
    }

    #[target_feature(enable = "avx2,avxvnni")]
    fn dot_u8u8_enabled(a: &[u8], b: &[u8]) -> i32 {
        let (b, _) = b.as_chunks();
        let flip = _mm256_set1_epi8(i8::MIN);
        sum(a, b, |y| {
            // SAFETY: each `y` is 32 readable bytes, and `loadu` asks for no alignment.
            _mm256_xor_si256(unsafe { _mm256_loadu_si256(y.as_ptr().cast()) }, flip)
        })
    }

    #[inline]
    #[target_feature(enable = "avx2,avxvnni")]
    fn sum<T>(a: &[u8], b: &[[T; 32]], signed: impl Fn(&[T; 32]) -> __m256i) -> i32 {
        let (a, _) = a.as_chunks::<32>();
        let mut sums = [_mm256_setzero_si256(); 2];
        // A block is two registers wide, so nothing is left over.
        let (a_pairs, _) = a.as_chunks::<2>();
        let (b_pairs, _) = b.as_chunks::<2>();
        for (x, y) in a_pairs.iter().zip(b_pairs) {
            for lane in 0..2 {
                // SAFETY: `x[lane]` is 32 readable bytes, and `loadu` asks for no alignment.
                let x = unsafe { _mm256_loadu_si256(x[lane].as_ptr().cast()) };
                sums[lane] = _mm256_dpbusd_avx_epi32(sums[lane], x, signed(&y[lane]));
            }
        }
        fold(_mm256_add_epi32(sums[0], sums[1]))
    }
}

mod avx2 {
    use std::arch::x86_64::{
        __m128i, __m256i, _mm_add_epi32, _mm_cvtsi128_si32, _mm_loadu_si128, _mm_set1_epi8,
        _mm_shuffle_epi32, _mm_xor_si128, _mm256_add_epi32, _mm256_castsi256_si128,
        _mm256_cvtepi8_epi16, _mm256_cvtepu8_epi16, _mm256_extracti128_si256, _mm256_madd_epi16,
        _mm256_setzero_si256,
    };

    use crate::kernel::{check_blocks, kernel_set};

    kernel_set!("avx2", "avx2");

    #[target_feature(enable = "avx2")]
    fn dot_u8i8_enabled(a: &[u8], b: &[i8]) -> i32 {
        let (b, _) = b.as_chunks();
        // SAFETY: each `y` is 16 readable bytes, and `loadu` asks for no alignment.
        sum(a, b, |y| unsafe { _mm_loadu_si128(y.as_ptr().cast()) })
    }

    #[target_feature(enable = "avx2")]
    fn dot_u8u8_enabled(a: &[u8], b: &[u8]) -> i32 {
        let (b, _) = b.as_chunks();
        let flip = _mm_set1_epi8(i8::MIN);
        sum(a, b, |y| {
            // SAFETY: each `y` is 16 readable bytes, and `loadu` asks for no alignment.
            _mm_xor_si128(unsafe { _mm_loadu_si128(y.as_ptr().cast()) }, flip)
        })
    }

    /// Widens to 16 bits first: the byte product of AVX2 saturates its pair sums at 32,767, and
    /// two products of 255 by 127 come to 64,770.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn sum<T>(a: &[u8], b: &[[T; 16]], signed: impl Fn(&[T; 16]) -> __m128i) -> i32 {
        let (a, _) = a.as_chunks::<16>();
        let mut sums = [_mm256_setzero_si256(); 4];
        // A block is four of these wide, so nothing is left over.
        let (a_fours, _) = a.as_chunks::<4>();
        let (b_fours, _) = b.as_chunks::<4>();
        for (x, y) in a_fours.iter().zip(b_fours) {
            for lane in 0..4 {
                // SAFETY: `x[lane]` is 16 readable bytes, and `loadu` asks for no alignment.
                let x = unsafe { _mm_loadu_si128(x[lane].as_ptr().cast()) };
                let (x, y) = (
                    _mm256_cvtepu8_epi16(x),
                    _mm256_cvtepi8_epi16(signed(&y[lane])),
                );
                sums[lane] = _mm256_add_epi32(sums[lane], _mm256_madd_epi16(x, y));
            }
        }
        fold(_mm256_add_epi32(
            _mm256_add_epi32(sums[0], sums[1]),
            _mm256_add_epi32(sums[2], sums[3]),
        ))
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
}
