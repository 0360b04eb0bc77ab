//! Work on the threads of the pool that the caller is in; a caller in none works alone.
//!
//! Who links a row or two is in none: to wake other threads costs more than such work, and they
//! look for more of it for a while, on cores that searches have a use for.

use std::ops::Range;

use rayon::prelude::*;

/// As many items are worked on by the caller alone.
const SEQUENTIAL_MAX: usize = 8;

/// Threads that work is shared among.
pub(super) fn threads() -> usize {
    match rayon::current_thread_index() {
        Some(_) => rayon::current_num_threads().max(1),
        None => 1,
    }
}

/// Maps in order, in parallel where there is enough to do.
pub(super) fn map<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync + Send) -> Vec<R> {
    if items.len() > SEQUENTIAL_MAX && threads() > 1 {
        items.par_iter().map(work).collect()
    } else {
        items.iter().map(work).collect()
    }
}

/// Gives every thread an equal share of the numbers below `end`.
pub(super) fn share(end: u32, work: impl Fn(Range<u32>) + Sync + Send) {
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
                let pool = rayon::ThreadPoolBuilder::new().num_threads(count);
                let pool = pool.build().unwrap();
                let (threads, mapped, shared) = pool.install(|| worked(items));
                assert!(threads.iter().all(|&thread| thread != here));
                assert_eq!((&mapped, &shared), (&twice, &all));
            }
        }
    }
}
