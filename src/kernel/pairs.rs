//! From integer products to keys: the last step of comparing many codes with many.
//!
//! A code stands for `mid + scale * c`, where `c` are its bytes less 128 and `mid` is the value of
//! byte 128. Every operation is on its own lane and none is fused, so that all sets agree bit for
//! bit; and each is symmetric in the two codes, so that a pair has one key whichever side asks.

use super::LANES;

/// What the codes of a panel need beside their products, column by column.
#[derive(Default, Clone)]
pub(crate) struct PairTerms {
    groups: Vec<Group>,
    /// Columns; those up to a whole group are padding.
    len: usize,
}

/// The terms of some columns side by side.
#[derive(Default, Clone)]
#[repr(align(64))]
struct Group {
    /// Value of byte 128.
    mid: [f32; LANES],
    scale: [f32; LANES],
    /// `scale` times the sum of `c`.
    sum: [f32; LANES],
    /// Euclidean keys: `scale^2` times the sum of `c^2`. Others do not use it.
    own: [f32; LANES],
    /// 128 times the sum of `c`: what a product of unsigned row bytes has too much.
    shift: [i32; LANES],
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
        self.groups.clear();
        self.len = 0;
    }

    pub(crate) fn push(&mut self, terms: &RowTerms, shift: i32) {
        let lane = self.len % LANES;
        if lane == 0 {
            self.groups.push(Group::default());
        }
        if let Some(group) = self.groups.last_mut() {
            group.mid[lane] = terms.mid;
            group.scale[lane] = terms.scale;
            group.sum[lane] = terms.sum;
            group.own[lane] = terms.own;
            group.shift[lane] = shift;
            self.len += 1;
        }
    }

    /// The terms of the code in a column, as a row.
    pub(crate) fn row(&self, column: usize, dim: f32) -> RowTerms {
        self.groups[column / LANES].row(column % LANES, dim)
    }
}

impl Group {
    #[inline(always)]
    fn row(&self, lane: usize, dim: f32) -> RowTerms {
        RowTerms {
            dim,
            mid: self.mid[lane],
            scale: self.scale[lane],
            sum: self.sum[lane],
            own: self.own[lane],
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

/// Goes over the columns from `first` on, a whole group at a time: both ends are where groups begin
/// or end, so that no register is left half full. Padding is infinitely far.
#[inline(always)]
fn each(
    row: &RowTerms,
    columns: &PairTerms,
    first: usize,
    products: &[i32],
    out: &mut [f32],
    key: impl Fn(&RowTerms, &RowTerms, f32) -> f32,
) {
    let padded = LANES * columns.groups.len();
    debug_assert!(
        products.len() >= padded && out.len() == padded,
        "a group that is not whole"
    );
    let first = first / LANES;
    let products = products.as_chunks::<LANES>().0.iter().skip(first);
    let groups = columns.groups.iter().skip(first);
    let keys = out.as_chunks_mut::<LANES>().0.iter_mut().skip(first);
    for ((keys, products), group) in keys.zip(products).zip(groups) {
        for lane in 0..LANES {
            let column = group.row(lane, row.dim);
            let product = products[lane].wrapping_sub(group.shift[lane]) as f32;
            keys[lane] = key(row, &column, product);
        }
    }
    out[columns.len..].fill(f32::INFINITY);
}
