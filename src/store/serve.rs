//! Serving while a store is still being opened: a thread of its own loads the tables and keeps the
//! writer's seat meanwhile, so that whatever writes waits for it, and searches scan what is there.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;

use parking_lot::{Condvar, Mutex};

use super::VectorStore;
use super::open::finish_open;
use super::open_tables::Loading;
use super::options::OpenReport;
use super::shared::StoreCore;
use crate::error::StoreError;

/// Where the opening of a store stands that is already in use.
#[derive(Default)]
pub(crate) struct Opening {
    under_way: Mutex<bool>,
    ended: Condvar,
    /// Nobody waits for the tables any more.
    stopped: AtomicBool,
    failure: Mutex<Option<StoreError>>,
}

impl Opening {
    /// Returns once it has ended, well or not.
    pub(crate) fn wait(&self) {
        let mut under_way = self.under_way.lock();
        while *under_way {
            self.ended.wait(&mut under_way);
        }
    }

    /// Lets it end soon.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    fn is_under_way(&self) -> bool {
        *self.under_way.lock()
    }

    fn end(&self, failure: Option<StoreError>) {
        *self.failure.lock() = failure;
        *self.under_way.lock() = false;
        self.ended.notify_all();
    }
}

/// Loads tables that are registered already, and returns once nobody can write before it is done.
pub(super) fn load_behind(core: &Arc<StoreCore>, loading: Loading) -> Result<(), StoreError> {
    *core.opening.under_way.lock() = true;
    let (seated, is_seated) = sync_channel(1);
    let own = Arc::clone(core);
    let opening = Arc::clone(&core.opening);
    let load = move || {
        let seat = Arc::clone(&own.seat);
        let seated_here = seat.lock();
        // Whoever started us waits for this.
        let _ = seated.send(());
        let go_on = || !own.opening.stopped.load(Ordering::Acquire) && Arc::strong_count(&own) > 1;
        // A callback of the caller's may panic, and nobody must wait for ever.
        let loaded = catch_unwind(AssertUnwindSafe(|| loading.run(&own, &go_on)));
        let loaded = loaded.unwrap_or_else(|_| {
            let reason = "a panic while tables were loaded".to_owned();
            Err(StoreError::Failed { reason })
        });
        let failure = match loaded {
            Ok(report) => {
                finish_open(&own, report);
                None
            }
            Err(error) => {
                let reason = format!("it could not be opened: {}", error.chain());
                own.health.fail(reason);
                Some(error)
            }
        };
        // Whoever waits may drop the store and want the file: this is not to be the last to hold it.
        let last = Arc::into_inner(own);
        drop(seated_here);
        drop(last);
        opening.end(failure);
    };
    let thread = std::thread::Builder::new().name("vecstash-open".to_owned());
    if let Err(error) = thread.spawn(load) {
        core.opening.end(None);
        return Err(StoreError::Backend(format!(
            "no thread to open the store with: {error}"
        )));
    }
    // It has panicked if this fails, and has no seat then.
    let _ = is_seated.recv();
    Ok(())
}

impl VectorStore {
    /// Whether tables are still being loaded, in a store opened with
    /// [`OpenOptions::serve_while_opening`](crate::OpenOptions::serve_while_opening).
    #[must_use]
    pub fn is_opening(&self) -> bool {
        self.core.opening.is_under_way()
    }

    /// Returns once every table is loaded and every index is built: at once, but for a store that
    /// serves while it is opened.
    ///
    /// # Errors
    ///
    /// What kept the store from being opened, as [`OpenOptions::open`](crate::OpenOptions::open)
    /// would have said it, to the first who asks, and [`StoreError::Failed`] from then on.
    pub fn wait_until_open(&self) -> Result<&OpenReport, StoreError> {
        self.core.opening.wait();
        if let Some(error) = self.core.opening.failure.lock().take() {
            return Err(error);
        }
        self.core.health.check()?;
        Ok(self.open_report())
    }
}
