//! Reading a file ahead of those who need it: the system is asked for large pieces in order, which
//! disks like, while the pages are asked for one by one.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::kernel::{free_memory, read_ahead};

/// Bytes that are asked for at a time: systems bring in no more at once than they read ahead by
/// themselves, which is this much or more.
const PIECE: u64 = 128 << 10;

/// Files below this are read at once by anybody.
const LEN_MIN: u64 = 4 << 20;

/// A file that is being read ahead, until all of it is asked for or this is dropped.
pub(super) struct Preread {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Preread {
    /// Begins with the file at `path`, if it fits into half of the memory that the system says is
    /// free. It is a help and no more: whatever fails is left to those who read in earnest.
    pub(super) fn start(path: &Path) -> Option<Self> {
        let len = fs::metadata(path).ok()?.len();
        // Where the system does not say, a second handle might also meet the locks of the first.
        if len < LEN_MIN || len > free_memory()? / 2 {
            return None;
        }
        let file = File::open(path).ok()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let ask = move || {
            let pieces = (0..len).step_by(PIECE as usize);
            for offset in pieces.take_while(|_| !stopped.load(Ordering::Relaxed)) {
                read_ahead(&file, offset, PIECE);
            }
        };
        let thread = std::thread::Builder::new().name("vecstash-preread".to_owned());
        Some(Self {
            stop,
            thread: Some(thread.spawn(ask).ok()?),
        })
    }
}

impl Drop for Preread {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to say, and has panicked if this fails.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_is_asked_for_to_its_end_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        assert!(Preread::start(&path).is_none(), "there is no file");
        fs::write(&path, vec![7; LEN_MIN as usize - 1]).unwrap();
        assert!(Preread::start(&path).is_none(), "it is small");
        fs::write(&path, vec![7; LEN_MIN as usize + 9]).unwrap();
        let mut preread = Preread::start(&path).unwrap();
        preread.thread.take().unwrap().join().unwrap();
        // And one that nobody waits for ends as well.
        drop(Preread::start(&path));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_says_how_much_memory_is_free() {
        assert!(free_memory().is_some_and(|bytes| bytes > 1 << 20));
    }
}
