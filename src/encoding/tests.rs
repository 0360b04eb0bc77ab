//! What every codec promises: its error, what it refuses, and that hostile bytes cannot hurt.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{Codec, EncodedVector, EncodingError};
use crate::limits::{DIM_MAX, FP16_MAX, MAGNITUDE_MAX};

fn encode(codec: Codec, vector: &[f32]) -> EncodedVector {
    codec.encoder().encode(vector).unwrap()
}

fn decode(encoded: &EncodedVector) -> Vec<f32> {
    Codec::encoder(encoded.codec).decode(encoded).unwrap()
}

/// Checks the table at the head of the module against one vector.
fn within_bounds(vector: &[f32]) {
    let max = vector.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let min = vector.iter().copied().fold(f32::INFINITY, f32::min);
    let largest = f64::from(max.abs().max(min.abs()));
    let range = f64::from(max) - f64::from(min);
    let steps = match vector.len() {
        0..=256 => 2_040.0,
        257..=512 => 1_530.0,
        _ => 510.0,
    };
    for codec in Codec::ALL {
        if codec.validate(vector).is_err() {
            continue;
        }
        let encoded = encode(codec, vector);
        assert_eq!(encoded.bytes.len(), codec.vector_len(vector.len()));
        assert_eq!(encoded.params.len(), codec.params_len());
        let decoded = decode(&encoded);
        for (&x, &y) in vector.iter().zip(&decoded) {
            let bound = match codec {
                Codec::Int8Quantized if range <= 3e-36 => 3e-36,
                Codec::Int8Quantized => range / steps + largest * 2f64.powi(-21),
                Codec::Fp16 => (f64::from(x).abs() * 2f64.powi(-11)).max(2f64.powi(-25)),
                _ => 0.0,
            };
            let error = (f64::from(x) - f64::from(y)).abs();
            assert!(
                error <= bound,
                "{codec}: {x:e} became {y:e} in {min:e}..{max:e}"
            );
            assert!(codec == Codec::Int8Quantized || x.is_sign_negative() == y.is_sign_negative());
        }
        if codec != Codec::Int8Quantized {
            assert_eq!(encode(codec, &decoded), encoded);
        }
        let mut reused = encode(Codec::F32, &[1.0, 2.0, 3.0]);
        codec.encode_into(vector, &mut reused).unwrap();
        assert_eq!(reused, encoded);
    }
}

/// Any float a vector may hold: every exponent is as likely as every other.
fn coordinate() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => any::<u32>().prop_map(f32::from_bits).prop_filter("within limits", |value| {
            value.abs() <= MAGNITUDE_MAX
        }),
        4 => -1.0f32..1.0,
        1 => -FP16_MAX..FP16_MAX,
        1 => prop_oneof![
            Just(0.0f32), Just(-0.0), Just(MAGNITUDE_MAX), Just(-MAGNITUDE_MAX),
            Just(f32::MIN_POSITIVE), Just(f32::from_bits(1)), Just(FP16_MAX), Just(-FP16_MAX),
        ],
    ]
}

proptest! {
    #[test]
    fn errors_are_within_their_bounds(vector in vec(coordinate(), 1..600)) {
        within_bounds(&vector);
    }

    #[test]
    fn errors_are_within_their_bounds_at_any_scale_and_offset(
        unit in vec(-1.0f32..1.0, 1..200), scale in -44i32..15, offset in coordinate(),
    ) {
        let scale = 10f32.powi(scale);
        let clamp = |value: f32| value.clamp(-MAGNITUDE_MAX, MAGNITUDE_MAX);
        within_bounds(&unit.iter().map(|x| clamp(x * scale + offset)).collect::<Vec<_>>());
    }

    #[test]
    fn hostile_vectors_are_refused_or_decode_to_what_can_be_encoded(
        codec in 0..Codec::ALL.len(), dim in any::<u16>(), claimed in any::<bool>(),
        bytes in vec(any::<u8>(), 0..260), params in vec(any::<u32>(), 0..4),
    ) {
        let codec = Codec::ALL[codec];
        // Half of the cases claim a dimension that fits their bytes.
        let fits = |dim: &u16| codec.vector_len(usize::from(*dim)) == bytes.len();
        let fitting = (0..=260).find(fits).unwrap_or(bytes.len() as u16);
        let dim = if claimed { fitting } else { dim };
        let params = params.into_iter().map(f32::from_bits).collect();
        let hostile = EncodedVector { codec, dim, bytes, params };
        let _ = hostile.decode();
        let valid = hostile.view().validate().is_ok();
        let decoded = codec.encoder().decode(&hostile);
        prop_assert_eq!(decoded.is_ok(), valid);
        if let Ok(decoded) = decoded {
            prop_assert!(decoded.iter().all(|value| value.abs() <= MAGNITUDE_MAX));
        }
    }

    #[test]
    fn what_a_codec_cannot_hold_is_named(
        mut vector in vec(-1.0f32..1.0, 1..100), at in any::<prop::sample::Index>(),
        codec in 0..Codec::ALL.len(),
    ) {
        let codec = Codec::ALL[codec];
        let at = at.index(vector.len());
        let before = encode(codec, &vector);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            vector[at] = bad;
            let mut out = before.clone();
            let refused = codec.encode_into(&vector, &mut out);
            let Err(EncodingError::NotFinite { index, value }) = refused else {
                panic!("{codec} took {bad}: {refused:?}");
            };
            prop_assert_eq!((index, value.to_bits()), (at, bad.to_bits()));
            prop_assert_eq!(&out, &before);
        }
        let max = if codec == Codec::Fp16 { FP16_MAX } else { MAGNITUDE_MAX };
        for bad in [max.next_up(), -max.next_up(), f32::MAX, f32::MIN] {
            vector[at] = bad;
            prop_assert_eq!(
                codec.validate(&vector),
                Err(EncodingError::Magnitude { index: at, value: bad, max, codec: codec.as_str() })
            );
        }
        for good in [max, -max] {
            vector[at] = good;
            within_bounds(&vector);
        }
    }
}

proptest! {
    #[test]
    fn vectors_without_digits_are_their_codes(
        vector in vec(coordinate(), 1..600),
    ) {
        let refined = encode(Codec::Int8Quantized, &vector);
        let mut plain = refined.clone();
        plain.bytes.truncate(vector.len());
        prop_assert_eq!(plain.view().validate(), Ok(()));
        let decoded = decode(&plain);
        let [min, scale] = plain.params[..] else { panic!("two parameters") };
        for (value, &byte) in decoded.iter().zip(&plain.bytes) {
            let code = min + scale * f32::from(byte);
            prop_assert_eq!(*value, code.clamp(-MAGNITUDE_MAX, MAGNITUDE_MAX));
        }
        let mut filled = Vec::new();
        plain.view().append_bytes(&mut filled);
        prop_assert_eq!(filled.len(), refined.bytes.len());
        plain.bytes = filled;
        prop_assert_eq!(decode(&plain), decoded);
        // Neither more nor fewer bytes than one kind of vector or the other has.
        for len in [1, vector.len() + 1, refined.bytes.len() + 1] {
            plain.bytes.resize(len, 0);
            let fits = len == vector.len() || len == refined.bytes.len();
            prop_assert_eq!(plain.view().validate().is_ok(), fits);
        }
    }
}

/// What is whole steps from the minimum is kept as it is.
#[test]
fn whole_steps_are_exact() {
    for dim in [3, 64, 100, 256, 257, 512, 513] {
        let vector: Vec<f32> = (0..dim).map(|i| (i * 37 % 256) as f32 - 100.0).collect();
        let mut vector = vector;
        (vector[0], vector[1]) = (-100.0, 155.0);
        assert_eq!(decode(&encode(Codec::Int8Quantized, &vector)), vector);
    }
}

#[test]
fn corners() {
    for value in [
        0.0,
        -0.0,
        1.0,
        -7.5,
        MAGNITUDE_MAX,
        f32::from_bits(1),
        f32::MIN_POSITIVE,
    ] {
        for dim in [1, 2, 15, 16, 17, 64, 65, 256, 257, 384, 512, 513, 700] {
            within_bounds(&vec![value; dim]);
            let constant = encode(Codec::Int8Quantized, &vec![value; dim]);
            assert_eq!(constant.params, [value, 0.0]);
            assert_eq!(decode(&constant), vec![value; dim]);
        }
    }
    within_bounds(&[MAGNITUDE_MAX, -MAGNITUDE_MAX]);
    // The top step of this range rounds past the limit, and what is read back must be a query.
    let over = encode(
        Codec::Int8Quantized,
        &[MAGNITUDE_MAX, -143_144_030_000_000.0],
    );
    assert_eq!(Codec::Int8Quantized.validate(&decode(&over)), Ok(()));
    assert!(over.params[0] + over.params[1] * 255.0 <= MAGNITUDE_MAX);
    within_bounds(&[
        f32::MIN_POSITIVE,
        0.0,
        -f32::MIN_POSITIVE,
        f32::from_bits(1),
    ]);
    within_bounds(&vec![0.25; DIM_MAX]);
    let extremes = encode(Codec::Int8Quantized, &[-MAGNITUDE_MAX, 0.0, MAGNITUDE_MAX]);
    // Half a step above 127, as odd coordinates have it.
    assert_eq!(extremes.bytes, [0, 127, 255, 2 | 3 << 2 | 2 << 4 | 1 << 6]);
    // Digits that move nothing, those left over among them.
    let flat = |dim| {
        encode(Codec::Int8Quantized, &vec![7.0; dim])
            .bytes
            .split_off(dim)
    };
    assert_eq!((flat(6), flat(257)), (vec![102; 2], vec![121; 52]));
    // Thirds: the last byte holds one step less a third, and one more.
    let mut row = vec![0.0; 257];
    (row[0], row[255], row[256]) = (255.0, 100.0 - 1.0 / 3.0, 100.0 + 1.0 / 3.0);
    let row = encode(Codec::Int8Quantized, &row);
    assert_eq!(row.bytes[255..257], [100, 100]);
    assert_eq!(row.bytes[308], 2 * 3 + 9 + 27 + 81);
    assert!(extremes.view().validate().is_ok());
    assert_eq!(
        encode(Codec::Int8Quantized, &[-0.0, 1.0]).params[0].to_bits(),
        encode(Codec::Int8Quantized, &[0.0, 1.0]).params[0].to_bits()
    );
    assert_eq!(encode(Codec::Fp16, &[FP16_MAX]).bytes, [0xff, 0x7b]);
    for codec in Codec::ALL {
        for len in [0, DIM_MAX + 1] {
            assert_eq!(
                codec.validate(&vec![0.0; len]),
                Err(EncodingError::Length { len })
            );
        }
        assert!(EncodedVector::empty(codec).view().validate().is_err());
    }
    let mismatch = Codec::F32.encoder().decode(&encode(Codec::Fp16, &[1.0]));
    assert!(matches!(mismatch, Err(EncodingError::CodecMismatch { .. })));
}

#[test]
fn batches_of_halves_are_converted_as_single_ones() {
    let vector: Vec<f32> = (0..=u16::MAX)
        .map(|bits| half::f16::from_bits(bits).to_f32())
        .filter(|value| value.is_finite())
        .flat_map(|value| [value, value * (1.0 + 2f32.powi(-11)), value * 1.000_3])
        .filter(|value| value.abs() <= FP16_MAX)
        .collect();
    for vector in vector.chunks(1_001) {
        let encoded = encode(Codec::Fp16, vector);
        let single: Vec<u8> = vector
            .iter()
            .flat_map(|&value| half::f16::from_f32(value).to_le_bytes())
            .collect();
        assert_eq!(encoded.bytes, single);
        let halves = single.as_chunks::<2>().0.iter();
        let single: Vec<f32> = halves
            .map(|b| half::f16::from_le_bytes(*b).to_f32())
            .collect();
        assert_eq!(decode(&encoded), single);
    }
}
