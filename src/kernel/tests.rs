//! Every set this machine can run against the scalar twin, and the twin against plain sums.

use super::{BLOCK, Block, Kernels, available, bytes_of, bytes_of_mut, kernels, scalar};

/// A reproducible stream of bits (splitmix64).
struct Bits(u64);

impl Bits {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    /// Mostly ordinary values, with every kind of awkward one among them.
    fn float(&mut self) -> f32 {
        let unit = (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
        match self.next() % 16 {
            0 => -0.0,
            1 => 0.0,
            2 => 1e15 * unit.signum(),
            3 => unit * 1e15,
            4 => f32::from_bits((self.next() >> 41) as u32), // subnormal
            5 => f32::MIN_POSITIVE * unit.signum(),
            6 => unit * 1e-20,
            7 => unit * 1e6,
            _ => unit,
        }
    }

    fn floats(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.float()).collect()
    }
}

fn same(set: &Kernels, what: &str, len: usize, got: f32, twin: f32) {
    assert_eq!(
        got.to_bits(),
        twin.to_bits(),
        "{what} of {} at length {len}: {got:e} and not {twin:e}",
        set.name
    );
}

#[test]
fn names_are_distinct_and_the_scalar_twin_is_last() {
    let names: Vec<_> = available().iter().map(|set| set.name).collect();
    assert_eq!(names.last(), Some(&"scalar"));
    for (at, name) in names.iter().enumerate() {
        assert!(["avx512", "avxvnni", "avx2", "neon", "scalar"].contains(name));
        assert!(!names[..at].contains(name));
    }
    let picked = kernels().name;
    assert!(names.contains(&picked));
    match std::env::var("VECSTASH_KERNEL") {
        Ok(wanted) if names.contains(&wanted.as_str()) => assert_eq!(picked, wanted),
        _ => assert_eq!(picked, names[0]),
    }
    #[cfg(target_arch = "aarch64")]
    assert_eq!(names[0], "neon");
}

#[test]
fn integer_kernels_agree_with_plain_sums_at_every_padded_length() {
    let mut bits = Bits(1);
    for blocks in 0..=33 {
        let len = blocks * BLOCK;
        // One byte further, so that nothing is aligned.
        let (a, b) = (bits.bytes(len + 1), bits.bytes(len + 1));
        let signed: Vec<i8> = b.iter().map(|&byte| byte as i8).collect();
        let u8i8: i64 = a[1..]
            .iter()
            .zip(&signed[1..])
            .map(|(&x, &y)| i64::from(x) * i64::from(y))
            .sum();
        let u8u8: i64 = a[1..]
            .iter()
            .zip(&b[1..])
            .map(|(&x, &y)| i64::from(x) * (i64::from(y) - 128))
            .sum();
        for set in available() {
            assert_eq!(
                i64::from((set.dot_u8i8)(&a[1..], &signed[1..])),
                u8i8,
                "{}",
                set.name
            );
            assert_eq!(
                i64::from((set.dot_u8u8)(&a[1..], &b[1..])),
                u8u8,
                "{}",
                set.name
            );
        }
    }
}

#[test]
fn integer_kernels_hold_the_extremes_of_the_largest_dimension() {
    let len = crate::limits::DIM_MAX.next_multiple_of(BLOCK);
    for set in available() {
        for (x, y) in [
            (255u8, -128i8),
            (255, 127),
            (1, -128),
            (0, -128),
            (128, -1),
            (127, 127),
        ] {
            let (a, b) = (vec![x; len], vec![y; len]);
            let unsigned = vec![(y as u8) ^ 0x80; len];
            let want = len as i64 * i64::from(x) * i64::from(y);
            assert_eq!(
                i64::from((set.dot_u8i8)(&a, &b)),
                want,
                "{} {x} {y}",
                set.name
            );
            assert_eq!(
                i64::from((set.dot_u8u8)(&a, &unsigned)),
                want,
                "{} {x} {y}",
                set.name
            );
        }
    }
}

#[test]
fn float_kernels_agree_with_the_twin_bit_for_bit_at_every_length() {
    let mut bits = Bits(2);
    let twin = scalar::KERNELS;
    for len in 0..=2_100 {
        let offset = 1 + len % 3;
        let (a, b) = (bits.floats(len + offset), bits.floats(len + offset));
        let (a, b) = (&a[offset..], &b[offset..]);
        let codes = bits.bytes(len.next_multiple_of(BLOCK) + 1);
        let codes = &codes[1..];
        let (min, scale) = (bits.float(), bits.float().abs() / 255.0);
        for set in available() {
            same(
                &set,
                "l2_squared",
                len,
                (set.l2_squared)(a, b),
                (twin.l2_squared)(a, b),
            );
            same(&set, "dot", len, (set.dot)(a, b), (twin.dot)(a, b));
            let decoded: Vec<f32> = codes[..len]
                .iter()
                .map(|&code| min + scale * f32::from(code))
                .collect();
            let got = (set.l2_squared_u8)(a, codes, min, scale);
            same(
                &set,
                "l2_squared_u8",
                len,
                got,
                (twin.l2_squared)(a, &decoded),
            );
            let got = (set.dot_u8)(a, codes, min, scale);
            same(&set, "dot_u8", len, got, (twin.dot)(a, &decoded));
        }
    }
}

#[test]
fn the_twin_is_close_to_a_sum_in_double_precision() {
    let mut bits = Bits(3);
    for len in [1, 31, 32, 33, 100, 384, 2_049, crate::limits::DIM_MAX] {
        let mut unit = || (bits.next() >> 40) as f32 / (1u64 << 24) as f32;
        let a: Vec<f32> = (0..len).map(|_| unit()).collect();
        let b: Vec<f32> = (0..len).map(|_| unit()).collect();
        let pairs = || {
            a.iter()
                .zip(&b)
                .map(|(&x, &y)| (f64::from(x), f64::from(y)))
        };
        let l2: f64 = pairs().map(|(x, y)| (x - y) * (x - y)).sum();
        let dot: f64 = pairs().map(|(x, y)| x * y).sum();
        assert!((f64::from(scalar::l2_squared(&a, &b)) - l2).abs() <= 1e-5 * l2);
        assert!((f64::from(scalar::dot(&a, &b)) - dot).abs() <= 1e-5 * dot);
    }
}

#[test]
fn the_largest_vectors_have_finite_distances() {
    let far = vec![crate::limits::MAGNITUDE_MAX; crate::limits::DIM_MAX];
    let near: Vec<f32> = far.iter().map(|value| -value).collect();
    for set in available() {
        assert!((set.l2_squared)(&far, &near).is_finite());
        assert!((set.dot)(&far, &near).is_finite());
    }
}

#[test]
fn blocks_are_lines_of_bytes() {
    let mut blocks = [Block::ZERO; 2];
    bytes_of_mut(&mut blocks)[BLOCK] = 7;
    assert_eq!(bytes_of(&blocks).len(), 2 * BLOCK);
    assert_eq!(blocks[1].0[0], 7);
    assert_eq!(bytes_of(&blocks).as_ptr().addr() % BLOCK, 0);
}
