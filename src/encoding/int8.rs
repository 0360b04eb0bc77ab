//! Scalar quantisation to one byte per coordinate, between the vector's own minimum and maximum.

use crate::limits;

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

pub(super) fn encode(vector: &[f32], bytes: &mut Vec<u8>, params: &mut Vec<f32>) {
    let (min, scale) = range(vector);
    bytes.reserve_exact(vector.len());
    bytes.extend(vector.iter().map(|&value| code(value, min, scale)));
    params.extend_from_slice(&[min, scale]);
}

pub(super) fn decode(bytes: &[u8], params: &[f32], out: &mut [f32]) {
    let (min, scale) = (params[0], params[1]);
    for (place, &byte) in out.iter_mut().zip(bytes) {
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
