//! The verbs about the whole file: open, check, backup, compact.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use serde_json::json;
use vecstash::OpenReport;

use super::args::{BackupArgs, DbArgs};
use super::open::{self, Access, How};
use super::report::{
    self, Out, bytes, cells, columns, count, key_text, open_report_json, rows, seconds,
};

pub(crate) fn open(args: &DbArgs, how: How, out: &mut Out) -> Result<ExitCode> {
    let store = open::open(&args.db, Access::Search, how)?;
    let report = store.open_report();
    out.answer(&open_report_json(report)?, || open_text(&args.db, report))?;
    Ok(ExitCode::SUCCESS)
}

fn open_text(db: &Path, report: &OpenReport) -> String {
    let mut text = format!(
        "opened {} ({}): {} in {}, {} threads, kernels {}\n\n",
        db.display(),
        bytes(report.file_bytes),
        rows(report.rows),
        seconds(report.total_seconds),
        report.threads,
        report.kernels
    );
    let mut lines = vec![cells(["stage", "seconds", "rows", "rows/s"])];
    let mut stage = |name: String, time: f64, rows: Option<u64>| {
        let rate = rows.filter(|_| time > 0.0).map(|rows| rows as f64 / time);
        lines.push(vec![
            name,
            format!("{time:.3}"),
            rows.map(count).unwrap_or_default(),
            rate.map(|rate| count(rate as u64)).unwrap_or_default(),
        ]);
    };
    stage("check the file".into(), report.check_seconds, None);
    for table in &report.tables {
        stage(
            format!("read {}", table.name),
            table.walk_seconds,
            Some(table.rows),
        );
        stage(
            format!("index {}", table.name),
            table.link_seconds,
            Some(table.rows),
        );
    }
    stage("in all".into(), report.total_seconds, Some(report.rows));
    text.push_str(&columns(&lines, &[1, 2, 3]));
    text.push_str(&quarantined_text(report));
    text
}

/// The rows that an open left out, one line each.
fn quarantined_text(report: &OpenReport) -> String {
    let mut text = String::new();
    for table in &report.tables {
        for row in &table.quarantined {
            text.push_str(&format!(
                "damaged: {} in {}: {}\n",
                key_text(&row.key),
                table.name,
                row.detail
            ));
        }
        let unlisted =
            table.quarantined_rows - (table.quarantined.len() as u64).min(table.quarantined_rows);
        if unlisted > 0 {
            text.push_str(&format!(
                "damaged: {} more in {}\n",
                rows(unlisted),
                table.name
            ));
        }
    }
    text
}

pub(crate) fn check(args: &DbArgs, how: How, out: &mut Out) -> Result<ExitCode> {
    // A check that stops at the first damaged row would not say what else there is.
    let how = How {
        quarantine: true,
        ..how
    };
    let store = open::open(&args.db, Access::Search, how)?;
    let started = Instant::now();
    let report = store.check()?;
    let clean = report.is_clean() && report.quarantined_rows == 0;
    let opened = store.open_report();
    let document = json!({
        "clean": clean,
        "rows": report.rows,
        "tables": report.tables,
        "quarantined_rows": report.quarantined_rows,
        "problems": report.problems,
        "open": open_report_json(opened)?,
    });
    out.answer(&document, || {
        let mut text = quarantined_text(opened);
        for problem in &report.problems {
            text.push_str(&format!("problem: {problem}\n"));
        }
        let verdict = if clean { "clean" } else { "NOT CLEAN" };
        text.push_str(&format!(
            "{verdict}: {} in {} tables compared with their indexes in {}, {} problems, {} damaged\n",
            report::rows(report.rows),
            report.tables,
            seconds(opened.total_seconds + started.elapsed().as_secs_f64()),
            report.problems.len(),
            report::rows(report.quarantined_rows),
        ));
        text
    })?;
    Ok(if clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

pub(crate) fn backup(args: &BackupArgs, how: How, out: &mut Out) -> Result<ExitCode> {
    let store = open::open(&args.db, Access::Rows, how)?;
    let started = Instant::now();
    store.backup(&args.file)?;
    let took = started.elapsed().as_secs_f64();
    let size = std::fs::metadata(&args.file)?.len();
    out.answer(
        &json!({ "backup": args.file, "bytes": size, "seconds": took }),
        || {
            format!(
                "backed up {} to {} ({}) in {}",
                args.db.display(),
                args.file.display(),
                bytes(size),
                seconds(took)
            )
        },
    )?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn compact(args: &DbArgs, how: How, out: &mut Out) -> Result<ExitCode> {
    let store = open::open(&args.db, Access::Write, how)?;
    let before = std::fs::metadata(&args.db)?.len();
    let compacted = store.compact()?;
    store.close()?;
    let after = std::fs::metadata(&args.db)?.len();
    out.answer(
        &json!({ "compacted": compacted, "bytes_before": before, "bytes_after": after }),
        || {
            if compacted {
                format!(
                    "compacted {}: {} -> {}",
                    args.db.display(),
                    bytes(before),
                    bytes(after)
                )
            } else {
                format!(
                    "{} is compact already ({})",
                    args.db.display(),
                    bytes(after)
                )
            }
        },
    )?;
    Ok(ExitCode::SUCCESS)
}
