//! The thread that keeps `Durability::Within`: it makes writes durable a fixed time after the
//! first of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::health::Health;
use super::shared::StoreCore;
use crate::error::StoreError;
use crate::inner_storage::{Backend, Durability};

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
    let backend = Arc::clone(&core.backend);
    let (seat, health) = (Arc::clone(&core.seat), Arc::clone(&core.health));
    let dirty = Arc::clone(&core.dirty);
    let look = move || {
        if dirty.load(Ordering::Acquire) {
            let _seat = seat.lock();
            // A failure is kept by the store's health, which the next call reports.
            let _ = flush(&*backend, &health, &dirty);
        }
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

/// Makes every commit before it durable. The caller holds the seat.
pub(crate) fn flush(
    backend: &dyn Backend,
    health: &Health,
    dirty: &AtomicBool,
) -> Result<(), StoreError> {
    // Of a store that has failed or is closed there is nothing to make durable.
    health.check()?;
    backend.flush().inspect_err(|error| {
        health.fail(format!("flush failed: {}", error.chain()));
    })?;
    dirty.store(false, Ordering::Release);
    Ok(())
}
