//! The verbs about single rows: get and delete.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;
use vecstash::StoreError;

use super::args::{DeleteArgs, GetArgs};
use super::open::{Access, How, open, table};
use super::report::{self, Out, RowJson, cells, columns, key_json, key_text, parse_key};

/// How many coordinates a person is shown; `--json` shows all.
const COORDINATES_SHOWN: usize = 6;

pub(crate) fn get(args: &GetArgs, how: How, out: &mut Out) -> Result<ExitCode> {
    let key = parse_key(&args.key, args.hex)?;
    let store = open(&args.db, Access::Rows, how)?;
    let table = table(&store, &args.table)?;
    let Some(row) = table.get(&key)? else {
        return Err(StoreError::RowNotFound {
            table: args.table.clone(),
            key,
        }
        .into());
    };
    let codec = row.vector.codec;
    let row = RowJson::new(row, true)?;
    out.answer(&row, || {
        let vector = row.vector.as_deref().unwrap_or_default();
        let mut shown: Vec<String> = vector
            .iter()
            .take(COORDINATES_SHOWN)
            .map(ToString::to_string)
            .collect();
        if vector.len() > COORDINATES_SHOWN {
            shown.push("..".to_string());
        }
        let mut lines = vec![
            cells(["key", &key_text(&key)]),
            cells([
                "vector",
                &format!("{} x {codec}: [{}]", vector.len(), shown.join(", ")),
            ]),
            cells(["created", &time(row.created_at)]),
            cells(["updated", &time(row.updated_at)]),
        ];
        for (name, value) in &row.metadata {
            lines.push(cells([&format!("  {name}"), &value.to_string()]));
        }
        columns(&lines, &[])
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn delete(args: &DeleteArgs, how: How, out: &mut Out) -> Result<ExitCode> {
    let keys = args
        .keys
        .iter()
        .map(|key| parse_key(key, args.hex))
        .collect::<Result<Vec<_>>>()?;
    let store = open(&args.db, Access::Write, how)?;
    let table = table(&store, &args.table)?;
    let mut missing = Vec::new();
    for key in &keys {
        if !table.contains(key)? {
            missing.push(key);
        }
    }
    let deleted = table.delete_many(&keys)?;
    let document = json!({
        "deleted": deleted,
        "missing": missing.iter().map(|key| key_json(key)).collect::<Vec<_>>(),
    });
    let text = || {
        let mut text = format!("deleted {}", report::rows(deleted as u64));
        if !missing.is_empty() {
            let names: Vec<_> = missing.iter().map(|key| key_text(key)).collect();
            text.push_str(&format!("; not there: {}", names.join(", ")));
        }
        text
    };
    out.answer(&document, text)?;
    drop(table);
    store.close()?;
    Ok(ExitCode::SUCCESS)
}

/// Milliseconds since the Unix epoch as UTC (the calendar arithmetic is Howard Hinnant's
/// `civil_from_days`).
fn time(ms: u64) -> String {
    let seconds = ms / 1000;
    let (days, second) = ((seconds / 86_400) as i64, seconds % 86_400);
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn times() {
        assert_eq!(super::time(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(super::time(951_782_400_000), "2000-02-29 00:00:00 UTC");
        assert_eq!(super::time(1_700_000_000_999), "2023-11-14 22:13:20 UTC");
        assert!(super::time(u64::MAX).ends_with("UTC"));
    }
}
