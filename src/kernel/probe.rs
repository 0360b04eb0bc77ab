//! One code against several: what walks over a graph and prunings of its lists spend their
//! arithmetic on.

use super::{BLOCK, Block, bytes_of_mut};

/// A code that is multiplied with many others, in the layout of the kernel set that made it.
#[derive(Clone, Default)]
pub(crate) struct Probe {
    /// The code's bytes less 128: as they stand, or widened to 16 bits, those of the even bytes
    /// of 32 before those of the odd ones.
    pub(super) words: Vec<Block>,
}

/// The code's bytes less 128, as signed bytes.
#[inline(always)]
pub(super) fn aim_bytes(code: &[u8], probe: &mut Probe) {
    probe.words.resize(code.len() / BLOCK, Block::ZERO);
    for (to, &byte) in bytes_of_mut(&mut probe.words).iter_mut().zip(code) {
        *to = byte ^ 0x80;
    }
}
