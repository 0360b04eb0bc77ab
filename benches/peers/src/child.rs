//! One run of one Rust peer, in a process of its own so that memory and pools are its own.

use std::time::{Duration, Instant};

use crate::common::{DataSet, Rows};
use crate::job::{Answer, Job};
use crate::peers::{self, BytesBy, Peer};
use crate::{common, measure, memory};

const SINGLES: usize = 200;
const BATCH: usize = 1_000;
const BATCHES: usize = 4;
/// No kind of upsert is measured for longer, but for the transaction that is under way.
const UPSERT_SPELL: Duration = Duration::from_secs(2);

/// Builds, asks, reopens and writes.
pub(crate) fn run(job: &Job) -> Answer {
    let set = DataSet::open(&job.folder, Some(job.distance), usize::MAX);
    let mut peer = match peers::start(&job.peer, &set, &job.folder) {
        Ok(peer) => peer,
        Err(reason) => return Answer::refused(reason),
    };
    let (alive, resident) = (memory::alive(), memory::resident());
    let build_seconds = peer.build(&set, job.threads);
    let (bytes, bytes_by) = match peer.bytes() {
        BytesBy::Allocator { apart } => (memory::alive() - alive - apart, "alloc"),
        BytesBy::Resident => (memory::resident() - resident, "rss"),
        BytesBy::File(bytes) => (bytes, "file"),
    };
    let own = own(peer.as_ref(), &set, job);
    let spell = Duration::from_secs_f64(job.seconds);
    let efforts = if peer.has_effort() {
        job.efforts.as_slice()
    } else {
        &[0]
    };
    let points = efforts
        .iter()
        .map(|&effort| measure::point(peer.as_ref(), &set.queries, effort, job.threads, spell))
        .collect();
    let saved = peer.save();
    let reopen_seconds = saved.map(|_| {
        let before = nearest(peer.as_ref(), &set, 0, job);
        let seconds = peer.reopen(&set, job.threads);
        let started = Instant::now();
        let after = nearest(peer.as_ref(), &set, 0, job);
        let first = started.elapsed().as_secs_f64();
        // Twins may answer for each other.
        let gap = common::truth::distance(set.distance, set.base.row(before), set.base.row(after));
        assert!(
            before == after || gap < 1e-5,
            "row 0 has another nearest row"
        );
        seconds + first
    });
    let [upserts_single, upserts_batch] = upserts(peer.as_mut(), &set);
    Answer {
        refused: None,
        version: None,
        build_seconds,
        bytes: bytes as f64,
        bytes_by: bytes_by.to_string(),
        save_seconds: saved,
        reopen_seconds,
        upserts_single,
        upserts_batch,
        own,
        points,
    }
}

/// The nearest row of each row that the job names.
fn own(peer: &dyn Peer, set: &DataSet, job: &Job) -> Vec<usize> {
    let rows = job.own.iter();
    rows.map(|&row| nearest(peer, set, row, job)).collect()
}

fn nearest(peer: &dyn Peer, set: &DataSet, row: usize, job: &Job) -> usize {
    let effort = job.efforts.last().copied().unwrap_or(0);
    let hits = peer.searcher(effort)(set.base.row(row), job.k);
    hits.first().expect("a hit").0
}

/// Durable rows a second, one and 1,000 a transaction, where the peer writes durably.
fn upserts(peer: &mut dyn Peer, set: &DataSet) -> [Option<f64>; 2] {
    let fresh = fresh(set, SINGLES + BATCH * BATCHES);
    let mut done = 0;
    let mut measure = |batch: usize, most: usize| {
        let (first, started) = (done, Instant::now());
        while done < first + most && started.elapsed() < UPSERT_SPELL {
            let rows: Vec<&[f32]> = (done..done + batch).map(|row| fresh.row(row)).collect();
            if !peer.upsert(set.base.len() + done, &rows) {
                return None;
            }
            done += batch;
        }
        Some((done - first) as f64 / started.elapsed().as_secs_f64())
    };
    let single = measure(1, SINGLES);
    [single, measure(BATCH, BATCH * BATCHES)]
}

/// Rows that are nobody's: halfway between two of the base.
fn fresh(set: &DataSet, len: usize) -> Rows {
    let rows = set.base.len();
    let mut values = Vec::with_capacity(len * set.base.dim());
    for i in 0..len {
        let (a, b) = (set.base.row(i % rows), set.base.row((i * 7_919 + 1) % rows));
        let middle: Vec<f32> = a.iter().zip(b).map(|(x, y)| (x + y) / 2.0).collect();
        values.extend(crate::prepare::fitting(&middle, set.distance));
    }
    Rows::new(set.base.dim(), values)
}
