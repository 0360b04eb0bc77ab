//! The redb tables of a store file, typed.

use redb::TableDefinition;

use crate::inner_storage::format;

/// Bytes as redb is given them: never a redb encoding of our own types.
pub(super) type Bytes = &'static [u8];

pub(super) const META: TableDefinition<'static, &'static str, Bytes> =
    TableDefinition::new(format::META);
pub(super) const SCHEMAS: TableDefinition<'static, &'static str, Bytes> =
    TableDefinition::new(format::SCHEMAS);

/// `rows/<id>`; its name comes from [`format::rows_table`].
pub(super) fn rows(name: &str) -> TableDefinition<'_, Bytes, Bytes> {
    TableDefinition::new(name)
}

/// `links/<id>`; its name comes from [`format::links_table`]. The only one that may be missing.
pub(super) fn links(name: &str) -> TableDefinition<'_, u64, Bytes> {
    TableDefinition::new(name)
}

/// `payloads/<id>`; its name comes from [`format::payloads_table`].
pub(super) fn payloads(name: &str) -> TableDefinition<'_, u64, Bytes> {
    TableDefinition::new(name)
}
