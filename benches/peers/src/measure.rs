//! How fast a built peer answers.

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{K, Rows};
use crate::job::Point;
use crate::peers::Peer;

/// The pass that collects answers ends early where it would take longer than this.
const FIRST_PASS: Duration = Duration::from_secs(10);

/// One point of the sweep: answers first, which warms up, then rates.
pub(crate) fn point(
    peer: &dyn Peer,
    queries: &Rows,
    effort: usize,
    threads: usize,
    spell: Duration,
) -> Point {
    let hits = alone(|| answers(peer, queries, effort));
    let started = Instant::now();
    let mut latencies = alone(|| searches(peer, queries, effort, 0, spell));
    let one = latencies.len() as f64 / started.elapsed().as_secs_f64();
    latencies.sort_by(f64::total_cmp);
    let percentile = |p: f64| latencies[((latencies.len() - 1) as f64 * p) as usize] * 1e6;
    Point {
        effort,
        hits,
        qps: [one, together(peer, queries, effort, threads, spell)],
        p50_us: percentile(0.50),
        p99_us: percentile(0.99),
    }
}

/// Runs `work` where rayon has no second thread to give, so that one thread means one.
fn alone<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    pool.expect("a pool of one thread").install(work)
}

fn answers(peer: &dyn Peer, queries: &Rows, effort: usize) -> Vec<Vec<usize>> {
    let mut search = peer.searcher(effort);
    let started = Instant::now();
    let within = queries
        .iter()
        .take_while(|_| started.elapsed() < FIRST_PASS)
        .map(|query| {
            let hits = search(query, K);
            let in_order = hits.is_sorted_by(|a, b| a.1 <= b.1);
            assert!(in_order, "hits out of order: {hits:?}");
            let mut rows: Vec<usize> = hits.iter().map(|hit| hit.0).collect();
            rows.sort_unstable();
            assert!(rows.is_sorted_by(|a, b| a < b), "a row twice: {hits:?}");
            hits.iter().map(|hit| hit.0).collect()
        });
    within.collect()
}

/// Seconds of every search, over the queries from `first` on, again and again.
fn searches(
    peer: &dyn Peer,
    queries: &Rows,
    effort: usize,
    first: usize,
    spell: Duration,
) -> Vec<f64> {
    let mut search = peer.searcher(effort);
    let mut latencies = Vec::new();
    let started = Instant::now();
    let mut query = first;
    while started.elapsed() < spell {
        let before = Instant::now();
        black_box(search(queries.row(query), K));
        latencies.push(before.elapsed().as_secs_f64());
        query = (query + 1) % queries.len();
    }
    latencies
}

/// Searches a second of several threads, each with the queries in another order.
fn together(
    peer: &dyn Peer,
    queries: &Rows,
    effort: usize,
    threads: usize,
    spell: Duration,
) -> f64 {
    let run = |worker: usize| {
        let first = worker * queries.len() / threads;
        let started = Instant::now();
        let count = alone(|| searches(peer, queries, effort, first, spell).len());
        count as f64 / started.elapsed().as_secs_f64()
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| scope.spawn(move || run(worker)))
            .collect();
        let rates = workers.into_iter().map(|w| w.join().expect("a searcher"));
        rates.sum()
    })
}
