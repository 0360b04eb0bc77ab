//! Every set this machine can run against the scalar twin, and the twin against plain sums.

use super::{
    BLOCK, Block, Kernels, LANES, PairTerms, Panel, Places, Probe, Products, RANKS, ROWS_MAX,
    RankLine, Refined, RowTerms, available, bytes_of, bytes_of_mut, cosine_key, digits_per_byte,
    dot_key, kernels, l2_key, scalar,
};

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

/// `sum a[i] * (b[i] - 128)`, as plainly as it can be written.
fn plain(a: &[u8], b: &[u8]) -> i64 {
    let pairs = a.iter().zip(b);
    pairs
        .map(|(&x, &y)| i64::from(x) * (i64::from(y) - 128))
        .sum()
}

#[test]
fn integer_kernels_agree_with_plain_sums_at_every_padded_length() {
    let mut bits = Bits(1);
    for blocks in 0..=33 {
        let len = blocks * BLOCK;
        // One byte further, so that nothing is aligned.
        let rows: Vec<Vec<u8>> = (0..ROWS_MAX).map(|_| bits.bytes(len + 1)).collect();
        let b = bits.bytes(len + 1);
        let (b, rows): (_, Vec<&[u8]>) = (&b[1..], rows.iter().map(|row| &row[1..]).collect());
        for set in available() {
            let mut probe = Probe::default();
            (set.aim)(b, &mut probe);
            for count in 0..=ROWS_MAX {
                let mut sums = [7; ROWS_MAX];
                (set.dots)(&probe, &rows[..count], &mut sums);
                for (row, sum) in rows.iter().zip(&sums[..count]) {
                    let want = plain(row, b);
                    assert_eq!(i64::from(*sum), want, "{} dots {len}", set.name);
                    assert_eq!(
                        i64::from((set.dot_u8u8)(row, b)),
                        want,
                        "{} {len}",
                        set.name
                    );
                }
                assert!(sums[count..].iter().all(|&sum| sum == 7), "{}", set.name);
            }
        }
    }
}

#[test]
fn a_probe_is_used_again_for_codes_of_any_length() {
    let mut bits = Bits(4);
    for set in available() {
        let mut probe = Probe::default();
        for blocks in [5, 1, 3] {
            let (a, b) = (bits.bytes(blocks * BLOCK), bits.bytes(blocks * BLOCK));
            (set.aim)(&b, &mut probe);
            let mut sums = [0; ROWS_MAX];
            (set.dots)(&probe, &[&a], &mut sums);
            assert_eq!(i64::from(sums[0]), plain(&a, &b), "{}", set.name);
        }
    }
}

#[test]
fn integer_kernels_hold_the_extremes_of_the_largest_dimension() {
    let len = crate::limits::DIM_MAX.next_multiple_of(BLOCK);
    for set in available() {
        for (x, y) in [
            (255u8, 0u8),
            (255, 255),
            (1, 0),
            (0, 0),
            (128, 127),
            (127, 255),
        ] {
            let (a, b) = (vec![x; len], vec![y; len]);
            let want = plain(&a, &b);
            let mut probe = Probe::default();
            (set.aim)(&b, &mut probe);
            let mut sums = [0; ROWS_MAX];
            (set.dots)(&probe, &[&a, &a], &mut sums);
            let (mut panel, mut products) = (Panel::default(), Products::default());
            (set.pack)(&[&b], &mut panel);
            (set.products)(&[&a], 0, &panel, &mut products);
            let pair = (set.dot_u8u8)(&a, &b);
            for got in [pair, sums[0], sums[1], products.sums[0]] {
                assert_eq!(i64::from(got), want, "{} {x} {y}", set.name);
            }
        }
    }
}

#[test]
fn panels_multiply_as_pairs_do() {
    let mut bits = Bits(5);
    let (mut panel, mut products) = (Panel::default(), Products::default());
    for set in available() {
        for (rows, columns, blocks) in [
            (0, 3, 1),
            (1, 0, 1),
            (1, 1, 1),
            (3, 7, 1),
            (4, 8, 2),
            (5, 17, 3),
            (64, 65, 1),
            (6, 40, 1),
            (37, 77, 2),
            (8, 96, 1),
            (9, 130, 2),
            (2, 31, 33),
        ] {
            let mut draw = |count| -> Vec<Vec<u8>> {
                (0..count).map(|_| bits.bytes(blocks * BLOCK)).collect()
            };
            let (a, b) = (draw(rows), draw(columns));
            let a: Vec<&[u8]> = a.iter().map(Vec::as_slice).collect();
            let b: Vec<&[u8]> = b.iter().map(Vec::as_slice).collect();
            (set.pack)(&b, &mut panel);
            for first in [0, columns / 2] {
                if columns > 0 {
                    (set.products)(&a, first, &panel, &mut products);
                }
                for (i, row) in a.iter().enumerate() {
                    for (j, column) in b.iter().enumerate().skip(first) {
                        let got = products.sums[i * panel.stride() + j];
                        assert_eq!(i64::from(got), plain(row, column), "{} {i} {j}", set.name);
                    }
                }
            }
        }
    }
}

#[test]
fn keys_of_pairs_agree_with_the_twin_bit_for_bit() {
    let mut bits = Bits(6);
    for columns in [0usize, 1, 7, 8, 9, 16, 17, 64, 257] {
        let mut terms = PairTerms::default();
        let mut draw = || RowTerms {
            dim: 384.0,
            mid: bits.float(),
            scale: bits.float().abs(),
            sum: bits.float(),
            own: bits.float().abs(),
        };
        let row = draw();
        for column in 0..columns {
            terms.push(&draw(), column as i32 * 1_000);
        }
        let padded = columns.next_multiple_of(LANES);
        let products: Vec<i32> = (0..padded).map(|_| bits.next() as i32 >> 4).collect();
        let first = columns / 3;
        let of_pair = |key: fn(&RowTerms, &RowTerms, f32) -> f32, column: usize| {
            let product = products[column].wrapping_sub(column as i32 * 1_000);
            key(&row, &terms.row(column, 384.0), product as f32)
        };
        for set in available() {
            for (keys, key) in [
                (set.l2_keys, l2_key as fn(&RowTerms, &RowTerms, f32) -> f32),
                (set.dot_keys, dot_key),
                (set.cosine_keys, cosine_key),
            ] {
                let mut got = vec![0.5; padded];
                keys(&row, &terms, first, &products, &mut got);
                let begin = first / LANES * LANES;
                for (column, &got) in got.iter().enumerate().take(columns).skip(begin) {
                    same(&set, "keys", columns, got, of_pair(key, column));
                }
                assert!(got[..begin].iter().all(|&key| key == 0.5));
                assert!(got[columns..].iter().all(|&key| key == f32::INFINITY));
            }
        }
    }
}

/// Keys with many ties, infinite ones among them.
fn tied_keys(bits: &mut Bits, len: usize) -> Vec<f32> {
    let mut key = || match bits.next() % 12 {
        0 => f32::INFINITY,
        kind => kind as f32 / 2.0 - 3.0,
    };
    (0..len).map(|_| key()).collect()
}

#[test]
fn what_may_be_near_agrees_with_the_twin_and_has_the_least_keys() {
    let mut bits = Bits(7);
    for round in 0..400 {
        let keys = tied_keys(&mut bits, round % 12 * LANES);
        let (k, limit) = (
            [1, 4, 8, 16, 17][round % 5],
            [f32::INFINITY, 0.5][round % 2],
        );
        let mut want = vec![7; keys.len().div_ceil(64) + 1];
        (scalar::KERNELS.near)(&keys, k, limit, &mut want);
        for set in available() {
            let mut got = vec![7; want.len()];
            (set.near)(&keys, k, limit, &mut got);
            assert_eq!(got, want, "{} of {}, {}", k, keys.len(), set.name);
        }
        assert_eq!(want.pop(), Some(7));
        let is_told = |at: usize| want[at / 64] >> (at % 64) & 1 == 1;
        let mut sorted = keys.clone();
        sorted.sort_by(f32::total_cmp);
        let least = sorted.get(k - 1).map_or(limit, |&key| key.min(limit));
        for (at, &key) in keys.iter().enumerate() {
            assert!(is_told(at) || key > least, "{key} of {k} is missing");
            assert!(!is_told(at) || key <= limit);
        }
        let told = (0..keys.len()).filter(|&at| is_told(at)).count();
        if k == 1 {
            let ties = keys.iter().filter(|&&key| key <= least).count();
            assert_eq!(told, ties, "the least lane is the least key");
        }
    }
}

#[test]
fn lists_of_columns_agree_with_the_twin_and_are_the_nearest() {
    let mut bits = Bits(8);
    for (k, columns) in [(1, 16), (3, 32), (4, 48), (4, 512), (8, 16), (32, 64)] {
        let bound = |column: usize| [f32::INFINITY, 1.0, -9.0][column % 3];
        let begun: Vec<Places> = (0..columns / LANES * k)
            .map(|at| Places {
                keys: std::array::from_fn(|lane| bound(at / k * LANES + lane)),
                nodes: [u32::MAX; LANES],
            })
            .collect();
        let rows: Vec<Vec<f32>> = (0..100).map(|_| tied_keys(&mut bits, columns)).collect();
        for set in available() {
            let mut lists = begun.clone();
            for (row, keys) in rows.iter().enumerate().rev() {
                (set.offer)(row as u32, keys, k, &mut lists);
            }
            for column in 0..columns {
                let place = |nth: usize| lists[column / LANES * k + nth];
                let lane = column % LANES;
                let got: Vec<(f32, u32)> = (0..k)
                    .map(|nth| (place(nth).keys[lane], place(nth).nodes[lane]))
                    .collect();
                // Of equal keys at the end of a list those that came first stay.
                let mut want: Vec<(f32, u32)> = Vec::new();
                for (row, keys) in rows.iter().enumerate().rev() {
                    let last = want.get(k - 1).map_or(bound(column), |last| last.0);
                    if keys[column] < last {
                        let place = want.partition_point(|kept| kept.0 < keys[column]);
                        want.insert(place, (keys[column], row as u32));
                        want.truncate(k);
                    }
                }
                want.resize(k, (bound(column), u32::MAX));
                assert_eq!(got, want, "{k} places, column {column}, {}", set.name);
            }
        }
    }
}

#[test]
fn ranks_are_put_in_order_once_each() {
    let mut bits = Bits(9);
    for set in available() {
        for lines in [0, 1, 5] {
            let room = lines * RANKS;
            let mut list = vec![RankLine([u64::MAX - 1; RANKS]); lines];
            let mut all = std::collections::BTreeSet::new();
            for _ in 0..300 {
                let rank = match bits.next() % 8 {
                    0 => u64::MAX - 2,
                    1 => 0,
                    _ => bits.next() >> 5 << 56 | 1,
                };
                (set.insert)(&mut list, rank);
                all.insert(rank);
                let mut want: Vec<u64> = all.iter().copied().take(room).collect();
                want.resize(room, u64::MAX - 1);
                let got: Vec<u64> = list.iter().flat_map(|line| line.0).collect();
                assert_eq!(got, want, "{} with room for {room}", set.name);
            }
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
        let digits = bits.bytes(len.div_ceil(digits_per_byte(len)));
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
            let row = Refined {
                codes: &codes[..len],
                digits: &digits,
                min,
                scale,
            };
            let mut decoded = vec![0.0; len];
            row.decode(&mut decoded);
            let got = (set.l2_squared_refined)(a, &row);
            let wanted = (twin.l2_squared)(a, &decoded);
            same(&set, "l2_squared_refined", len, got, wanted);
            let got = (set.dot_refined)(a, &row);
            same(&set, "dot_refined", len, got, (twin.dot)(a, &decoded));
        }
    }
}

#[test]
fn a_refined_code_is_parts_of_a_step() {
    let mut bits = Bits(5);
    for len in [
        1, 2, 5, 6, 31, 32, 33, 127, 128, 129, 255, 256, 257, 319, 320, 321, 384, 512,
    ] {
        let per_byte = if len <= 256 { 4 } else { 5 };
        let (codes, digits) = (bits.bytes(len), bits.bytes(len.div_ceil(per_byte)));
        let row = Refined {
            codes: &codes,
            digits: &digits,
            min: -3.0,
            scale: 0.5,
        };
        let mut decoded = vec![9.0; len];
        row.decode(&mut decoded);
        for (place, &value) in decoded.iter().enumerate() {
            let byte = digits[place / per_byte];
            let moved = match (per_byte, place % 2) {
                (5, _) => (f32::from(byte / 3u8.pow(place as u32 % 5) % 3) - 1.0) / 3.0,
                (_, 0) => (f32::from(byte >> (place % 4 * 2) & 3) - 2.0) / 4.0,
                _ => (f32::from(byte >> (place % 4 * 2) & 3) - 1.0) / 4.0,
            };
            let steps = f32::from(codes[place]) + moved;
            assert_eq!(value, -3.0 + 0.5 * steps, "{place} of {len}");
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
