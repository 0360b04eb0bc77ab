//! The one door to SIMD: a table of kernels, picked once at run time.
//!
//! Three families. *Integer* kernels multiply unsigned by signed bytes and are exact, so every
//! implementation agrees by arithmetic. *Float* kernels add products into 32 lanes in a fixed
//! order, multiply and add apart (never fused), and fold the lanes in a fixed tree, so every
//! implementation agrees bit for bit: a store gives the same distances on every machine. *List*
//! kernels compare and move keys, and agree as long as no key is a NaN.

mod ahead;
mod aligned;
mod huge;
mod lists;
mod matrix;
mod memory;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pairs;
mod prefetch;
mod probe;
mod refined;
mod scalar;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::OnceLock;

pub(crate) use self::ahead::read_ahead;
pub(crate) use self::aligned::{Block, bytes_of, bytes_of_mut};
pub(crate) use self::huge::advise_huge;
pub(crate) use self::lists::{LANES, Places, RANKS, RankLine};
pub(crate) use self::matrix::{Panel, Products};
pub(crate) use self::memory::{free_memory, peak_memory};
pub(crate) use self::pairs::{PairTerms, RowTerms, cosine_key, dot_key, l2_key};
pub(crate) use self::prefetch::prefetch;
pub(crate) use self::probe::Probe;
pub(crate) use self::refined::{Refined, digits_per_byte, neutral, parts, reach};

/// Codes are padded with zeros to a multiple of this many bytes and aligned to it: one cache
/// line, and one AVX-512 register.
pub(crate) const BLOCK: usize = 64;

/// Most rows that one probe is multiplied with at once: what a core can ask of memory ahead.
pub(crate) const ROWS_MAX: usize = 4;

/// One implementation of every kernel.
#[derive(Clone, Copy)]
pub(crate) struct Kernels {
    /// What the implementation is called in reports.
    pub(crate) name: &'static str,
    /// `sum a[i] * (b[i] - 128)` of unsigned bytes. Same length, a multiple of [`BLOCK`].
    pub(crate) dot_u8u8: fn(&[u8], &[u8]) -> i32,
    /// Prepares a code, whole blocks, to be multiplied with others by this set alone.
    pub(crate) aim: fn(code: &[u8], to: &mut Probe),
    /// `sum row[i] * (probe[i] - 128)` of up to [`ROWS_MAX`] rows as long as the probe's code.
    pub(crate) dots: fn(&Probe, rows: &[&[u8]], to: &mut [i32; ROWS_MAX]),
    /// Which of these keys may be among the `k` least and are not above `limit`: those that are, and
    /// as few others as is easily told. A bit each, lowest first, 64 a mask. Keys are no NaN and
    /// stand in whole groups of [`LANES`]; there are masks for all of them.
    pub(crate) near: fn(keys: &[f32], k: usize, limit: f32, masks: &mut [u64]),
    /// Offers a node to the columns that have these keys to it, in whole groups of [`LANES`] with
    /// `k` places each in `lists`, nearest first. It takes a place in the lists whose last key is above its
    /// own, before equal ones, and their last goes.
    pub(crate) offer: fn(node: u32, keys: &[f32], k: usize, lists: &mut [Places]),
    /// Puts a rank into an ascending list, whose last then goes, unless it is there already or above
    /// the last.
    pub(crate) insert: fn(list: &mut [RankLine], rank: u64),
    /// `sum (a[i] - b[i])^2`. Same length, any.
    pub(crate) l2_squared: fn(&[f32], &[f32]) -> f32,
    /// `sum a[i] * b[i]`. Same length, any.
    pub(crate) dot: fn(&[f32], &[f32]) -> f32,
    /// `sum (q[i] - (min + scale * code[i]))^2`. `codes` is at least as long as `q`.
    pub(crate) l2_squared_u8: fn(q: &[f32], codes: &[u8], min: f32, scale: f32) -> f32,
    /// `sum q[i] * (min + scale * code[i])`. `codes` is at least as long as `q`.
    pub(crate) dot_u8: fn(q: &[f32], codes: &[u8], min: f32, scale: f32) -> f32,
    /// `sum (q[i] - row[i])^2` of what a row stands for. Same length.
    pub(crate) l2_squared_refined: fn(q: &[f32], row: &Refined<'_>) -> f32,
    /// `sum q[i] * row[i]` of what a row stands for. Same length.
    pub(crate) dot_refined: fn(q: &[f32], row: &Refined<'_>) -> f32,
    /// Packs codes, whole blocks each, as the columns of a panel, to be used by this set alone.
    pub(crate) pack: fn(codes: &[&[u8]], to: &mut Panel),
    /// `sum row[i] * (column[i] - 128)` of every row with every column from `first` on.
    pub(crate) products: fn(rows: &[&[u8]], first: usize, panel: &Panel, to: &mut Products),
    /// Squared Euclidean distances of a row to every column from the group of [`LANES`] on that
    /// `first` is in, from their products, in whole groups; padding is infinite.
    pub(crate) l2_keys: PairKeys,
    /// Negated inner products, likewise.
    pub(crate) dot_keys: PairKeys,
    /// Cosine distances, likewise.
    pub(crate) cosine_keys: PairKeys,
}

/// A row's terms, the columns' terms, the first column, the row's products, and where keys go.
pub(crate) type PairKeys = fn(&RowTerms, &PairTerms, usize, &[i32], &mut [f32]);

/// The fastest kernels this machine can run.
///
/// The environment variable `VECSTASH_KERNEL` (`scalar`, `avx2`, `avxvnni`, `avx512`, `neon`), read once,
/// names others; a name this machine cannot run is ignored.
pub(crate) fn kernels() -> &'static Kernels {
    static PICKED: OnceLock<Kernels> = OnceLock::new();
    PICKED.get_or_init(|| {
        let all = available();
        let wanted = std::env::var("VECSTASH_KERNEL").unwrap_or_default();
        let named = all.iter().find(|kernels| kernels.name == wanted);
        *named.unwrap_or(&all[0])
    })
}

/// Every set of kernels this machine can run, fastest first, the scalar twin last.
pub(crate) fn available() -> Vec<Kernels> {
    let mut all = Vec::new();
    #[cfg(target_arch = "x86_64")]
    all.extend(x86::available());
    #[cfg(target_arch = "aarch64")]
    all.extend(neon::available());
    all.push(scalar::KERNELS);
    all
}

/// What the integer kernels ask of their callers: equal lengths, whole blocks.
#[inline(always)]
fn check_blocks(a: usize, b: usize) {
    debug_assert_eq!(a, b, "codes of different lengths");
    debug_assert_eq!(a % BLOCK, 0, "codes that are not padded to whole blocks");
}

/// Defines `KERNELS`, a set with this name whose functions may use these CPU features: its
/// integer kernels are `dot_u8u8_enabled`, `aim_enabled`, `dots_enabled`, `masks_enabled` and `insert_enabled` of
/// the module it stands in, its lists are kept by `Side`, its
/// float kernels those of the scalar twin, compiled once more, and its products those of `Tile`,
/// up to this many groups at a time.
///
/// Only the module's `available`, which has asked the CPU, may hand the set out.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! kernel_set {
    ($name:literal, $features:literal, $groups:literal) => {
        pub(super) const KERNELS: $crate::kernel::Kernels = $crate::kernel::Kernels {
            name: $name,
            dot_u8u8: |a, b| {
                check_blocks(a.len(), b.len());
                // SAFETY: this set is handed out only where the CPU has its features.
                unsafe { dot_u8u8_enabled(a, b) }
            },
            // SAFETY: this set is handed out only where the CPU has its features.
            aim: |code, to| unsafe { aim_enabled(code, to) },
            dots: |probe, rows, to| {
                assert!(rows.len() <= $crate::kernel::ROWS_MAX);
                // SAFETY: this set is handed out only where the CPU has its features.
                unsafe { dots_enabled(probe, rows, to) }
            },
            // SAFETY: this set is handed out only where the CPU has its features.
            near: |keys, k, limit, masks| unsafe { near(keys, k, limit, masks) },
            // SAFETY: this set is handed out only where the CPU has its features.
            offer: |node, keys, k, lists| unsafe { offer(node, keys, k, lists) },
            // SAFETY: this set is handed out only where the CPU has its features.
            insert: |list, rank| unsafe { insert_enabled(list, rank) },
            // SAFETY: this set is handed out only where the CPU has its features.
            l2_squared: |a, b| unsafe { l2_squared(a, b) },
            // SAFETY: this set is handed out only where the CPU has its features.
            dot: |a, b| unsafe { dot(a, b) },
            // SAFETY: this set is handed out only where the CPU has its features.
            l2_squared_u8: |q, codes, min, scale| unsafe { l2_squared_u8(q, codes, min, scale) },
            // SAFETY: this set is handed out only where the CPU has its features.
            dot_u8: |q, codes, min, scale| unsafe { dot_u8(q, codes, min, scale) },
            // SAFETY: this set is handed out only where the CPU has its features.
            l2_squared_refined: |q, row| unsafe { l2_squared_refined(q, row) },
            // SAFETY: this set is handed out only where the CPU has its features.
            dot_refined: |q, row| unsafe { dot_refined(q, row) },
            // SAFETY: this set is handed out only where the CPU has its features.
            pack: |codes, to| unsafe { pack(codes, to) },
            // SAFETY: this set is handed out only where the CPU has its features.
            products: |rows, first, panel, to| unsafe { products(rows, first, panel, to) },
            // SAFETY: this set is handed out only where the CPU has its features.
            l2_keys: |row, columns, first, of, to| unsafe { l2_keys(row, columns, first, of, to) },
            // SAFETY: this set is handed out only where the CPU has its features.
            dot_keys: |row, columns, first, of, to| unsafe {
                dot_keys(row, columns, first, of, to)
            },
            cosine_keys: |row, columns, first, of, to| {
                // SAFETY: this set is handed out only where the CPU has its features.
                unsafe { cosine_keys(row, columns, first, of, to) }
            },
        };

        #[target_feature(enable = $features)]
        fn pack(codes: &[&[u8]], to: &mut $crate::kernel::Panel) {
            // SAFETY: this function has the features that `Tile` asks for.
            unsafe { $crate::kernel::matrix::pack::<Tile>(codes, to) }
        }

        #[target_feature(enable = $features)]
        fn products(
            rows: &[&[u8]],
            first: usize,
            panel: &$crate::kernel::Panel,
            to: &mut $crate::kernel::Products,
        ) {
            // SAFETY: this function has the features that `Tile` asks for, and the panels of this
            // set are packed by its own `pack`.
            unsafe { $crate::kernel::matrix::products::<Tile, $groups>(rows, first, panel, to) }
        }

        #[target_feature(enable = $features)]
        fn near(keys: &[f32], k: usize, limit: f32, masks: &mut [u64]) {
            // SAFETY: this function has the features that `Side` asks for.
            let bound = unsafe { $crate::kernel::lists::bound::<Side>(keys, k) };
            masks_enabled(keys, bound.min(limit), masks);
        }

        #[target_feature(enable = $features)]
        fn offer(node: u32, keys: &[f32], k: usize, lists: &mut [$crate::kernel::Places]) {
            // SAFETY: this function has the features that `Side` asks for.
            unsafe { $crate::kernel::lists::offer::<Side>(node, keys, k, lists) }
        }

        $crate::kernel::pair_keys!($features, l2_keys, dot_keys, cosine_keys);

        #[target_feature(enable = $features)]
        fn l2_squared(a: &[f32], b: &[f32]) -> f32 {
            $crate::kernel::scalar::l2_squared(a, b)
        }

        #[target_feature(enable = $features)]
        fn dot(a: &[f32], b: &[f32]) -> f32 {
            $crate::kernel::scalar::dot(a, b)
        }

        #[target_feature(enable = $features)]
        fn l2_squared_u8(q: &[f32], codes: &[u8], min: f32, scale: f32) -> f32 {
            $crate::kernel::scalar::l2_squared_u8(q, codes, min, scale)
        }

        #[target_feature(enable = $features)]
        fn dot_u8(q: &[f32], codes: &[u8], min: f32, scale: f32) -> f32 {
            $crate::kernel::scalar::dot_u8(q, codes, min, scale)
        }

        #[target_feature(enable = $features)]
        fn l2_squared_refined(q: &[f32], row: &$crate::kernel::Refined<'_>) -> f32 {
            $crate::kernel::refined::l2_squared_refined(q, row)
        }

        #[target_feature(enable = $features)]
        fn dot_refined(q: &[f32], row: &$crate::kernel::Refined<'_>) -> f32 {
            $crate::kernel::refined::dot_refined(q, row)
        }
    };
}
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use kernel_set;

/// Compiles these functions of `pairs` for these CPU features.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! pair_keys {
    ($features:literal, $($name:ident),*) => {$(
        #[target_feature(enable = $features)]
        fn $name(
            row: &$crate::kernel::RowTerms,
            columns: &$crate::kernel::PairTerms,
            first: usize,
            products: &[i32],
            to: &mut [f32],
        ) {
            $crate::kernel::pairs::$name(row, columns, first, products, to);
        }
    )*};
}
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use pair_keys;
