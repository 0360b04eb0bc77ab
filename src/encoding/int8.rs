//! Scalar quantisation to one byte per coordinate, between the vector's own minimum and maximum,
//! and in vectors of few coordinates to a quarter or a third of a step.
//!
//! The bytes alone are a code: `value = min + scale * byte`. Behind them stand digits, which say which
//! part of a step about the byte is nearest; `kernel::Refined` says how. Vectors of up to
//! `INT8_REFINED_DIM_MAX` coordinates are written with digits, and read without them as if every
//! digit were the one that moves nothing.

use super::EncodedView;
use crate::kernel::{digits_per_byte, neutral, parts};
use crate::limits;

/// Bytes of the digits of a vector that has them.
pub(super) const fn digits_len(dim: usize) -> usize {
    if dim <= limits::INT8_REFINED_DIM_MAX {
        dim.div_ceil(digits_per_byte(dim))
    } else {
        0
    }
}

/// A byte of digits that move nothing.
pub(super) const fn plain(dim: usize) -> u8 {
    let per_byte = digits_per_byte(dim);
    let (mut byte, mut place) = (0, per_byte);
    while place > 0 {
        place -= 1;
        byte = byte * parts(per_byte) + neutral(per_byte, place);
    }
    byte
}

/// The digits of a vector without, none where there cannot be any.
pub(super) fn no_digits(dim: usize) -> &'static [u8] {
    const QUARTERS: usize = limits::INT8_QUARTERS_DIM_MAX;
    const THIRDS: usize = limits::INT8_REFINED_DIM_MAX;
    static OF_QUARTERS: [u8; digits_len(QUARTERS)] = [plain(QUARTERS); digits_len(QUARTERS)];
    static OF_THIRDS: [u8; digits_len(THIRDS)] = [plain(THIRDS); digits_len(THIRDS)];
    let plain: &[u8] = match dim {
        0..=QUARTERS => &OF_QUARTERS,
        _ => &OF_THIRDS,
    };
    &plain[..digits_len(dim)]
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

/// How many parts of a step, of so many, a coordinate is above the minimum.
#[inline]
fn parts_above(value: f32, min: f32, scale: f32, parts: u8) -> u16 {
    if scale == 0.0 {
        return 0;
    }
    // Halves round up; the cast saturates at 0.
    let above = ((value - min) / scale * f32::from(parts) + 0.5) as u16;
    above.min(255 * u16::from(parts))
}

pub(super) fn encode(vector: &[f32], bytes: &mut Vec<u8>, params: &mut Vec<f32>) {
    let (min, scale) = range(vector);
    params.extend_from_slice(&[min, scale]);
    let digits = digits_len(vector.len());
    bytes.reserve_exact(vector.len() + digits);
    if digits == 0 {
        bytes.extend(vector.iter().map(|&value| code(value, min, scale)));
        return;
    }
    let per_byte = digits_per_byte(vector.len());
    let base = parts(per_byte);
    // Parts above the minimum and the digit that moves nothing make a byte and a digit.
    let split = |place: usize, value: f32| {
        let above = parts_above(value, min, scale, base) + u16::from(neutral(per_byte, place));
        let base = u16::from(base);
        ((above / base) as u8, (above % base) as u8)
    };
    for values in vector.chunks(per_byte) {
        bytes.extend(
            (0..)
                .zip(values)
                .map(|(place, &value)| split(place, value).0),
        );
    }
    bytes.extend(vector.chunks(per_byte).map(|values| {
        let digit = |place: usize| match values.get(place) {
            Some(&value) => split(place, value).1,
            None => neutral(per_byte, place),
        };
        (0..per_byte)
            .rev()
            .fold(0, |byte, place| byte * base + digit(place))
    }));
}

/// Decodes a vector, with its digits if it has any.
pub(super) fn decode(view: EncodedView<'_>, out: &mut [f32]) {
    if let Some(row) = view.int8_refined() {
        return row.decode(out);
    }
    let (min, scale) = (view.params[0], view.params[1]);
    for (place, &byte) in out.iter_mut().zip(view.bytes) {
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
