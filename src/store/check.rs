//! The self-check: what stands in the file, what stands in the index, and that they agree.

use std::ops::ControlFlow;

use super::shared::{StoreCore, TableCore};
use super::stats::CheckReport;
use crate::encoding::Codec;
use crate::error::StoreError;
use crate::ids::DisplayKey;
use crate::schema::IndexKind;

/// Problems listed in a report; a store with more is not read further row by row.
const PROBLEMS_MAX: usize = 1_000;

impl StoreCore {
    /// Checks one table, once its pending clean-up is done; the caller holds the seat, so that
    /// nothing else changes meanwhile.
    pub(crate) fn check_table(
        &self,
        table: &TableCore,
        report: &mut CheckReport,
    ) -> Result<(), StoreError> {
        report.tables += 1;
        self.maintain(table, usize::MAX);
        let name = &table.key.name;
        let mut stored = 0_usize;
        self.reader().scan(&table.key, &mut |row| {
            report.rows += 1;
            match row {
                Ok(row) => {
                    stored += 1;
                    let wrong = self.compare(table, row.key, &row);
                    report
                        .problems
                        .extend(wrong.map(|what| problem(name, row.key, &what)));
                }
                Err(StoreError::CorruptRow { key, detail, .. }) => {
                    if table.quarantined.lock().contains_key(&key) {
                        report.quarantined_rows += 1;
                    } else {
                        report.problems.push(problem(name, &key, &detail));
                    }
                }
                Err(error) => return Err(error),
            }
            Ok(if report.problems.len() < PROBLEMS_MAX {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            })
        })?;
        if report.problems.len() >= PROBLEMS_MAX {
            return Ok(());
        }
        let state = table.state.read();
        let Some(index) = &state.index else {
            return Ok(());
        };
        let counts = [state.keys.len(), state.keys.slots_in_use(), index.len()];
        if counts.iter().any(|&count| count != stored) {
            report.problems.push(format!(
                "table {name}: {stored} rows are stored, {} keys are known in {} slots, and the \
                 index has {} rows",
                counts[0], counts[1], counts[2]
            ));
        }
        let wrong = index.check().into_iter();
        report
            .problems
            .extend(wrong.map(|what| format!("table {name}: {what}")));
        report.problems.truncate(PROBLEMS_MAX);
        Ok(())
    }

    /// What is wrong between a stored row and the index, if anything.
    fn compare(
        &self,
        table: &TableCore,
        key: &[u8],
        row: &crate::row::RecordView<'_>,
    ) -> Option<String> {
        let state = table.state.read();
        let index = state.index.as_ref()?;
        let Some(slot) = state.keys.get(key) else {
            return Some("it is stored and not in the index".to_string());
        };
        let indexed = index.row_id(slot);
        if row.id.is_some() && row.id != indexed {
            return Some(format!(
                "it is stored under row id {:?} and indexed under {indexed:?}",
                row.id
            ));
        }
        // Only what is resident in its stored form can be compared.
        let resident =
            table.kind == IndexKind::Flat || table.record.schema.codec == Codec::Int8Quantized;
        let differs = resident && !index.holds(slot, row.vector);
        differs.then(|| "its vector differs between file and index".to_string())
    }
}

fn problem(table: &str, key: &[u8], what: &str) -> String {
    format!("table {table}, row {}: {what}", DisplayKey(key))
}
