//! What can be imported: files of vectors with metadata beside them, and lines of JSON.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use serde_json::Value;
use vecstash::{Metadata, NewRow, RowKey};

use super::report::from_hex;
use super::vectors::VectorFile;

/// A stream of rows to import.
pub(crate) struct Source {
    rows: Rows,
    key_field: Option<String>,
    len: usize,
    next: usize,
}

enum Rows {
    Vectors {
        file: VectorFile,
        beside: Beside,
    },
    Json {
        lines: Lines,
        first: Option<JsonRow>,
    },
}

/// What stands in lines beside a file of bare vectors.
enum Beside {
    Nothing,
    Metadata(Lines),
    Keys(Lines),
}

/// A line beside an exported array.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyLine {
    key: Value,
    #[serde(default)]
    metadata: Metadata,
}

/// A line of a .jsonl file of rows. Times are what `export` adds; an import sets new ones.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonRow {
    key: Option<Value>,
    vector: Vec<f32>,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default, rename = "created_at")]
    _created_at: Option<u64>,
    #[serde(default, rename = "updated_at")]
    _updated_at: Option<u64>,
}

impl Source {
    /// Opens `path`, of which at most `limit` rows are wanted, and what stands beside it.
    pub(crate) fn open(
        path: &Path,
        metadata: Option<&Path>,
        keys: Option<&Path>,
        key_field: Option<&str>,
        limit: Option<usize>,
    ) -> Result<Self> {
        let limit = limit.unwrap_or(usize::MAX);
        let is_json = path
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("jsonl") || e.eq_ignore_ascii_case("ndjson"));
        let (rows, len) = if is_json {
            ensure!(
                metadata.is_none() && keys.is_none(),
                "--metadata and --keys go with files of bare vectors; lines of a .jsonl carry their own"
            );
            let len = count_lines(path)?;
            let lines = Lines::open(path)?;
            (Rows::Json { lines, first: None }, len)
        } else {
            ensure!(
                metadata.is_some() || keys.is_some() || key_field.is_none(),
                "--key-field names a field of the metadata: add --metadata FILE.jsonl"
            );
            let file = VectorFile::open(path)?;
            let len = file.len();
            let lines = |path: &Path| {
                let lines = count_lines(path)?;
                ensure!(
                    lines == len || (limit < len && lines >= limit),
                    "{} has {lines} lines for {len} rows",
                    path.display()
                );
                Lines::open(path)
            };
            let beside = match (metadata, keys) {
                (Some(path), _) => Beside::Metadata(lines(path)?),
                (None, Some(path)) => Beside::Keys(lines(path)?),
                (None, None) => Beside::Nothing,
            };
            (Rows::Vectors { file, beside }, len)
        };
        Ok(Self {
            rows,
            key_field: key_field.map(str::to_string),
            len: len.min(limit),
            next: 0,
        })
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> u64 {
        self.len as u64
    }

    /// Coordinates of a row, of the first one where rows may differ; `None` without rows.
    pub(crate) fn dim(&mut self) -> Result<Option<usize>> {
        match &mut self.rows {
            Rows::Vectors { file, .. } => Ok(Some(file.dim())),
            Rows::Json { lines, first } => {
                if self.len > 0 && self.next == 0 && first.is_none() {
                    *first = Some(lines.parse()?);
                }
                Ok(first.as_ref().map(|row| row.vector.len()))
            }
        }
    }

    /// The next row; `None` after the last.
    pub(crate) fn next_row(&mut self) -> Result<Option<NewRow>> {
        if self.next >= self.len {
            return Ok(None);
        }
        let number = self.next;
        self.next += 1;
        let (key, vector, metadata) = match &mut self.rows {
            Rows::Vectors { file, beside } => {
                let mut vector = Vec::new();
                file.read_row(number, &mut vector)?;
                match beside {
                    Beside::Nothing => (None, vector, Metadata::new()),
                    Beside::Metadata(lines) => (None, vector, lines.parse()?),
                    Beside::Keys(lines) => {
                        let KeyLine { key, metadata } = lines.parse()?;
                        (Some(key), vector, metadata)
                    }
                }
            }
            Rows::Json { lines, first } => {
                let row = match first.take() {
                    Some(row) => row,
                    None => lines.parse()?,
                };
                (row.key, row.vector, row.metadata)
            }
        };
        let key = match (&self.key_field, key) {
            (Some(field), _) => {
                let value = metadata
                    .get(field)
                    .ok_or_else(|| anyhow!("row {number}: its metadata has no field {field:?}"))?;
                key_of(value)
                    .with_context(|| format!("row {number}: field {field:?} makes no key"))?
            }
            (None, Some(value)) => {
                key_of(&value).with_context(|| format!("row {number}: its key cannot be used"))?
            }
            (None, None) => number.to_string().into_bytes(),
        };
        Ok(Some(NewRow {
            key,
            vector,
            metadata,
        }))
    }
}

/// The key that a JSON value stands for: a text, a whole number, or `{"hex": ".."}`.
fn key_of(value: &Value) -> Result<RowKey> {
    match value {
        Value::String(text) => Ok(text.clone().into_bytes()),
        Value::Number(number) if !number.is_f64() => Ok(number.to_string().into_bytes()),
        Value::Object(object) if object.len() == 1 => match object.get("hex") {
            Some(Value::String(digits)) => from_hex(digits),
            _ => bail!("it is an object, and not {{\"hex\": \"..\"}}"),
        },
        other => bail!("{other} is neither a text nor a whole number"),
    }
}

/// Lines of JSON, counted so that an error can name the one it means.
struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    number: usize,
    buffer: Vec<u8>,
}

impl Lines {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        Ok(Self {
            path: path.to_path_buf(),
            reader: BufReader::with_capacity(1 << 18, file),
            number: 0,
            buffer: Vec::new(),
        })
    }

    fn parse<T: for<'de> Deserialize<'de>>(&mut self) -> Result<T> {
        self.buffer.clear();
        let here = || {
            format!(
                "{} line {} (row {})",
                self.path.display(),
                self.number + 1,
                self.number
            )
        };
        let read = self
            .reader
            .read_until(b'\n', &mut self.buffer)
            .with_context(here)?;
        if read == 0 {
            bail!("{}: the file ends before it", here());
        }
        let value = serde_json::from_slice(&self.buffer).with_context(here)?;
        self.number += 1;
        Ok(value)
    }
}

fn count_lines(path: &Path) -> Result<usize> {
    let mut file = File::open(path).with_context(|| path.display().to_string())?;
    let mut buffer = vec![0; 1 << 18];
    let (mut lines, mut last) = (0, b'\n');
    loop {
        let read = file
            .read(&mut buffer)
            .with_context(|| path.display().to_string())?;
        let Some(&end) = buffer[..read].last() else {
            break;
        };
        lines += buffer[..read].iter().filter(|&&byte| byte == b'\n').count();
        last = end;
    }
    Ok(lines + usize::from(last != b'\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows_of(text: &str, key_field: Option<&str>) -> Result<Vec<NewRow>> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("rows.jsonl");
        std::fs::write(&path, text)?;
        let mut source = Source::open(&path, None, None, key_field, None)?;
        source.dim()?;
        let mut rows = Vec::new();
        while let Some(row) = source.next_row()? {
            rows.push(row);
        }
        Ok(rows)
    }

    #[test]
    fn lines_become_rows() {
        let text = "{\"key\": \"a\", \"vector\": [1, 2.5], \"metadata\": {\"n\": 7}}\n\
                    {\"key\": 12, \"vector\": [0.1]}\n\
                    {\"vector\": [3], \"created_at\": 5}\n\
                    {\"key\": {\"hex\": \"ff00\"}, \"vector\": []}";
        let rows = rows_of(text, None).unwrap();
        let keys: Vec<_> = rows.iter().map(|row| row.key.as_slice()).collect();
        assert_eq!(keys, [b"a".as_slice(), b"12", b"2", b"\xff\x00"]);
        assert_eq!(rows[0].vector, [1.0, 2.5]);
        assert_eq!(rows[1].vector, [0.1]);
        assert_eq!(rows[0].metadata["n"], 7);
        let rows = rows_of(
            "{\"vector\": [1], \"metadata\": {\"id\": \"x\"}}\n",
            Some("id"),
        )
        .unwrap();
        assert_eq!(rows[0].key, b"x");
        assert!(rows_of("", None).unwrap().is_empty());
    }

    #[test]
    fn refusals_name_the_line() {
        let cases = [
            (
                "{\"vector\": [1]}\n{\"vector\": [1, null]}\n",
                "line 2 (row 1)",
            ),
            ("{\"vector\": [1]}\n\n", "line 2 (row 1)"),
            ("{\"vector\": [1], \"metdata\": {}}", "metdata"),
            ("{\"key\": 1.5, \"vector\": [1]}", "row 0"),
            ("{\"key\": [1], \"vector\": [1]}", "neither a text"),
            ("[1, 2]", "line 1"),
            ("{\"vector\": [1], \"metadata\": 3}", "line 1"),
            (
                "{\"key\": {\"hex\": \"f\"}, \"vector\": [1]}",
                "hexadecimal",
            ),
        ];
        for (text, expected) in cases {
            let message = format!("{:#}", rows_of(text, None).unwrap_err());
            assert!(message.contains(expected), "{message:?} lacks {expected:?}");
        }
        let message = format!(
            "{:#}",
            rows_of("{\"vector\": [1]}", Some("id")).unwrap_err()
        );
        assert!(
            message.contains("row 0") && message.contains("\"id\""),
            "{message}"
        );
    }
}
