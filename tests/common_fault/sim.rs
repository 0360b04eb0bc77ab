//! The only place where these tests name the disk simulator.
//!
//! What is assumed of it: clones share one disk; boundary `op` means that operations `0..op` were
//! done, so that a change acknowledged when `operations()` answered `n` is inside boundary `n`;
//! `from_image` starts at operation 0 with the image durable; the failing operation is counted on
//! this disk from its start, and fails once; a disk may be opened again once its store is dropped.

use std::sync::Arc;

use vecstash::testing::{self, FailedSync, SimDisk};
use vecstash::{OpenOptions, RedbBackend, StoreError, VectorStore};

#[derive(Clone)]
pub(crate) struct Disk(SimDisk);

/// What the n-th operation of a kind does instead of succeeding.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    Read(usize),
    Write(usize),
    Sync(usize, bool),
}

impl Disk {
    pub(crate) fn new() -> Self {
        Self(SimDisk::new())
    }

    pub(crate) fn from_image(image: Vec<u8>) -> Self {
        Self(SimDisk::from_image(image))
    }

    pub(crate) fn create(&self) -> Result<VectorStore, StoreError> {
        let backend = RedbBackend::create_sim(&self.0)?;
        OpenOptions::new()
            .threads(1)
            .open_backend(Arc::new(backend))
    }

    pub(crate) fn open(&self) -> Result<VectorStore, StoreError> {
        let backend = RedbBackend::open_sim(&self.0)?;
        OpenOptions::new()
            .threads(1)
            .open_backend(Arc::new(backend))
    }

    pub(crate) fn operations(&self) -> usize {
        self.0.boundaries()
    }

    pub(crate) fn syncs(&self) -> usize {
        usize::try_from(self.0.counts().syncs).expect("a count of syncs")
    }

    pub(crate) fn lost(&self, op: usize) -> Vec<u8> {
        self.0.image_all_unsynced_lost(op)
    }

    pub(crate) fn random(&self, op: usize, seed: u64) -> Vec<u8> {
        self.0.image_random(op, seed)
    }

    pub(crate) fn live(&self) -> Vec<u8> {
        self.0.image()
    }

    pub(crate) fn arm(&self, fault: Fault) {
        // The simulator counts from 1; so that 0 names the first operation too, add one.
        let nth = |n: usize| n as u64 + 1;
        self.0.fail(match fault {
            Fault::Read(n) => testing::Fault::Read(nth(n)),
            Fault::Write(n) => testing::Fault::Write(nth(n)),
            Fault::Sync(n, true) => testing::Fault::Sync(nth(n), FailedSync::CacheKeeps),
            Fault::Sync(n, false) => testing::Fault::Sync(nth(n), FailedSync::CacheReverts),
        });
    }
}
