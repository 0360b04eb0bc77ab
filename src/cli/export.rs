//! `export`: a table as lines of JSON, or as a .npy array with keys and metadata beside it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::{Value, json};
use vecstash::{Return, Table, VectorRow};

use super::args::ExportArgs;
use super::open::{self, Access, How};
use super::report::{self, Out, RowJson, key_json, seconds, sorted};
use super::vectors::{Format, NpyWriter};

const PAGE_LEN: usize = 1_000;

/// What stands beside row i of an exported array.
#[derive(Serialize)]
struct KeyLine {
    key: Value,
    metadata: BTreeMap<String, Value>,
}

pub(crate) fn run(args: &ExportArgs, how: How, out: &mut Out) -> Result<ExitCode> {
    let path = &args.file;
    let is_npy = match (Format::of(path), path.extension()) {
        (Some(Format::Npy), _) => true,
        (None, Some(extension)) if extension.eq_ignore_ascii_case("jsonl") => false,
        _ => bail!("{}: export writes .jsonl or .npy", path.display()),
    };
    let store = open::open(&args.db, Access::Rows, how)?;
    let table = open::table(&store, &args.table)?;
    let total = table.count()? as u64;
    let bar = open::bar(Some(total), "rows");
    bar.set_message(format!("exporting {}", args.table));
    let started = Instant::now();
    let mut files = vec![path.clone()];
    if is_npy {
        files.push(keys_path(path));
    }
    let mut made = Vec::new();
    let result = if is_npy {
        to_npy(&table, &files, &mut made, |done| bar.set_position(done))
    } else {
        to_jsonl(&table, path, &mut made, |done| bar.set_position(done))
    };
    bar.finish_and_clear();
    let rows = result.inspect_err(|_| {
        // Half an export would pass for a whole one. Only files that this run made are removed.
        for file in &made {
            let _ = std::fs::remove_file(file);
        }
    })?;
    let took = started.elapsed().as_secs_f64();
    out.answer(
        &json!({ "table": args.table, "rows": rows, "files": files, "seconds": took }),
        || {
            let names: Vec<_> = files
                .iter()
                .map(|file| file.display().to_string())
                .collect();
            format!(
                "exported {} of {} to {} in {}",
                report::rows(rows),
                args.table,
                names.join(" and "),
                seconds(took)
            )
        },
    )?;
    Ok(ExitCode::SUCCESS)
}

fn keys_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(".keys.jsonl");
    name.into()
}

fn make(path: &Path, made: &mut Vec<PathBuf>) -> Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .with_context(|| format!("cannot make {}", path.display()))?;
    made.push(path.to_path_buf());
    Ok(file)
}

fn each_row(
    table: &Table,
    progress: impl Fn(u64),
    mut visit: impl FnMut(VectorRow) -> Result<()>,
) -> Result<u64> {
    let mut after: Option<Vec<u8>> = None;
    let mut done = 0;
    loop {
        let page = table.scroll(after.as_deref(), PAGE_LEN, Return::Rows)?;
        for row in page.rows {
            visit(row)?;
            done += 1;
        }
        progress(done);
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(done),
        }
    }
}

fn to_jsonl(
    table: &Table,
    path: &Path,
    made: &mut Vec<PathBuf>,
    progress: impl Fn(u64),
) -> Result<u64> {
    let mut writer = BufWriter::with_capacity(1 << 18, make(path, made)?);
    let rows = each_row(table, progress, |row| {
        serde_json::to_writer(&mut writer, &RowJson::new(row, true)?)?;
        writer.write_all(b"\n")?;
        Ok(())
    })?;
    writer
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error)?
        .sync_all()?;
    Ok(rows)
}

fn to_npy(
    table: &Table,
    files: &[PathBuf],
    made: &mut Vec<PathBuf>,
    progress: impl Fn(u64),
) -> Result<u64> {
    let [array_path, keys_path] = files else {
        bail!("an array and its keys are two files");
    };
    let array = make(array_path, made)?;
    let mut array = NpyWriter::new(array, usize::from(table.schema().dim))?;
    let mut keys = BufWriter::with_capacity(1 << 18, make(keys_path, made)?);
    let rows = each_row(table, progress, |row| {
        array.write_row(&row.vector.decode()?)?;
        let line = KeyLine {
            key: key_json(&row.key),
            metadata: sorted(row.metadata),
        };
        serde_json::to_writer(&mut keys, &line)?;
        keys.write_all(b"\n")?;
        Ok(())
    })?;
    array.finish()?.1.sync_all()?;
    keys.into_inner()
        .map_err(std::io::IntoInnerError::into_error)?
        .sync_all()?;
    Ok(rows)
}
