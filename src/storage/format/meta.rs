//! The entries of `meta`: whose file it is, in which format, and which ids are still free.

use super::{FORMAT, Kind, MAGIC, META_FORMAT, META_NEXT_TABLE_ID, META_STORE_ID, VERSION};
use super::{row_ids_entry, seal, seed, unseal};
use crate::ids::{RowId, TableId};
use crate::limits;

fn encode_meta(entry: &str, body: &[u8]) -> Vec<u8> {
    let mut out = vec![VERSION];
    out.extend_from_slice(body);
    seal(
        &mut out,
        seed(Kind::Meta, TableId::default(), entry.as_bytes()),
    );
    out
}

fn decode_meta<'a>(entry: &str, bytes: &'a [u8]) -> Result<&'a [u8], String> {
    unseal(
        bytes,
        seed(Kind::Meta, TableId::default(), entry.as_bytes()),
    )
}

pub(in crate::inner_storage) fn encode_format(format: u32) -> Vec<u8> {
    encode_meta(
        META_FORMAT,
        &[MAGIC.as_slice(), &format.to_le_bytes()].concat(),
    )
}

/// What the entry `format` says: `None` when the file is another program's.
///
/// Magic and number are read before the checksum: they stand still in every future format.
pub(in crate::inner_storage) fn decode_format(bytes: &[u8]) -> Option<Result<u32, String>> {
    let rest = bytes.get(1..)?.strip_prefix(MAGIC)?;
    let Some(number) = rest.first_chunk::<4>() else {
        return Some(Err("the format entry is cut off".into()));
    };
    let format = u32::from_le_bytes(*number);
    if format > FORMAT {
        return Some(Ok(format));
    }
    Some(match decode_meta(META_FORMAT, bytes) {
        Ok(body) if body.len() == MAGIC.len() + 4 && format == FORMAT => Ok(format),
        Ok(_) => Err(format!("the format entry names format {format}")),
        Err(detail) => Err(format!("the format entry: {detail}")),
    })
}

pub(in crate::inner_storage) fn encode_store_id(id: [u8; 16]) -> Vec<u8> {
    encode_meta(META_STORE_ID, &id)
}

pub(in crate::inner_storage) fn decode_store_id(bytes: &[u8]) -> Result<[u8; 16], String> {
    let body = decode_meta(META_STORE_ID, bytes)?;
    body.try_into().map_err(|_| wrong_len(META_STORE_ID, body))
}

pub(in crate::inner_storage) fn encode_next_table_id(next: TableId) -> Vec<u8> {
    encode_meta(META_NEXT_TABLE_ID, &next.get().to_le_bytes())
}

pub(in crate::inner_storage) fn decode_next_table_id(bytes: &[u8]) -> Result<TableId, String> {
    let body = decode_meta(META_NEXT_TABLE_ID, bytes)?;
    let body = body
        .try_into()
        .map_err(|_| wrong_len(META_NEXT_TABLE_ID, body))?;
    Ok(TableId::new(u32::from_le_bytes(body)))
}

pub(in crate::inner_storage) fn encode_next_row_id(table: TableId, next: RowId) -> Vec<u8> {
    encode_meta(&row_ids_entry(table), &next.get().to_le_bytes())
}

pub(in crate::inner_storage) fn decode_next_row_id(
    table: TableId,
    bytes: &[u8],
) -> Result<RowId, String> {
    let entry = row_ids_entry(table);
    let body = decode_meta(&entry, bytes)?;
    let body = body.try_into().map_err(|_| wrong_len(&entry, body))?;
    let next = u64::from_le_bytes(body);
    if next > limits::ROW_ID_END {
        return Err(format!("{entry} is {next}, beyond {}", limits::ROW_ID_END));
    }
    Ok(RowId::new(next))
}

fn wrong_len(entry: &str, body: &[u8]) -> String {
    format!("{entry} has {} bytes", body.len())
}
