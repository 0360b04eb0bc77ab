//! The threads of a store, and work shared among them: a caller on none of them works alone.
//!
//! Who links a row or two is on none: to wake other threads costs more than such work, and they
//! look for more of it for a while, on cores that searches have a use for. A caller on a thread of
//! somebody else's pool is not helped by that pool either: who waits in one takes up what else it has to
//! do, and that may be a write, which waits for the very lock that the caller holds.

use std::cell::Cell;
use std::ops::Range;
use std::panic::resume_unwind;

use parking_lot::Mutex;
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// As many items are worked on by the caller alone.
pub(crate) const SEQUENTIAL_MAX: usize = 8;

thread_local! {
    /// Whether this thread is one of a pool made here.
    static OURS: Cell<bool> = const { Cell::new(false) };
}

/// A pool of so many threads; 0 for one per core.
pub(crate) fn new(threads: usize) -> Result<ThreadPool, ThreadPoolBuildError> {
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|nth| format!("vecstash-{nth}"))
        .start_handler(|_| OURS.set(true))
        .build()
}

/// Runs `work` on the threads of `pool` and waits for it, whatever thread the caller is on.
pub(crate) fn install<R: Send>(pool: &ThreadPool, work: impl FnOnce() -> R + Send) -> R {
    let is_anothers = rayon::current_thread_index().is_some() && !OURS.get();
    if !is_anothers {
        return pool.install(work);
    }
    let work = Mutex::new(Some(work));
    let run = || {
        let work = work.lock().take();
        work.map(|work| pool.install(work))
    };
    let done = std::thread::scope(|scope| {
        let waiting = std::thread::Builder::new().name("vecstash-wait".to_owned());
        match waiting.spawn_scoped(scope, run) {
            Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            // Without another thread this one waits.
            Err(_) => run(),
        }
    });
    done.unwrap_or_else(|| unreachable!("a thread that did not start took nothing"))
}

/// Threads that work is shared among.
pub(crate) fn threads() -> usize {
    if OURS.get() {
        rayon::current_num_threads().max(1)
    } else {
        1
    }
}

/// Maps in order, in parallel where there is enough to do.
pub(crate) fn map<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync + Send) -> Vec<R> {
    if items.len() > SEQUENTIAL_MAX && threads() > 1 {
        items.par_iter().map(work).collect()
    } else {
        items.iter().map(work).collect()
    }
}

/// Gives every thread an equal share of the numbers below `end`.
pub(crate) fn share(end: u32, work: impl Fn(Range<u32>) + Sync + Send) {
    let threads = threads();
    if threads == 1 {
        return work(0..end);
    }
    let each = end.div_ceil(threads as u32).max(1);
    let firsts = (0..end).into_par_iter().step_by(each as usize);
    firsts.for_each(|first| work(first..end.min(first.saturating_add(each))));
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn worked(items: u32) -> (Vec<std::thread::ThreadId>, Vec<u32>, Vec<u32>) {
        let threads = Mutex::new(Vec::new());
        let numbers: Vec<u32> = (0..items).collect();
        let mapped = map(&numbers, |&number| {
            threads.lock().unwrap().push(std::thread::current().id());
            number * 2
        });
        let shared = Mutex::new(Vec::new());
        share(items, |share| shared.lock().unwrap().extend(share));
        let mut shared = shared.into_inner().unwrap();
        shared.sort_unstable();
        (threads.into_inner().unwrap(), mapped, shared)
    }

    #[test]
    fn a_caller_outside_a_pool_works_alone_and_all_of_it_is_done() {
        let here = std::thread::current().id();
        for items in [0, 1, 7, 1_000] {
            let twice: Vec<u32> = (0..items).map(|number| number * 2).collect();
            let all: Vec<u32> = (0..items).collect();
            let (threads, mapped, shared) = worked(items);
            assert!(threads.iter().all(|&thread| thread == here));
            assert_eq!((&mapped, &shared), (&twice, &all));
            for count in [1, 3] {
                let pool = new(count).unwrap();
                let (threads, mapped, shared) = install(&pool, || worked(items));
                assert!(threads.iter().all(|&thread| thread != here));
                assert_eq!((&mapped, &shared), (&twice, &all));
            }
            let others = ThreadPoolBuilder::new().num_threads(3).build().unwrap();
            let (threads, mapped, shared) = others.install(|| worked(items));
            assert!(threads.windows(2).all(|pair| pair[0] == pair[1]));
            assert_eq!((&mapped, &shared), (&twice, &all));
        }
    }

    /// A worker that waited for another pool as rayon has it would take up the next of its own
    /// pool's jobs, which waits for the lock that it holds.
    #[test]
    fn who_waits_on_anothers_thread_takes_up_nothing_else() {
        let (ours, theirs) = (new(2).unwrap(), ThreadPoolBuilder::new().num_threads(2));
        let theirs = theirs.build().unwrap();
        let (done, all_done) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let seat = Mutex::new(0);
            theirs.install(|| {
                (0..64).into_par_iter().for_each(|_| {
                    let mut seat = seat.lock().unwrap();
                    *seat += install(&ours, || {
                        std::thread::sleep(std::time::Duration::from_millis(1));
                        1
                    });
                });
            });
            done.send(seat.into_inner().unwrap()).unwrap();
        });
        let minute = std::time::Duration::from_secs(60);
        assert_eq!(all_done.recv_timeout(minute), Ok(64));
    }

    #[test]
    fn a_panic_comes_back_to_who_waits() {
        let (ours, theirs) = (new(1).unwrap(), ThreadPoolBuilder::new().num_threads(1));
        let theirs = theirs.build().unwrap();
        for own in [true, false] {
            let work = || install(&ours, || -> u32 { panic!("as it is meant to") });
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match own {
                true => work(),
                false => theirs.install(work),
            }));
            let panic = caught.unwrap_err();
            assert_eq!(panic.downcast_ref(), Some(&"as it is meant to"));
        }
    }
}
