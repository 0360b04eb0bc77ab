//! 32-bit floats, little-endian: the lossless codec.

use crate::limits;

pub(super) fn encode(vector: &[f32], bytes: &mut Vec<u8>) {
    bytes.reserve_exact(4 * vector.len());
    // Written in place, because a vector that grows by four bytes at a time is not vectorised.
    bytes.resize(4 * vector.len(), 0);
    for (place, value) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(vector) {
        *place = value.to_le_bytes();
    }
}

pub(super) fn decode(bytes: &[u8], out: &mut [f32]) {
    for (place, chunk) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *place = f32::from_le_bytes(*chunk);
    }
}

/// Whether every float is finite and within [`limits::MAGNITUDE_MAX`].
pub(super) fn is_valid(bytes: &[u8]) -> bool {
    super::all(bytes.as_chunks::<4>().0, |chunk| {
        // A NaN compares false, so it fails too.
        f32::from_le_bytes(*chunk).abs() <= limits::MAGNITUDE_MAX
    })
}
