//! Asking the system to read a part of a file before it is asked for.

use std::fs::File;

/// Asks for `len` bytes of `file` from `offset` on to be brought into the system's cache, where the
/// system can be asked. Those that are there cost next to nothing; nothing depends on the answer.
#[cfg(target_os = "linux")]
pub(crate) fn read_ahead(file: &File, offset: u64, len: u64) {
    use std::os::fd::AsRawFd;
    let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else {
        return;
    };
    // SAFETY: the descriptor is open as long as `file` is borrowed, and advice about a range of a
    // file, whatever the range, touches no memory of ours.
    unsafe {
        libc::posix_fadvise(file.as_raw_fd(), offset, len, libc::POSIX_FADV_WILLNEED);
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn read_ahead(_file: &File, _offset: u64, _len: u64) {}
