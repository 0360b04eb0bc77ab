//! A simulated disk for fault tests: it counts, it fails where told, it yields crash images.
//!
//! Writes and length changes are *unsynced* until the next sync that succeeds. A power cut keeps
//! everything synced and, of the rest, nothing ([`SimDisk::image_all_unsynced_lost`]) or any part
//! in any order ([`SimDisk::image_random`]), each write torn at 512 bytes.

use std::io::{Error, ErrorKind, Result};
use std::sync::Arc;

use parking_lot::Mutex;
use redb::StorageBackend;

pub use crate::kernel::testing as kernel;

const SECTOR: usize = 512;
const EIO: i32 = 5;

/// What a file system does with unsynced writes after an fsync of them has failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FailedSync {
    /// The cache keeps the new bytes, marked clean: reads see them, no later sync writes them.
    CacheKeeps,
    /// The cache goes back to what is on the disk.
    CacheReverts,
}

/// One fault, at the n-th operation of its kind from now on; the first is 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The n-th read fails with EIO.
    Read(u64),
    /// The n-th write writes half of its bytes and fails with ENOSPC.
    Write(u64),
    /// The n-th change of length fails with ENOSPC.
    SetLen(u64),
    /// The n-th sync fails with EIO.
    Sync(u64, FailedSync),
}

/// How many operations a disk has seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SimCounts {
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Changes of length.
    pub set_lens: u64,
    /// Syncs, failed ones included.
    pub syncs: u64,
}

/// A disk in memory. Clones are handles on the same disk.
#[derive(Clone, Debug, Default)]
pub struct SimDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What was on the disk when the log began.
    base: Vec<u8>,
    /// What reads see.
    live: Vec<u8>,
    log: Vec<Op>,
    counts: SimCounts,
    faults: Vec<Fault>,
}

#[derive(Clone, Debug)]
enum Op {
    Write(u64, Arc<[u8]>),
    SetLen(u64),
    Sync,
    FailedSync,
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A disk that holds `image`, all of it synced.
    #[must_use]
    pub fn from_image(image: Vec<u8>) -> Self {
        let state = State {
            base: image.clone(),
            live: image,
            ..State::default()
        };
        Self(Arc::new(Mutex::new(state)))
    }

    /// How many operations there were.
    #[must_use]
    pub fn counts(&self) -> SimCounts {
        self.0.lock().counts
    }

    /// Number of logged operations: writes, changes of length and syncs. A power cut can happen
    /// before the first, and after each: at `0..=boundaries()`.
    #[must_use]
    pub fn boundaries(&self) -> usize {
        self.0.lock().log.len()
    }

    /// What reads see now.
    #[must_use]
    pub fn image(&self) -> Vec<u8> {
        self.0.lock().live.clone()
    }

    /// What is on the disk when the power fails after the first `op` operations and everything
    /// unsynced is lost.
    #[must_use]
    pub fn image_all_unsynced_lost(&self, op: usize) -> Vec<u8> {
        let state = self.0.lock();
        let (image, _) = state.durable(op);
        image
    }

    /// What is on the disk when the power fails after the first `op` operations and of what is
    /// unsynced any part, in any order, has made it. The same seed gives the same image.
    #[must_use]
    pub fn image_random(&self, op: usize, seed: u64) -> Vec<u8> {
        let state = self.0.lock();
        let (mut image, mut pending) = state.durable(op);
        let mut random = Random::new(seed.wrapping_add(1));
        for i in (1..pending.len()).rev() {
            pending.swap(i, random.below(i as u64 + 1) as usize);
        }
        for op in pending {
            match op {
                Op::SetLen(len) if random.below(2) == 0 => image.resize(len as usize, 0),
                Op::Write(offset, data) => match random.below(4) {
                    0 => {}
                    1 => {
                        for (i, sector) in data.chunks(SECTOR).enumerate() {
                            if random.below(2) == 0 {
                                put(&mut image, offset as usize + i * SECTOR, sector);
                            }
                        }
                    }
                    _ => put(&mut image, offset as usize, &data),
                },
                _ => {}
            }
        }
        image
    }

    /// Flips one bit of what reads see and of what is on the disk; the log ends here.
    pub fn flip_bit(&self, byte: usize, bit: u8) {
        let mut state = self.0.lock();
        if let Some(byte) = state.live.get_mut(byte) {
            *byte ^= 1 << (bit % 8);
        }
        state.base = state.live.clone();
        state.log.clear();
    }

    /// Forgets the log and takes what reads see for synced.
    pub fn checkpoint(&self) {
        let mut state = self.0.lock();
        state.base = state.live.clone();
        state.log.clear();
    }

    /// Adds a fault, counted from now on.
    pub fn fail(&self, fault: Fault) {
        let mut state = self.0.lock();
        let counts = state.counts;
        state.faults.push(match fault {
            Fault::Read(n) => Fault::Read(counts.reads + n),
            Fault::Write(n) => Fault::Write(counts.writes + n),
            Fault::SetLen(n) => Fault::SetLen(counts.set_lens + n),
            Fault::Sync(n, model) => Fault::Sync(counts.syncs + n, model),
        });
    }

    /// Removes every fault that has not happened.
    pub fn heal(&self) {
        self.0.lock().faults.clear();
    }
}

impl State {
    /// The synced image after the first `op` operations, and what is unsynced then.
    fn durable(&self, op: usize) -> (Vec<u8>, Vec<Op>) {
        let mut image = self.base.clone();
        let mut pending = Vec::new();
        for op in self.log.iter().take(op) {
            match op {
                Op::Sync => pending.drain(..).for_each(|op| apply(&mut image, &op)),
                Op::FailedSync => pending.clear(),
                op => pending.push(op.clone()),
            }
        }
        (image, pending)
    }
}

fn apply(image: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Write(offset, data) => put(image, *offset as usize, data),
        Op::SetLen(len) => image.resize(*len as usize, 0),
        Op::Sync | Op::FailedSync => {}
    }
}

fn put(image: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[offset..end].copy_from_slice(data);
}

fn no_space() -> Error {
    Error::from(ErrorKind::StorageFull)
}

impl StorageBackend for SimDisk {
    fn len(&self) -> Result<u64> {
        Ok(self.0.lock().live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let mut state = self.0.lock();
        state.counts.reads += 1;
        if state.faults.contains(&Fault::Read(state.counts.reads)) {
            return Err(Error::from_raw_os_error(EIO));
        }
        let offset = offset as usize;
        let end = offset
            .checked_add(out.len())
            .filter(|end| *end <= state.live.len());
        let Some(end) = end else {
            return Err(Error::from(ErrorKind::UnexpectedEof));
        };
        out.copy_from_slice(&state.live[offset..end]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<()> {
        let mut state = self.0.lock();
        state.counts.set_lens += 1;
        if state.faults.contains(&Fault::SetLen(state.counts.set_lens)) {
            return Err(no_space());
        }
        state.live.resize(len as usize, 0);
        state.log.push(Op::SetLen(len));
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        let mut state = self.0.lock();
        state.counts.syncs += 1;
        let syncs = state.counts.syncs;
        for model in [FailedSync::CacheKeeps, FailedSync::CacheReverts] {
            if state.faults.contains(&Fault::Sync(syncs, model)) {
                state.log.push(Op::FailedSync);
                if model == FailedSync::CacheReverts {
                    let (image, _) = state.durable(state.log.len());
                    state.live = image;
                }
                return Err(Error::from_raw_os_error(EIO));
            }
        }
        state.log.push(Op::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        let mut state = self.0.lock();
        state.counts.writes += 1;
        let full = state.faults.contains(&Fault::Write(state.counts.writes));
        let data = if full { &data[..data.len() / 2] } else { data };
        put(&mut state.live, offset as usize, data);
        state.log.push(Op::Write(offset, data.into()));
        if full { Err(no_space()) } else { Ok(()) }
    }
}

/// A small generator for reproducible faults (xorshift).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The generator with this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `end`, which is at least 1.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next_u64() % end
    }
}
