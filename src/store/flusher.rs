//! The thread that keeps `Durability::Within`: it makes writes durable a fixed time after the
//! first of them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::shared::StoreCore;
use crate::inner_storage::Durability;

/// Shortest pause between two flushes.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// Longest time the thread outlives its store.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Starts the thread where the store needs one. It ends by itself once the store is gone, closed
/// or failed.
pub(crate) fn start(core: &Arc<StoreCore>) {
    let Durability::Within(window_ms) = core.options.durability else {
        return;
    };
    // Two pauses fit the window: a write just after a look waits for the next one.
    let pause = Duration::from_millis(window_ms / 2).clamp(PAUSE_MIN, PAUSE_MAX);
    let weak = Arc::downgrade(core);
    let thread = std::thread::Builder::new().name("vecstash-flush".to_string());
    if let Err(error) = thread.spawn(move || keep_flushing(&weak, pause)) {
        core.health
            .fail(format!("no thread to flush from: {error}"));
    }
}

fn keep_flushing(weak: &Weak<StoreCore>, pause: Duration) {
    loop {
        std::thread::sleep(pause);
        let Some(core) = weak.upgrade() else { return };
        if core.health.check().is_err() {
            return;
        }
        if core.dirty.load(Ordering::Acquire) {
            let mut seat = core.seat.lock();
            // A failure is kept by the store's health, which the next call reports.
            if core.flush_seated(&mut seat).is_err() {
                return;
            }
        }
    }
}
