//! IEEE half floats, little-endian, rounded to nearest even.

use half::f16;
use half::slice::HalfFloatSliceExt;

/// Numbers converted at once: the CPU's instruction takes eight, and asking whether there is one
/// takes time too.
const BATCH: usize = 64;

pub(super) fn encode(vector: &[f32], bytes: &mut Vec<u8>) {
    bytes.reserve_exact(2 * vector.len());
    bytes.resize(2 * vector.len(), 0);
    let mut halves = [f16::ZERO; BATCH];
    let places = bytes.as_chunks_mut::<2>().0.chunks_mut(BATCH);
    for (places, values) in places.zip(vector.chunks(BATCH)) {
        let halves = &mut halves[..values.len()];
        halves.convert_from_f32_slice(values);
        for (place, half) in places.iter_mut().zip(halves) {
            *place = half.to_le_bytes();
        }
    }
}

pub(super) fn decode(bytes: &[u8], out: &mut [f32]) {
    let mut halves = [f16::ZERO; BATCH];
    let chunks = bytes.as_chunks::<2>().0.chunks(BATCH);
    for (places, chunks) in out.chunks_mut(BATCH).zip(chunks) {
        let halves = &mut halves[..chunks.len()];
        for (half, chunk) in halves.iter_mut().zip(chunks) {
            *half = f16::from_le_bytes(*chunk);
        }
        halves.convert_to_f32_slice(places);
    }
}

/// Whether every half float is finite.
pub(super) fn is_valid(bytes: &[u8]) -> bool {
    super::all(bytes.as_chunks::<2>().0, |chunk| {
        f16::from_le_bytes(*chunk).is_finite()
    })
}
