//! Codes and the thirds of their steps: what they stand for, and sums over it.

use super::scalar::{LANES, fold};
use crate::limits::MAGNITUDE_MAX;

/// Thirds that share a byte, as digits of base three, the first the lowest.
pub(crate) const THIRDS: usize = 5;

/// Coordinates that are taken apart together: whole bytes of thirds, and every lane as often.
const GROUP: usize = THIRDS * LANES;

/// The digits of a byte less one, and three more places, so that a word holds them.
const DIGITS: [[i8; 8]; 256] = {
    let mut digits = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut rest, mut place) = (byte, 0);
        while place < THIRDS {
            digits[byte][place] = (rest % 3) as i8 - 1;
            rest /= 3;
            place += 1;
        }
        byte += 1;
    }
    digits
};

/// A code and its thirds: `value = min + scale * (code + (digit - 1) / 3)`, within the limit of
/// coordinates.
#[derive(Clone, Copy)]
pub(crate) struct Refined<'a> {
    /// As many as there are coordinates.
    pub(crate) codes: &'a [u8],
    /// A byte for every five coordinates, and for those that are left.
    pub(crate) thirds: &'a [u8],
    pub(crate) min: f32,
    pub(crate) scale: f32,
}

impl Refined<'_> {
    /// Writes what the code stands for into as many places as it has coordinates.
    #[inline(always)]
    pub(crate) fn decode(&self, out: &mut [f32]) {
        let groups = self.codes.chunks(GROUP).zip(self.thirds.chunks(LANES));
        for (places, (codes, thirds)) in out.chunks_mut(GROUP).zip(groups) {
            let digits = spread(thirds);
            for ((place, &code), &digit) in places.iter_mut().zip(codes).zip(&digits) {
                *place = self.value(code, digit);
            }
        }
    }

    #[inline(always)]
    fn value(&self, code: u8, digit: i8) -> f32 {
        const THIRD: f32 = 1.0 / 3.0;
        let value = self.min + self.scale * (f32::from(code) + f32::from(digit) * THIRD);
        // Thirds that no encoder wrote may lead past it.
        value.clamp(-MAGNITUDE_MAX, MAGNITUDE_MAX)
    }
}

/// The digits of up to `LANES` bytes, less one each.
#[inline(always)]
fn spread(thirds: &[u8]) -> [i8; GROUP + 3] {
    let mut digits = [0; GROUP + 3];
    for (nth, &byte) in thirds.iter().enumerate() {
        // Whole words, of which the next takes the last three places.
        digits[THIRDS * nth..][..8].copy_from_slice(&DIGITS[usize::from(byte)]);
    }
    digits
}

/// See [`super::Kernels::l2_squared_refined`]. Bit for bit `l2_squared` of the decoded row.
#[inline(always)]
pub(super) fn l2_squared_refined(q: &[f32], row: &Refined<'_>) -> f32 {
    sum(q, row, |x, y| {
        let difference = x - y;
        difference * difference
    })
}

/// See [`super::Kernels::dot_refined`]. Bit for bit `dot` of the decoded row.
#[inline(always)]
pub(super) fn dot_refined(q: &[f32], row: &Refined<'_>) -> f32 {
    sum(q, row, |x, y| x * y)
}

/// Sums `term` over the pairs as the scalar twin does: pair `i` goes to lane `i % 32`.
#[inline(always)]
fn sum(q: &[f32], row: &Refined<'_>, term: impl Fn(f32, f32) -> f32) -> f32 {
    debug_assert_eq!(q.len(), row.codes.len());
    let mut lanes = [0.0f32; LANES];
    let groups = row.codes.chunks(GROUP).zip(row.thirds.chunks(LANES));
    for (q, (codes, thirds)) in q.chunks(GROUP).zip(groups) {
        let digits = spread(thirds);
        let (q, q_tail) = q.as_chunks::<LANES>();
        let (codes, codes_tail) = codes.as_chunks::<LANES>();
        let (digits, _) = digits.as_chunks::<LANES>();
        for ((q, codes), digits) in q.iter().zip(codes).zip(digits) {
            for (lane, sum) in lanes.iter_mut().enumerate() {
                *sum += term(q[lane], row.value(codes[lane], digits[lane]));
            }
        }
        // There are some behind the last whole line alone, and digits for them.
        if let Some(digits) = digits.get(q.len()) {
            let pairs = q_tail.iter().zip(codes_tail).zip(digits);
            for (sum, ((&x, &code), &digit)) in lanes.iter_mut().zip(pairs) {
                *sum += term(x, row.value(code, digit));
            }
        }
    }
    fold(lanes)
}
