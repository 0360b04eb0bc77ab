//! Opening a store for a verb, with a bar on the terminal while its indexes are rebuilt.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use vecstash::{OnCorrupt, OpenOptions, OpenProgress, OpenStage, StoreError, Table, VectorStore};

/// What every verb opens a store by.
#[derive(Clone, Copy)]
pub(crate) struct How {
    pub quarantine: bool,
    pub threads: usize,
}

/// What a verb is going to do with the store.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Read rows.
    Rows,
    /// Read rows and search.
    Search,
    /// Write into a file that is there.
    Write,
    /// Write, and create the file when it is missing.
    Create,
}

/// Opens the store at `db`.
pub(crate) fn open(db: &Path, access: Access, how: How) -> Result<VectorStore> {
    // Said here because the reason is a mistyped path nearly always.
    if access != Access::Create && !db.exists() {
        bail!(
            "there is no store at {}; `vecstash create` makes one",
            db.display()
        );
    }
    let options = OpenOptions::new()
        .create(access == Access::Create)
        .threads(how.threads);
    let options = match access {
        Access::Rows => options.read_only(true),
        Access::Search => options.read_only(true).index(true),
        Access::Write | Access::Create => options,
    };
    let options = if how.quarantine {
        options.on_corrupt(OnCorrupt::Quarantine)
    } else {
        options
    };
    let bar = bar(None, "rows");
    // A bar that appears for the blink of a small store is noise.
    let shown = Mutex::new((bar.clone(), String::new()));
    let store = options
        .progress(move |progress| {
            if progress.elapsed.as_millis() > 300
                && let Ok(mut shown) = shown.lock()
            {
                let (bar, stage) = &mut *shown;
                show(bar, stage, progress);
            }
            ControlFlow::Continue(())
        })
        .open(db);
    bar.finish_and_clear();
    store.with_context(|| format!("cannot open {}", db.display()))
}

fn show(bar: &ProgressBar, stage: &mut String, progress: &OpenProgress) {
    let verb = match progress.stage {
        OpenStage::Check => "checking",
        OpenStage::Walk => "reading",
        OpenStage::Link => "linking",
        _ => "opening",
    };
    let name = format!("{verb} {}", progress.table.as_deref().unwrap_or("the file"));
    if *stage != name {
        // Rate and time left are those of a stage, not of the whole open.
        bar.reset();
        bar.set_message(name.clone());
        *stage = name;
    }
    match progress.rows_total {
        Some(total) => bar.set_length(total),
        None => bar.unset_length(),
    }
    bar.set_position(progress.rows);
}

/// A progress bar on stderr that shows nothing unless stderr is a terminal.
pub(crate) fn bar(len: Option<u64>, unit: &str) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(len, target);
    let template = format!(
        "{{msg}} [{{bar:30}}] {{human_pos}}/{{human_len}} {unit}  {{per_sec}}  {{eta}} left"
    );
    // The template is ours, so a mistake in it is a bug that costs a plain bar and nothing else.
    let style = ProgressStyle::with_template(&template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ");
    bar.set_style(style);
    bar
}

/// The table, or an error that names those that are there.
pub(crate) fn table(store: &VectorStore, name: &str) -> Result<Table> {
    store.table(name).map_err(|error| match error {
        StoreError::UnknownTable(_) => {
            let names: Vec<String> = store.tables().into_iter().map(|t| t.name).collect();
            let there = if names.is_empty() {
                "the store has no tables".to_string()
            } else {
                format!("the store has {}", names.join(", "))
            };
            anyhow::Error::new(error).context(there)
        }
        other => other.into(),
    })
}
