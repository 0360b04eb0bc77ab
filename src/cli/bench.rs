//! `bench open`: how long opens take, by the number of rows, with and without links in the file, and
//! after changes; as a table, and as a plot with the exponent that fits each curve.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use vecstash::{IndexKind, OpenOptions, OpenReport, Table};

use super::args::BenchOpenArgs;
use super::bench_rows::{self, Vectors, insert, key_of};
use super::open::{How, bar};
use super::plot::{Curve, exponent, svg};
use super::report::{Out, cells, columns, count};
use super::scratch::Scratch;
use super::tables::index_name;

/// The table that is opened.
const TABLE: &str = "bench";

/// Rows written in one transaction, when a table is filled and when it is changed.
const BATCH: usize = 250_000;
const CHANGED_BATCH: usize = 1_000;

#[derive(Serialize)]
struct Answer {
    set: String,
    dim: usize,
    codec: String,
    index: &'static str,
    threads: usize,
    kernels: String,
    opens: Vec<Line>,
    exponents: Vec<Fit>,
}

/// Opens of one file, the medians of several.
#[derive(Serialize)]
struct Line {
    rows: usize,
    /// Whether links were found by building, or read from the file.
    links: &'static str,
    changed_percent: f64,
    check_seconds: f64,
    walk_seconds: f64,
    link_seconds: f64,
    total_seconds: f64,
    relinked_rows: u64,
    links_refused: bool,
    file_bytes: u64,
}

/// How the seconds of a series grow with its rows.
#[derive(Serialize)]
struct Fit {
    series: String,
    check: Option<f64>,
    walk: Option<f64>,
    link: Option<f64>,
    total: Option<f64>,
}

pub(crate) fn open(args: &BenchOpenArgs, how: How, out: &mut Out) -> Result<ExitCode> {
    ensure!(args.opens > 0, "--opens 0 measures nothing");
    ensure!(!args.rows.is_empty(), "--rows names no number of rows");
    ensure!(!args.rows.contains(&0), "--rows 0 measures nothing");
    for &percent in &args.changed {
        ensure!(
            (0.0..=50.0).contains(&percent),
            "--changed {percent}: 0 to 50 percent of the rows can be changed"
        );
    }
    let vectors = Vectors::of(args)?;
    let folder = Scratch::new(args.folder.as_deref(), "bench")?;
    let mut answer = Answer {
        set: vectors.name(),
        dim: vectors.dim(),
        codec: args.shape.schema(TABLE, 1).codec.to_string(),
        index: "",
        threads: 0,
        kernels: String::new(),
        opens: Vec::new(),
        exponents: Vec::new(),
    };
    let bar = bar(Some(args.rows.len() as u64), "sizes");
    for &rows in &args.rows {
        bar.set_message(format!("{} rows", count(rows as u64)));
        measure(args, how, &vectors, rows, folder.path(), &mut answer)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    answer.exponents = fits(&answer.opens);
    if let Some(out) = &args.out {
        let shown = || out.display().to_string();
        fs::create_dir_all(out).with_context(shown)?;
        let json = serde_json::to_vec_pretty(&answer)?;
        fs::write(out.join("open.json"), json).with_context(shown)?;
        fs::write(out.join("open.svg"), plot(&answer)).with_context(shown)?;
    }
    out.answer(&answer, || text(&answer))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes files of so many rows and opens each a few times.
fn measure(
    args: &BenchOpenArgs,
    how: How,
    vectors: &Vectors,
    rows: usize,
    folder: &Path,
    answer: &mut Answer,
) -> Result<()> {
    let path = folder.join(format!("{rows}.vecstash"));
    let dim = u16::try_from(vectors.dim()).context("more coordinates than a table takes")?;
    let store = options(how, true).create(true).open(&path)?;
    store.create_table_with(args.shape.schema(TABLE, dim), args.shape.options())?;
    let table = store.table(TABLE)?;
    let index = table.stats()?.index;
    answer.index = index_name(index);
    let is_hnsw = index == IndexKind::Hnsw;
    if !is_hnsw {
        insert(&table, vectors, 0..rows, BATCH)?;
    }
    drop(table);
    store.close()?;
    if is_hnsw {
        bench_rows::store(&path, vectors, rows)?;
        let line = line(args, how, &path, rows, Links::Found, answer)?;
        answer.opens.push(line);
    }
    for &percent in &args.changed {
        let links = match (is_hnsw, percent > 0.0) {
            (true, _) => Links::Read(percent),
            (false, false) => Links::None,
            (false, true) => continue,
        };
        let changed = folder.join("changed.vecstash");
        let copy = folder.join("copy.vecstash");
        fs::copy(&path, &copy)?;
        let store = options(how, true).open(&copy)?;
        change(&store.table(TABLE)?, vectors, rows, percent)?;
        // As a crash would leave it: a close would bring the links up to date.
        store.backup(&changed)?;
        store.close()?;
        fs::remove_file(&copy)?;
        let line = line(args, how, &changed, rows, links, answer)?;
        answer.opens.push(line);
        fs::remove_file(&changed)?;
    }
    fs::remove_file(&path)?;
    Ok(())
}

/// What an open does about links, and for how many percent of the rows they are out of date.
#[derive(Clone, Copy)]
enum Links {
    None,
    Found,
    Read(f64),
}

fn options(how: How, links: bool) -> OpenOptions {
    OpenOptions::new()
        .create(false)
        .threads(how.threads)
        .hinted_rows_min(if links { 0 } else { usize::MAX })
}

/// Deletes so many percent of the rows, evenly spread, and inserts as many others.
fn change(table: &Table, vectors: &Vectors, rows: usize, percent: f64) -> Result<()> {
    let count = (rows as f64 * percent / 100.0) as usize;
    if count == 0 {
        return Ok(());
    }
    let keys: Vec<Vec<u8>> = (0..count).map(|nth| key_of(nth * rows / count)).collect();
    for keys in keys.chunks(CHANGED_BATCH) {
        table.delete_many(keys)?;
    }
    insert(table, vectors, rows..rows + count, CHANGED_BATCH)
}

fn line(
    args: &BenchOpenArgs,
    how: How,
    path: &Path,
    rows: usize,
    links: Links,
    answer: &mut Answer,
) -> Result<Line> {
    let mut reports = Vec::new();
    let is_found = matches!(links, Links::Found);
    let is_once = is_found && rows > args.found_max;
    let opens = if is_once { 1 } else { args.opens };
    if is_found && !is_once {
        // All opens that count see the links in the file, whether they use them or not.
        options(how, true).open(path)?.close()?;
    }
    for _ in 0..opens {
        // Without the right to write nothing is added to the file at a close. Where links are found
        // once, they are written down then.
        let options = options(how, is_once || !is_found);
        let store = options.read_only(!is_once).index(true).open(path)?;
        let report = store.open_report().clone();
        if report.rows != rows as u64 {
            bail!("{} of {rows} rows are there after an open", report.rows);
        }
        answer.threads = report.threads;
        answer.kernels.clone_from(&report.kernels);
        reports.push(report);
        store.close()?;
    }
    let median = |of: fn(&OpenReport) -> f64| {
        let mut seconds: Vec<f64> = reports.iter().map(of).collect();
        seconds.sort_by(f64::total_cmp);
        seconds[seconds.len() / 2]
    };
    let last = &reports[reports.len() - 1];
    Ok(Line {
        rows,
        links: match links {
            Links::None => "none",
            Links::Found => "found",
            Links::Read(_) => "read",
        },
        changed_percent: match links {
            Links::Read(percent) => percent,
            Links::None | Links::Found => 0.0,
        },
        check_seconds: median(|report| report.check_seconds),
        walk_seconds: median(|report| report.walk_seconds),
        link_seconds: median(|report| report.link_seconds),
        total_seconds: median(|report| report.total_seconds),
        relinked_rows: last.relinked_rows,
        links_refused: last.tables.iter().any(|table| table.hints_refused),
        file_bytes: last.file_bytes,
    })
}

fn series(line: &Line) -> String {
    match (line.links, line.changed_percent) {
        ("none", _) => "open".to_string(),
        ("found", _) => "links found".to_string(),
        (_, 0.0) => "links read".to_string(),
        (_, percent) => format!("links read, {percent} % changed"),
    }
}

/// Lines that differ in their rows alone, under their name.
fn all_series(lines: &[Line]) -> Vec<(String, Vec<&Line>)> {
    let mut all: Vec<(String, Vec<&Line>)> = Vec::new();
    for line in lines {
        let name = series(line);
        match all.iter_mut().find(|(known, _)| *known == name) {
            Some((_, lines)) => lines.push(line),
            None => all.push((name, vec![line])),
        }
    }
    all
}

fn fits(lines: &[Line]) -> Vec<Fit> {
    let fit = |(series, lines): (String, Vec<&Line>)| {
        let of = |seconds: fn(&Line) -> f64| {
            let points = lines.iter().map(|line| (line.rows as f64, seconds(line)));
            exponent(&points.collect::<Vec<_>>())
        };
        Fit {
            check: of(|line| line.check_seconds),
            walk: of(|line| line.walk_seconds),
            link: of(|line| line.link_seconds),
            total: of(|line| line.total_seconds),
            series,
        }
    };
    all_series(lines).into_iter().map(fit).collect()
}

fn plot(answer: &Answer) -> String {
    let curves = all_series(&answer.opens).into_iter().map(|(name, lines)| {
        let points = lines.iter().map(|l| (l.rows as f64, l.total_seconds));
        let points: Vec<(f64, f64)> = points.collect();
        let name = match exponent(&points) {
            Some(exponent) => format!("{name}: n^{exponent:.2}"),
            None => name,
        };
        Curve { name, points }
    });
    let curves: Vec<Curve> = curves.collect();
    let title = format!(
        "Open: {} x {}, {}, {}, {} threads",
        answer.set, answer.dim, answer.codec, answer.index, answer.threads
    );
    svg(&title, ["rows", "seconds"], &curves)
}

fn text(answer: &Answer) -> String {
    let mut lines = vec![cells([
        "rows", "links", "changed", "check s", "walk s", "link s", "total s", "rows/s", "relinked",
        "refused",
    ])];
    for line in &answer.opens {
        lines.push(vec![
            count(line.rows as u64),
            line.links.to_string(),
            format!("{} %", line.changed_percent),
            format!("{:.4}", line.check_seconds),
            format!("{:.4}", line.walk_seconds),
            format!("{:.4}", line.link_seconds),
            format!("{:.4}", line.total_seconds),
            count((line.rows as f64 / line.total_seconds) as u64),
            count(line.relinked_rows),
            if line.links_refused { "yes" } else { "" }.to_string(),
        ]);
    }
    let mut fits = vec![cells([
        "seconds ~ rows^e",
        "check",
        "walk",
        "link",
        "total",
    ])];
    for fit in &answer.exponents {
        let shown = |e: Option<f64>| e.map_or_else(|| "-".to_string(), |e| format!("{e:.2}"));
        fits.push(vec![
            fit.series.clone(),
            shown(fit.check),
            shown(fit.walk),
            shown(fit.link),
            shown(fit.total),
        ]);
    }
    format!(
        "{} x {}, {}, {}, {} threads, kernels {}\n\n{}\n{}",
        answer.set,
        answer.dim,
        answer.codec,
        answer.index,
        answer.threads,
        answer.kernels,
        columns(&lines, &[0, 2, 3, 4, 5, 6, 7, 8]),
        columns(&fits, &[1, 2, 3, 4])
    )
}
