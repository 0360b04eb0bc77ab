//! What the tests share: fixtures, recall, stores in temporary files, numbers from a seed.

// Every test binary compiles this module and uses a part of it.
#![allow(dead_code, unreachable_pub)]

pub mod alloc;
pub mod backend;
pub mod npy;
pub mod rng;
pub mod sets;
pub mod stores;
