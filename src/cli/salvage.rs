//! `salvage`: copies every row that is whole out of a damaged store, reading in child processes
//! because a damaged page can end the process that reads it.
//!
//! Each table is read forwards until a reader dies without having got any further, then
//! backwards from its end in the same way. What lies between is read from its middle outwards,
//! and so are the halves of that, until several halvings in a row have shown no row: those are
//! the gaps that nobody reached.

use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde_json::Value;
use vecstash::{
    Backend, Change, Durability, RedbBackend, RowId, RowKey, TableId, TableKey, TableRecord, limits,
};

use super::args::SalvageArgs;
use super::report::{self, Out, hex, key_json, key_text};
use super::salvage_frames::{Frame, next};

const BATCH_ROWS: usize = 1_000;
const BATCH_BYTES: usize = 8 << 20;

/// How often a gap is halved without a row before it is given up: at most 30 readers.
const HALVINGS_MAX: u32 = 4;

#[derive(Serialize)]
struct Answer {
    src: std::path::PathBuf,
    dst: std::path::PathBuf,
    complete: bool,
    /// Tables whose records are damaged.
    lost_tables: Vec<String>,
    tables: Vec<TableAnswer>,
}

#[derive(Serialize)]
struct TableAnswer {
    name: String,
    rows: u64,
    /// Rows that were reached and did not pass their checksum. A reader that died did not say.
    damaged: u64,
    unreachable: Vec<Gap>,
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
    let (tables, lost_tables) = match reader.next()? {
        Event::Frame(Frame::Tables(tables, lost)) => (tables, lost),
        Event::Frame(Frame::Failed(reason)) | Event::Gone(reason) | Event::Hung(reason) => {
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
        complete: lost_tables.is_empty(),
        lost_tables,
        tables: Vec::new(),
    };
    for name in &answer.lost_tables {
        out.say(format!("{name}: lost, its record is damaged"))?;
    }
    let next = tables
        .iter()
        .map(|record| record.id.get().saturating_add(1))
        .max();
    let next = TableId::new(next.unwrap_or(1));
    target.commit(&[Change::ReserveTableIds { next }], Durability::Immediate)?;
    for record in &tables {
        let one = salvage_table(args, record, &target)
            .with_context(|| format!("table {}", record.schema.name))?;
        answer.complete &= one.damaged == 0 && one.unreachable.is_empty();
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
    for gap in &one.unreachable {
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
    let mut walk = Walk {
        args,
        table: record.id,
        writer: Writer::create(target, record)?,
        damaged: 0,
        gaps: Vec::new(),
    };
    let forwards = walk.pass(None, None, false)?;
    if let Some(reason) = forwards.reason {
        let backwards = walk.pass(None, forwards.last.as_deref(), true)?;
        if backwards.reason.is_some() {
            walk.fill(forwards.last, backwards.last, HALVINGS_MAX, reason)?;
        }
    }
    Ok(TableAnswer {
        name: record.schema.name.clone(),
        rows: walk.writer.finish()?,
        damaged: walk.damaged,
        unreachable: walk.gaps.into_iter().map(Gap::new).collect(),
    })
}

/// What nobody could read: the keys around it, `None` for an end of the table, and why.
struct Hole {
    after: Option<RowKey>,
    before: Option<RowKey>,
    reason: String,
}

impl Gap {
    fn new(hole: Hole) -> Self {
        let name = |key: &Option<RowKey>, end: &str| {
            key.as_deref().map_or_else(|| end.to_string(), key_text)
        };
        Self {
            after: hole.after.as_deref().map(key_json),
            before: hole.before.as_deref().map(key_json),
            text: format!(
                "between {} and {}",
                name(&hole.after, "the first row"),
                name(&hole.before, "the last")
            ),
            reason: hole.reason,
        }
    }
}

/// How far reading in one direction got, with as many readers as it took.
#[derive(Default)]
struct Pass {
    first: Option<RowKey>,
    last: Option<RowKey>,
    /// Why it ended before its goal; `None` when it got there.
    reason: Option<String>,
    /// A reader hung: asking more of them would take as long each.
    hung: bool,
}

/// Reading one table.
struct Walk<'a> {
    args: &'a SalvageArgs,
    table: TableId,
    writer: Writer<'a>,
    damaged: u64,
    /// What nobody reached, in key order.
    gaps: Vec<Hole>,
}

impl Walk<'_> {
    /// Reads from its middle outwards what lies between two rows, then what is left of it.
    fn fill(
        &mut self,
        after: Option<RowKey>,
        before: Option<RowKey>,
        halvings: u32,
        reason: String,
    ) -> Result<()> {
        if halvings == 0 {
            self.give_up(after, before, reason);
            return Ok(());
        }
        let middle = middle(after.as_deref(), before.as_deref());
        let down = self.pass(Some(&middle), after.as_deref(), true)?;
        let up = self.pass(Some(&middle), before.as_deref(), false)?;
        let left = |pass: &Pass| match (pass.hung, &pass.first) {
            (true, _) => 0,
            (false, Some(_)) => HALVINGS_MAX,
            (false, None) => halvings - 1,
        };
        let (left_down, left_up) = (left(&down), left(&up));
        // Where one side found no row, the other side's first, or its end, is the nearest one.
        let edge = |near: &Pass, far: &Pass, end: &Option<RowKey>| {
            let met = far.reason.is_none().then(|| end.clone());
            let found = near.last.clone().or_else(|| far.first.clone());
            found.map(Some).or(met).unwrap_or(Some(middle.clone()))
        };
        let below = edge(&down, &up, &before);
        let above = edge(&up, &down, &after);
        if let Some(reason) = down.reason {
            self.fill(after, below, left_down, reason)?;
        }
        if let Some(reason) = up.reason {
            self.fill(above, before, left_up, reason)?;
        }
        Ok(())
    }

    fn give_up(&mut self, after: Option<RowKey>, before: Option<RowKey>, reason: String) {
        match self.gaps.last_mut() {
            Some(hole) if after.is_some() && hole.before == after && !is_row(after.as_deref()) => {
                hole.before = before;
            }
            _ => self.gaps.push(Hole {
                after,
                before,
                reason,
            }),
        }
    }

    /// Reads from behind `from` until the end of the table, or until the key `stop`.
    fn pass(&mut self, from: Option<&[u8]>, stop: Option<&[u8]>, reverse: bool) -> Result<Pass> {
        let beyond = |key: &[u8], edge: &[u8]| if reverse { key < edge } else { key > edge };
        let mut pass = Pass::default();
        loop {
            let start = pass.last.as_deref().or(from);
            let mut reader = Reader::start(self.args, Some(self.table), start, reverse)?;
            let mut advanced = false;
            loop {
                match reader.next()? {
                    Event::Frame(Frame::Row(id, row)) => {
                        if stop.is_some_and(|stop| row.key == stop || beyond(&row.key, stop)) {
                            return Ok(pass);
                        }
                        let last = pass.last.as_deref().or(from);
                        // A damaged branch can lead in circles.
                        if last.is_some_and(|last| !beyond(&row.key, last)) {
                            pass.reason = Some("its keys are out of order".to_string());
                            return Ok(pass);
                        }
                        pass.first.get_or_insert_with(|| row.key.clone());
                        pass.last = Some(row.key.clone());
                        advanced = true;
                        self.writer.put(id, row)?;
                    }
                    Event::Frame(Frame::End { damaged }) => {
                        self.damaged += damaged;
                        return Ok(pass);
                    }
                    Event::Frame(Frame::Failed(reason)) | Event::Gone(reason) => {
                        pass.reason = Some(reason);
                        break;
                    }
                    Event::Hung(reason) => {
                        pass.reason = Some(reason);
                        pass.hung = true;
                        break;
                    }
                    Event::Frame(Frame::Tables(..)) => bail!("the reader sent tables among rows"),
                }
            }
            if !advanced {
                return Ok(pass);
            }
            pass.reason = None;
            pass.hung = false;
        }
    }
}

/// A key half way between two, longer than any row's, so that it stands for none.
fn middle(after: Option<&[u8]>, before: Option<&[u8]>) -> RowKey {
    let digit = |key: Option<&[u8]>, end: u16, at: usize| match key {
        None => end,
        Some(key) => key.get(at).map_or(0, |&byte| u16::from(byte)),
    };
    let mut sum = vec![0; limits::KEY_LEN_MAX + 1];
    let mut carry = 0;
    for (at, place) in sum.iter_mut().enumerate().rev() {
        let digits = digit(after, 0, at) + digit(before, 255, at) + carry;
        *place = (digits & 0xff) as u8;
        carry = digits >> 8;
    }
    for place in &mut sum {
        let digits = (carry << 8) | u16::from(*place);
        *place = (digits >> 1) as u8;
        carry = digits & 1;
    }
    sum
}

fn is_row(key: Option<&[u8]>) -> bool {
    key.is_some_and(|key| key.len() <= limits::KEY_LEN_MAX)
}

enum Event {
    Frame(Frame),
    Gone(String),
    Hung(String),
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
            Err(RecvTimeoutError::Timeout) => Event::Hung(format!(
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
