//! Fitting a Euclidean turbo table to its rows: rarely, in a transaction of its own, from all
//! rows that are stored.

use super::shared::{Seat, StoreCore, TableCore};
use crate::error::StoreError;

/// Fewer rows than this are re-ranked all, so that nothing depends on a fit.
#[cfg(feature = "turbo")]
const FIT_ROWS_MIN: u64 = 256;

/// A fit is renewed when the table has this many times the rows it was measured on: few enough
/// renewals that their cost a row stays constant, soon enough that a small first sample does not
/// rule for ever.
#[cfg(feature = "turbo")]
const FIT_GROWTH: u64 = 4;

impl StoreCore {
    /// Measures a turbo table's rows anew when they have outgrown the last fit or as many were
    /// written since as it was measured on, stores the fit and rebuilds the index under it. Searches go on with the old index meanwhile.
    #[cfg(feature = "turbo")]
    pub(crate) fn refit_turbo(
        &self,
        _seat: &mut Seat,
        table: &TableCore,
    ) -> Result<(), StoreError> {
        use std::ops::ControlFlow;

        use crate::distance::Distance;
        use crate::inner_index::FitAccumulator;
        use crate::inner_storage::Change;
        use crate::schema::IndexKind;

        if table.kind != IndexKind::Turbo
            || table.record.schema.distance != Distance::Euclidean
            || !self.capabilities.atomic
        {
            return Ok(());
        }
        let rows = table.state.read().keys.len() as u64;
        let fitted = table.fit.lock().clone();
        let known = fitted.as_ref().map_or(0, |fit| fit.rows);
        let next = table.row_ids.lock().next;
        let written = next.get() - table.fitted_below.lock().get();
        let grown = rows >= known.saturating_mul(FIT_GROWTH);
        // Rows that came since may all stand in the place of those that were measured.
        let replaced = written >= known.max(FIT_ROWS_MIN);
        if rows < FIT_ROWS_MIN || !(grown || replaced) {
            return Ok(());
        }
        let dim = usize::from(table.record.schema.dim);
        let mut fit = FitAccumulator::new(dim, table.record.schema.distance);
        let mut vector = vec![0.0; dim];
        self.reader().scan(&table.key, &mut |row| {
            // A damaged row is no part of the index, and none of the fit.
            if let Ok(row) = row {
                row.vector.decode_into(&mut vector)?;
                fit.add(&vector);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        let fit = fit.finish(fitted.map_or(1, |fit| fit.generation + 1));
        let mut record = table.record.clone();
        record.turbo = Some(fit.clone());
        let change = Change::PutTable(Box::new(record));
        self.commits.commit(&[change])?;
        *table.fit.lock() = Some(fit);
        *table.fitted_below.lock() = next;
        self.refresh_snapshot()?;
        self.rebuild_table(table)
    }

    #[cfg(not(feature = "turbo"))]
    pub(crate) fn refit_turbo(
        &self,
        _seat: &mut Seat,
        _table: &TableCore,
    ) -> Result<(), StoreError> {
        Ok(())
    }
}
