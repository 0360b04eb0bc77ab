//! The verbs about whole tables: create, tables, stats, drop.

use std::io::{self, BufRead, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Result, bail};
use serde_json::json;
use vecstash::{IndexKind, TableStats};

use super::args::{CreateArgs, DbArgs, DropArgs, StatsArgs};
use super::open::{Access, How, open, table};
use super::report::{self, Out, bytes, cells, columns, count};

pub(crate) fn create(args: &CreateArgs, how: How, out: &mut Out) -> Result<ExitCode> {
    let schema = args.shape.schema(&args.table, args.dim);
    args.shape.validate(&args.table, args.dim)?;
    let existed = args.db.exists();
    let store = open(&args.db, Access::Create, how)?;
    let table = store.create_table_with(schema, args.shape.options())?;
    let document = json!({
        "db": args.db,
        "created_file": !existed,
        "schema": table.schema(),
        "options": table.options(),
        "index": table.stats()?.index,
    });
    let schema = table.schema().clone();
    let index = index_name(table.stats()?.index);
    drop(table);
    store.close()?;
    out.answer(&document, || {
        format!(
            "created table {} in {}: {} coordinates, {}, codec {}, index {index}",
            schema.name,
            args.db.display(),
            schema.dim,
            schema.distance,
            schema.codec
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn list(args: &DbArgs, how: How, out: &mut Out) -> Result<ExitCode> {
    let store = open(&args.db, Access::Rows, how)?;
    let mut documents = Vec::new();
    let mut lines = vec![cells([
        "table", "rows", "dim", "distance", "codec", "index",
    ])];
    for schema in store.tables() {
        let table = table(&store, &schema.name)?;
        let rows = table.count()?;
        let index = table.stats()?.index;
        lines.push(vec![
            schema.name.clone(),
            count(rows as u64),
            schema.dim.to_string(),
            schema.distance.to_string(),
            schema.codec.to_string(),
            index_name(index).to_string(),
        ]);
        documents.push(json!({
            "name": schema.name,
            "rows": rows,
            "dim": schema.dim,
            "distance": schema.distance,
            "codec": schema.codec,
            "index": index,
            "hnsw": schema.hnsw,
            "options": table.options(),
        }));
    }
    out.answer(&json!({ "tables": documents }), || {
        if lines.len() == 1 {
            "no tables; `vecstash create` makes one".to_string()
        } else {
            columns(&lines, &[1, 2])
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn stats(args: &StatsArgs, how: How, out: &mut Out) -> Result<ExitCode> {
    let access = if args.memory {
        Access::Search
    } else {
        Access::Rows
    };
    let store = open(&args.db, access, how)?;
    let names = match &args.table {
        Some(name) => vec![table(&store, name)?.name().to_string()],
        None => store
            .tables()
            .into_iter()
            .map(|schema| schema.name)
            .collect(),
    };
    let stats = names
        .iter()
        .map(|name| store.stats(name))
        .collect::<Result<Vec<TableStats>, _>>()?;
    let file = store.bytes_on_disk()?;
    let is_only = store.tables().len() == 1;
    let document = json!({ "file_bytes": file, "indexed": args.memory, "tables": stats });
    out.answer(&document, || {
        let mut text = String::new();
        if let Some(file) = file {
            text = format!("file        {}\n", bytes(file));
        }
        for table in &stats {
            text.push('\n');
            text.push_str(&describe(table, is_only, args.memory));
        }
        text
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A table in words; the file is divided by its rows where it is the only one.
fn describe(stats: &TableStats, is_only: bool, indexed: bool) -> String {
    let mut lines = vec![
        cells(["table", &stats.name]),
        cells(["rows", &count(stats.live_rows as u64)]),
        cells([
            "vectors",
            &format!("{} x {}, {}", stats.dim, stats.codec, stats.distance),
        ]),
        cells(["index", index_name(stats.index)]),
    ];
    if let Some(on_disk) = stats.bytes_on_disk.filter(|_| is_only) {
        lines.push(cells(["on disk", &per_row(on_disk, stats.live_rows)]));
    }
    if stats.quarantined_rows > 0 {
        lines.push(cells([
            "damaged",
            &report::rows(stats.quarantined_rows as u64),
        ]));
    }
    if indexed {
        let memory = &stats.memory;
        lines.push(cells(["distinct", &count(stats.distinct_vectors as u64)]));
        lines.push(cells(["dead slots", &count(stats.dead_slots as u64)]));
        lines.push(cells([
            "in memory",
            &per_row(memory.total() as u64, stats.live_rows),
        ]));
        for (part, size) in [
            ("  codes", memory.codes),
            ("  links", memory.links),
            ("  keys", memory.keys),
            ("  other", memory.other),
        ] {
            lines.push(cells([part, &per_row(size as u64, stats.live_rows)]));
        }
    } else {
        lines.push(cells([
            "in memory",
            "not asked for: --memory builds the index to see",
        ]));
    }
    columns(&lines, &[])
}

fn per_row(size: u64, rows: usize) -> String {
    match size.checked_div(rows as u64) {
        Some(each) => format!("{} ({} a row)", bytes(size), bytes(each)),
        None => bytes(size),
    }
}

pub(crate) fn index_name(index: IndexKind) -> &'static str {
    match index {
        IndexKind::Hnsw => "hnsw",
        IndexKind::Turbo => "turbo",
        IndexKind::Flat => "flat",
        _ => "auto",
    }
}

pub(crate) fn drop_table(args: &DropArgs, how: How, out: &mut Out) -> Result<ExitCode> {
    let can_ask = io::stdin().is_terminal() && io::stderr().is_terminal();
    if !args.yes && !can_ask {
        bail!("dropping a table removes all its rows; say --yes");
    }
    let store = open(&args.db, Access::Write, how)?;
    let rows = table(&store, &args.table)?.count()?;
    if !args.yes {
        eprint!(
            "drop {} with {}? [y/N] ",
            args.table,
            report::rows(rows as u64)
        );
        io::stderr().flush()?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        if !matches!(answer.trim(), "y" | "Y" | "yes") {
            bail!("not dropped");
        }
    }
    store.drop_table(&args.table)?;
    store.close()?;
    out.answer(&json!({ "dropped": args.table, "rows": rows }), || {
        format!("dropped {} with {}", args.table, report::rows(rows as u64))
    })?;
    Ok(ExitCode::SUCCESS)
}
