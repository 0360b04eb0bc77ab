//! The log of links of a table: its redb table appears with the first group and goes with the table.

use redb::{ReadOnlyTable, ReadableTable, Table, TableError, WriteTransaction};

use super::error::Health;
use super::read::RedbSnapshot;
use super::tables::{self, Bytes};
use super::write::OP;
use crate::error::StoreError;
use crate::ids::TableId;
use crate::inner_storage::{LinksVisitor, TableKey, check, format};

impl RedbSnapshot {
    /// The log of a table; `None` when it never got a group.
    pub(super) fn links(
        &self,
        table: TableId,
    ) -> Result<Option<ReadOnlyTable<u64, Bytes>>, StoreError> {
        let name = format::links_table(table);
        match self.txn.open_table(tables::links(&name)) {
            Ok(links) => Ok(Some(links)),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(self.fail(error)),
        }
    }

    /// Shows each group of the table's log, when this snapshot has the table.
    pub(super) fn scan_links(
        &self,
        table: &TableKey,
        visitor: &mut LinksVisitor<'_>,
    ) -> Result<(), StoreError> {
        // Another table may have the name by now, and its log is not the one that is asked for.
        let record = self.record(&table.name)?;
        if record.is_none_or(|record| record.id != table.id) {
            return Ok(());
        }
        let Some(links) = self.links(table.id)? else {
            return Ok(());
        };
        for entry in links.iter().map_err(|e| self.fail(e))? {
            let (number, value) = entry.map_err(|e| self.fail(e))?;
            let group = format::decode_links(table.id, number.value(), value.value());
            if visitor(group)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Says which groups of the table's log are damaged.
    pub(super) fn verify_links(
        &self,
        table: TableId,
        name: &str,
        problems: &mut Vec<String>,
    ) -> Result<(), StoreError> {
        let Some(links) = self.links(table)? else {
            return Ok(());
        };
        for entry in links.iter().map_err(|e| self.fail(e))? {
            let (number, value) = entry.map_err(|e| self.fail(e))?;
            let number = number.value();
            if let Err(detail) = format::decode_links(table, number, value.value()) {
                problems.push(format!(
                    "group {number} of the links of table {name}: {detail}"
                ));
            }
        }
        Ok(())
    }
}

/// The log of a table that a commit changes: opened, and so created, for its first new group.
pub(super) struct LinksLog<'t> {
    txn: &'t WriteTransaction,
    table: TableId,
    open: Option<Opened<'t>>,
}

struct Opened<'t> {
    groups: Table<'t, u64, Bytes>,
    /// Number of the next group.
    next: u64,
}

impl<'t> LinksLog<'t> {
    pub(super) fn new(txn: &'t WriteTransaction, table: TableId) -> Self {
        Self {
            txn,
            table,
            open: None,
        }
    }

    /// Adds a group; `value` is room to put it together in.
    pub(super) fn append(
        &mut self,
        group: &[u8],
        value: &mut Vec<u8>,
        health: &Health,
    ) -> Result<(), StoreError> {
        check::links(group)?;
        if self.open(health)?.next == u64::MAX {
            // Counting never gets there: this log is not ours, and no reason to refuse a commit.
            self.remove(health)?;
        }
        let table = self.table;
        let opened = self.open(health)?;
        format::encode_links(table, opened.next, group, value);
        opened
            .groups
            .insert(opened.next, value.as_slice())
            .map_err(|e| health.error(OP, e))?;
        opened.next += 1;
        Ok(())
    }

    /// Puts `groups` in the place of all.
    pub(super) fn replace(
        &mut self,
        groups: &[Vec<u8>],
        value: &mut Vec<u8>,
        health: &Health,
    ) -> Result<(), StoreError> {
        for group in groups {
            check::links(group)?;
        }
        self.remove(health)?;
        for group in groups {
            self.append(group, value, health)?;
        }
        Ok(())
    }

    /// Removes the log. Deleting its redb table frees the pages; taking out one group after the
    /// other would rebuild them on the way.
    pub(super) fn remove(&mut self, health: &Health) -> Result<(), StoreError> {
        // An open table cannot be deleted.
        self.open = None;
        self.txn
            .delete_table(tables::links(&format::links_table(self.table)))
            .map_err(|e| health.error(OP, e))?;
        Ok(())
    }

    fn open(&mut self, health: &Health) -> Result<&mut Opened<'t>, StoreError> {
        let opened = match self.open.take() {
            Some(opened) => opened,
            None => {
                let groups = self
                    .txn
                    .open_table(tables::links(&format::links_table(self.table)))
                    .map_err(|e| health.error(OP, e))?;
                let last = groups.last().map_err(|e| health.error(OP, e))?;
                let next = last.map_or(0, |(last, _)| last.value().saturating_add(1));
                Opened { groups, next }
            }
        };
        Ok(self.open.insert(opened))
    }
}
