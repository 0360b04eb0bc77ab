//! What the system says of memory: on Linux; nothing elsewhere.

use std::fs;

/// Bytes of memory that can be had without pushing anything out.
pub(crate) fn free_memory() -> Option<u64> {
    bytes_of("/proc/meminfo", "MemAvailable:")
}

/// The most bytes that this process has had resident.
pub(crate) fn peak_memory() -> Option<u64> {
    bytes_of("/proc/self/status", "VmHWM:")
}

/// The value of a field that is given in kilobytes.
fn bytes_of(path: &str, field: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib << 10)
}
