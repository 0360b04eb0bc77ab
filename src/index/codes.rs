//! The 8-bit codes that graphs are built and walked on, and the distance between two of them.
//!
//! Every vector has a code, whatever its codec: `value = min + scale * byte` with the vector's own
//! minimum and scale, as `Codec::Int8Quantized` stores it. Distances in code space come from one
//! integer dot product and a few terms per code.

use super::arena::Arena;
use super::exact::{decode, row_norm};
use crate::distance::Distance;
use crate::encoding::{Codec, EncodedView, int8_code, int8_range};
use crate::kernel::{
    self, BLOCK, Block, Kernels, ROWS_MAX, RowTerms, bytes_of, bytes_of_mut, cosine_key, dot_key,
    kernels, l2_key,
};

/// What a code needs beside its bytes.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Terms {
    pub(super) min: f32,
    pub(super) scale: f32,
    /// `scale` times the sum of `c`, the code's bytes less 128.
    pub(super) sum: f32,
    /// Bits of an `f32`: `scale^2` times the sum of `c^2` under Euclidean, the length of the
    /// decoded code under Cosine, its squared length under DotProduct.
    pub(super) aux: u32,
}

/// One code: its bytes, zero padded to whole blocks, and its terms.
#[derive(Clone, Copy)]
pub(super) struct Point<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) terms: &'a Terms,
}

impl Point<'_> {
    /// Asks for what comparing it will read.
    #[inline]
    pub(super) fn prefetch(&self) {
        kernel::prefetch(self.bytes);
        kernel::prefetch(std::slice::from_ref(self.terms));
    }

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

    pub(super) fn kernels(&self) -> &'static Kernels {
        self.kernels
    }

    /// Blocks of a padded code.
    pub(super) fn blocks(&self) -> usize {
        self.dim.div_ceil(BLOCK)
    }

    /// Orders pairs as their distance does: squared under Euclidean.
    #[inline]
    pub(super) fn between(&self, a: Point<'_>, b: Point<'_>) -> f32 {
        let product = (self.kernels.dot_u8u8)(a.bytes, b.bytes);
        let (side, shift) = (self.row_terms(b.terms), self.shift(b));
        self.key(a.terms, &side, product.wrapping_sub(shift))
    }

    /// The key of a pair from its terms and the sum of the products of their `c`.
    #[inline]
    fn key(&self, a: &Terms, b: &RowTerms, product: i32) -> f32 {
        let a = self.row_terms(a);
        let product = product as f32;
        match self.distance {
            Distance::Euclidean => l2_key(&a, b, product),
            Distance::Cosine => cosine_key(&a, b, product),
            Distance::DotProduct => dot_key(&a, b, product),
        }
    }

    /// What the pair kernels need of a code beside its bytes: under Cosine that of its unit
    /// vector, or of zeros where the length is 0.
    #[inline]
    pub(super) fn row_terms(&self, terms: &Terms) -> RowTerms {
        let aux = f32::from_bits(terms.aux);
        let of_code = RowTerms {
            dim: self.dim as f32,
            mid: terms.min + 128.0 * terms.scale,
            scale: terms.scale,
            sum: terms.sum,
            own: aux,
        };
        if self.distance != Distance::Cosine {
            return of_code;
        }
        let RowTerms {
            dim,
            mid,
            scale,
            sum,
            own,
        } = of_code;
        // One division, but where its result would leave the range of floats.
        let [mid, scale, sum] = if own > 1e-30 {
            let inverse = 1.0 / own;
            [mid * inverse, scale * inverse, sum * inverse]
        } else if own > 0.0 {
            [mid / own, scale / own, sum / own]
        } else {
            [0.0; 3]
        };
        RowTerms {
            dim,
            mid,
            scale,
            sum,
            own: 0.0,
        }
    }

    /// 128 times the sum of the code's `c`: what a product with unsigned bytes has too much.
    #[inline]
    pub(super) fn shift(&self, point: Point<'_>) -> i32 {
        let Terms { sum, scale, .. } = *point.terms;
        let sum = if scale > f32::MIN_POSITIVE / f32::EPSILON {
            // The sum is below 2^23 and was rounded once, so the nearest integer is it.
            let quotient = f64::from(sum) / f64::from(scale);
            (quotient + 0.5f64.copysign(quotient)) as i32
        } else {
            centred_sum(&point.bytes[..self.dim])
        };
        128 * sum
    }

    /// Sum of a padded code's `c`, and of their squares.
    fn sums(&self, code: &[u8]) -> (i32, i32) {
        let sum: i32 = code.iter().map(|&byte| i32::from(byte)).sum();
        let centred = sum - 128 * self.dim as i32;
        // What is padded is 0, and adds nothing to `sum byte * (byte - 128)`.
        let products = (self.kernels.dot_u8u8)(code, code);
        (centred, products.wrapping_sub(centred.wrapping_mul(128)))
    }

    /// Sum of the squares of a code's `c`, scaled to the units of its vector.
    pub(super) fn squares(&self, point: Point<'_>) -> f32 {
        let squares = centred_squares(&point.bytes[..self.dim]);
        scaled_squares(point.terms.scale, squares)
    }
}

fn centred_sum(bytes: &[u8]) -> i32 {
    bytes.iter().map(|&byte| i32::from(byte) - 128).sum()
}

fn centred_squares(bytes: &[u8]) -> i32 {
    bytes
        .iter()
        .map(|&byte| (i32::from(byte) - 128).pow(2))
        .sum()
}

fn scaled_squares(scale: f32, squares: i32) -> f32 {
    (f64::from(scale) * f64::from(scale) * f64::from(squares)) as f32
}

/// Codes by number.
pub(super) struct Codes {
    pub(super) geometry: Geometry,
    blocks: Arena<Block>,
    terms: Arena<Terms>,
}

impl Codes {
    pub(super) fn new(geometry: Geometry) -> Self {
        Self {
            geometry,
            blocks: Arena::new(geometry.blocks(), Block::ZERO),
            terms: Arena::new(1, Terms::default()),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.terms.rows()
    }

    #[inline(always)]
    pub(super) fn point(&self, number: u32) -> Point<'_> {
        Point {
            bytes: bytes_of(self.blocks.row(number as usize)),
            terms: &self.terms.row(number as usize)[0],
        }
    }

    /// Writes a code, at the end or over another.
    pub(super) fn put(&mut self, number: u32, point: Point<'_>) {
        let number = number as usize;
        self.grow(number + 1);
        bytes_of_mut(self.blocks.row_mut(number)).copy_from_slice(point.bytes);
        self.terms.row_mut(number)[0] = *point.terms;
    }

    /// Asks for a code that is about to be written.
    #[inline]
    pub(super) fn prefetch(&self, number: u32) {
        self.blocks.prefetch(number as usize);
        self.terms.prefetch(number as usize);
    }

    /// Makes codes up to `codes` exist.
    pub(super) fn grow(&mut self, codes: usize) {
        self.blocks.grow(codes);
        self.terms.grow(codes);
    }

    /// Keeps these codes alone, given in ascending order, and closes the gaps between them.
    pub(super) fn keep(&mut self, codes: &[u32]) {
        self.blocks.keep(codes);
        self.terms.keep(codes);
    }

    /// Keeps only so many codes, the first.
    pub(super) fn truncate(&mut self, codes: usize) {
        self.blocks.truncate(codes);
        self.terms.truncate(codes);
    }

    /// Puts code `order[i]` at place `i`.
    pub(super) fn permute(&mut self, order: &[u32]) {
        self.blocks.permute(order);
        self.terms.permute(order);
    }

    /// Makes room for this many more codes.
    pub(super) fn reserve(&mut self, codes: usize) {
        self.blocks.reserve(codes);
        self.blocks.touch();
        self.terms.reserve(codes);
        self.terms.touch();
    }

    /// Allocated bytes.
    pub(super) fn memory(&self) -> usize {
        self.blocks.memory() + self.terms.memory()
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

    /// The code of a stored vector: its own bytes where they hold one.
    pub(super) fn encode(&mut self, view: EncodedView<'_>) -> Point<'_> {
        if view.codec == Codec::Int8Quantized {
            let (code, _) = view.int8_parts();
            bytes_of_mut(&mut self.code)[..self.geometry.dim].copy_from_slice(code);
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
        let (centred, squares) = self.geometry.sums(bytes_of(&self.code));
        let sum = (f64::from(scale) * f64::from(centred)) as f32;
        let aux = match self.geometry.distance {
            Distance::Euclidean => scaled_squares(scale, squares).to_bits(),
            Distance::Cosine => {
                let bytes = &bytes_of(&self.code)[..self.geometry.dim];
                self.floats.clear();
                let decoded = bytes.iter().map(|&byte| min + scale * f32::from(byte));
                self.floats.extend(decoded);
                row_norm(self.geometry.distance, &self.floats).to_bits()
            }
            Distance::DotProduct => {
                let squares = scaled_squares(scale, squares);
                let mid = min + 128.0 * scale;
                (self.geometry.dim as f32 * (mid * mid) + 2.0 * (mid * sum) + squares).to_bits()
            }
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
    words: kernel::Probe,
    terms: RowTerms,
    shift: i32,
}

impl Probe {
    pub(super) fn new(geometry: Geometry) -> Self {
        Self {
            geometry,
            words: kernel::Probe::default(),
            terms: geometry.row_terms(&Terms::default()),
            shift: 0,
        }
    }

    /// Aims at a code.
    pub(super) fn aim(&mut self, point: Point<'_>) {
        (self.geometry.kernels.aim)(point.bytes, &mut self.words);
        self.terms = self.geometry.row_terms(point.terms);
        self.shift = self.geometry.shift(point);
    }

    /// As [`Geometry::between`], from each of up to `ROWS_MAX` points to the code aimed at.
    #[inline]
    pub(super) fn keys(&self, points: &[Point<'_>]) -> [f32; ROWS_MAX] {
        let mut rows: [&[u8]; ROWS_MAX] = [&[]; ROWS_MAX];
        for (row, point) in rows.iter_mut().zip(points) {
            *row = point.bytes;
        }
        let mut products = [0; ROWS_MAX];
        (self.geometry.kernels.dots)(&self.words, &rows[..points.len()], &mut products);
        let mut keys = [0.0; ROWS_MAX];
        for ((key, point), product) in keys.iter_mut().zip(points).zip(products) {
            let product = product.wrapping_sub(self.shift);
            *key = self.geometry.key(point.terms, &self.terms, product);
        }
        keys
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
        fn sums_are_those_of_every_byte(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 1..2_100),
        ) {
            let geometry = Geometry::new(bytes.len(), Distance::Euclidean);
            let mut code = vec![Block::ZERO; geometry.blocks()];
            bytes_of_mut(&mut code)[..bytes.len()].copy_from_slice(&bytes);
            let wanted = (centred_sum(&bytes), centred_squares(&bytes));
            prop_assert_eq!(geometry.sums(bytes_of(&code)), wanted);
        }

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
                prop_assert_eq!(probe.keys(&[left])[0], key as f32);
                let scale = if offset == 0.0 { 100.0 } else { 1e6 };
                prop_assert!((key - wanted).abs() <= 1e-5 * wanted.abs() + 1e-6 * scale);
            }
        }
    }
}
