//! Asking the system for huge pages under large arrays, where it gives them on request.

use std::mem::MaybeUninit;

/// Size of a huge page on the machines that have them by default.
const HUGE: usize = 2 << 20;

/// Asks for huge pages under memory that is not in use yet. A walk over a graph touches pages all
/// over a table, and with small ones every touch is also a miss of the address cache. Asking may
/// do nothing; nothing depends on the answer.
pub(crate) fn advise_huge<T>(spare: &mut [MaybeUninit<T>]) {
    if size_of_val(spare) >= HUGE {
        advise(spare.as_mut_ptr().cast(), size_of_val(spare));
    }
}

#[cfg(target_os = "linux")]
fn advise(start: *mut u8, len: usize) {
    /// `madvise` wants whole pages; this is a multiple of every page size in use.
    const PAGE: usize = 64 << 10;
    let skip = start.align_offset(PAGE).min(len);
    let whole = (len - skip) / PAGE * PAGE;
    // SAFETY: the range lies within one allocation that the caller borrows mutably, begins and
    // ends on page boundaries, and `MADV_HUGEPAGE` changes how it is backed, never what it holds.
    unsafe {
        libc::madvise(start.add(skip).cast(), whole, libc::MADV_HUGEPAGE);
    }
}

#[cfg(not(target_os = "linux"))]
fn advise(_start: *mut u8, _len: usize) {}
