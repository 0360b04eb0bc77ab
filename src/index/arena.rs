//! Rows of equal length, stored so that growth neither copies nor over-allocates.

use rayon::prelude::*;

use crate::kernel::{advise_huge, prefetch};

/// Where the rows announced ahead begin, in bytes: at the start of a pair of cache lines, which
/// memory hands over together.
const ALIGNMENT: usize = 128;

/// What systems give at once, at least.
const PAGE: usize = 4 << 10;

/// Values that one thread touches at a time.
const TOUCHED: usize = 1 << 20;

/// Bytes a chunk aims at: small beside any large table, large beside the allocator's overhead.
const CHUNK_BYTES: usize = 256 << 10;

/// Rows of `stride` values: those announced ahead in one piece, which can have huge pages, and
/// those beyond in chunks that hold a power-of-two number of rows.
pub(super) struct Arena<T> {
    base: Vec<T>,
    /// Values before the first row of `base`.
    skip: usize,
    /// Rows that `base` has room for.
    base_rows: usize,
    chunks: Vec<Vec<T>>,
    stride: usize,
    /// Base-two logarithm of the rows in a chunk.
    shift: u32,
    rows: usize,
    zero: T,
}

impl<T: Copy + Sync> Arena<T> {
    pub(super) fn new(stride: usize, zero: T) -> Self {
        let row_bytes = (stride * size_of::<T>()).max(1);
        Self {
            base: Vec::new(),
            skip: 0,
            base_rows: 0,
            chunks: Vec::new(),
            stride,
            shift: (CHUNK_BYTES / row_bytes).max(1).ilog2(),
            rows: 0,
            zero,
        }
    }

    /// Announces this many rows to an arena that has none yet.
    pub(super) fn reserve(&mut self, rows: usize) {
        if self.rows == 0 && self.stride > 0 {
            let slack = ALIGNMENT / size_of::<T>();
            self.base = Vec::with_capacity(rows * self.stride + slack);
            self.skip = self.base.as_ptr().align_offset(ALIGNMENT).min(slack);
            self.base_rows = rows;
            advise_huge(self.base.spare_capacity_mut());
        }
    }

    /// Makes the system give the memory that was announced, on all threads: it takes longer to clear
    /// it than to write to it.
    pub(super) fn touch(&mut self)
    where
        T: Send,
    {
        let page = PAGE / size_of::<T>();
        let spare = self.base.spare_capacity_mut();
        let zero = self.zero;
        spare.par_chunks_mut(TOUCHED).for_each(|values| {
            values.iter_mut().step_by(page).for_each(|value| {
                value.write(zero);
            });
        });
    }

    /// Asks for a row that is about to be written.
    #[inline]
    pub(super) fn prefetch(&self, row: usize) {
        if row < self.rows {
            prefetch(self.row(row));
        }
    }

    /// Values of a row.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// Number of rows.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Makes rows up to `rows` exist, filled with the zero value.
    pub(super) fn grow(&mut self, rows: usize) {
        if self.stride == 0 || rows <= self.rows {
            return;
        }
        let in_base = rows.min(self.base_rows);
        if in_base > self.rows {
            let values = self.skip + in_base * self.stride;
            self.base.resize(values, self.zero);
            self.rows = in_base;
        }
        let per_chunk = 1 << self.shift;
        while self.rows < rows {
            let beyond = self.rows - self.base_rows;
            let within = beyond & (per_chunk - 1);
            if within == 0 {
                // Only the first chunk starts small: a table of ten rows takes ten rows.
                let first = self.chunks.is_empty();
                let capacity = if first { 0 } else { per_chunk * self.stride };
                self.chunks.push(Vec::with_capacity(capacity));
            }
            let last = self.chunks.len() - 1;
            let filled = (within + rows - self.rows).min(per_chunk);
            self.chunks[last].resize(filled * self.stride, self.zero);
            self.rows += filled - within;
        }
    }

    /// Always inlined: a walk asks for two rows of each node it scores, and a reference of two words
    /// that goes through memory is read back before it has been written.
    #[inline(always)]
    pub(super) fn row(&self, row: usize) -> &[T] {
        if row < self.base_rows {
            let start = self.skip + row * self.stride;
            return &self.base[start..start + self.stride];
        }
        self.row_beyond(row)
    }

    /// A row that was not announced.
    fn row_beyond(&self, row: usize) -> &[T] {
        if self.stride == 0 {
            return &[];
        }
        let row = row - self.base_rows;
        let start = (row & ((1 << self.shift) - 1)) * self.stride;
        &self.chunks[row >> self.shift][start..start + self.stride]
    }

    #[inline]
    pub(super) fn row_mut(&mut self, row: usize) -> &mut [T] {
        if row < self.base_rows {
            let start = self.skip + row * self.stride;
            return &mut self.base[start..start + self.stride];
        }
        if self.stride == 0 {
            return &mut [];
        }
        let row = row - self.base_rows;
        let start = (row & ((1 << self.shift) - 1)) * self.stride;
        &mut self.chunks[row >> self.shift][start..start + self.stride]
    }

    /// Writes a row, which comes into being where it is missing.
    pub(super) fn put(&mut self, row: usize, values: &[T]) {
        self.grow(row + 1);
        self.row_mut(row).copy_from_slice(values);
    }

    /// Puts row `order[i]` at place `i`, for every `i`. `order` is a permutation of all rows.
    pub(super) fn permute(&mut self, order: &[u32]) {
        let mut placed = vec![false; order.len()];
        let mut first = Vec::with_capacity(self.stride);
        for start in 0..order.len() {
            if placed[start] || order[start] as usize == start {
                continue;
            }
            // Follow the cycle: each place takes the row it waits for, the last one the first.
            first.clear();
            first.extend_from_slice(self.row(start));
            let mut place = start;
            loop {
                placed[place] = true;
                let source = order[place] as usize;
                if source == start {
                    self.row_mut(place).copy_from_slice(&first);
                    break;
                }
                self.copy_row(source, place);
                place = source;
            }
        }
    }

    /// Keeps these rows alone, given in ascending order, and closes the gaps between them.
    pub(super) fn keep(&mut self, rows: &[u32]) {
        for (place, &row) in rows.iter().enumerate() {
            if place != row as usize {
                self.copy_row(row as usize, place);
            }
        }
        self.truncate(rows.len());
    }

    /// Keeps only so many rows, the first.
    pub(super) fn truncate(&mut self, rows: usize) {
        self.rows = rows;
        let in_base = self.rows.min(self.base_rows);
        self.base.truncate(self.skip + in_base * self.stride);
        let beyond = self.rows - in_base;
        let chunks = beyond.div_ceil(1 << self.shift);
        self.chunks.truncate(chunks);
        if let Some(last) = self.chunks.last_mut() {
            let rows = beyond - ((chunks - 1) << self.shift);
            last.truncate(rows * self.stride);
        }
    }

    /// The rows that exist, one after another; nothing where they are not in one piece.
    pub(super) fn all_mut(&mut self) -> Option<&mut [T]> {
        let in_base = self.rows <= self.base_rows && self.stride > 0;
        let values = self.skip..self.skip + self.rows * self.stride;
        in_base.then(|| &mut self.base[values])
    }

    fn copy_row(&mut self, from: usize, to: usize) {
        if from.max(to) < self.base_rows {
            let start = self.skip + from * self.stride;
            let to = self.skip + to * self.stride;
            self.base.copy_within(start..start + self.stride, to);
            return;
        }
        let row: Vec<T> = self.row(from).to_vec();
        self.row_mut(to).copy_from_slice(&row);
    }

    /// Allocated bytes.
    pub(super) fn memory(&self) -> usize {
        let chunks: usize = self.chunks.iter().map(Vec::capacity).sum();
        let values = self.base.capacity() + chunks;
        values * size_of::<T>() + self.chunks.capacity() * size_of::<Vec<T>>()
    }
}

/// Lengthens `vec` to `len`, growing its allocation by an eighth instead of doubling it.
pub(super) fn grow<T: Copy>(vec: &mut Vec<T>, len: usize, fill: T) {
    if len > vec.capacity() {
        let capacity = len.max(vec.capacity() + vec.capacity() / 8 + 16);
        vec.reserve_exact(capacity - vec.len());
    }
    if len > vec.len() {
        vec.resize(len, fill);
    }
}

/// Keeps the values in these places alone, given in ascending order.
pub(super) fn keep<T: Copy>(vec: &mut Vec<T>, places: &[u32]) {
    for (to, &from) in places.iter().enumerate() {
        vec[to] = vec[from as usize];
    }
    vec.truncate(places.len());
}

/// Allocated bytes of a vector.
pub(super) fn bytes_of_vec<T>(vec: &Vec<T>) -> usize {
    vec.capacity() * size_of::<T>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_survive_growth_over_chunks() {
        let mut arena = Arena::new(1_000, 0u32);
        for row in 0..500 {
            arena.put(row, &[row as u32; 1_000]);
        }
        assert_eq!(arena.rows(), 500);
        assert!((0..500).all(|row| arena.row(row) == [row as u32; 1_000]));
        assert!(arena.memory() <= 500 * 4_000 + CHUNK_BYTES + 1_024);
    }

    #[test]
    fn announced_rows_take_no_more_than_they_need() {
        let mut arena = Arena::new(1_000, 0u32);
        arena.reserve(5_000);
        for row in 0..5_000 {
            arena.put(row, &[row as u32; 1_000]);
        }
        assert!(arena.memory() <= 5_000 * 4_000 + 1_024);
        assert!(arena.row(0).as_ptr().addr().is_multiple_of(ALIGNMENT));
        // And more than announced fit as well.
        for row in 5_000..7_000 {
            arena.put(row, &[row as u32; 1_000]);
        }
        assert!((0..7_000).all(|row| arena.row(row) == [row as u32; 1_000]));
    }

    #[test]
    fn permute_places_every_row() {
        let mut arena = Arena::new(3, 0u32);
        for row in 0..10 {
            arena.put(row, &[row as u32; 3]);
        }
        let order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7];
        arena.permute(&order);
        assert!((0..10).all(|row| arena.row(row) == [order[row]; 3]));
    }

    #[test]
    fn keep_closes_the_gaps() {
        for (announced, kept) in [(10, 6), (5, 3), (5, 8), (0, 7)] {
            let mut arena = Arena::new(20_000, 0u32);
            arena.reserve(announced);
            for row in 0..10 {
                arena.put(row, &[row as u32; 20_000]);
            }
            let rows: Vec<u32> = (0..10).filter(|row| row % 3 != 1).chain([10]).collect();
            arena.put(10, &[10; 20_000]);
            let rows = &rows[rows.len() - kept.min(rows.len())..];
            arena.keep(rows);
            assert_eq!(arena.rows(), rows.len());
            for round in 0..2 {
                for (place, &row) in rows.iter().enumerate() {
                    assert_eq!(arena.row(place), [row; 20_000], "round {round}");
                }
                // What comes then is put behind them.
                arena.put(rows.len() + round, &[99; 20_000]);
            }
        }
    }

    #[test]
    fn grow_adds_an_eighth() {
        let mut vec = vec![0u8; 8_000];
        vec.shrink_to_fit();
        grow(&mut vec, 8_001, 7);
        assert_eq!((vec.len(), vec[8_000]), (8_001, 7));
        assert!(vec.capacity() <= 9_100);
    }
}
