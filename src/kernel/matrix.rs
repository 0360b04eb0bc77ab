//! Products of many codes with many: what a bulk build spends its arithmetic on.
//!
//! The columns are packed once into a [`Panel`], group by group, so that a step of the inner loop
//! reads one word of every column of a group from neighbouring addresses. A word holds as many
//! coordinates as the instruction set multiplies at once: four bytes, or two coordinates of 16
//! bits. Rows are brought into words of the same kind, row after row, and a tile of four rows by
//! some groups is kept in registers while all words are gone through.

use super::{BLOCK, Block, bytes_of, bytes_of_mut};

/// Rows of a tile.
const ROWS: usize = 4;

/// Bytes of a word.
const WORD: usize = 4;

/// Words of every column that are packed together: a block of codes is a multiple of them.
const STEPS: usize = 8;

/// Most columns in a register.
const LANES_MAX: usize = 16;

/// Codes packed as columns, in the layout of the kernel set that packed them.
#[derive(Clone, Default)]
pub(crate) struct Panel {
    /// Words of four bytes; whole blocks, so that no register is read across two cache lines.
    words: Vec<Block>,
    /// Columns with a code; those up to `stride` are padding.
    columns: usize,
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
/// Implementations are thin wrappers around one instruction each; `products` is all that calls
/// them, from a function that has their CPU feature.
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

    /// Writes the sums.
    ///
    /// # Safety
    ///
    /// The CPU has the feature of this implementation; `WIDTH` words are writable at `out`.
    unsafe fn store(self, out: *mut i32);
}

/// Packs codes of equal length, a multiple of [`BLOCK`], as columns, padded to `GROUPS` groups.
#[inline(always)]
pub(super) fn pack<T: Lanes, const GROUPS: usize>(codes: &[&[u8]], panel: &mut Panel) {
    let len = codes.first().map_or(0, |code| code.len());
    assert!(len.is_multiple_of(BLOCK) && codes.iter().all(|code| code.len() == len));
    let steps = len / T::STEP;
    let stride = codes.len().next_multiple_of(T::WIDTH * GROUPS);
    panel.columns = codes.len();
    panel.stride = stride;
    panel.len = len;
    panel.words.clear();
    panel
        .words
        .resize(steps * stride * WORD / BLOCK, Block::ZERO);
    let (words, _) = bytes_of_mut(&mut panel.words).as_chunks_mut::<WORD>();
    for (group, codes) in codes.chunks(T::WIDTH).enumerate() {
        let words = &mut words[group * steps * T::WIDTH..][..steps * T::WIDTH];
        // A few steps of all columns at a time, by way of an array that stays in registers.
        for (part, words) in words.chunks_exact_mut(STEPS * T::WIDTH).enumerate() {
            let mut square = [[[0; WORD]; STEPS]; LANES_MAX];
            for (column, code) in square.iter_mut().zip(codes) {
                let bytes = &code[part * STEPS * T::STEP..][..STEPS * T::STEP];
                for (word, bytes) in column.iter_mut().zip(bytes.chunks_exact(T::STEP)) {
                    *word = match bytes {
                        // Signed bytes: less 128.
                        [a, b, c, d] => [a ^ 0x80, b ^ 0x80, c ^ 0x80, d ^ 0x80],
                        [a, b] => pair(i16::from(*a) - 128, i16::from(*b) - 128),
                        _ => [0; WORD],
                    };
                }
            }
            for (step, words) in words.chunks_exact_mut(T::WIDTH).enumerate() {
                for (word, column) in words.iter_mut().zip(&square) {
                    *word = column[step];
                }
            }
        }
    }
}

/// Two coordinates of 16 bits in a word, the first one low.
#[inline(always)]
fn pair(a: i16, b: i16) -> [u8; WORD] {
    let ([a, b], [c, d]) = (a.to_le_bytes(), b.to_le_bytes());
    [a, b, c, d]
}

/// Rows as words, row after row; those that are missing to a whole block are zero.
#[inline(always)]
fn words_of<T: Lanes>(rows: &[&[u8]], len: usize, words: &mut Vec<Block>) {
    let row_len = len / T::STEP * WORD;
    words.clear();
    words.resize(
        rows.len().next_multiple_of(ROWS) * row_len / BLOCK,
        Block::ZERO,
    );
    let words = bytes_of_mut(words);
    for (words, row) in words.chunks_exact_mut(row_len.max(1)).zip(rows) {
        if T::STEP == WORD {
            words.copy_from_slice(row);
        } else {
            for (word, &byte) in words.as_chunks_mut::<2>().0.iter_mut().zip(*row) {
                *word = [byte, 0];
            }
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

/// Fills `to.sums` with `sum row[i] * (column[i] - 128)` for every row and every column from
/// `first` on; what stands before `first` is unspecified.
///
/// # Safety
///
/// The CPU has the feature of `T`, and `panel` was packed with the same `T` and `GROUPS`.
#[inline(always)]
pub(super) unsafe fn products<T: Lanes, const GROUPS: usize>(
    rows: &[&[u8]],
    first: usize,
    panel: &Panel,
    to: &mut Products,
) {
    assert!(rows.iter().all(|row| row.len() == panel.len));
    let steps = panel.len / T::STEP;
    let padded = rows.len().next_multiple_of(ROWS);
    words_of::<T>(rows, panel.len, &mut to.words);
    let words = bytes_of(&to.words);
    to.sums.resize(padded * panel.stride, 0);
    let width = T::WIDTH * GROUPS;
    let tiles = first / width..panel.stride / width;
    let panel_bytes = bytes_of(&panel.words);
    assert!(
        panel_bytes.len() == steps * panel.stride * WORD && words.len() == padded * steps * WORD
    );
    for tile in tiles {
        let columns = &panel_bytes[tile * width * steps * WORD..][..width * steps * WORD];
        for block in 0..padded / ROWS {
            let words = &words[block * ROWS * steps * WORD..][..ROWS * steps * WORD];
            let out = &mut to.sums[block * ROWS * panel.stride..][..ROWS * panel.stride];
            // SAFETY: the CPU has the feature, by the caller's promise. `columns` has `steps`
            // words for each of `width` columns, group after group, and `words` as many for each
            // of `ROWS` rows, so every load lies within.
            let sums = unsafe {
                let mut sums = [[T::zero(); GROUPS]; ROWS];
                let rows = words.as_ptr().cast::<i32>();
                for step in 0..steps {
                    let at = columns.as_ptr().cast::<i32>().add(step * T::WIDTH);
                    let columns: [T; GROUPS] =
                        std::array::from_fn(|group| T::load(at.add(group * steps * T::WIDTH)));
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let row = T::broadcast(rows.add(row * steps + step).read_unaligned());
                        for (sum, &columns) in sums.iter_mut().zip(&columns) {
                            *sum = sum.mac(row, columns);
                        }
                    }
                }
                sums
            };
            for (row, sums) in sums.iter().enumerate() {
                let out = &mut out[row * panel.stride + tile * width..][..width];
                for (out, sums) in out.chunks_exact_mut(T::WIDTH).zip(sums) {
                    // SAFETY: the CPU has the feature; `out` is `WIDTH` words.
                    unsafe { sums.store(out.as_mut_ptr()) };
                }
            }
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
}
