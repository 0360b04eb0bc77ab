//! `search`: the nearest rows of a row, of a vector, or of a row of a file.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use serde::Serialize;
use vecstash::{Hit, Return, SearchOptions, StoreError, Table};

use super::args::SearchArgs;
use super::open::{self, Access, How};
use super::report::{
    Out, RowJson, cells, columns, key_json, key_text, metadata_line, parse_key, seconds, sorted,
};
use super::vectors::VectorFile;

/// Characters of metadata that a person is shown; `--json` shows all.
const METADATA_SHOWN: usize = 100;

#[derive(Serialize)]
struct Answer {
    table: String,
    k: usize,
    exact: bool,
    seconds: f64,
    hits: Vec<HitJson>,
}

#[derive(Serialize)]
struct HitJson {
    distance: f32,
    #[serde(flatten)]
    row: RowJson,
}

pub(crate) fn run(args: &SearchArgs, how: How, out: &mut Out) -> Result<ExitCode> {
    let given = match (&args.vector, &args.npy, args.row) {
        (Some(text), _, _) => Some(parse_vector(text)?),
        (None, Some(path), Some(row)) => {
            let in_file = || path.display().to_string();
            let mut vector = Vec::new();
            VectorFile::open(path)
                .and_then(|mut file| file.read_row(row, &mut vector))
                .with_context(in_file)?;
            Some(vector)
        }
        _ => None,
    };
    let store = open::open(&args.db, Access::Search, how)?;
    let table = open::table(&store, &args.table)?;
    let query = match given {
        Some(vector) => vector,
        None => vector_of(&table, args)?,
    };
    let mut options = SearchOptions::new(args.k).exact(args.exact);
    options.ef = args.ef;
    options.rerank = args.rerank;
    options.max_distance = args.max_distance;
    options.returning = if args.vectors {
        Return::Rows
    } else {
        Return::Metadata
    };
    let started = Instant::now();
    let hits = table.search(&query, &options)?;
    let took = started.elapsed().as_secs_f64();
    if out.is_json() {
        let answer = Answer {
            table: args.table.clone(),
            k: args.k,
            exact: args.exact,
            seconds: took,
            hits: hits
                .into_iter()
                .map(|hit| hit_json(hit, args.vectors))
                .collect::<Result<_>>()?,
        };
        out.answer(&answer, String::new)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut lines = vec![cells(["", "distance", "key", "metadata"])];
    for (rank, hit) in hits.into_iter().enumerate() {
        let (metadata, vector) = match hit.row {
            Some(row) => {
                let vector = if args.vectors {
                    Some(row.vector.decode()?)
                } else {
                    None
                };
                (sorted(row.metadata), vector)
            }
            None => Default::default(),
        };
        let mut line = cells([
            &(rank + 1).to_string(),
            &format!("{:.4}", hit.distance),
            &key_text(&hit.key),
            &metadata_line(&metadata, METADATA_SHOWN),
        ]);
        if let Some(vector) = vector {
            line.push(format!("{vector:?}"));
        }
        lines.push(line);
    }
    let found = lines.len() - 1;
    out.answer(&(), || {
        let mut text = String::new();
        if found > 0 {
            text = columns(&lines, &[0, 1]);
        }
        text.push_str(&format!("{found} found in {}", seconds(took)));
        text
    })?;
    Ok(ExitCode::SUCCESS)
}

fn hit_json(hit: Hit, with_vector: bool) -> Result<HitJson> {
    let row = match hit.row {
        Some(row) => RowJson::new(row, with_vector)?,
        None => RowJson {
            key: key_json(&hit.key),
            vector: None,
            metadata: Default::default(),
            created_at: 0,
            updated_at: 0,
        },
    };
    Ok(HitJson {
        distance: hit.distance,
        row,
    })
}

fn vector_of(table: &Table, args: &SearchArgs) -> Result<Vec<f32>> {
    let text = args
        .key
        .as_deref()
        .ok_or_else(|| anyhow!("say --key, --vector or --npy"))?;
    let key = parse_key(text, args.hex)?;
    match table.get(&key)? {
        Some(row) => Ok(row.vector.decode()?),
        None => Err(StoreError::RowNotFound {
            table: args.table.clone(),
            key,
        }
        .into()),
    }
}

fn parse_vector(text: &str) -> Result<Vec<f32>> {
    let vector: Vec<f32> = serde_json::from_str(text)
        .context("--vector takes a JSON array of numbers, like '[0.1, 0.2]'")?;
    // A number beyond f32 parses as infinity.
    for (at, value) in vector.iter().enumerate() {
        ensure!(value.is_finite(), "--vector: coordinate {at} is too large");
    }
    Ok(vector)
}

#[cfg(test)]
mod tests {
    use super::parse_vector;

    #[test]
    fn vectors_of_the_command_line() {
        assert_eq!(parse_vector("[1, -0.1, 2e-3]").unwrap(), [1.0, -0.1, 0.002]);
        for bad in [
            "",
            "1,2",
            "[1, \"a\"]",
            "[NaN]",
            "[null]",
            "[1e39]",
            "[[1]]",
            "{}",
        ] {
            assert!(parse_vector(bad).is_err(), "{bad}");
        }
    }
}
