//! How answers look: one JSON document or aligned text, keys, numbers, and errors with their
//! whole chain.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Stdout, Write};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::{Value, json};
use vecstash::{Metadata, OpenReport, VectorRow};

/// Standard output, in the form that was asked for.
pub(crate) struct Out {
    json: bool,
    stdout: BufWriter<Stdout>,
}

impl Out {
    pub(crate) fn new(json: bool) -> Self {
        Self {
            json,
            stdout: BufWriter::new(io::stdout()),
        }
    }

    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Writes the document, or the text of `human` when no JSON was asked for.
    pub(crate) fn answer(
        &mut self,
        document: &impl Serialize,
        human: impl FnOnce() -> String,
    ) -> Result<()> {
        if self.json {
            serde_json::to_writer_pretty(&mut self.stdout, document).map_err(io::Error::from)?;
            writeln!(self.stdout)?;
        } else {
            let text = human();
            self.stdout.write_all(text.as_bytes())?;
            if !text.ends_with('\n') {
                writeln!(self.stdout)?;
            }
        }
        Ok(self.flush()?)
    }

    /// Writes a line of a longer text at once; nothing when JSON was asked for.
    pub(crate) fn say(&mut self, line: impl AsRef<str>) -> Result<()> {
        if !self.json {
            writeln!(self.stdout, "{}", line.as_ref())?;
            self.flush()?;
        }
        Ok(())
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }

    /// Shows an error with its causes: to people on stderr, to programs on stdout as well.
    pub(crate) fn error(&mut self, error: &anyhow::Error) {
        let mut chain: Vec<String> = error.chain().map(ToString::to_string).collect();
        chain.dedup();
        // Nobody is left to be told when these fail.
        let _ = writeln!(io::stderr(), "error: {}", chain.join(": "));
        if self.json {
            let document = json!({ "error": chain.join(": "), "chain": chain });
            let _ = writeln!(self.stdout, "{document:#}");
            let _ = self.flush();
        }
    }
}

/// Whether the reader of our output went away.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|io| io.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// A key as text: itself where it is printable, hexadecimal elsewhere.
pub(crate) fn key_text(key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_string(),
        _ => format!("0x{}", hex(key)),
    }
}

/// A key as JSON: a string where it is UTF-8, `{"hex": ".."}` elsewhere.
pub(crate) fn key_json(key: &[u8]) -> Value {
    match std::str::from_utf8(key) {
        Ok(text) => json!(text),
        Err(_) => json!({ "hex": hex(key) }),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn from_hex(text: &str) -> Result<Vec<u8>> {
    let text = text.strip_prefix("0x").unwrap_or(text);
    if !text.len().is_multiple_of(2) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        bail!("{text:?} is not hexadecimal: two digits make a byte");
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).context("not hexadecimal"))
        .collect()
}

/// A key from the command line.
pub(crate) fn parse_key(text: &str, is_hex: bool) -> Result<Vec<u8>> {
    if is_hex {
        from_hex(text)
    } else {
        Ok(text.as_bytes().to_vec())
    }
}

/// A row as JSON shows it.
#[derive(Serialize)]
pub(crate) struct RowJson {
    pub key: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vector: Option<Vec<f32>>,
    pub metadata: BTreeMap<String, Value>,
    pub created_at: u64,
    pub updated_at: u64,
}

impl RowJson {
    /// The row; its vector when `with_vector`.
    pub(crate) fn new(row: VectorRow, with_vector: bool) -> Result<Self> {
        let vector = if with_vector {
            Some(row.vector.decode()?)
        } else {
            None
        };
        Ok(Self {
            key: key_json(&row.key),
            vector,
            metadata: sorted(row.metadata),
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// Metadata in order of its names, so that output does not change from run to run.
pub(crate) fn sorted(metadata: Metadata) -> BTreeMap<String, Value> {
    metadata.into_iter().collect()
}

/// Metadata on one line, cut to `width` characters. Long texts come first: they say more than
/// flags and dates do.
pub(crate) fn metadata_line(metadata: &BTreeMap<String, Value>, width: usize) -> String {
    let mut fields: Vec<(&String, String)> = metadata
        .iter()
        .map(|(name, value)| match value {
            Value::String(text) => (name, text.replace(char::is_control, " ")),
            other => (name, other.to_string()),
        })
        .collect();
    let weight = |name: &str, text: &str| match metadata.get(name) {
        Some(Value::String(_)) => text.len(),
        _ => 0,
    };
    fields.sort_by_key(|(name, text)| std::cmp::Reverse(weight(name, text)));
    let shown: Vec<String> = fields
        .iter()
        .map(|(name, text)| format!("{name}: {text}"))
        .collect();
    clip(&shown.join("; "), width)
}

/// `text` cut to `width` characters, with dots where something is missing.
pub(crate) fn clip(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_string();
    }
    let kept: String = text.chars().take(width.saturating_sub(3)).collect();
    format!("{}...", kept.trim_end())
}

/// An open report as JSON, with its keys as every other document has them.
pub(crate) fn open_report_json(report: &OpenReport) -> Result<Value> {
    let mut document = serde_json::to_value(report)?;
    for (at, table) in report.tables.iter().enumerate() {
        for (row, quarantined) in table.quarantined.iter().enumerate() {
            document["tables"][at]["quarantined"][row]["key"] = key_json(&quarantined.key);
        }
    }
    Ok(document)
}

/// `1234567` as `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `number` rows, or one row.
pub(crate) fn rows(number: u64) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{} row{s}", count(number))
}

/// Bytes in the largest unit that leaves at least one.
pub(crate) fn bytes(number: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = number as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{number} B")
    } else {
        format!("{value:.1} {}", units[unit])
    }
}

/// Seconds with three meaningful digits.
pub(crate) fn seconds(value: f64) -> String {
    if value < 0.001 {
        format!("{:.0} us", value * 1e6)
    } else if value < 1.0 {
        format!("{:.0} ms", value * 1e3)
    } else {
        format!("{value:.2} s")
    }
}

/// Lines of cells in columns; those named in `right` are aligned to the right.
pub(crate) fn columns(lines: &[Vec<String>], right: &[usize]) -> String {
    let mut widths = Vec::new();
    for line in lines {
        widths.resize(widths.len().max(line.len()), 0);
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for line in lines {
        let mut shown = String::new();
        for (at, (cell, &width)) in line.iter().zip(&widths).enumerate() {
            if at > 0 {
                shown.push_str("  ");
            }
            let space = " ".repeat(width - cell.chars().count());
            if right.contains(&at) {
                shown.push_str(&space);
                shown.push_str(cell);
            } else {
                shown.push_str(cell);
                shown.push_str(&space);
            }
        }
        text.push_str(shown.trim_end());
        text.push('\n');
    }
    text
}

/// Cells of one line.
pub(crate) fn cells<const N: usize>(cells: [impl ToString; N]) -> Vec<String> {
    cells.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(seconds(0.0000125), "12 us");
        assert_eq!(seconds(0.25), "250 ms");
        assert_eq!(seconds(12.345), "12.35 s");
        assert_eq!(rows(1), "1 row");
        assert_eq!(rows(2000), "2,000 rows");
    }

    #[test]
    fn keys_go_there_and_back() {
        assert_eq!(key_text(b"acme"), "acme");
        assert_eq!(key_text(b"\xff\x01"), "0xff01");
        assert_eq!(key_text(b"a\nb"), "0x610a62");
        assert_eq!(key_json(b"\xff"), json!({ "hex": "ff" }));
        assert_eq!(parse_key("0xff01", true).unwrap(), b"\xff\x01");
        assert_eq!(parse_key("0xff01", false).unwrap(), b"0xff01");
        for bad in ["f", "zz", "+f", "\u{e9}"] {
            assert!(from_hex(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn columns_line_up() {
        let lines = [cells(["a", "rows"]), cells(["longer", "7"])];
        assert_eq!(columns(&lines, &[1]), "a       rows\nlonger     7\n");
        assert_eq!(clip("abcdefgh", 6), "abc...");
        assert_eq!(clip("abc", 6), "abc");
        let metadata = [
            ("a", json!(1)),
            ("b", json!("x")),
            ("c", json!("long\ntext")),
        ]
        .map(|(name, value)| (name.to_string(), value))
        .into();
        assert_eq!(metadata_line(&metadata, 99), "c: long text; b: x; a: 1");
    }
}
