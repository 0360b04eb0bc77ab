//! What names things: keys, and the three numbers that could be confused, each a type of its own.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Row key: an opaque byte string of 1 to 1,024 bytes, chosen by the caller.
pub type RowKey = Vec<u8>;

/// A row's place in a table's memory: dense, reused after a delete, meaningless on disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Slot(u32);

impl Slot {
    /// The slot with this index. Tables hold at most [`crate::limits::ROWS_MAX`] rows, which the
    /// write path checks first, so an index beyond `u32` is a bug and not an input error.
    pub(crate) fn new(index: usize) -> Self {
        debug_assert!(index < u32::MAX as usize, "slot {index} beyond u32");
        Self(index as u32)
    }

    /// The slot as an index into arrays by slot.
    #[inline]
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }

    /// The slot as it is kept in packed lists.
    #[inline]
    pub(crate) fn raw(self) -> u32 {
        self.0
    }

    /// A slot from a packed list.
    #[inline]
    pub(crate) fn from_raw(raw: u32) -> Self {
        Self(raw)
    }
}

/// Names one immutable vector of one table: monotone, never reused, stored inside the row.
///
/// A new vector for a key gets a new `RowId`; the same vector again, or new metadata alone, keeps
/// it. Results are ordered by (distance, `RowId`), which is what makes them stable over a reopen.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct RowId(u64);

impl RowId {
    /// The id with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number of this id.
    #[must_use]
    #[inline]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names one table for ever: a table dropped and created again under its old name has a new id.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct TableId(u32);

impl TableId {
    /// The id with this number.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number of this id.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for TableId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Shows a key as text where it is printable, with escapes elsewhere, cut at 64 bytes.
pub(crate) struct DisplayKey<'a>(pub(crate) &'a [u8]);

impl fmt::Display for DisplayKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(64)];
        write!(f, "\"{}\"", shown.escape_ascii())?;
        if shown.len() < self.0.len() {
            write!(f, "... ({} bytes)", self.0.len())?;
        }
        Ok(())
    }
}
