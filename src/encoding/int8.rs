//! Scalar quantisation to one byte per coordinate, between the vector's own minimum and maximum,
//! and in vectors of few coordinates to a third of a step.
//!
//! The bytes alone are a code: `value = min + scale * byte`. Behind them stand the thirds, which say
//! which third of a step is nearest, the one below the byte, itself or the one above: `digit` is 0, 1
//! or 2 in `value = min + scale * (byte + (digit - 1) / 3)`. Five digits of base three share a byte,
//! the first the lowest. Vectors of up to `INT8_REFINED_DIM_MAX` coordinates are written with thirds,
//! and read without them as if every digit were 1.

use crate::kernel::{Refined, THIRDS};
use crate::limits;

/// Digits that move nothing.
pub(super) const PLAIN: u8 = 1 + 3 + 9 + 27 + 81;

/// Bytes of the thirds of a vector that has them.
pub(super) const fn refinement_len(dim: usize) -> usize {
    if dim <= limits::INT8_REFINED_DIM_MAX {
        dim.div_ceil(THIRDS)
    } else {
        0
    }
}

/// The thirds of a vector without, none where there cannot be any.
pub(crate) fn no_thirds(dim: usize) -> &'static [u8] {
    &[PLAIN; refinement_len(limits::INT8_REFINED_DIM_MAX)][..refinement_len(dim)]
}

/// The `[min, scale]` of a vector and nothing else: `value = min + scale * code`.
pub(crate) fn range(vector: &[f32]) -> (f32, f32) {
    // Sixteen at a time and by plain comparisons, which fill a register; `f32::min` would not.
    let (mut lows, mut highs) = ([f32::INFINITY; 16], [f32::NEG_INFINITY; 16]);
    let mut see = |lane: usize, value: f32| {
        lows[lane] = if value < lows[lane] {
            value
        } else {
            lows[lane]
        };
        highs[lane] = if value > highs[lane] {
            value
        } else {
            highs[lane]
        };
    };
    let (chunks, tail) = vector.as_chunks::<16>();
    for chunk in chunks {
        for (lane, &value) in chunk.iter().enumerate() {
            see(lane, value);
        }
    }
    for (lane, &value) in tail.iter().enumerate() {
        see(lane, value);
    }
    let high = highs.into_iter().fold(f32::NEG_INFINITY, f32::max);
    // A minimum of -0.0 would make equal vectors differ in their bytes.
    let low = lows.into_iter().fold(f32::INFINITY, f32::min) + 0.0;
    // Below the smallest normal float a scale has lost digits that 255 steps would make visible;
    // vectors that flat, within 3e-36, are stored as constant.
    let mut scale = (high - low) / 255.0;
    // What is read back is a legal query and a legal row, also where rounding leads past the limit.
    while low + scale * 255.0 > limits::MAGNITUDE_MAX {
        scale = scale.next_down();
    }
    (
        low,
        if scale < f32::MIN_POSITIVE {
            0.0
        } else {
            scale
        },
    )
}

/// The code of one coordinate.
#[inline]
pub(crate) fn code(value: f32, min: f32, scale: f32) -> u8 {
    if scale == 0.0 {
        return 0;
    }
    // Halves round up; the cast saturates at 0 and 255.
    ((value - min) / scale + 0.5) as u8
}

/// How many thirds of a step a coordinate is above the minimum.
#[inline]
fn thirds(value: f32, min: f32, scale: f32) -> u16 {
    if scale == 0.0 {
        return 0;
    }
    // Halves round up; the cast saturates at 0.
    (((value - min) / scale * 3.0 + 0.5) as u16).min(3 * 255)
}

pub(super) fn encode(vector: &[f32], bytes: &mut Vec<u8>, params: &mut Vec<f32>) {
    let (min, scale) = range(vector);
    params.extend_from_slice(&[min, scale]);
    let refinement = refinement_len(vector.len());
    bytes.reserve_exact(vector.len() + refinement);
    if refinement == 0 {
        bytes.extend(vector.iter().map(|&value| code(value, min, scale)));
        return;
    }
    let nearest = |thirds: u16| (thirds + 1) / 3;
    bytes.extend(
        vector
            .iter()
            .map(|&value| nearest(thirds(value, min, scale)) as u8),
    );
    bytes.extend(vector.chunks(THIRDS).map(|values| {
        let (mut byte, mut weight) = (u16::from(PLAIN), 1);
        for &value in values {
            let thirds = thirds(value, min, scale);
            // One more or less than the digit 1 that stands there, or the same.
            byte = byte + weight * thirds - weight * (3 * nearest(thirds));
            weight *= 3;
        }
        byte as u8
    }));
}

/// Decodes bytes, with their thirds behind them if they have any.
pub(super) fn decode(bytes: &[u8], params: &[f32], out: &mut [f32]) {
    let (codes, thirds) = bytes.split_at(out.len());
    let (min, scale) = (params[0], params[1]);
    if !thirds.is_empty() {
        let row = Refined {
            codes,
            thirds,
            min,
            scale,
        };
        return row.decode(out);
    }
    for (place, &byte) in out.iter_mut().zip(codes) {
        let value = min + scale * f32::from(byte);
        // Files from before the encoder kept its steps within the limit hold some a hair beyond.
        *place = value.clamp(-limits::MAGNITUDE_MAX, limits::MAGNITUDE_MAX);
    }
}

/// Whether both parameters are finite, the scale is not negative, and no code leaves the range.
pub(super) fn is_valid(params: &[f32]) -> bool {
    let (min, scale) = (params[0], params[1]);
    // A hair of room, which `decode` takes back.
    let limit = limits::MAGNITUDE_MAX * (1.0 + 1e-6);
    min.abs() <= limit && (0.0..).contains(&scale) && (min + scale * 255.0).abs() <= limit
}
