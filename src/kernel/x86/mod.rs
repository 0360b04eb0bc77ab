//! The x86-64 sets: AVX-512 with VNNI, AVX2 with VNNI, AVX2.
//!
//! The functions that need a CPU feature are private to their module, and the safe wrappers
//! around them leave this folder only inside a set that `available` hands out, which it does only
//! after asking the CPU: holding the set is the proof that its functions may run.

mod avx2;
mod avx512;
mod avxvnni;

use std::arch::is_x86_feature_detected;

use super::Kernels;

/// The sets this CPU can run, fastest first.
pub(super) fn available() -> Vec<Kernels> {
    let mut sets = Vec::new();
    if is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vnni")
    {
        sets.push(avx512::KERNELS);
    }
    if is_x86_feature_detected!("avx2") {
        if is_x86_feature_detected!("avxvnni") {
            sets.push(avxvnni::KERNELS);
        }
        sets.push(avx2::KERNELS);
    }
    sets
}
