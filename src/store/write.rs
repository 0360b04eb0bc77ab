//! The write journey: check, encode, plan; then, in the writer's seat, stage, commit, link,
//! publish.
//!
//! Everything that can fail comes before the commit. The commit makes the rows durable; linking
//! works out where they go under the index's read lock and puts them there under its write lock,
//! a few hundred at a time, hidden; publishing shows a table's whole change at once, together
//! with the snapshot it belongs to.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::RwLock;
use rayon::prelude::*;

use super::group::{Operation, Request, repeat};
use super::hints::Published;
use super::input::{check_batch_len, check_key, check_metadata, encode};
use super::load::{Stored, load_table};
use super::shared::{Seat, StoreCore, TableCore, TableState};
use super::stage::{Fresh, ROW_IDS_AHEAD, Stage, TableChange, keep_row_ids};
use crate::encoding::EncodedVector;
use crate::error::StoreError;
use crate::ids::Slot;
use crate::inner_index::{Entry, Patch, Plan};
use crate::limits;
use crate::row::{Metadata, RowKey};
use crate::schema::IndexKind;

/// Rows linked under one hold of the write lock.
const LINK_CHUNK: usize = 256;

/// A change this large, beside a table not more than `BULK_SHARE` times as large, builds the graph
/// anew: that costs a row a seventh of what linking costs, and all rows pay it.
const BULK_MIN: usize = 4_096;
const BULK_SHARE: usize = 5;

/// Rows looked at by the clean-up for each row removed: a pass over the table is done long before
/// the deletes that started it have doubled.
const MAINTAIN_PER_REMOVED: usize = 48;

/// A row to upsert, before its checks.
pub(crate) struct Unchecked<'a> {
    pub(crate) table: Arc<TableCore>,
    pub(crate) key: RowKey,
    pub(crate) vector: &'a [f32],
    pub(crate) metadata: Metadata,
}

impl StoreCore {
    /// Checks and encodes one row and finds its neighbours, on the caller's own thread.
    pub(crate) fn prepare_upsert(&self, row: Unchecked<'_>) -> Result<Operation, StoreError> {
        let mut operation = self.check_upsert(row)?;
        if let Operation::Upsert {
            table,
            key,
            vector,
            plan,
            ..
        } = &mut operation
        {
            *plan = plan_ahead(table, key, vector);
        }
        Ok(operation)
    }

    /// Checks and encodes one row.
    pub(crate) fn check_upsert(&self, row: Unchecked<'_>) -> Result<Operation, StoreError> {
        check_key(&row.key)?;
        check_metadata(&row.metadata)?;
        let vector = encode(&row.table, row.vector)?;
        Ok(Operation::Upsert {
            table: row.table,
            key: row.key,
            vector,
            metadata: row.metadata,
            plan: None,
        })
    }

    /// Checks and encodes many rows, on all cores where there are enough of them.
    pub(crate) fn check_upserts(
        &self,
        rows: Vec<Unchecked<'_>>,
    ) -> Result<Vec<Operation>, StoreError> {
        check_batch_len(rows.len())?;
        if rows.len() < 64 {
            return rows.into_iter().map(|row| self.check_upsert(row)).collect();
        }
        self.install(|| {
            rows.into_par_iter()
                .map(|row| self.check_upsert(row))
                .collect()
        })
    }

    /// Writes one group: the caller holds the seat and answers whatever stays unanswered.
    pub(crate) fn write_group(&self, seat: &mut Seat, group: &[Arc<Request>]) {
        let mut stage = Stage::default();
        let mut accepted = Vec::with_capacity(group.len());
        for request in group {
            match stage.add(self, request.take_operations()) {
                Ok(outcome) => accepted.push((request, outcome)),
                Err(error) => request.answer(Err(error)),
            }
        }
        let staged = stage.finish();
        let committed = self.commit_and_publish(seat, staged.changes, staged.tables);
        match committed {
            Ok(()) => {
                for (request, outcome) in accepted {
                    request.answer(Ok(outcome));
                }
            }
            Err(error) => {
                // The first request gets the error itself, with its causes.
                for (request, _) in accepted.iter().skip(1) {
                    request.answer(Err(repeat(&error)));
                }
                if let Some((request, _)) = accepted.first() {
                    request.answer(Err(error));
                }
            }
        }
    }

    fn commit_and_publish(
        &self,
        seat: &mut Seat,
        changes: Vec<crate::inner_storage::Change>,
        tables: Vec<TableChange>,
    ) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        for change in &tables {
            check_room(change)?;
        }
        for change in &tables {
            self.pin(&change.table);
        }
        if let Err(error) = self.commits.commit(&changes) {
            for change in &tables {
                change.table.unpin();
            }
            return Err(error);
        }
        drop(changes);
        // The rows are durable. A snapshot that cannot be had now leaves them to the next open.
        self.refresh_snapshot().map_err(|error| {
            self.health
                .fail(format!("no snapshot after a commit: {}", error.chain()));
            StoreError::OutcomeUnknown {
                source: error.chain().into(),
            }
        })?;
        for change in tables {
            self.publish_table(seat, change)?;
        }
        self.commits.check_acknowledgeable()
    }

    /// Brings one table's index to what was committed. A panic in here is a bug of the index and
    /// no reason to lose a row: the index is rebuilt from the rows.
    fn publish_table(&self, seat: &mut Seat, change: TableChange) -> Result<(), StoreError> {
        keep_row_ids(&change);
        let table = Arc::clone(&change.table);
        let linked = catch_unwind(AssertUnwindSafe(|| {
            let in_bulk = self.capabilities.atomic && is_bulk(&change);
            if in_bulk && self.publish_in_bulk(&change) {
                Published::ANEW
            } else {
                self.link_and_publish(change)
            }
        }));
        let published = match linked {
            Ok(published) => published,
            Err(_) => {
                tracing::error!(table = %table.key.name, "a panic while linking; rebuilding");
                self.rebuild_table(&table)
                    .map_err(|error| StoreError::OutcomeUnknown {
                        source: error.chain().into(),
                    })?;
                Published::ANEW
            }
        };
        let kept = || self.keep_hints(seat, &table, published);
        if catch_unwind(AssertUnwindSafe(kept)).is_err() {
            tracing::error!(table = %table.key.name, "a panic while links were kept");
        }
        // The rows are durable and found, fitted anew or not: no answer to their writer. What
        // the store cannot go on after is in its health.
        if let Err(error) = self.refit_turbo(seat, &table) {
            tracing::error!(table = %table.key.name, error = %error.chain(), "not fitted anew");
        }
        Ok(())
    }

    /// Publishes a large change by building the index anew from the rows, as an open does: much
    /// faster a row than linking each. `false`, and nothing has changed, where rows cannot be read.
    fn publish_in_bulk(&self, change: &TableChange) -> bool {
        let table = &*change.table;
        let state = table.state.read();
        let is_new = |row: &&Fresh| state.keys.get(&row.key).is_none();
        let rows = state.keys.len() + change.fresh.iter().filter(is_new).count();
        drop(state);
        match catch_unwind(AssertUnwindSafe(|| self.reload_table(table, rows))) {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!(table = %table.key.name, error = %error.chain(), "linked row by row");
                false
            }
            Err(_) => {
                tracing::error!(table = %table.key.name, "a panic in a build; linked row by row");
                false
            }
        }
    }

    /// Links rows a few hundred at a time, hidden, and shows the whole change under the hold of the
    /// write lock that puts the last of them in place: a search that meets a small change waits once.
    fn link_and_publish(&self, change: TableChange) -> Published {
        let table = &change.table;
        let mut fresh = change.fresh;
        let mut slots = Vec::with_capacity(fresh.len());
        let mut chunks = fresh.chunks_mut(LINK_CHUNK).peekable();
        let removed = loop {
            let chunk = chunks.next().unwrap_or_default();
            let (chunk_slots, patch) = self.prepare_chunk(table, chunk);
            let mut state = table.state.write();
            let state = &mut *state;
            for (row, &slot) in chunk.iter().zip(&chunk_slots) {
                let allocated = state.keys.allocate(&row.key);
                assert_eq!(
                    allocated, slot,
                    "slots are handed out in the writer's seat alone"
                );
            }
            slots.extend(chunk_slots);
            if let Some((index, patch)) = state.index.as_mut().zip(patch) {
                index.apply(patch);
            }
            if chunks.peek().is_some() {
                continue;
            }
            let mut lost: Vec<Slot> = slots.iter().filter_map(|&s| state.keys.bind(s)).collect();
            let removed = change.removed.iter();
            lost.extend(removed.filter_map(|key| state.keys.unbind(key)));
            if let Some(index) = &mut state.index {
                for &slot in &lost {
                    index.remove(slot);
                }
                index.publish(change.next_row_id);
            }
            for &slot in &lost {
                state.keys.release(slot);
            }
            table.unpin();
            break lost.len();
        };
        if !change.healed.is_empty() {
            let mut quarantined = table.quarantined.lock();
            for key in &change.healed {
                quarantined.remove(key);
            }
        }
        self.maintain(table, LINK_CHUNK / 4 + MAINTAIN_PER_REMOVED * removed);
        let ids = fresh.iter().map(|row| row.id);
        Published {
            came: slots.into_iter().zip(ids).collect(),
            went: removed,
            anew: false,
        }
    }

    /// The slots that a few hundred rows will have, and how the index takes them in.
    fn prepare_chunk(&self, table: &TableCore, chunk: &mut [Fresh]) -> (Vec<Slot>, Option<Patch>) {
        let state = table.state.read();
        let slots: Vec<Slot> = state.keys.upcoming().take(chunk.len()).collect();
        let Some(index) = state.index.as_ref().filter(|_| !chunk.is_empty()) else {
            return (slots, None);
        };
        let rows = chunk.iter_mut().zip(&slots);
        let entries: Vec<Entry<'_>> = rows
            .map(|(row, &slot)| Entry {
                slot,
                id: row.id,
                plan: row.plan.take(),
                vector: row.vector.view(),
            })
            .collect();
        let patch = if index.prepares_at_length(entries.len()) {
            self.install(|| index.prepare(entries))
        } else {
            index.prepare(entries)
        };
        (slots, Some(patch))
    }

    /// Cleans up after deletes, a slice at a time, as far as `budget` rows.
    pub(crate) fn maintain(&self, table: &TableCore, budget: usize) {
        let mut left = budget;
        while left > 0 {
            // Without a bound, whatever there is to do is done, due or not.
            let slice = if left == usize::MAX {
                left
            } else {
                left.min(LINK_CHUNK)
            };
            let patch = match &table.state.read().index {
                Some(index) if index.maintains_at_length(slice) => {
                    self.install(|| index.maintain(slice))
                }
                Some(index) => index.maintain(slice),
                None => None,
            };
            let Some(patch) = patch else { return };
            if let Some(index) = &mut table.state.write().index {
                index.apply(patch);
            }
            if left != usize::MAX {
                left -= slice;
            }
        }
    }

    /// As [`Self::reload_table`], where there is no way on without it.
    pub(crate) fn rebuild_table(&self, table: &TableCore) -> Result<(), StoreError> {
        let rows = table.state.read().keys.len();
        self.reload_table(table, rows).inspect_err(|error| {
            self.health
                .fail(format!("an index could not be rebuilt: {}", error.chain()));
        })
    }

    /// Builds a table's index anew from its rows, about so many, and puts it in the old one's
    /// place.
    fn reload_table(&self, table: &TableCore, rows: usize) -> Result<(), StoreError> {
        let mut record = table.record.clone();
        record.turbo = table.fit.lock().clone();
        let next = table.row_ids.lock().next;
        let rows = Some(rows as u64);
        let stored = Stored {
            next_row_id: next,
            rows,
            // What went wrong may be in them.
            hinted: false,
        };
        let state = RwLock::new(TableState::empty(&record)?);
        let how = (self.threads(), &state);
        let walk = load_table(self, &record, &table.key, stored, how, &mut |_| Ok(()))?;
        let state = state.into_inner();
        // What this walk left out is what is left out from now on.
        *table.quarantined.lock() = walk.quarantined;
        let mut row_ids = table.row_ids.lock();
        row_ids.next = row_ids.next.max(walk.next_row_id);
        drop(row_ids);
        let mut place = table.state.write();
        let old = std::mem::replace(&mut *place, state);
        table.unpin();
        // A large index takes a while to free: not under the lock that searches wait for.
        drop(place);
        drop(old);
        Ok(())
    }
}

/// The new row's neighbours, where there is a graph and the vector is not the one already there.
fn plan_ahead(table: &TableCore, key: &[u8], vector: &EncodedVector) -> Option<Plan> {
    let state = table.state.read();
    let index = state.index.as_ref()?;
    let unchanged = state
        .keys
        .get(key)
        .is_some_and(|slot| index.holds(slot, vector.view()));
    if unchanged {
        None
    } else {
        index.plan(vector.view())
    }
}

/// Whether building a table's graph anew takes less time than linking its new rows one by one.
fn is_bulk(change: &TableChange) -> bool {
    let fresh = change.fresh.len();
    let rows = change.table.state.read().keys.len();
    change.table.kind == IndexKind::Hnsw && fresh >= BULK_MIN && fresh >= rows / BULK_SHARE
}

/// An error when a table would grow beyond what slots or row ids can number.
fn check_room(change: &TableChange) -> Result<(), StoreError> {
    let rows = change.table.state.read().keys.slots_in_use();
    if rows + change.fresh.len() > limits::ROWS_MAX {
        return Err(crate::error::IndexError::Full { rows }.into());
    }
    let next = change.next_row_id.get();
    if next.saturating_add(ROW_IDS_AHEAD) > limits::ROW_ID_END {
        return Err(StoreError::Limit {
            what: "row id",
            value: next.to_string(),
            limit: format!("below {}", limits::ROW_ID_END),
            remedy: "copy the rows into a new table, which numbers them anew",
        });
    }
    Ok(())
}
