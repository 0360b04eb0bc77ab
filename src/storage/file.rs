//! The storage that redb runs on: a file whose first writes wait in memory until they are released.
//!
//! Every read-write open of redb alters the file, even a clean one, and only the open itself tells
//! whether the file is ours. So an open starts *guarded*: what redb writes goes to an ordered log
//! and to a sparse map of pages that later reads see. [`Guard::release`] replays the log, syncs
//! included and in order, so the file goes through exactly the states it would have gone through;
//! from then on calls pass straight through. A read-only open is never released.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Result};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;
use redb::{BackendError, StorageBackend};

use crate::inner_storage::window::Windowed;

/// Bytes of one page of the overlay.
const PAGE: u64 = 4_096;

/// Whether the overlay may ever reach the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Access {
    /// Exclusive lock; writes reach the file once released.
    Write,
    /// Shared lock; writes never reach the file.
    Read,
}

/// A handle on a guarded backend: one for redb, one for whoever opens it.
#[derive(Debug)]
pub(super) struct Guard<B>(Arc<Shared<B>>);

impl<B> Clone for Guard<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Shared<B> {
    file: Windowed<B>,
    access: Access,
    guarded: AtomicBool,
    overlay: RwLock<Overlay>,
}

#[derive(Debug, Default)]
struct Overlay {
    /// Length as redb sees it.
    len: u64,
    /// Bytes of the file from here on were cut off and are zero where no page says otherwise.
    floor: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE as usize]>>,
    log: Vec<Op>,
}

#[derive(Debug)]
enum Op {
    Write(u64, Box<[u8]>),
    SetLen(u64),
    Sync,
}

impl<B: StorageBackend> Guard<B> {
    /// Guards `inner`.
    pub(super) fn new(inner: B, access: Access) -> Result<Self> {
        let len = inner.len()?;
        Ok(Self(Arc::new(Shared {
            file: Windowed::new(inner),
            access,
            guarded: AtomicBool::new(true),
            overlay: RwLock::new(Overlay {
                len,
                floor: len,
                ..Overlay::default()
            }),
        })))
    }

    /// Lets what was written so far, and everything from now on, reach the file. After an error
    /// the file is as a crash at that point would have left it, and stays so.
    pub(super) fn release(&self) -> Result<()> {
        let shared = &self.0;
        if shared.access == Access::Read {
            return Ok(());
        }
        let mut overlay = shared.overlay.write();
        let mut synced = true;
        for op in &overlay.log {
            match op {
                Op::Write(offset, data) => shared.file.write(*offset, data)?,
                Op::SetLen(len) => shared.file.set_len(*len)?,
                Op::Sync => shared.file.inner().sync_data()?,
            }
            synced = matches!(op, Op::Sync);
        }
        if !synced {
            shared.file.inner().sync_data()?;
        }
        *overlay = Overlay::default();
        shared.guarded.store(false, Ordering::Release);
        Ok(())
    }

    /// The overlay's lock, while there is something to guard.
    fn overlay(&self) -> Option<&RwLock<Overlay>> {
        self.0
            .guarded
            .load(Ordering::Acquire)
            .then_some(&self.0.overlay)
    }
}

impl Overlay {
    fn read<B: StorageBackend>(
        &self,
        file: &Windowed<B>,
        offset: u64,
        out: &mut [u8],
    ) -> Result<()> {
        let end = offset
            .checked_add(out.len() as u64)
            .filter(|end| *end <= self.len);
        let Some(end) = end else {
            return Err(Error::from(ErrorKind::UnexpectedEof));
        };
        let kept = self.floor.saturating_sub(offset).min(out.len() as u64) as usize;
        if kept > 0 {
            file.read(offset, &mut out[..kept])?;
        }
        out[kept..].fill(0);
        for (number, page) in self.pages.range(offset / PAGE..end.div_ceil(PAGE)) {
            let start = number * PAGE;
            let (from, to) = (start.max(offset), (start + PAGE).min(end));
            out[(from - offset) as usize..(to - offset) as usize]
                .copy_from_slice(&page[(from - start) as usize..(to - start) as usize]);
        }
        Ok(())
    }

    fn write<B: StorageBackend>(
        &mut self,
        file: &Windowed<B>,
        offset: u64,
        data: &[u8],
    ) -> Result<()> {
        let end = offset
            .checked_add(data.len() as u64)
            .ok_or_else(|| Error::from(ErrorKind::InvalidInput))?;
        self.len = self.len.max(end);
        for number in offset / PAGE..end.div_ceil(PAGE) {
            let start = number * PAGE;
            if !self.pages.contains_key(&number) {
                let mut page = Box::new([0; PAGE as usize]);
                let there = self.len.saturating_sub(start).min(PAGE) as usize;
                self.read(file, start, &mut page[..there])?;
                self.pages.insert(number, page);
            }
            if let Some(page) = self.pages.get_mut(&number) {
                let (from, to) = (start.max(offset), (start + PAGE).min(end));
                page[(from - start) as usize..(to - start) as usize]
                    .copy_from_slice(&data[(from - offset) as usize..(to - offset) as usize]);
            }
        }
        self.log.push(Op::Write(offset, data.into()));
        Ok(())
    }

    fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.pages.split_off(&len.div_ceil(PAGE));
            if let Some(page) = self.pages.get_mut(&(len / PAGE)) {
                page[(len % PAGE) as usize..].fill(0);
            }
        }
        self.floor = self.floor.min(len);
        self.len = len;
        self.log.push(Op::SetLen(len));
    }
}

impl<B: StorageBackend> StorageBackend for Guard<B> {
    fn len(&self) -> Result<u64> {
        match self.overlay() {
            Some(overlay) => Ok(overlay.read().len),
            None => self.0.file.inner().len(),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        match self.overlay() {
            Some(overlay) => overlay.read().read(&self.0.file, offset, out),
            None => self.0.file.read(offset, out),
        }
    }

    fn set_len(&self, len: u64) -> Result<()> {
        match self.overlay() {
            Some(overlay) => {
                overlay.write().set_len(len);
                Ok(())
            }
            None => self.0.file.set_len(len),
        }
    }

    fn sync_data(&self) -> Result<()> {
        match self.overlay() {
            Some(overlay) => {
                overlay.write().log.push(Op::Sync);
                Ok(())
            }
            None => self.0.file.inner().sync_data(),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        match self.overlay() {
            Some(overlay) => overlay.write().write(&self.0.file, offset, data),
            None => self.0.file.write(offset, data),
        }
    }

    fn close(&self) -> Result<()> {
        self.0.file.inner().close()
    }

    fn try_lock_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> std::result::Result<bool, BackendError> {
        // A file opened for reading cannot be locked exclusively, and need not be: what redb
        // writes stays here.
        match self.0.access {
            Access::Write => self.0.file.inner().try_lock_range(start, end),
            Access::Read => self.0.file.inner().try_lock_shared_range(start, end),
        }
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> std::result::Result<bool, BackendError> {
        self.0.file.inner().try_lock_shared_range(start, end)
    }

    fn lock_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> std::result::Result<(), BackendError> {
        match self.0.access {
            Access::Write => self.0.file.inner().lock_range(start, end),
            Access::Read => self.0.file.inner().lock_shared_range(start, end),
        }
    }

    fn lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> std::result::Result<(), BackendError> {
        self.0.file.inner().lock_shared_range(start, end)
    }

    fn unlock_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> std::result::Result<(), BackendError> {
        self.0.file.inner().unlock_range(start, end)
    }

    fn query_lock_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> std::result::Result<bool, BackendError> {
        self.0.file.inner().query_lock_range(start, end)
    }
}
