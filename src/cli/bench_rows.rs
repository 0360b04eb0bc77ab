//! The rows of a bench: made up or from a file, and how they come into a store.

use std::cell::RefCell;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use vecstash::storage::{Backend, Change, RedbBackend, TableKey, VectorRow};
use vecstash::{Durability, Metadata, NewRow, RowId, Table};

use super::args::BenchOpenArgs;
use super::vectors::VectorFile;

/// Rows that [`store`] writes in one transaction.
const STORED_BATCH: usize = 100_000;

pub(crate) fn key_of(row: usize) -> Vec<u8> {
    format!("row-{row:012}").into_bytes()
}

/// Writes the first rows into the file of a closed store, whose only table is empty. No index is
/// kept meanwhile: a graph would be built again with every batch, or grow row by row.
pub(crate) fn store(path: &Path, vectors: &Vectors, rows: usize) -> Result<()> {
    let backend = RedbBackend::open(path)?;
    let record = backend.list_tables()?.tables.pop();
    let record = record.context("a table")?.record;
    let table = TableKey {
        id: record.id,
        name: record.schema.name.as_str().into(),
    };
    let encoder = record.schema.codec.encoder();
    for start in (0..rows).step_by(STORED_BATCH) {
        let end = rows.min(start + STORED_BATCH);
        let put = |row: usize| {
            let row_stored = VectorRow {
                key: key_of(row),
                vector: encoder.encode(&vectors.row(row)?)?,
                metadata: Metadata::new(),
                created_at: 1,
                updated_at: 1,
            };
            Ok(Change::Put {
                table: table.clone(),
                id: RowId::new(row as u64),
                row: row_stored,
            })
        };
        let mut changes: Vec<Change> = (start..end).map(put).collect::<Result<_>>()?;
        changes.push(Change::ReserveRowIds {
            table: table.clone(),
            next: RowId::new(end as u64),
        });
        backend.commit(&changes, Durability::Immediate)?;
    }
    backend.close()?;
    Ok(())
}

/// Inserts these rows, so many in a transaction.
pub(crate) fn insert(
    table: &Table,
    vectors: &Vectors,
    rows: std::ops::Range<usize>,
    batch: usize,
) -> Result<()> {
    let mut rows = rows.peekable();
    while rows.peek().is_some() {
        let batch = rows.by_ref().take(batch).map(|row| {
            Ok(NewRow {
                key: key_of(row),
                vector: vectors.row(row)?,
                metadata: Metadata::new(),
            })
        });
        table.upsert_many(batch.collect::<Result<_>>()?)?;
    }
    Ok(())
}

/// Where rows come from.
pub(crate) enum Vectors {
    File {
        file: RefCell<VectorFile>,
        name: String,
    },
    Clusters {
        dim: usize,
    },
}

impl Vectors {
    pub(crate) fn of(args: &BenchOpenArgs) -> Result<Self> {
        let Some(path) = &args.data else {
            return Ok(Self::Clusters {
                dim: usize::from(args.dim),
            });
        };
        let shown = || path.display().to_string();
        let file = VectorFile::open(path).with_context(shown)?;
        let most = args.changed.iter().copied().fold(0.0, f64::max) / 100.0 + 1.0;
        for &rows in &args.rows {
            let needed = (rows as f64 * most) as usize;
            ensure!(
                needed <= file.len(),
                "{} has {} rows, and --rows {rows} takes {needed} with those that change",
                shown(),
                file.len()
            );
        }
        let name = path.file_stem().unwrap_or(path.as_os_str());
        let name = name.to_string_lossy().into_owned();
        let file = RefCell::new(file);
        Ok(Self::File { file, name })
    }

    pub(crate) fn name(&self) -> String {
        match self {
            Self::File { name, .. } => name.clone(),
            Self::Clusters { .. } => "clusters".to_string(),
        }
    }

    pub(crate) fn dim(&self) -> usize {
        match self {
            Self::File { file, .. } => file.borrow().dim(),
            Self::Clusters { dim } => *dim,
        }
    }

    fn row(&self, row: usize) -> Result<Vec<f32>> {
        match self {
            Self::File { file, .. } => {
                let mut vector = Vec::new();
                file.borrow_mut().read_row(row, &mut vector)?;
                Ok(vector)
            }
            Self::Clusters { dim } => Ok(clustered(row as u64, *dim)),
        }
    }
}

/// Row `row` of an endless set in a thousand clusters.
fn clustered(row: u64, dim: usize) -> Vec<f32> {
    let mut noise = Random(row);
    let mut center = Random(u64::MAX - noise.next() % 1_000);
    (0..dim)
        .map(|_| center.normal() + 0.5 * noise.normal())
        .collect()
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Normal enough: four uniform numbers, scaled to variance 1.
    fn normal(&mut self) -> f32 {
        let bits = self.next();
        let sum: u64 = (0..4).map(|part| bits >> (16 * part) & 0xffff).sum();
        (sum as f32 / 65_535.0 - 2.0) * 3.0f32.sqrt()
    }
}
