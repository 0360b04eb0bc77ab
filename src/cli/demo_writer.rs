//! The sentences of the demo, and the child process that writes them until it is killed.

use std::io::{self, BufRead, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use vecstash::{
    Codec, Distance, HnswParams, Metadata, NewRow, OpenOptions, TableSchema, VectorStore,
    WriteBatch,
};

use super::args::DemoWriterArgs;
use super::vectors::VectorFile;

/// Inside the binary, so that the demo runs from any folder.
const BASE: &[u8] = include_bytes!("../../fixtures/minilm2k/base.npy");
const META: &str = include_str!("../../fixtures/minilm2k/meta.jsonl");
const QUERY: &[u8] = include_bytes!("../../fixtures/minilm2k/query.npy");
const QUERY_META: &str = include_str!("../../fixtures/minilm2k/query.jsonl");

/// The table with a graph.
pub(crate) const HNSW: &str = "sentences";
/// The table with 4 bits per coordinate in memory.
pub(crate) const TURBO: &str = "sentences_turbo";

/// Rows in one transaction of the writer.
const BATCH_LEN: usize = 20;

/// The tables of the demo in this build.
pub(crate) fn tables() -> Vec<&'static str> {
    if cfg!(feature = "turbo") {
        vec![HNSW, TURBO]
    } else {
        vec![HNSW]
    }
}

/// How a table of the demo stores its vectors.
pub(crate) fn codec(table: &str) -> Codec {
    if table == TURBO {
        Codec::Turbovec4Bit
    } else {
        Codec::Int8Quantized
    }
}

/// The sentences with their embeddings.
pub(crate) fn sentences() -> Result<Vec<NewRow>> {
    read(BASE, META).context("the demo's sentences")
}

/// Sentences that are not among them, to search with.
pub(crate) fn queries() -> Result<Vec<NewRow>> {
    read(QUERY, QUERY_META).context("the demo's queries")
}

fn read(vectors: &[u8], metadata: &str) -> Result<Vec<NewRow>> {
    VectorFile::from_npy_bytes(vectors)?
        .rows()
        .zip(metadata.lines())
        .map(|(vector, line)| {
            let metadata: Metadata = serde_json::from_str(line)?;
            let name = metadata.get("name").and_then(|name| name.as_str());
            let key = name.context("a row without a name")?.as_bytes().to_vec();
            Ok(NewRow {
                key,
                vector: vector?,
                metadata,
            })
        })
        .collect()
}

/// Makes the tables of the demo that are not there.
pub(crate) fn create_tables(store: &VectorStore, dim: usize) -> Result<()> {
    let there = store.tables();
    for name in tables() {
        if there.iter().any(|schema| schema.name == name) {
            continue;
        }
        store.create_table(TableSchema {
            name: name.to_string(),
            dim: u16::try_from(dim)?,
            codec: codec(name),
            distance: Distance::Cosine,
            hnsw: HnswParams::default(),
        })?;
    }
    Ok(())
}

/// The rows as one transaction over all tables.
pub(crate) fn batch_of(rows: &[NewRow]) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for row in rows {
        for table in tables() {
            batch.upsert(table, row.key.clone(), &row.vector, row.metadata.clone());
        }
    }
    batch
}

/// The hidden verb: writes the sentences in their order and says after each transaction how many
/// are acknowledged. Then it waits to be killed.
pub(crate) fn run(args: &DemoWriterArgs) -> Result<ExitCode> {
    let rows = sentences()?;
    let store = OpenOptions::new().open(&args.db)?;
    create_tables(&store, rows.first().map_or(0, |row| row.vector.len()))?;
    let mut stdout = io::stdout();
    let mut done = 0;
    for chunk in rows.chunks(BATCH_LEN) {
        store.write(batch_of(chunk))?;
        done += chunk.len();
        writeln!(stdout, "{done}")?;
        stdout.flush()?;
    }
    std::thread::sleep(Duration::from_secs(60));
    Ok(ExitCode::SUCCESS)
}

/// Starts the writer on `db`, kills it once `half` rows are acknowledged or `patience` is over,
/// and returns how many it had acknowledged by then.
pub(crate) fn write_and_kill(db: &Path, half: usize, patience: Duration) -> Result<usize> {
    let mut child = std::process::Command::new(std::env::current_exe()?)
        .arg("demo-writer")
        .arg(db)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .context("cannot start the writer")?;
    let started = std::time::Instant::now();
    let mut acknowledged = 0;
    let mut killed = false;
    if let Some(stdout) = child.stdout.take() {
        // Lines that the writer wrote before it died count: it had its answer.
        for line in io::BufReader::new(stdout).lines() {
            acknowledged = line?.parse().context("the writer said something else")?;
            if !killed && (acknowledged >= half || started.elapsed() > patience) {
                child.kill().context("cannot kill the writer")?;
                killed = true;
            }
        }
    }
    let status = child.wait()?;
    anyhow::ensure!(killed, "the writer ended by itself: {status}");
    Ok(acknowledged)
}
