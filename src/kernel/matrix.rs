//! Products of many codes with many: what a bulk build spends its arithmetic on.
//!
//! The columns are packed once into a [`Panel`], group by group, so that a step of the inner loop
//! reads one word of every column of a group from neighbouring addresses. A word holds as many
//! coordinates as the instruction set multiplies at once: four bytes, or two coordinates of 16
//! bits. Rows are brought into words of the same kind where they are not such words already, and a
//! tile of four rows by some groups is kept in registers while all words are gone through.

use super::{BLOCK, Block, LANES, bytes_of, bytes_of_mut};

/// Rows of a tile.
const ROWS: usize = 4;

/// Bytes of a word.
const WORD: usize = 4;

/// Most columns in a register.
const LANES_MAX: usize = 16;

/// Codes packed as columns, in the layout of the kernel set that packed them.
#[derive(Clone, Default)]
pub(crate) struct Panel {
    /// Words of four bytes; whole blocks, so that no register is read across two cache lines.
    words: Vec<Block>,
    /// Columns, with those that are padding.
    stride: usize,
    /// Bytes of a code.
    len: usize,
}

impl Panel {
    /// Columns including padding: the length of a row of products.
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }
}

/// Some columns side by side in a register.
///
/// Implementations are thin wrappers around an instruction or a few; `pack` and `products` are all
/// that calls them, from functions that have their CPU feature.
pub(super) trait Lanes: Copy {
    /// Columns in a register.
    const WIDTH: usize;
    /// Coordinates in a word: 4 or 2.
    const STEP: usize;

    /// Zero sums.
    ///
    /// # Safety
    ///
    /// The CPU has the feature of this implementation.
    unsafe fn zero() -> Self;

    /// A word of each column.
    ///
    /// # Safety
    ///
    /// The CPU has the feature of this implementation; `WIDTH` words are readable at `words`.
    unsafe fn load(words: *const i32) -> Self;

    /// One word of a row in every lane.
    ///
    /// # Safety
    ///
    /// The CPU has the feature of this implementation.
    unsafe fn broadcast(word: i32) -> Self;

    /// These sums and the products of a row's word with the columns' words.
    ///
    /// # Safety
    ///
    /// The CPU has the feature of this implementation.
    unsafe fn mac(self, row: Self, columns: Self) -> Self;

    /// Writes the words.
    ///
    /// # Safety
    ///
    /// The CPU has the feature of this implementation; `WIDTH` words are writable at `out`.
    unsafe fn store(self, out: *mut i32);

    /// Coordinates of one code as words of a column: less 128 each.
    ///
    /// # Safety
    ///
    /// The CPU has the feature of this implementation; `WIDTH * STEP` bytes are readable.
    unsafe fn words(bytes: *const u8) -> Self;

    /// The words of both by turns: those of the lower halves, then those of the upper.
    ///
    /// # Safety
    ///
    /// The CPU has the feature of this implementation.
    unsafe fn zip(self, other: Self) -> [Self; 2];
}

/// Packs codes of equal length, a multiple of [`BLOCK`], as columns, padded to whole groups of [`LANES`].
///
/// # Safety
///
/// The CPU has the feature of `T`.
#[inline(always)]
pub(super) unsafe fn pack<T: Lanes>(codes: &[&[u8]], panel: &mut Panel) {
    let len = codes.first().map_or(0, |code| code.len());
    assert!(len.is_multiple_of(BLOCK) && codes.iter().all(|code| code.len() == len));
    let steps = len / T::STEP;
    let stride = codes.len().next_multiple_of(LANES);
    panel.stride = stride;
    panel.len = len;
    // What is there already is written over.
    panel
        .words
        .resize(steps * stride * WORD / BLOCK, Block::ZERO);
    let square = T::WIDTH * T::WIDTH * WORD;
    let words = bytes_of_mut(&mut panel.words);
    for (at, words) in words.chunks_exact_mut(square).enumerate() {
        let (group, part) = (at / (steps / T::WIDTH), at % (steps / T::WIDTH));
        let codes = codes.get(group * T::WIDTH..).unwrap_or_default();
        let bytes = part * T::WIDTH * T::STEP;
        // SAFETY: the CPU has the feature, by the caller's promise. Each code has the bytes of as
        // many words as a register behind `bytes`, its length being a multiple of them, and
        // `words` is as many registers as a register has words.
        unsafe {
            let mut rows = [T::zero(); LANES_MAX];
            for (row, code) in rows[..T::WIDTH].iter_mut().zip(codes) {
                *row = T::words(code[bytes..][..T::WIDTH * T::STEP].as_ptr());
            }
            transpose(&mut rows);
            for (nth, row) in rows[..T::WIDTH].iter().enumerate() {
                row.store(words.as_mut_ptr().cast::<i32>().add(nth * T::WIDTH));
            }
        }
    }
}

/// Turns as many registers as one has words, so that words of a column become words of a row.
///
/// Each round halves how far words that belong together stand apart.
///
/// # Safety
///
/// The CPU has the feature of `T`.
#[inline(always)]
unsafe fn transpose<T: Lanes>(rows: &mut [T; LANES_MAX]) {
    let half = T::WIDTH / 2;
    for _ in 0..T::WIDTH.ilog2() {
        let from = *rows;
        for nth in 0..half {
            // SAFETY: the CPU has the feature, by the caller's promise.
            let [low, high] = unsafe { from[nth].zip(from[nth + half]) };
            (rows[2 * nth], rows[2 * nth + 1]) = (low, high);
        }
    }
}

/// Rows as words of two coordinates, row after row.
#[inline(always)]
fn widen(rows: &[&[u8]], len: usize, words: &mut Vec<Block>) {
    let row_len = len * 2;
    words.resize((rows.len() * row_len).div_ceil(BLOCK), Block::ZERO);
    let words = bytes_of_mut(words);
    for (words, row) in words.chunks_exact_mut(row_len.max(1)).zip(rows) {
        for (word, &byte) in words.as_chunks_mut::<2>().0.iter_mut().zip(*row) {
            *word = [byte, 0];
        }
    }
}

/// Buffers of [`super::Kernels::products`].
#[derive(Default)]
pub(crate) struct Products {
    words: Vec<Block>,
    /// Row by row, each as long as the panel's stride.
    pub(crate) sums: Vec<i32>,
}

/// Fills `to.sums` with `sum row[i] * (column[i] - 128)` for every row and every column from the
/// group of [`LANES`] on that `first` is in, up to `GROUPS` registers of columns at a time; what
/// stands before is unspecified.
///
/// # Safety
///
/// The CPU has the feature of `T`, and `panel` was packed with the same `T`.
#[inline(always)]
pub(super) unsafe fn products<T: Lanes, const GROUPS: usize>(
    rows: &[&[u8]],
    first: usize,
    panel: &Panel,
    to: &mut Products,
) {
    const { assert!(GROUPS <= 4 && LANES.is_multiple_of(T::WIDTH)) };
    assert!(rows.iter().all(|row| row.len() == panel.len));
    let steps = panel.len / T::STEP;
    let padded = rows.len().next_multiple_of(ROWS);
    to.sums.resize(padded * panel.stride, 0);
    let panel_bytes = bytes_of(&panel.words);
    assert!(panel_bytes.len() == steps * panel.stride * WORD);
    // Codes are words as they are where a word is four of their bytes.
    let is_wide = T::STEP != WORD;
    if is_wide {
        widen(rows, panel.len, &mut to.words);
    }
    let wide = bytes_of(&to.words);
    let words_of = |row: usize| match is_wide {
        true => &wide[row * steps * WORD..][..steps * WORD],
        false => rows[row],
    };
    let groups = panel.stride / T::WIDTH;
    // Keys begin where the group of `LANES` does, whatever the width of a register.
    let mut group = first / LANES * LANES / T::WIDTH;
    while group < groups {
        // Not one group alone at the end: too few sums to keep the multipliers busy.
        let left = groups - group;
        let tile = match left == GROUPS + 1 && GROUPS > 2 {
            true => GROUPS - 1,
            false => left.min(GROUPS),
        };
        let columns = group * steps * T::WIDTH * WORD..;
        let columns = &panel_bytes[columns][..tile * steps * T::WIDTH * WORD];
        for block in 0..padded / ROWS {
            // The last row stands in for those that are missing to a whole block.
            let nth = |row: usize| (block * ROWS + row).min(rows.len() - 1);
            let words: [&[u8]; ROWS] = std::array::from_fn(|row| words_of(nth(row)));
            let out = &mut to.sums[block * ROWS * panel.stride..][..ROWS * panel.stride];
            let out = &mut out[group * T::WIDTH..];
            // SAFETY: the CPU has the feature, by the caller's promise.
            unsafe {
                match tile {
                    4 => multiply::<T, 4>(&words, columns, steps, out, panel.stride),
                    3 => multiply::<T, 3>(&words, columns, steps, out, panel.stride),
                    2 => multiply::<T, 2>(&words, columns, steps, out, panel.stride),
                    _ => multiply::<T, 1>(&words, columns, steps, out, panel.stride),
                }
            }
        }
        group += tile;
    }
}

/// Products of `ROWS` rows of so many words with the columns of some groups, to the first places
/// of rows that are `stride` apart.
///
/// # Safety
///
/// The CPU has the feature of `T`.
#[inline(always)]
unsafe fn multiply<T: Lanes, const GROUPS: usize>(
    rows: &[&[u8]; ROWS],
    columns: &[u8],
    steps: usize,
    out: &mut [i32],
    stride: usize,
) {
    assert!(columns.len() == GROUPS * steps * T::WIDTH * WORD);
    assert!(rows.iter().all(|row| row.len() == steps * WORD));
    // SAFETY: the CPU has the feature, by the caller's promise. `columns` has `steps` words for
    // each column, group after group, and each row has as many, so every load lies within.
    let sums = unsafe {
        let mut sums = [[T::zero(); GROUPS]; ROWS];
        for step in 0..steps {
            let at = columns.as_ptr().cast::<i32>().add(step * T::WIDTH);
            let columns: [T; GROUPS] =
                std::array::from_fn(|group| T::load(at.add(group * steps * T::WIDTH)));
            for (words, sums) in rows.iter().zip(&mut sums) {
                let word = words.as_ptr().cast::<i32>().add(step).read_unaligned();
                let row = T::broadcast(word);
                for (sum, &columns) in sums.iter_mut().zip(&columns) {
                    *sum = sum.mac(row, columns);
                }
            }
        }
        sums
    };
    for (sums, out) in sums.iter().zip(out.chunks_mut(stride)) {
        for (sums, out) in sums.iter().zip(out.chunks_exact_mut(T::WIDTH)) {
            // SAFETY: the CPU has the feature; `out` is `WIDTH` words.
            unsafe { sums.store(out.as_mut_ptr()) };
        }
    }
}

/// The scalar twin of [`Lanes`]: two coordinates a word in an array, which the compiler may turn
/// into whatever the target always has.
#[derive(Clone, Copy)]
pub(super) struct Plain([i32; 8]);

impl Lanes for Plain {
    const WIDTH: usize = 8;
    const STEP: usize = 2;

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn zero() -> Self {
        Self([0; 8])
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn load(words: *const i32) -> Self {
        // SAFETY: eight words are readable, by the caller's promise.
        Self(unsafe { words.cast::<[i32; 8]>().read_unaligned() })
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn broadcast(word: i32) -> Self {
        Self([word; 8])
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn mac(self, row: Self, columns: Self) -> Self {
        let halves = |word: i32| (i32::from(word as i16), word >> 16);
        Self(std::array::from_fn(|lane| {
            let ((a, b), (x, y)) = (halves(row.0[lane]), halves(columns.0[lane]));
            self.0[lane] + a * x + b * y
        }))
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn store(self, out: *mut i32) {
        // SAFETY: eight words are writable, by the caller's promise.
        unsafe { out.cast::<[i32; 8]>().write_unaligned(self.0) }
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn words(bytes: *const u8) -> Self {
        // SAFETY: sixteen bytes are readable, by the caller's promise.
        let bytes = unsafe { bytes.cast::<[u8; 16]>().read_unaligned() };
        let signed = |at: usize| i32::from(bytes[at]) - 128;
        Self(std::array::from_fn(|lane| {
            signed(2 * lane) & 0xffff | signed(2 * lane + 1) << 16
        }))
    }

    // SAFETY: asks of its caller what the trait says, and no more.
    #[inline(always)]
    unsafe fn zip(self, other: Self) -> [Self; 2] {
        let by_turns = |from: usize| {
            Self(std::array::from_fn(|lane| match lane % 2 {
                0 => self.0[from + lane / 2],
                _ => other.0[from + lane / 2],
            }))
        };
        [by_turns(0), by_turns(4)]
    }
}
