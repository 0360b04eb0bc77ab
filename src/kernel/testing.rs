//! Every set of kernels this machine can run, for the benches. Not a stable interface.

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

    /// `sum a[i] * b[i]`.
    ///
    /// # Panics
    ///
    /// When the lengths differ or are not a multiple of [`BLOCK`].
    #[must_use]
    #[inline]
    pub fn dot_u8i8(&self, a: &[u8], b: &[i8]) -> i32 {
        assert!(a.len() == b.len() && a.len().is_multiple_of(BLOCK));
        (self.0.dot_u8i8)(a, b)
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
}
