//! The 8-bit codes that graphs are built and walked on, and the distance between two of them.
//!
//! Every vector has a code, whatever its codec: `value = min + scale * byte` with the vector's own
//! minimum and scale, as `Codec::Int8Quantized` stores it. Distances in code space come from one
//! integer dot product and a few terms per code, put together in `f64`.

use super::arena::{Arena, bytes_of_vec, grow};
use super::exact::{decode, row_norm};
use crate::distance::Distance;
use crate::encoding::{Codec, EncodedView, int8_code, int8_range};
use crate::kernel::{BLOCK, Block, Kernels, bytes_of, bytes_of_mut, kernels};

/// What a code needs beside its bytes.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Terms {
    pub(super) min: f32,
    pub(super) scale: f32,
    /// Sum of the code's bytes.
    pub(super) sum: u32,
    /// Sum of the squared bytes under Euclidean, bits of the decoded code's `f32` length under
    /// Cosine, 0 under DotProduct.
    pub(super) aux: u32,
}

/// One code: its bytes, zero padded to whole blocks, and its terms.
#[derive(Clone, Copy)]
pub(super) struct Point<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) terms: &'a Terms,
}

impl Point<'_> {
    /// Whether both stand for the same vector, bit for bit.
    pub(super) fn equals(&self, other: &Point<'_>) -> bool {
        self.terms.min.to_bits() == other.terms.min.to_bits()
            && self.terms.scale.to_bits() == other.terms.scale.to_bits()
            && self.bytes == other.bytes
    }
}

/// How codes of one table are compared.
#[derive(Clone, Copy)]
pub(super) struct Geometry {
    pub(super) dim: usize,
    pub(super) distance: Distance,
    kernels: &'static Kernels,
}

impl Geometry {
    pub(super) fn new(dim: usize, distance: Distance) -> Self {
        Self {
            dim,
            distance,
            kernels: kernels(),
        }
    }

    /// Blocks of a padded code.
    pub(super) fn blocks(&self) -> usize {
        self.dim.div_ceil(BLOCK)
    }

    /// Orders pairs as their distance does: squared under Euclidean.
    #[inline]
    pub(super) fn between(&self, a: Point<'_>, b: Point<'_>) -> f32 {
        let centred = (self.kernels.dot_u8u8)(a.bytes, b.bytes);
        self.combine(a.terms, &Side::new(self, b.terms), centred)
    }

    /// The key of a pair from its terms and `sum a * (b - 128)`.
    #[inline]
    fn combine(&self, a: &Terms, b: &Side, centred: i32) -> f32 {
        let (min, scale) = (f64::from(a.min), f64::from(a.scale));
        let sum = f64::from(a.sum);
        let products = f64::from(centred) + 128.0 * sum;
        let dot = || min * b.total + scale * (b.min * sum + b.scale * products);
        match self.distance {
            // Written by the difference of the minima, so that vectors far from the origin and
            // near each other do not cancel.
            Distance::Euclidean => {
                let apart = min - b.min;
                let own = scale * (2.0 * apart * sum + scale * f64::from(a.aux));
                let cross = 2.0 * scale * b.scale * products;
                let other = b.scale * (b.scale * b.aux - 2.0 * apart * b.sum);
                (self.dim as f64 * apart * apart + own + other - cross).max(0.0) as f32
            }
            Distance::Cosine => {
                let norms = f64::from(f32::from_bits(a.aux)) * b.aux;
                if norms == 0.0 {
                    return 1.0;
                }
                (1.0 - dot() / norms) as f32
            }
            Distance::DotProduct => -dot() as f32,
        }
    }
}

/// The second code of a pair, with what does not depend on the first worked out.
#[derive(Clone, Copy, Default)]
struct Side {
    min: f64,
    scale: f64,
    sum: f64,
    /// Sum of the decoded coordinates.
    total: f64,
    /// As [`Terms::aux`], as a number.
    aux: f64,
}

impl Side {
    #[inline]
    fn new(geometry: &Geometry, terms: &Terms) -> Self {
        let (min, scale) = (f64::from(terms.min), f64::from(terms.scale));
        let sum = f64::from(terms.sum);
        Self {
            min,
            scale,
            sum,
            total: geometry.dim as f64 * min + scale * sum,
            aux: match geometry.distance {
                Distance::Cosine => f64::from(f32::from_bits(terms.aux)),
                Distance::Euclidean | Distance::DotProduct => f64::from(terms.aux),
            },
        }
    }
}

/// Codes by number.
pub(super) struct Codes {
    pub(super) geometry: Geometry,
    blocks: Arena<Block>,
    terms: Vec<Terms>,
}

impl Codes {
    pub(super) fn new(geometry: Geometry) -> Self {
        Self {
            geometry,
            blocks: Arena::new(geometry.blocks(), Block::ZERO),
            terms: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.terms.len()
    }

    #[inline]
    pub(super) fn point(&self, number: u32) -> Point<'_> {
        Point {
            bytes: bytes_of(self.blocks.row(number as usize)),
            terms: &self.terms[number as usize],
        }
    }

    /// Writes a code, at the end or over another.
    pub(super) fn put(&mut self, number: u32, point: Point<'_>) {
        let number = number as usize;
        self.blocks.grow(number + 1);
        bytes_of_mut(self.blocks.row_mut(number)).copy_from_slice(point.bytes);
        grow(&mut self.terms, number + 1, Terms::default());
        self.terms[number] = *point.terms;
    }

    /// Puts code `order[i]` at place `i`.
    pub(super) fn permute(&mut self, order: &[u32]) {
        self.blocks.permute(order);
        self.terms = order.iter().map(|&old| self.terms[old as usize]).collect();
    }

    /// Makes room for this many more codes.
    pub(super) fn reserve(&mut self, codes: usize) {
        self.blocks.reserve(codes);
        self.terms.reserve_exact(codes);
    }

    /// Allocated bytes.
    pub(super) fn memory(&self) -> usize {
        self.blocks.memory() + bytes_of_vec(&self.terms)
    }
}

/// Makes codes of vectors, reusing its buffers.
pub(super) struct Coder {
    geometry: Geometry,
    code: Vec<Block>,
    terms: Terms,
    floats: Vec<f32>,
}

impl Coder {
    pub(super) fn new(geometry: Geometry) -> Self {
        Self {
            geometry,
            code: vec![Block::ZERO; geometry.blocks()],
            terms: Terms::default(),
            floats: Vec::new(),
        }
    }

    /// The code of a stored vector: its own bytes where they are one.
    pub(super) fn encode(&mut self, view: EncodedView<'_>) -> Point<'_> {
        if view.codec == Codec::Int8Quantized {
            bytes_of_mut(&mut self.code)[..self.geometry.dim].copy_from_slice(view.bytes);
            return self.finish(view.params[0], view.params[1]);
        }
        let mut floats = std::mem::take(&mut self.floats);
        decode(view, &mut floats);
        let (min, scale) = self.quantise(&floats);
        self.floats = floats;
        self.finish(min, scale)
    }

    /// The code of a vector of floats.
    pub(super) fn encode_floats(&mut self, vector: &[f32]) -> Point<'_> {
        let (min, scale) = self.quantise(vector);
        self.finish(min, scale)
    }

    fn quantise(&mut self, vector: &[f32]) -> (f32, f32) {
        let (min, scale) = int8_range(vector);
        let bytes = bytes_of_mut(&mut self.code);
        for (byte, &value) in bytes.iter_mut().zip(vector) {
            *byte = int8_code(value, min, scale);
        }
        (min, scale)
    }

    /// Works out the terms of the bytes in `code`.
    fn finish(&mut self, min: f32, scale: f32) -> Point<'_> {
        let bytes = &bytes_of(&self.code)[..self.geometry.dim];
        let sum = bytes.iter().map(|&byte| u32::from(byte)).sum();
        let aux = match self.geometry.distance {
            Distance::Euclidean => bytes.iter().map(|&byte| u32::from(byte).pow(2)).sum(),
            Distance::Cosine => {
                self.floats.clear();
                let decoded = bytes.iter().map(|&byte| min + scale * f32::from(byte));
                self.floats.extend(decoded);
                row_norm(self.geometry.distance, &self.floats).to_bits()
            }
            Distance::DotProduct => 0,
        };
        self.terms = Terms {
            min,
            scale,
            sum,
            aux,
        };
        Point {
            bytes: bytes_of(&self.code),
            terms: &self.terms,
        }
    }
}

/// A code that is compared with many others: a query, or a row looking for neighbours.
pub(super) struct Probe {
    geometry: Geometry,
    /// The code's bytes less 128, as the signed side of the integer kernel.
    signed: Vec<i8>,
    side: Side,
}

impl Probe {
    pub(super) fn new(geometry: Geometry) -> Self {
        Self {
            geometry,
            signed: Vec::new(),
            side: Side::default(),
        }
    }

    /// Aims at a code.
    pub(super) fn aim(&mut self, point: Point<'_>) {
        self.signed.clear();
        let centred = point.bytes.iter().map(|&byte| (byte ^ 0x80).cast_signed());
        self.signed.extend(centred);
        self.side = Side::new(&self.geometry, point.terms);
    }

    /// As [`Geometry::between`], from `point` to the code aimed at.
    #[inline]
    pub(super) fn key(&self, point: Point<'_>) -> f32 {
        let centred = (self.geometry.kernels.dot_u8i8)(point.bytes, &self.signed);
        self.geometry.combine(point.terms, &self.side, centred)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reference(distance: Distance, a: &[f32], b: &[f32]) -> f64 {
        let pairs = || a.iter().zip(b).map(|(&a, &b)| (f64::from(a), f64::from(b)));
        let dot: f64 = pairs().map(|(a, b)| a * b).sum();
        let norm = |v: &[f32]| v.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        match distance {
            Distance::Euclidean => pairs().map(|(a, b)| (a - b).powi(2)).sum(),
            Distance::Cosine => 1.0 - dot / (norm(a) * norm(b)),
            Distance::DotProduct => -dot,
        }
    }

    proptest! {
        #[test]
        fn keys_are_distances_of_decoded_codes(
            a in proptest::collection::vec(-2.0f32..5.0, 90),
            b in proptest::collection::vec(-9.0f32..1.0, 90),
            offset in prop_oneof![Just(0.0f32), Just(1_000.0)],
        ) {
            let a: Vec<f32> = a.iter().map(|x| x + offset).collect();
            let b: Vec<f32> = b.iter().map(|x| x + offset).collect();
            for distance in [Distance::Euclidean, Distance::Cosine, Distance::DotProduct] {
                let geometry = Geometry::new(90, distance);
                let (mut left, mut right) = (Coder::new(geometry), Coder::new(geometry));
                let (left, right) = (left.encode_floats(&a), right.encode_floats(&b));
                let decoded = |point: Point<'_>| -> Vec<f32> {
                    let value = |&byte| point.terms.min + point.terms.scale * f32::from(byte);
                    point.bytes[..90].iter().map(value).collect()
                };
                let wanted = reference(distance, &decoded(left), &decoded(right));
                let key = f64::from(geometry.between(left, right));
                let mut probe = Probe::new(geometry);
                probe.aim(right);
                prop_assert_eq!(probe.key(left), key as f32);
                let scale = if offset == 0.0 { 100.0 } else { 1e6 };
                prop_assert!((key - wanted).abs() <= 1e-5 * wanted.abs() + 1e-6 * scale);
            }
        }
    }
}
