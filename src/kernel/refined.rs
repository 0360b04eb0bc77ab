//! Codes and the parts of their steps: what they stand for, and sums over it.
//!
//! Digits say where a value is about its code. Up to `INT8_QUARTERS_DIM_MAX` coordinates four of base
//! four share a byte, for quarters of a step: two below the code to one above at even coordinates,
//! one below to two above at odd ones, so that coordinates have no direction in common in which codes are off. Beyond, five
//! of base three do, for thirds. The first digit is the lowest.

use super::scalar::{LANES, fold};
use crate::limits::{INT8_QUARTERS_DIM_MAX, MAGNITUDE_MAX};

/// How many digits share a byte.
pub(crate) const fn digits_per_byte(dim: usize) -> usize {
    if dim <= INT8_QUARTERS_DIM_MAX { 4 } else { 5 }
}

/// How many parts a step has, so many digits sharing a byte: the base of digits.
pub(crate) const fn parts(per_byte: usize) -> u8 {
    if per_byte == 4 { 4 } else { 3 }
}

/// The digit that moves nothing in this place of a byte.
pub(crate) const fn neutral(per_byte: usize, place: usize) -> u8 {
    if per_byte == 4 && place.is_multiple_of(2) {
        2
    } else {
        1
    }
}

/// How far from its code a value may be, in steps.
pub(crate) const fn reach(dim: usize) -> f32 {
    if digits_per_byte(dim) == 4 {
        0.5
    } else {
        THIRD
    }
}

const THIRD: f32 = 1.0 / 3.0;

/// By how many parts of a step each digit of a byte moves its value, and more places, so that a word
/// holds them.
const fn moves(per_byte: usize) -> [[i8; 8]; 256] {
    let mut moves = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut rest, mut place) = (byte, 0);
        while place < per_byte {
            let base = parts(per_byte) as usize;
            moves[byte][place] = (rest % base) as i8 - neutral(per_byte, place) as i8;
            rest /= base;
            place += 1;
        }
        byte += 1;
    }
    moves
}

static QUARTERS: [[i8; 8]; 256] = moves(4);
static THIRDS: [[i8; 8]; 256] = moves(5);

/// A code and its digits: `value = min + scale * (code + (digit - 1) / 3)`, or with quarters
/// `(digit - 2) / 4` at even coordinates and `(digit - 1) / 4` at odd ones, within the limit of
/// coordinates.
#[derive(Clone, Copy)]
pub(crate) struct Refined<'a> {
    /// As many as there are coordinates.
    pub(crate) codes: &'a [u8],
    /// A byte for every four or five coordinates, and for those that are left.
    pub(crate) digits: &'a [u8],
    pub(crate) min: f32,
    pub(crate) scale: f32,
}

impl Refined<'_> {
    /// Writes what the code stands for into as many places as it has coordinates.
    #[inline(always)]
    pub(crate) fn decode(&self, out: &mut [f32]) {
        match digits_per_byte(self.codes.len()) {
            4 => self.decode_as::<4>(out),
            _ => self.decode_as::<5>(out),
        }
    }

    #[inline(always)]
    fn decode_as<const PER_BYTE: usize>(&self, out: &mut [f32]) {
        let group = PER_BYTE * LANES;
        let groups = self.codes.chunks(group).zip(self.digits.chunks(LANES));
        for (places, (codes, digits)) in out.chunks_mut(group).zip(groups) {
            let moves = spread::<PER_BYTE>(digits);
            for ((place, &code), &by) in places.iter_mut().zip(codes).zip(&moves) {
                *place = self.value::<PER_BYTE>(code, by);
            }
        }
    }

    #[inline(always)]
    fn value<const PER_BYTE: usize>(&self, code: u8, by: i8) -> f32 {
        let part = if PER_BYTE == 4 { 0.25 } else { THIRD };
        let value = self.min + self.scale * (f32::from(code) + f32::from(by) * part);
        // Digits that no encoder wrote may lead past it.
        value.clamp(-MAGNITUDE_MAX, MAGNITUDE_MAX)
    }
}

/// Places for what the digits of `LANES` bytes move, five each, and for the rest of the last word.
const SPREAD: usize = 5 * LANES + 4;

/// What the digits of up to `LANES` bytes move.
#[inline(always)]
fn spread<const PER_BYTE: usize>(digits: &[u8]) -> [i8; SPREAD] {
    let table = if PER_BYTE == 4 { &QUARTERS } else { &THIRDS };
    let mut moves = [0; SPREAD];
    for (nth, &byte) in digits.iter().enumerate() {
        // Whole words, of which the next takes what is not this one's.
        moves[PER_BYTE * nth..][..8].copy_from_slice(&table[usize::from(byte)]);
    }
    moves
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
    match digits_per_byte(q.len()) {
        4 => sum_as::<4>(q, row, term),
        _ => sum_as::<5>(q, row, term),
    }
}

#[inline(always)]
fn sum_as<const PER_BYTE: usize>(
    q: &[f32],
    row: &Refined<'_>,
    term: impl Fn(f32, f32) -> f32,
) -> f32 {
    let group = PER_BYTE * LANES;
    let mut lanes = [0.0f32; LANES];
    let groups = row.codes.chunks(group).zip(row.digits.chunks(LANES));
    for (q, (codes, digits)) in q.chunks(group).zip(groups) {
        let moves = spread::<PER_BYTE>(digits);
        let (q, q_tail) = q.as_chunks::<LANES>();
        let (codes, codes_tail) = codes.as_chunks::<LANES>();
        let (moves, _) = moves.as_chunks::<LANES>();
        for ((q, codes), moves) in q.iter().zip(codes).zip(moves) {
            for (lane, sum) in lanes.iter_mut().enumerate() {
                *sum += term(q[lane], row.value::<PER_BYTE>(codes[lane], moves[lane]));
            }
        }
        // There are some behind the last whole line alone.
        if let Some(moves) = moves.get(q.len()) {
            let pairs = q_tail.iter().zip(codes_tail).zip(moves);
            for (sum, ((&x, &code), &by)) in lanes.iter_mut().zip(pairs) {
                *sum += term(x, row.value::<PER_BYTE>(code, by));
            }
        }
    }
    fold(lanes)
}
