//! The groups of a table's log of links: bytes that storage keeps and does not read.

use super::{Kind, VERSION, seal, seed, unseal};
use crate::ids::TableId;
use crate::limits;

/// Writes the value of a group into `out`. The group has passed `check::links`.
pub(in crate::inner_storage) fn encode_links(
    table: TableId,
    number: u64,
    group: &[u8],
    out: &mut Vec<u8>,
) {
    out.clear();
    out.push(VERSION);
    out.extend_from_slice(group);
    seal(out, seed(Kind::Links, table, &number.to_le_bytes()));
}

/// The bytes of a group.
pub(in crate::inner_storage) fn decode_links(
    table: TableId,
    number: u64,
    bytes: &[u8],
) -> Result<&[u8], String> {
    let group = unseal(bytes, seed(Kind::Links, table, &number.to_le_bytes()))?;
    if group.len() > limits::LINKS_GROUP_LEN_MAX {
        return Err(format!(
            "{} bytes where at most {} belong",
            group.len(),
            limits::LINKS_GROUP_LEN_MAX
        ));
    }
    Ok(group)
}
