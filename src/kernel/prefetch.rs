//! Asking for memory ahead of its use.

use super::BLOCK;

/// Most cache lines asked for at once: a core has about that many requests under way, and the
/// rest of a longer row follows by itself once it is being read.
const LINES_MAX: usize = 8;

/// Asks for the first bytes of `values`, so that they are near when they are read. Changes
/// nothing but time.
#[inline(always)]
pub(crate) fn prefetch<T>(values: &[T]) {
    let start = values.as_ptr().cast::<u8>();
    let lines = size_of_val(values).div_ceil(BLOCK).min(LINES_MAX);
    for line in 0..lines {
        prefetch_line(start.wrapping_add(line * BLOCK));
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn prefetch_line(at: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a prefetch reads nothing that the program can see and never faults, whatever the
    // address; SSE is part of every x86-64.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
}

#[cfg(target_arch = "aarch64")]
#[inline(always)]
fn prefetch_line(at: *const u8) {
    // SAFETY: `prfm` reads nothing that the program can see and never faults, whatever the
    // address; it touches no register but the one it is given.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{at}]", at = in(reg) at, options(nostack, readonly, preserves_flags));
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[inline(always)]
fn prefetch_line(_at: *const u8) {}
