//! The thread that keeps `Durability::Within`: it makes writes durable a fixed time after the
//! first of them.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::shared::StoreCore;
use crate::inner_storage::Durability;

/// Shortest pause between two flushes.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// Longest pause between two flushes.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// The thread, which ends when this is dropped: nothing of the store outlives its last handle.
pub(crate) struct Flusher {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Flusher {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there has been reported already.
            let _ = thread.join();
        }
    }
}

/// Starts the thread where the store needs one.
pub(crate) fn start(core: &StoreCore) {
    let Durability::Within(window_ms) = core.options.durability else {
        return;
    };
    // Two pauses fit the window: a write just after a look waits for the next one.
    let pause = Duration::from_millis(window_ms / 2).clamp(PAUSE_MIN, PAUSE_MAX);
    let (stop, stopped) = channel();
    let (commits, health) = (Arc::clone(&core.commits), Arc::clone(&core.health));
    let look = move || {
        // A failure is kept by the store's health, which the next call reports.
        let _ = commits.flush_unsynced();
        health.check().is_ok()
    };
    let thread = std::thread::Builder::new()
        .name("vecstash-flush".to_string())
        .spawn(move || keep_looking(&stopped, pause, look));
    match thread {
        Ok(thread) => {
            let flusher = Flusher {
                stop: Some(stop),
                thread: Some(thread),
            };
            // A store starts its thread once.
            let _ = core.flusher.set(flusher);
        }
        Err(error) => core
            .health
            .fail(format!("no thread to flush from: {error}")),
    }
}

fn keep_looking(stopped: &Receiver<()>, pause: Duration, look: impl Fn() -> bool) {
    while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) && look() {}
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::ids::TableId;
    use crate::inner_storage::Change;
    use crate::store::OpenOptions;

    /// Links of a large batch take seconds, and the seat is held for all of them.
    #[test]
    fn a_window_is_kept_while_the_writer_has_the_seat() {
        let folder = tempfile::tempdir().unwrap();
        let options = OpenOptions::new().durability(Durability::Within(2));
        let store = options.open(folder.path().join("store.vecstash")).unwrap();
        let _seat = store.core.seat.lock();
        let next = TableId::new(7);
        let commits = &store.core.commits;
        commits.commit(&[Change::ReserveTableIds { next }]).unwrap();
        let started = Instant::now();
        while commits.are_unsynced() {
            assert!(started.elapsed() < Duration::from_secs(60), "no flush");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
