//! From integer products to keys: the last step of comparing many codes with many.
//!
//! A code stands for `mid + scale * c`, where `c` are its bytes less 128 and `mid` is the value of
//! byte 128. Every operation is on its own lane and none is fused, so that all sets agree bit for
//! bit; and each is symmetric in the two codes, so that a pair has one key whichever side asks.

/// What the codes of a panel need beside their products, column by column.
#[derive(Default, Clone)]
pub(crate) struct PairTerms {
    /// Value of byte 128.
    pub(crate) mid: Vec<f32>,
    pub(crate) scale: Vec<f32>,
    /// `scale` times the sum of `c`.
    pub(crate) sum: Vec<f32>,
    /// Euclidean keys: `scale^2` times the sum of `c^2`. Others do not use it.
    pub(crate) own: Vec<f32>,
    /// 128 times the sum of `c`: what a product of unsigned row bytes has too much.
    pub(crate) shift: Vec<i32>,
}

/// The same for one row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowTerms {
    pub(crate) dim: f32,
    pub(crate) mid: f32,
    pub(crate) scale: f32,
    pub(crate) sum: f32,
    pub(crate) own: f32,
}

impl PairTerms {
    pub(crate) fn clear(&mut self) {
        let Self {
            mid,
            scale,
            sum,
            own,
            shift,
        } = self;
        mid.clear();
        scale.clear();
        sum.clear();
        own.clear();
        shift.clear();
    }

    pub(crate) fn push(&mut self, terms: &RowTerms, shift: i32) {
        self.mid.push(terms.mid);
        self.scale.push(terms.scale);
        self.sum.push(terms.sum);
        self.own.push(terms.own);
        self.shift.push(shift);
    }

    pub(crate) fn len(&self) -> usize {
        self.mid.len()
    }

    /// The terms of the code in a column, as a row.
    pub(crate) fn row(&self, column: usize, dim: f32) -> RowTerms {
        RowTerms {
            dim,
            mid: self.mid[column],
            scale: self.scale[column],
            sum: self.sum[column],
            own: self.own[column],
        }
    }
}

/// The squared Euclidean distance of two codes, from the sum of the products of their `c`.
#[inline(always)]
pub(crate) fn l2_key(a: &RowTerms, b: &RowTerms, product: f32) -> f32 {
    // By the difference of the middles, so that vectors far from the origin do not cancel.
    let apart = a.mid - b.mid;
    let linear = apart * (a.dim * apart + 2.0 * (a.sum - b.sum));
    let key = (linear + (a.own + b.own)) - 2.0 * (a.scale * b.scale) * product;
    if key > 0.0 { key } else { 0.0 }
}

/// The negated inner product, likewise.
#[inline(always)]
pub(crate) fn dot_key(a: &RowTerms, b: &RowTerms, product: f32) -> f32 {
    let means = a.dim * (a.mid * b.mid) + (a.mid * b.sum + b.mid * a.sum);
    -(means + (a.scale * b.scale) * product)
}

/// The cosine distance, likewise, from the terms of unit vectors; 1 where one of them is 0.
#[inline(always)]
pub(crate) fn cosine_key(a: &RowTerms, b: &RowTerms, product: f32) -> f32 {
    1.0 + dot_key(a, b, product)
}

macro_rules! keys_of_columns {
    ($($name:ident, $key:ident);*) => {$(
        #[doc = concat!("See [`super::Kernels::", stringify!($name), "`].")]
        #[inline(always)]
        pub(super) fn $name(
            row: &RowTerms,
            columns: &PairTerms,
            first: usize,
            products: &[i32],
            out: &mut [f32],
        ) {
            each(row, columns, first, products, out, $key);
        }
    )*};
}
keys_of_columns!(l2_keys, l2_key; dot_keys, dot_key; cosine_keys, cosine_key);

/// Goes over all columns from `first` on.
#[inline(always)]
fn each(
    row: &RowTerms,
    columns: &PairTerms,
    first: usize,
    products: &[i32],
    out: &mut [f32],
    key: impl Fn(&RowTerms, &RowTerms, f32) -> f32,
) {
    let part = first..columns.len();
    let mid = &columns.mid[part.clone()];
    let scale = &columns.scale[part.clone()];
    let sum = &columns.sum[part.clone()];
    let own = &columns.own[part.clone()];
    let shift = &columns.shift[part.clone()];
    let products = &products[part.clone()];
    let out = &mut out[part];
    for i in 0..out.len() {
        let column = RowTerms {
            dim: row.dim,
            mid: mid[i],
            scale: scale[i],
            sum: sum[i],
            own: own[i],
        };
        let product = products[i].wrapping_sub(shift[i]) as f32;
        out[i] = key(row, &column, product);
    }
}
