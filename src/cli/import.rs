//! `import`: rows of a file become rows of a table, a batch to a transaction.

use std::collections::HashSet;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::json;
use vecstash::{
    Codec, Distance, HnswParams, NewRow, Residence, Table, TableSchema, VectorStore, limits,
};

use super::args::{ImportArgs, ShapeArgs};
use super::open::{self, Access, How};
use super::report::{self, Out, count, seconds};
use super::source::Source;
use super::tables::index_name;

/// What an import did so far.
#[derive(Default)]
struct Tally {
    read: u64,
    inserted: u64,
    updated: u64,
    skipped: u64,
}

pub(crate) fn run(args: &ImportArgs, how: How, out: &mut Out) -> Result<ExitCode> {
    ensure!(
        (1..=limits::BATCH_LEN_MAX).contains(&args.batch),
        "--batch {} is out of range (1 to {})",
        args.batch,
        limits::BATCH_LEN_MAX
    );
    ensure!(
        args.create || args.shape.is_empty(),
        "--distance, --codec, --index and their like describe a new table: add --create"
    );
    // Everything that can be wrong with the input is found out before the store is touched.
    let in_file = || format!("cannot import {}", args.file.display());
    let mut source = Source::open(
        &args.file,
        args.metadata.as_deref(),
        args.keys.as_deref(),
        args.key_field.as_deref(),
        args.limit,
    )
    .with_context(in_file)?;
    let total = source.len();
    let access = if args.create {
        Access::Create
    } else {
        Access::Write
    };
    let dim = source.dim().with_context(in_file)?;
    if args.create && !args.db.exists() {
        let dim = new_dim(dim).with_context(in_file)?;
        args.shape.validate(&args.table, dim)?;
    }
    let store = open::open(&args.db, access, how)?;
    let table = table_for(&store, args, dim)?;

    let bar = open::bar(Some(total), "rows");
    bar.set_message(format!("importing into {}", args.table));
    let started = Instant::now();
    let mut tally = Tally::default();
    let result = copy(&mut source, &table, args, &mut tally, |done| {
        bar.set_position(done)
    });
    bar.finish_and_clear();
    result.with_context(in_file).with_context(|| {
        format!(
            "{} imported before this failed; once it is put right, --skip-existing goes on from there",
            report::rows(tally.inserted + tally.updated)
        )
    })?;
    drop(table);
    store.close()?;
    let took = started.elapsed().as_secs_f64();
    let rate = tally.read as f64 / took.max(1e-9);
    let document = json!({
        "table": args.table,
        "rows": tally.read,
        "inserted": tally.inserted,
        "updated": tally.updated,
        "skipped": tally.skipped,
        "seconds": took,
        "rows_per_second": rate,
    });
    out.answer(&document, || {
        let mut text = format!(
            "imported {} into {} in {} ({} rows/s): {} new",
            report::rows(tally.inserted + tally.updated),
            args.table,
            seconds(took),
            count(rate as u64),
            count(tally.inserted)
        );
        for (number, what) in [
            (tally.updated, "over rows of the same key"),
            (tally.skipped, "skipped"),
        ] {
            if number > 0 {
                text.push_str(&format!(", {} {what}", count(number)));
            }
        }
        text
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The dimension of a table made for vectors of `dim` coordinates.
fn new_dim(dim: Option<usize>) -> Result<u16> {
    let dim = dim.context("the file has no rows to take a dimension from")?;
    u16::try_from(dim).map_err(|_| {
        anyhow!(
            "{dim} coordinates are more than the {} a table takes",
            limits::DIM_MAX
        )
    })
}

/// The table to import into, created when it is missing and may be.
fn table_for(store: &VectorStore, args: &ImportArgs, dim: Option<usize>) -> Result<Table> {
    let there = store
        .tables()
        .into_iter()
        .find(|schema| schema.name == args.table);
    let table = match (there, args.create) {
        (None, false) => {
            return open::table(store, &args.table)
                .context("--create makes the table, with --distance and --codec");
        }
        (None, true) => {
            let dim = new_dim(dim)?;
            store.create_table_with(args.shape.schema(&args.table, dim), args.shape.options())?
        }
        (Some(_), _) => {
            let table = open::table(store, &args.table)?;
            args.shape.check_against(&table)?;
            table
        }
    };
    if let Some(got) = dim {
        let expected = usize::from(table.schema().dim);
        ensure!(
            got == expected,
            "the file has vectors of {got} coordinates, table {} of {expected}",
            args.table
        );
    }
    Ok(table)
}

impl ShapeArgs {
    fn is_empty(&self) -> bool {
        let Self {
            distance,
            codec,
            index,
            resident,
            m,
            m0,
            ef_construction,
            ef_search,
            seed,
        } = self;
        let numbers = [m, m0, ef_construction, ef_search];
        distance.is_none()
            && codec.is_none()
            && index.is_none()
            && resident.is_none()
            && seed.is_none()
            && numbers.iter().all(|number| number.is_none())
    }

    /// Refuses to import into a table that is not what the command line describes.
    fn check_against(&self, there: &Table) -> Result<()> {
        let schema = there.schema();
        let HnswParams {
            m,
            m0,
            ef_construction,
            ef_search,
            seed,
        } = schema.hnsw;
        let residence = |resident: Residence| format!("{resident:?}").to_lowercase();
        let index = self.index.map(|asked| index_name(asked.into()).to_string());
        let number = |number: Option<usize>| number.map(|number| number.to_string());
        let distance = self.distance.map(|asked| Distance::from(asked).to_string());
        let codec = self.codec.map(|asked| Codec::from(asked).to_string());
        let resident = self.resident.map(|asked| residence(asked.into()));
        let ef_asked = (number(self.ef_construction), number(self.ef_search));
        for (what, asked, is) in [
            ("distance", distance, schema.distance.to_string()),
            ("codec", codec, schema.codec.to_string()),
            ("index", index, index_name(there.stats()?.index).to_string()),
            ("resident", resident, residence(there.options().resident)),
            ("m", number(self.m), m.to_string()),
            ("m0", number(self.m0), m0.to_string()),
            ("ef-construction", ef_asked.0, ef_construction.to_string()),
            ("ef-search", ef_asked.1, ef_search.to_string()),
            (
                "seed",
                self.seed.map(|asked| asked.to_string()),
                seed.to_string(),
            ),
        ] {
            if asked.is_some_and(|asked| asked != is) {
                bail!("table {} is there already, with {what} {is}", there.name());
            }
        }
        Ok(())
    }
}

fn copy(
    source: &mut Source,
    table: &Table,
    args: &ImportArgs,
    tally: &mut Tally,
    mut progress: impl FnMut(u64),
) -> Result<()> {
    let mut batch = Vec::new();
    let mut keys = HashSet::new();
    while let Some(row) = source.next_row()? {
        check_row(&row, table.schema(), tally.read)?;
        tally.read += 1;
        // A key twice in one file: the first stays, wherever the batches happen to end.
        if args.skip_existing && (table.contains(&row.key)? || !keys.insert(row.key.clone())) {
            tally.skipped += 1;
            progress(tally.read);
            continue;
        }
        batch.push(row);
        if batch.len() == args.batch {
            write(&mut batch, table, tally)?;
            keys.clear();
        }
        if batch.is_empty() {
            progress(tally.read);
        }
    }
    write(&mut batch, table, tally)?;
    progress(tally.read);
    Ok(())
}

/// Says which row is wrong, which the store, given a batch, could not.
fn check_row(row: &NewRow, schema: &TableSchema, number: u64) -> Result<()> {
    ensure!(
        row.vector.len() == usize::from(schema.dim),
        "row {number} has {} coordinates, where table {} takes {}",
        row.vector.len(),
        schema.name,
        schema.dim
    );
    ensure!(
        (1..=limits::KEY_LEN_MAX).contains(&row.key.len()),
        "row {number} has a key of {} bytes (1 to {} will do)",
        row.key.len(),
        limits::KEY_LEN_MAX
    );
    schema
        .codec
        .validate(&row.vector)
        .with_context(|| format!("row {number}"))
}

fn write(batch: &mut Vec<NewRow>, table: &Table, tally: &mut Tally) -> Result<()> {
    if batch.is_empty() {
        return Ok(());
    }
    let outcome = table.upsert_many(std::mem::take(batch)).with_context(|| {
        format!(
            "the batch that ends with row {}",
            tally.read.saturating_sub(1)
        )
    })?;
    tally.inserted += outcome.inserted as u64;
    tally.updated += outcome.updated as u64;
    Ok(())
}
