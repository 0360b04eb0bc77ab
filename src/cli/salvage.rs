//! `salvage`: copies every row that is whole out of a damaged store, reading in child processes
//! because a damaged page can end the process that reads it.
//!
//! Each table is read forwards until a reader dies without having got any further, then
//! backwards from its end in the same way. What lies between is the gap that nobody reached.

use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde_json::Value;
use vecstash::{
    Backend, Change, Durability, RedbBackend, RowId, RowKey, TableId, TableKey, TableRecord,
};

use super::args::SalvageArgs;
use super::report::{self, Out, hex, key_json, key_text};
use super::salvage_frames::{Frame, next};

const BATCH_ROWS: usize = 1_000;
const BATCH_BYTES: usize = 8 << 20;

#[derive(Serialize)]
struct Answer {
    src: std::path::PathBuf,
    dst: std::path::PathBuf,
    complete: bool,
    tables: Vec<TableAnswer>,
}

#[derive(Serialize)]
struct TableAnswer {
    name: String,
    rows: u64,
    /// Rows that were reached and did not pass their checksum. A reader that died did not say.
    damaged: u64,
    unreachable: Option<Gap>,
}

/// The keys between which nothing could be read; `None` for an end of the table.
#[derive(Serialize)]
struct Gap {
    after: Option<Value>,
    before: Option<Value>,
    reason: String,
    #[serde(skip)]
    text: String,
}

pub(crate) fn run(args: &SalvageArgs, out: &mut Out) -> Result<ExitCode> {
    ensure!(
        args.src.exists(),
        "there is no store at {}",
        args.src.display()
    );
    ensure!(
        !args.dst.exists(),
        "{} is there already; name a new file",
        args.dst.display()
    );
    let mut reader = Reader::start(args, None, None, false)?;
    let tables = match reader.next()? {
        Event::Frame(Frame::Tables(tables)) => tables,
        Event::Frame(Frame::Failed(reason)) | Event::Gone(reason) => {
            bail!(
                "the list of tables of {} cannot be read: {reason}",
                args.src.display()
            )
        }
        Event::Frame(_) => bail!("the reader sent rows where the tables belong"),
    };
    drop(reader);
    let target = RedbBackend::open(&args.dst)?;
    let mut answer = Answer {
        src: args.src.clone(),
        dst: args.dst.clone(),
        complete: true,
        tables: Vec::new(),
    };
    let next = tables
        .iter()
        .map(|record| record.id.get().saturating_add(1))
        .max();
    let next = TableId::new(next.unwrap_or(1));
    target.commit(&[Change::ReserveTableIds { next }], Durability::Immediate)?;
    for record in &tables {
        let one = salvage_table(args, record, &target)
            .with_context(|| format!("table {}", record.schema.name))?;
        answer.complete &= one.damaged == 0 && one.unreachable.is_none();
        out.say(line(&one))?;
        answer.tables.push(one);
    }
    target.close()?;
    out.answer(&answer, || verdict(&answer, &args.dst))?;
    Ok(ExitCode::SUCCESS)
}

fn line(one: &TableAnswer) -> String {
    let mut text = format!("{}: {} copied", one.name, report::rows(one.rows));
    if one.damaged > 0 {
        text.push_str(&format!(", {} damaged", report::rows(one.damaged)));
    }
    if let Some(gap) = &one.unreachable {
        text.push_str(&format!(", nothing readable {} ({})", gap.text, gap.reason));
    }
    text
}

fn verdict(answer: &Answer, dst: &Path) -> String {
    let rows: u64 = answer.tables.iter().map(|one| one.rows).sum();
    let how = if answer.complete {
        "everything"
    } else {
        "what is whole"
    };
    format!("copied {how}: {} to {}", report::rows(rows), dst.display())
}

fn salvage_table(
    args: &SalvageArgs,
    record: &TableRecord,
    target: &dyn Backend,
) -> Result<TableAnswer> {
    let mut writer = Writer::create(target, record)?;
    let mut forwards = Pass::new(args, record.id, false);
    let mut damaged = 0;
    let mut unreachable = None;
    if !forwards.run(None, &mut writer)? {
        let mut backwards = Pass::new(args, record.id, true);
        let met = backwards.run(forwards.last.as_deref(), &mut writer)?;
        damaged += backwards.damaged;
        if !met {
            let name = |key: &Option<RowKey>, end: &str| {
                key.as_deref().map_or_else(|| end.to_string(), key_text)
            };
            unreachable = Some(Gap {
                after: forwards.last.as_deref().map(key_json),
                before: backwards.last.as_deref().map(key_json),
                reason: forwards.reason.clone(),
                text: format!(
                    "between {} and {}",
                    name(&forwards.last, "the first row"),
                    name(&backwards.last, "the last")
                ),
            });
        }
    }
    damaged += forwards.damaged;
    let rows = writer.finish()?;
    Ok(TableAnswer {
        name: record.schema.name.clone(),
        rows,
        damaged,
        unreachable,
    })
}

/// Reading one table in one direction, with as many readers as it takes.
struct Pass<'a> {
    args: &'a SalvageArgs,
    table: TableId,
    reverse: bool,
    /// Key of the last row received.
    last: Option<RowKey>,
    damaged: u64,
    /// Why the last reader ended early.
    reason: String,
}

impl<'a> Pass<'a> {
    fn new(args: &'a SalvageArgs, table: TableId, reverse: bool) -> Self {
        Self {
            args,
            table,
            reverse,
            last: None,
            damaged: 0,
            reason: String::new(),
        }
    }

    /// Reads until the end of the table, or until the row `stop`. `false` when neither was
    /// reached.
    fn run(&mut self, stop: Option<&[u8]>, writer: &mut Writer<'_>) -> Result<bool> {
        loop {
            let mut reader = Reader::start(
                self.args,
                Some(self.table),
                self.last.as_deref(),
                self.reverse,
            )?;
            let mut advanced = false;
            loop {
                match reader.next()? {
                    Event::Frame(Frame::Row(id, row)) => {
                        if stop.is_some_and(|stop| row.key.as_slice() <= stop) {
                            return Ok(true);
                        }
                        // A damaged branch can lead in circles.
                        if !self.is_next(&row.key) {
                            self.reason = "its keys are out of order".to_string();
                            return Ok(false);
                        }
                        self.last = Some(row.key.clone());
                        advanced = true;
                        writer.put(id, row)?;
                    }
                    Event::Frame(Frame::End { damaged }) => {
                        self.damaged += damaged;
                        return Ok(true);
                    }
                    Event::Frame(Frame::Failed(reason)) | Event::Gone(reason) => {
                        self.reason = reason;
                        break;
                    }
                    Event::Frame(Frame::Tables(_)) => bail!("the reader sent tables among rows"),
                }
            }
            if !advanced {
                return Ok(false);
            }
        }
    }

    fn is_next(&self, key: &[u8]) -> bool {
        match self.last.as_deref() {
            None => true,
            Some(last) if self.reverse => key < last,
            Some(last) => key > last,
        }
    }
}

enum Event {
    Frame(Frame),
    Gone(String),
}

/// A child process that reads, and a thread that listens to it.
struct Reader {
    child: Child,
    frames: Receiver<Result<Option<Frame>>>,
    patience: Duration,
}

impl Reader {
    fn start(
        args: &SalvageArgs,
        table: Option<TableId>,
        after: Option<&[u8]>,
        reverse: bool,
    ) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("salvage-read").arg(&args.src);
        if let Some(table) = table {
            command.args(["--table-id", &table.get().to_string()]);
        }
        if let Some(after) = after {
            command.args(["--after", &hex(after)]);
        }
        if reverse {
            command.arg("--reverse");
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // Its panics are expected and say nothing that our report does not.
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start a reader")?;
        let stdout = child.stdout.take().context("the reader has no output")?;
        let (sender, frames) = sync_channel(64);
        std::thread::spawn(move || {
            let mut input = std::io::BufReader::with_capacity(1 << 18, stdout);
            loop {
                let frame = next(&mut input);
                let more = matches!(frame, Ok(Some(_)));
                if sender.send(frame).is_err() || !more {
                    return;
                }
            }
        });
        Ok(Self {
            child,
            frames,
            patience: Duration::from_secs(args.patience.max(1)),
        })
    }

    fn next(&mut self) -> Result<Event> {
        Ok(match self.frames.recv_timeout(self.patience) {
            Ok(Ok(Some(frame))) => Event::Frame(frame),
            Ok(Ok(None)) | Err(RecvTimeoutError::Disconnected) => {
                Event::Gone(format!("the reader died: {}", self.child.wait()?))
            }
            Ok(Err(error)) => Event::Gone(format!("{error:#}")),
            Err(RecvTimeoutError::Timeout) => Event::Gone(format!(
                "the reader said nothing for {} s",
                self.patience.as_secs()
            )),
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Both fail only for a child that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Rows on their way into the new store, each with the bytes and the id it had.
struct Writer<'a> {
    target: &'a dyn Backend,
    table: TableKey,
    batch: Vec<Change>,
    batch_bytes: usize,
    next: RowId,
    rows: u64,
}

impl<'a> Writer<'a> {
    fn create(target: &'a dyn Backend, record: &TableRecord) -> Result<Self> {
        let created = Change::PutTable(Box::new(record.clone()));
        target.commit(&[created], Durability::Immediate)?;
        let table = TableKey {
            id: record.id,
            name: record.schema.name.as_str().into(),
        };
        Ok(Self {
            target,
            table,
            batch: Vec::new(),
            batch_bytes: 0,
            next: RowId::new(1),
            rows: 0,
        })
    }

    fn put(&mut self, id: RowId, row: vecstash::VectorRow) -> Result<()> {
        self.next = self.next.max(RowId::new(id.get().saturating_add(1)));
        self.batch_bytes += row.key.len() + row.vector.bytes.len() + 256;
        self.batch.push(Change::Put {
            table: self.table.clone(),
            id,
            row,
        });
        self.rows += 1;
        if self.batch.len() >= BATCH_ROWS || self.batch_bytes >= BATCH_BYTES {
            self.commit()?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.batch.push(Change::ReserveRowIds {
            table: self.table.clone(),
            next: self.next,
        });
        self.target.commit(&self.batch, Durability::Immediate)?;
        self.batch.clear();
        self.batch_bytes = 0;
        Ok(())
    }

    fn finish(mut self) -> Result<u64> {
        self.commit()?;
        Ok(self.rows)
    }
}
