//! Small reads of what follows: a file that is read page after page is asked for many at once.
//!
//! An open reads every page of a file twice, once to check it and once for its rows, and most of
//! what a read of 4 KiB costs is the call. Where reads follow one another, one larger read serves the
//! next ones. Reads here and there stay as they are.

use std::io::Result;

use parking_lot::Mutex;
use redb::StorageBackend;

/// Bytes that are read at once, at first and at most: beyond, what was read has left the core's
/// cache before it is used.
const FIRST: usize = 16 << 10;
const MOST: usize = 64 << 10;

/// Runs of reads that are followed side by side.
const RUNS: usize = 4;

/// A backend whose small reads are served together.
#[derive(Debug)]
pub(super) struct Windowed<B> {
    inner: B,
    runs: Mutex<Runs>,
}

#[derive(Debug, Default)]
struct Runs {
    /// The one used last comes first.
    runs: Vec<Run>,
}

/// Reads that followed one another.
#[derive(Debug, Default)]
struct Run {
    /// What was read ahead, and where it begins.
    start: u64,
    bytes: Vec<u8>,
    /// Bytes to read at once when it goes on.
    next: usize,
}

impl Run {
    fn end(&self) -> u64 {
        self.start.saturating_add(self.bytes.len() as u64)
    }

    /// These bytes, if all of them are here.
    fn get(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let from = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        self.bytes.get(from..from.checked_add(len)?)
    }

    /// Whether a read from `offset` on goes on from here: a few pages of others may lie between.
    fn goes_on(&self, offset: u64) -> bool {
        (self.start..=self.end().saturating_add(FIRST as u64)).contains(&offset)
    }
}

impl<B: StorageBackend> Windowed<B> {
    pub(super) fn new(inner: B) -> Self {
        Self {
            inner,
            runs: Mutex::default(),
        }
    }

    pub(super) fn inner(&self) -> &B {
        &self.inner
    }

    /// Fills `out` from `offset` on, as the backend does.
    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        // Whoever finds others at it reads for itself.
        if out.len() <= FIRST
            && let Some(mut runs) = self.runs.try_lock()
            && runs.read(&self.inner, offset, out)
        {
            return Ok(());
        }
        self.inner.read(offset, out)
    }

    /// Writes, and forgets what was read before.
    pub(super) fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        // Nobody reads ahead what is being written.
        let mut runs = self.runs.lock();
        runs.runs.clear();
        self.inner.write(offset, data)
    }

    /// Sets the length, and forgets what was read before.
    pub(super) fn set_len(&self, len: u64) -> Result<()> {
        let mut runs = self.runs.lock();
        runs.runs.clear();
        self.inner.set_len(len)
    }
}

impl Runs {
    /// Fills `out` if it is here or what follows can be read ahead.
    fn read(&mut self, inner: &impl StorageBackend, offset: u64, out: &mut [u8]) -> bool {
        let here = |run: &Run| run.get(offset, out.len()).is_some();
        let runs = &mut self.runs;
        let found = runs.iter().position(here);
        let found = found.or_else(|| runs.iter().position(|run| run.goes_on(offset)));
        let Some(found) = found else {
            self.begin(offset.saturating_add(out.len() as u64));
            return false;
        };
        runs[..=found].rotate_right(1);
        let run = &mut runs[0];
        if run.get(offset, out.len()).is_none() && run.fill(inner, offset).is_err() {
            // Its own read says what is wrong, if it is about these bytes at all.
            runs.remove(0);
            return false;
        }
        let Some(bytes) = run.get(offset, out.len()) else {
            // The file ends before.
            return false;
        };
        out.copy_from_slice(bytes);
        true
    }

    /// What was read up to `start` may be the first of a run: it takes the place of the one not used
    /// for longest.
    fn begin(&mut self, start: u64) {
        let full = self.runs.len() == RUNS;
        let mut run = if full { self.runs.pop() } else { None }.unwrap_or_default();
        run.bytes.clear();
        run.start = start;
        run.next = FIRST;
        self.runs.insert(0, run);
    }
}

impl Run {
    /// Reads ahead from `offset` on, as far as there is something.
    fn fill(&mut self, inner: &impl StorageBackend, offset: u64) -> Result<()> {
        let left = inner.len()?.saturating_sub(offset);
        let len = left.min(self.next as u64) as usize;
        // Nothing is here until it has been read.
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.resize(len, 0);
        inner.read(offset, &mut bytes)?;
        (self.start, self.bytes) = (offset, bytes);
        self.next = (2 * self.next).min(MOST);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use redb::backends::InMemoryBackend;

    use super::*;

    /// Counts the reads that reach it, and fails those that meet a bad place.
    #[derive(Debug)]
    struct Counting {
        inner: InMemoryBackend,
        reads: AtomicUsize,
        bad: u64,
    }

    impl StorageBackend for Counting {
        fn len(&self) -> Result<u64> {
            self.inner.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            if (offset..offset + out.len() as u64).contains(&self.bad) {
                return Err(Error::from(ErrorKind::InvalidData));
            }
            self.inner.read(offset, out)
        }

        fn set_len(&self, len: u64) -> Result<()> {
            self.inner.set_len(len)
        }

        fn sync_data(&self) -> Result<()> {
            self.inner.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
            self.inner.write(offset, data)
        }
    }

    const PAGE: usize = 4_096;

    fn byte(at: usize) -> u8 {
        (at / PAGE * 31 + at % 251) as u8
    }

    fn filled(pages: usize, bad: u64) -> Windowed<Counting> {
        let inner = InMemoryBackend::new();
        let bytes: Vec<u8> = (0..pages * PAGE).map(byte).collect();
        inner.set_len(bytes.len() as u64).unwrap();
        inner.write(0, &bytes).unwrap();
        Windowed::new(Counting {
            inner,
            reads: AtomicUsize::new(0),
            bad,
        })
    }

    /// Reads a page, and how many reads that took.
    fn read(file: &Windowed<Counting>, page: usize) -> (Result<Vec<u8>>, usize) {
        let before = file.inner().reads.load(Ordering::Relaxed);
        let mut out = vec![0; PAGE];
        let done = file.read((page * PAGE) as u64, &mut out);
        let reads = file.inner().reads.load(Ordering::Relaxed) - before;
        (done.map(|()| out), reads)
    }

    fn expected(page: usize) -> Vec<u8> {
        (page * PAGE..(page + 1) * PAGE).map(byte).collect()
    }

    #[test]
    fn pages_that_follow_one_another_come_together_and_others_alone() {
        let pages = 1_000;
        let file = filled(pages, u64::MAX);
        // Two runs with pages of elsewhere between, as of a tree.
        let mut reads = 0;
        for nth in 0..pages / 2 {
            for page in [nth, nth + pages / 2, nth * 379 % pages] {
                let (bytes, count) = read(&file, page);
                assert_eq!(bytes.unwrap(), expected(page));
                reads += if page == nth * 379 % pages { 0 } else { count };
            }
        }
        assert!(reads < pages / 8, "{reads} reads of {pages} pages");
        // Here and there, never as much as a page more than is asked for.
        let file = filled(pages, u64::MAX);
        for nth in 0..pages {
            let page = nth * 379 % pages;
            let (bytes, count) = read(&file, page);
            assert_eq!((bytes.unwrap(), count), (expected(page), 1));
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let pages = 200;
        let file = filled(pages, u64::MAX);
        for page in 0..pages - 1 {
            assert_eq!(read(&file, page).0.unwrap(), expected(page));
            file.write(((page + 1) * PAGE) as u64, &[7; PAGE]).unwrap();
            assert_eq!(read(&file, page + 1).0.unwrap(), [7; PAGE]);
            let again = expected(page + 1);
            file.write(((page + 1) * PAGE) as u64, &again).unwrap();
        }
        // And what was cut off is gone.
        for page in 100..110 {
            read(&file, page).0.unwrap();
        }
        file.set_len((110 * PAGE) as u64).unwrap();
        assert!(read(&file, 110).0.is_err());
        file.set_len((120 * PAGE) as u64).unwrap();
        assert_eq!(read(&file, 111).0.unwrap(), [0; PAGE]);
    }

    #[test]
    fn a_bad_place_fails_its_own_page_alone() {
        let (pages, bad) = (300, 137);
        let file = filled(pages, (bad * PAGE + 9) as u64);
        for page in 0..pages {
            match read(&file, page).0 {
                Ok(bytes) => assert_eq!(bytes, expected(page)),
                Err(error) => assert_eq!((error.kind(), page), (ErrorKind::InvalidData, bad)),
            }
        }
        assert!(read(&file, bad).0.is_err());
    }
}
