//! Every set of kernels this machine can run, for the benches. Not a stable interface.

use super::Refined;

/// One set of kernels; the last of [`kernels`] is the scalar twin.
#[derive(Clone, Copy)]
pub struct KernelSet(super::Kernels);

/// Every set this machine can run, fastest first, the scalar twin last.
#[must_use]
pub fn kernels() -> Vec<KernelSet> {
    super::available().into_iter().map(KernelSet).collect()
}

/// What codes are padded to, in bytes.
pub const BLOCK: usize = super::BLOCK;

impl KernelSet {
    /// The name `VECSTASH_KERNEL` knows it by.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// `sum a[i] * (b[i] - 128)`.
    ///
    /// # Panics
    ///
    /// When the lengths differ or are not a multiple of [`BLOCK`].
    #[must_use]
    #[inline]
    pub fn dot_u8u8(&self, a: &[u8], b: &[u8]) -> i32 {
        assert!(a.len() == b.len() && a.len().is_multiple_of(BLOCK));
        (self.0.dot_u8u8)(a, b)
    }

    /// `sum row[i] * (code[i] - 128)` of four rows, and the preparation of the code.
    ///
    /// # Panics
    ///
    /// When the lengths differ or are not a multiple of [`BLOCK`].
    #[must_use]
    pub fn dots(&self, code: &[u8], rows: [&[u8]; 4]) -> [i32; 4] {
        assert!(rows.iter().all(|row| row.len() == code.len()) && code.len().is_multiple_of(BLOCK));
        let (mut probe, mut sums) = (super::Probe::default(), [0; super::ROWS_MAX]);
        (self.0.aim)(code, &mut probe);
        (self.0.dots)(&probe, &rows, &mut sums);
        sums
    }

    /// Sum over all pairs of `sum row[i] * (column[i] - 128)`, modulo 2^32, with the packing.
    ///
    /// # Panics
    ///
    /// When the lengths differ or are not a multiple of [`BLOCK`].
    #[must_use]
    pub fn products(&self, rows: &[&[u8]], columns: &[&[u8]]) -> i32 {
        let (mut panel, mut products) = (super::Panel::default(), super::Products::default());
        (self.0.pack)(columns, &mut panel);
        (self.0.products)(rows, 0, &panel, &mut products);
        let of_rows = products.sums.chunks_exact(panel.stride()).take(rows.len());
        let of_pairs = of_rows.flat_map(|row| &row[..columns.len()]);
        of_pairs.fold(0, |sum, &product| sum.wrapping_add(product))
    }

    /// `sum (a[i] - b[i])^2`.
    ///
    /// # Panics
    ///
    /// When the lengths differ.
    #[must_use]
    #[inline]
    pub fn l2_squared(&self, a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len());
        (self.0.l2_squared)(a, b)
    }

    /// `sum a[i] * b[i]`.
    ///
    /// # Panics
    ///
    /// When the lengths differ.
    #[must_use]
    #[inline]
    pub fn dot(&self, a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len());
        (self.0.dot)(a, b)
    }

    /// `sum (q[i] - (min + scale * codes[i]))^2`.
    ///
    /// # Panics
    ///
    /// When there are fewer codes than coordinates.
    #[must_use]
    #[inline]
    pub fn l2_squared_u8(&self, q: &[f32], codes: &[u8], min: f32, scale: f32) -> f32 {
        assert!(q.len() <= codes.len());
        (self.0.l2_squared_u8)(q, codes, min, scale)
    }

    /// `sum q[i] * (min + scale * codes[i])`.
    ///
    /// # Panics
    ///
    /// When there are fewer codes than coordinates.
    #[must_use]
    #[inline]
    pub fn dot_u8(&self, q: &[f32], codes: &[u8], min: f32, scale: f32) -> f32 {
        assert!(q.len() <= codes.len());
        (self.0.dot_u8)(q, codes, min, scale)
    }

    /// `sum (q[i] - (min + scale * (codes[i] + moved[i])))^2`, moved by parts of a step as `digits` say.
    ///
    /// # Panics
    ///
    /// When there are more or fewer codes than coordinates, or not as many bytes of digits as belong to them.
    #[must_use]
    #[inline]
    pub fn l2_squared_refined(
        &self,
        q: &[f32],
        codes: &[u8],
        digits: &[u8],
        min: f32,
        scale: f32,
    ) -> f32 {
        let row = refined((q, codes, digits), min, scale);
        (self.0.l2_squared_refined)(q, &row)
    }

    /// As [`Self::l2_squared_refined`], the inner product.
    ///
    /// # Panics
    ///
    /// As [`Self::l2_squared_refined`].
    #[must_use]
    #[inline]
    pub fn dot_refined(&self, q: &[f32], codes: &[u8], digits: &[u8], min: f32, scale: f32) -> f32 {
        let row = refined((q, codes, digits), min, scale);
        (self.0.dot_refined)(q, &row)
    }
}

fn refined<'a>(
    (q, codes, digits): (&[f32], &'a [u8], &'a [u8]),
    min: f32,
    scale: f32,
) -> Refined<'a> {
    assert_eq!(
        (q.len(), q.len().div_ceil(super::digits_per_byte(q.len()))),
        (codes.len(), digits.len())
    );
    Refined {
        codes,
        digits,
        min,
        scale,
    }
}
