//! Cache-line aligned blocks of bytes, and the two safe views of them.

use super::BLOCK;

/// One aligned cache line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(64))]
pub(crate) struct Block(pub(crate) [u8; BLOCK]);

impl Block {
    pub(crate) const ZERO: Self = Self([0; BLOCK]);
}

/// The bytes of these blocks.
#[inline]
pub(crate) fn bytes_of(blocks: &[Block]) -> &[u8] {
    // SAFETY: a `Block` is `repr(C)`, 64 bytes of `u8` with alignment 64, hence without padding;
    // the slice covers exactly `blocks.len() * 64` initialised bytes of the same allocation, and
    // the lifetime is that of the borrow.
    unsafe { std::slice::from_raw_parts(blocks.as_ptr().cast(), std::mem::size_of_val(blocks)) }
}

/// The bytes of these blocks, to write.
#[inline]
pub(crate) fn bytes_of_mut(blocks: &mut [Block]) -> &mut [u8] {
    // SAFETY: as `bytes_of`; the borrow is unique, and every byte value is valid in a `Block`.
    unsafe {
        std::slice::from_raw_parts_mut(blocks.as_mut_ptr().cast(), std::mem::size_of_val(blocks))
    }
}
