//! Recall by true distance, medians over runs, and figures at a recall between two points.

use serde::Serialize;
use vecstash::Distance;

use crate::common::truth::{self, Truth};
use crate::common::{DataSet, K, median};
use crate::job::Answer;

/// The recalls of the table.
pub(crate) const TARGETS: [f64; 3] = [0.90, 0.95, 0.99];

/// A peer's medians, and its runs as they came.
#[derive(Serialize)]
pub(crate) struct PeerResult {
    pub(crate) peer: String,
    pub(crate) version: String,
    pub(crate) build_seconds: f64,
    pub(crate) bytes: f64,
    pub(crate) bytes_by: String,
    pub(crate) save_seconds: Option<f64>,
    pub(crate) reopen_seconds: Option<f64>,
    pub(crate) upserts_single: Option<f64>,
    pub(crate) upserts_batch: Option<f64>,
    pub(crate) points: Vec<ScoredPoint>,
    pub(crate) runs: Vec<Run>,
}

/// One run, without the rows that were found.
#[derive(Serialize)]
pub(crate) struct Run {
    build_seconds: f64,
    bytes: f64,
    save_seconds: Option<f64>,
    reopen_seconds: Option<f64>,
    upserts_single: Option<f64>,
    upserts_batch: Option<f64>,
    points: Vec<ScoredPoint>,
}

/// One point of a sweep with its recall.
#[derive(Clone, Serialize)]
pub(crate) struct ScoredPoint {
    pub(crate) effort: usize,
    pub(crate) recall: f64,
    /// On one thread and on all that were asked for.
    pub(crate) qps: [f64; 2],
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// A figure at a recall.
#[derive(Clone, Copy)]
pub(crate) enum At {
    /// Between two points.
    Between(f64),
    /// Of the cheapest point, which is better already.
    Cheapest(f64),
    /// The sweep ends below.
    Never,
}

/// That a peer finds its own rows, by true distance, so that copies may answer for each other.
pub(crate) fn assert_own(
    peer: &str,
    own: &[usize],
    answer: &Answer,
    set: &DataSet,
) -> Result<(), String> {
    if set.distance == Distance::DotProduct {
        // Longer vectors have larger products than a row with itself.
        return Ok(());
    }
    let distance =
        |a: usize, b: usize| truth::distance(set.distance, set.base.row(a), set.base.row(b));
    let itself = |&(&row, &found): &(&usize, &usize)| {
        row == found || distance(row, found) <= distance(row, row) + 1e-6
    };
    let count = own.iter().zip(&answer.own).filter(itself).count();
    let share = count as f64 / own.len() as f64;
    // Codes of few bits confuse near copies.
    let exact = !["int8", "i8", "sq8", "bf16", "turbovec"]
        .iter()
        .any(|end| peer.ends_with(end));
    let floor = if exact { 0.99 } else { 0.90 };
    if share >= floor {
        return Ok(());
    }
    let [share, floor] = [share, floor].map(|x| x * 100.0);
    Err(format!(
        "finds {share:.1} % of its own rows, and {floor} % is the least"
    ))
}

/// Scores the runs of a peer.
pub(crate) fn result(
    peer: String,
    answers: Vec<Answer>,
    set: &DataSet,
    truth: &Truth,
) -> PeerResult {
    let first = answers.first().expect("a peer that ran");
    let (bytes_by, version) = (first.bytes_by.clone(), first.version.clone());
    let version = version.unwrap_or_else(|| locked_version(&peer));
    let runs: Vec<Run> = answers
        .into_iter()
        .map(|answer| run(answer, set, truth))
        .collect();
    let of = |figure: &dyn Fn(&Run) -> f64| median(runs.iter().map(figure).collect());
    let maybe = |figure: &dyn Fn(&Run) -> Option<f64>| {
        let values: Vec<f64> = runs.iter().filter_map(figure).collect();
        (!values.is_empty()).then(|| median(values))
    };
    PeerResult {
        peer,
        version,
        build_seconds: of(&|run| run.build_seconds),
        bytes: of(&|run| run.bytes),
        bytes_by,
        save_seconds: maybe(&|run| run.save_seconds),
        reopen_seconds: maybe(&|run| run.reopen_seconds),
        upserts_single: maybe(&|run| run.upserts_single),
        upserts_batch: maybe(&|run| run.upserts_batch),
        points: (0..runs[0].points.len())
            .map(|i| {
                let of = |figure: &dyn Fn(&ScoredPoint) -> f64| of(&|run| figure(&run.points[i]));
                ScoredPoint {
                    effort: runs[0].points[i].effort,
                    recall: of(&|point| point.recall),
                    qps: [of(&|point| point.qps[0]), of(&|point| point.qps[1])],
                    p50_us: of(&|point| point.p50_us),
                    p99_us: of(&|point| point.p99_us),
                }
            })
            .collect(),
        runs,
    }
}

fn run(answer: Answer, set: &DataSet, truth: &Truth) -> Run {
    let points = answer.points.iter().map(|point| ScoredPoint {
        effort: point.effort,
        recall: recall(&point.hits, set, truth),
        qps: point.qps,
        p50_us: point.p50_us,
        p99_us: point.p99_us,
    });
    Run {
        build_seconds: answer.build_seconds,
        bytes: answer.bytes,
        save_seconds: answer.save_seconds,
        reopen_seconds: answer.reopen_seconds,
        upserts_single: answer.upserts_single,
        upserts_batch: answer.upserts_batch,
        points: points.collect(),
    }
}

fn recall(hits: &[Vec<usize>], set: &DataSet, truth: &Truth) -> f64 {
    let found = hits.iter().enumerate();
    let found: usize = found
        .map(|(query, rows)| truth.count(set, query, rows.iter().copied()))
        .sum();
    found as f64 / (K.min(set.base.len()) * hits.len()) as f64
}

/// A figure where the sweep reaches a recall, interpolated on its logarithm.
pub(crate) fn at(points: &[ScoredPoint], target: f64, figure: impl Fn(&ScoredPoint) -> f64) -> At {
    let Some(first) = points.iter().position(|point| point.recall >= target) else {
        return At::Never;
    };
    let above = &points[first];
    let Some(below) = first.checked_sub(1).map(|before| &points[before]) else {
        return At::Cheapest(figure(above));
    };
    let part = (target - below.recall) / (above.recall - below.recall);
    let (low, high) = (figure(below).ln(), figure(above).ln());
    At::Between((low + part * (high - low)).exp())
}

/// The version of a peer's crate in the lock file.
fn locked_version(peer: &str) -> String {
    let name = ["vecstash", "usearch"]
        .into_iter()
        .find(|family| peer.starts_with(family))
        .unwrap_or(peer);
    let head = format!("name = \"{name}\"\nversion = \"");
    let versions = include_str!("../Cargo.lock").split(&head).skip(1);
    let version = versions.filter_map(|rest| rest.split('"').next());
    // Two versions of a crate stand in order, and ours is the newer one.
    version.last().unwrap_or("?").to_string()
}
