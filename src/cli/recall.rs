//! `recall`: what the index finds of what an exact scan of the same rows finds, and how fast.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use vecstash::{Hit, IndexKind, Return, SearchOptions, Table};

use super::args::RecallArgs;
use super::open::{self, Access, How};
use super::report::{Out, cells, columns, count, rows};
use super::tables::index_name;
use super::vectors::VectorFile;

/// Distances this close, relatively, are the same: rounding differs between ways to sum.
const TOLERANCE: f32 = 1e-5;

#[derive(Serialize)]
struct Answer {
    table: String,
    rows: usize,
    index: &'static str,
    queries: usize,
    k: usize,
    results: Vec<Measured>,
}

#[derive(Serialize)]
struct Measured {
    search: String,
    ef: Option<usize>,
    recall: f64,
    qps: f64,
    p50_us: f64,
    p99_us: f64,
}

pub(crate) fn run(args: &RecallArgs, how: How, out: &mut Out) -> Result<ExitCode> {
    ensure!(args.k > 0, "--k 0 finds nothing that could be measured");
    let queries = read_queries(args).with_context(|| args.queries.display().to_string())?;
    let store = open::open(&args.db, Access::Search, how)?;
    let table = open::table(&store, &args.table)?;
    let stats = table.stats()?;
    ensure!(stats.live_rows > 0, "table {} has no rows", args.table);

    let bar = open::bar(Some(queries.len() as u64), "queries");
    bar.set_message("scanning exactly");
    let base = SearchOptions::new(args.k).returning(Return::Keys);
    let mut limits = Vec::new();
    let mut took = Vec::new();
    for query in &queries {
        let started = Instant::now();
        let hits = table.search(query, &base.clone().exact(true))?;
        took.push(started.elapsed());
        limits.push(Limit::of(&hits));
        bar.inc(1);
    }
    let mut results = Vec::new();
    // Only an HNSW search has a candidate pool to vary.
    let pools: Vec<Option<usize>> = match stats.index {
        IndexKind::Hnsw => args.ef.iter().copied().map(Some).collect(),
        _ => vec![None],
    };
    for ef in pools {
        bar.reset();
        let name = ef.map_or_else(
            || index_name(stats.index).to_string(),
            |ef| format!("ef {ef}"),
        );
        bar.set_message(name.clone());
        let mut options = base.clone();
        options.ef = ef;
        results.push(measure(
            &table,
            &queries,
            &limits,
            &options,
            name,
            |done| bar.set_position(done),
        )?);
    }
    bar.finish_and_clear();
    results.push(Measured::of("exact scan", None, 1.0, took));
    let answer = Answer {
        table: args.table.clone(),
        rows: stats.live_rows,
        index: index_name(stats.index),
        queries: queries.len(),
        k: args.k,
        results,
    };
    out.answer(&answer, || text(&answer))?;
    Ok(ExitCode::SUCCESS)
}

fn read_queries(args: &RecallArgs) -> Result<Vec<Vec<f32>>> {
    let file = VectorFile::open(&args.queries)?;
    let limit = args.queries_limit.unwrap_or(usize::MAX);
    let queries = file
        .rows()
        .take(limit)
        .collect::<std::io::Result<Vec<_>>>()?;
    ensure!(!queries.is_empty(), "there are no queries");
    Ok(queries)
}

/// What counts as found for one query.
struct Limit {
    /// How many rows the exact scan found.
    found: usize,
    /// A hit no farther than this is as good as one of them.
    distance: f32,
}

impl Limit {
    fn of(exact: &[Hit]) -> Self {
        let last = exact.last().map_or(f32::NEG_INFINITY, |hit| hit.distance);
        Self {
            found: exact.len(),
            distance: last + TOLERANCE * last.abs(),
        }
    }

    fn hits(&self, found: &[Hit]) -> usize {
        let good = found
            .iter()
            .filter(|hit| hit.distance <= self.distance)
            .count();
        good.min(self.found)
    }
}

fn measure(
    table: &Table,
    queries: &[Vec<f32>],
    limits: &[Limit],
    options: &SearchOptions,
    name: String,
    progress: impl Fn(u64),
) -> Result<Measured> {
    // The first searches after an open find cold caches, which is not what is asked here.
    for query in queries.iter().take(50) {
        table.search(query, options)?;
    }
    let mut took = Vec::with_capacity(queries.len());
    let (mut good, mut wanted) = (0, 0);
    for (at, (query, limit)) in queries.iter().zip(limits).enumerate() {
        let started = Instant::now();
        let hits = table.search(query, options)?;
        took.push(started.elapsed());
        good += limit.hits(&hits);
        wanted += limit.found;
        progress(at as u64 + 1);
    }
    let recall = good as f64 / wanted.max(1) as f64;
    Ok(Measured::of(&name, options.ef, recall, took))
}

impl Measured {
    fn of(name: &str, ef: Option<usize>, recall: f64, mut took: Vec<Duration>) -> Self {
        took.sort_unstable();
        let total: Duration = took.iter().sum();
        let at = |share: f64| {
            let last = took.len().saturating_sub(1);
            let rank = (share * took.len() as f64).ceil() as usize;
            took.get(rank.saturating_sub(1).min(last))
                .map_or(0.0, |time| time.as_secs_f64() * 1e6)
        };
        Self {
            search: name.to_string(),
            ef,
            recall,
            qps: took.len() as f64 / total.as_secs_f64().max(1e-9),
            p50_us: at(0.5),
            p99_us: at(0.99),
        }
    }
}

fn text(answer: &Answer) -> String {
    let k = answer.k;
    let mut lines = vec![cells([
        "search",
        &format!("recall@{k}"),
        "queries/s",
        "p50 us",
        "p99 us",
    ])];
    for one in &answer.results {
        lines.push(cells([
            &one.search,
            &format!("{:.4}", one.recall),
            &count(one.qps as u64),
            &format!("{:.0}", one.p50_us),
            &format!("{:.0}", one.p99_us),
        ]));
    }
    format!(
        "table {} ({}, {}), {} queries, keys and distances, one thread\n\n{}\n\
         A hit counts when it is no farther than the {k}-th nearest row of the exact scan.\n",
        answer.table,
        rows(answer.rows as u64),
        answer.index,
        count(answer.queries as u64),
        columns(&lines, &[1, 2, 3, 4])
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_by_nearest_rank() {
        let took = (1..=100).rev().map(Duration::from_micros).collect();
        let measured = Measured::of("x", None, 0.5, took);
        assert!((measured.p50_us - 50.0).abs() < 1e-6);
        assert!((measured.p99_us - 99.0).abs() < 1e-6);
        assert!((measured.qps - 100.0 / 0.00505).abs() < 1.0);
        let one = Measured::of("x", None, 0.5, vec![Duration::from_micros(3)]);
        assert!((one.p99_us - 3.0).abs() < 1e-6);
    }
}
