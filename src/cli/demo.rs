//! `demo`: real sentences, a writer killed half way, nothing lost, and the nearest sentences.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Serialize;
use serde_json::Value;
use vecstash::{EncodedVector, Hit, NewRow, OpenOptions, OpenReport, SearchOptions, VectorStore};

use super::args::DemoArgs;
use super::demo_writer::{
    HNSW, TURBO, batch_of, codec, create_tables, queries, sentences, tables, write_and_kill,
};
use super::report::{Out, bytes, cells, clip, columns, count, key_text, seconds};
use super::scratch::Scratch;

/// Which query sentences are shown.
const SHOWN: [usize; 3] = [0, 30, 44];
const NEAREST: usize = 5;

#[derive(Serialize)]
struct Answer {
    rows: usize,
    dim: usize,
    acknowledged: usize,
    lost: usize,
    committed_unacknowledged: usize,
    reopen_after_kill_seconds: f64,
    rebuild_after_kill_seconds: f64,
    import_seconds: f64,
    reopen: Value,
    queries: Vec<Asked>,
}

#[derive(Serialize)]
struct Asked {
    query: String,
    tables: Vec<Found>,
}

#[derive(Serialize)]
struct Found {
    table: &'static str,
    microseconds: f64,
    hits: Vec<Near>,
}

#[derive(Serialize)]
struct Near {
    key: String,
    distance: f32,
    sentence: String,
}

pub(crate) fn run(args: &DemoArgs, out: &mut Out) -> Result<ExitCode> {
    let scratch = Scratch::new(None, "demo")?;
    let db = match &args.keep {
        Some(path) => {
            ensure!(
                !path.exists(),
                "{} is there already; name a new file",
                path.display()
            );
            path.clone()
        }
        None => scratch.path().join("demo.vecstash"),
    };
    let rows = sentences()?;
    let dim = rows.first().map_or(0, |row| row.vector.len());

    out.say("vecstash demo\n=============")?;
    out.say(format!(
        "{} sentences (what Python packages say about themselves), each with its\n\
         embedding of {dim} numbers by all-MiniLM-L6-v2. They go into one file, in {} table{}:\n",
        count(rows.len() as u64),
        tables().len(),
        if tables().len() == 1 { "" } else { "s" }
    ))?;
    let mut kinds = vec![cells([HNSW, "HNSW graph", "1.2 bytes per coordinate"])];
    if tables().contains(&TURBO) {
        kinds.push(cells([
            TURBO,
            "turbo scan",
            "4 bits per coordinate in memory, f32 on disk",
        ]));
    }
    out.say(columns(&kinds, &[]))?;

    out.say("1. Kill the writer\n------------------")?;
    let acknowledged = write_and_kill(&db, rows.len() / 2, Duration::from_secs(4))?;
    out.say(format!(
        "A child process wrote rows and told us after each commit. After {} acknowledged\n\
         rows it was killed (SIGKILL), in the middle of its work.\n",
        count(acknowledged as u64)
    ))?;

    out.say("2. Open the file again\n----------------------")?;
    let store = OpenOptions::new().create(false).open(&db)?;
    // A writer killed early has not made its tables yet.
    create_tables(&store, dim)?;
    let (lost, unacknowledged) = verify(&store, &rows, acknowledged)?;
    let report = store.open_report().clone();
    let rebuild = report.walk_seconds + report.link_seconds;
    out.say(format!(
        "{} of {} acknowledged rows are there, bit for bit, in every table.\n\
         Committed but not yet acknowledged when it died: {}.\n\
         The open took {}, of which rebuilding the indexes took {}.\n",
        count((acknowledged - lost) as u64),
        count(acknowledged as u64),
        count(unacknowledged as u64),
        seconds(report.total_seconds),
        seconds(rebuild)
    ))?;
    ensure!(lost == 0, "{lost} acknowledged rows are lost or changed");

    out.say("3. Write the rest and reopen\n----------------------------")?;
    let started = Instant::now();
    for chunk in rows[acknowledged..].chunks(250) {
        store.write(batch_of(chunk))?;
    }
    let import_seconds = started.elapsed().as_secs_f64();
    store.close()?;
    let store = OpenOptions::new().create(false).open(&db)?;
    let (lost, extra) = verify(&store, &rows, rows.len())?;
    ensure!(
        lost == 0 && extra == 0,
        "{lost} rows lost and {extra} too many after the import"
    );
    let check = store.check()?;
    ensure!(
        check.is_clean(),
        "check found: {}",
        check.problems.join("; ")
    );
    let reopened = store.open_report().clone();
    out.say(format!(
        "Wrote the other {} in {}.\n{}\n",
        count((rows.len() - acknowledged) as u64),
        seconds(import_seconds),
        sentence(&reopened)
    ))?;

    out.say("4. Ask for the nearest sentences\n--------------------------------")?;
    let mut asked = Vec::new();
    let queries = queries()?;
    for query in SHOWN.iter().filter_map(|&at| queries.get(at)) {
        let one = ask(&store, query)?;
        out.say(asked_text(&one))?;
        asked.push(one);
    }
    store.close()?;
    out.say(try_next(args.keep.as_deref()))?;
    if out.is_json() {
        let answer = Answer {
            rows: rows.len(),
            dim,
            acknowledged,
            lost: 0,
            committed_unacknowledged: unacknowledged,
            reopen_after_kill_seconds: report.total_seconds,
            rebuild_after_kill_seconds: rebuild,
            import_seconds,
            reopen: serde_json::to_value(&reopened)?,
            queries: asked,
        };
        out.answer(&answer, String::new)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Compares the first `acknowledged` rows with every table. Returns how many are lost or changed
/// in some table, and how many rows there are beyond them.
fn verify(store: &VectorStore, rows: &[NewRow], acknowledged: usize) -> Result<(usize, usize)> {
    let mut lost = vec![false; acknowledged];
    let mut extra = 0;
    for name in tables() {
        let table = store.table(name)?;
        let mut expected = EncodedVector::empty(codec(name));
        for (row, lost) in rows.iter().zip(&mut lost) {
            codec(name).encode_into(&row.vector, &mut expected)?;
            let whole = table
                .get(&row.key)?
                .is_some_and(|got| got.vector == expected && got.metadata == row.metadata);
            *lost |= !whole;
        }
        extra = extra.max(table.count()?.saturating_sub(acknowledged));
    }
    Ok((lost.iter().filter(|&&lost| lost).count(), extra))
}

fn sentence(report: &OpenReport) -> String {
    format!(
        "Reopened: {} rows of {} in {}: {} to check the file, {} to read the\n\
         rows, {} to build the indexes, on {} thread{} ({}).",
        count(report.rows),
        bytes(report.file_bytes),
        seconds(report.total_seconds),
        seconds(report.check_seconds),
        seconds(report.walk_seconds),
        seconds(report.link_seconds),
        report.threads,
        if report.threads == 1 { "" } else { "s" },
        report.kernels
    )
}

fn ask(store: &VectorStore, query: &NewRow) -> Result<Asked> {
    let mut found = Vec::new();
    for name in tables() {
        let table = store.table(name)?;
        let options = SearchOptions::new(NEAREST).ef(64);
        // The first search of a table warms caches up.
        table.search(&query.vector, &options)?;
        let started = Instant::now();
        let hits = table.search(&query.vector, &options)?;
        let took = started.elapsed().as_secs_f64();
        let exact = table.search(&query.vector, &options.clone().exact(true))?;
        ensure!(
            hits.len() == NEAREST && agree(&hits, &exact) + 1 >= NEAREST,
            "table {name} missed the nearest sentences of {}",
            key_text(&query.key)
        );
        found.push(Found {
            table: name,
            microseconds: took * 1e6,
            hits: hits.iter().map(near).collect(),
        });
    }
    Ok(Asked {
        query: summary(&query.metadata),
        tables: found,
    })
}

/// How many hits are no farther than the last of an exact scan.
fn agree(hits: &[Hit], exact: &[Hit]) -> usize {
    let limit = exact
        .last()
        .map_or(f32::NEG_INFINITY, |hit| hit.distance + 1e-5);
    hits.iter().filter(|hit| hit.distance <= limit).count()
}

fn near(hit: &Hit) -> Near {
    Near {
        key: key_text(&hit.key),
        distance: hit.distance,
        sentence: hit
            .row
            .as_ref()
            .map(|row| summary(&row.metadata))
            .unwrap_or_default(),
    }
}

fn summary(metadata: &vecstash::Metadata) -> String {
    let text = metadata
        .get("summary")
        .and_then(Value::as_str)
        .unwrap_or("");
    text.chars()
        .map(|c| if c.is_ascii() { c } else { '?' })
        .collect()
}

/// One line per sentence that any table found, with its distance in each.
fn asked_text(asked: &Asked) -> String {
    let times: Vec<String> = asked
        .tables
        .iter()
        .map(|found| format!("{} {:.0} us", short(found.table), found.microseconds))
        .collect();
    let mut head: Vec<String> = asked
        .tables
        .iter()
        .map(|found| short(found.table).into())
        .collect();
    head.push("sentence".to_string());
    let mut nearest: Vec<&Near> = Vec::new();
    for hit in asked.tables.iter().flat_map(|found| &found.hits) {
        if nearest.iter().all(|known| known.key != hit.key) {
            nearest.push(hit);
        }
    }
    nearest.sort_by(|a, b| a.distance.total_cmp(&b.distance));
    let mut lines = vec![head];
    for hit in nearest {
        let mut line: Vec<String> = asked
            .tables
            .iter()
            .map(|found| {
                let there = found.hits.iter().find(|one| one.key == hit.key);
                there.map_or_else(|| "-".to_string(), |one| format!("{:.4}", one.distance))
            })
            .collect();
        line.push(clip(&format!("{}: {}", hit.key, hit.sentence), 74));
        lines.push(line);
    }
    let columns = columns(&lines, &[]);
    let indented: String = columns.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "\"{}\"  ({})\n{indented}",
        clip(&asked.query, 60),
        times.join(", ")
    )
}

fn short(table: &str) -> &'static str {
    if table == TURBO { "turbo" } else { "HNSW" }
}

fn try_next(kept: Option<&Path>) -> String {
    // Started by cargo, the command is on nobody's PATH.
    let program = if std::env::var_os("CARGO").is_some() {
        "cargo run --release --features cli --"
    } else {
        "vecstash"
    };
    let name = kept.map_or_else(
        || "demo.vecstash".to_string(),
        |path| path.display().to_string(),
    );
    let commands = match kept {
        None => [
            format!("demo --keep {name}"),
            format!("search {name} {HNSW} --key warcio -k 5"),
            format!("open {name}"),
        ],
        Some(_) => [
            format!("search {name} {HNSW} --key warcio -k 5"),
            format!("stats {name} --memory"),
            format!("open {name}"),
        ],
    };
    let mut text = "Try next\n--------\n".to_string();
    for command in commands {
        text.push_str(&format!("  {program} {command}\n"));
    }
    text.trim_end().to_string()
}
