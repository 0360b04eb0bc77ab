//! THE on-disk contract: every table name, byte offset, length, code and checksum of a store file.
//!
//! A store is one redb file. redb sees `&str`, `u64` and `&[u8]` only; every value is our own:
//!
//! ```text
//! redb table      key            value
//! meta            "format"       v | "vecstash store\0\0" | format u32 | sum
//! meta            "store_id"     v | 16 random bytes | sum
//! meta            "next_table_id"      v | id u32 | sum
//! meta            "row_ids/<table id>" v | next row id u64 | sum
//! schemas         table name     v | SchemaRecord, bincode | sum
//! rows/<id>       row key        v | header | params | vector | metadata | sum
//! payloads/<id>   row id u64     v | metadata | sum
//! links/<id>      group u64      v | bytes | sum
//!
//! row value: little endian throughout, p parameters, v vector bytes, m inline metadata bytes
//! 0         1               38          38+4p     38+4p+v   38+4p+v+m      +8
//! | version | header, 37 B  | params f32 | vector | metadata | sum, xxh3-64 |
//!
//! header, at 1
//! 1        9            17           25      26      27    29        30           34              38
//! | row id | created_at | updated_at | flags | codec | dim | params p | vector len | metadata len |
//! | u64    | u64        | u64        | u8    | u8    | u16 | u8       | u32        | u32          |
//! ```
//!
//! The vector of a row is what its codec makes of it (`EncodedVector::bytes`): under `Int8Quantized`
//! `dim` bytes, and behind them, in most rows of up to 512 coordinates, their digits.
//!
//! `v` is a version byte of the value; a newer one is refused, never guessed at. `sum` covers
//! every byte before it and is seeded by the kind of value, the table id and a hash of the key,
//! so a value that turns up under another key, table or kind does not pass. Metadata is a JSON
//! object with sorted keys, nothing at all when empty; beyond `INLINE_METADATA_LEN_MAX` bytes it
//! stands in `payloads` (flag `METADATA_APART`), and `metadata len` says how long it is there.
//!
//! `links/<id>` is there once its table has a hint for its index. Groups are numbered from 0 in the
//! order they were added; their bytes are the index's own, at most `LINKS_GROUP_LEN_MAX` of them.
//!
//! bincode stays behind this file: fixed integers, an explicit limit, all input consumed.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::encoding::{Codec, EncodedView};
use crate::ids::{RowId, TableId};
use crate::limits;
use crate::row::VectorRow;
use crate::schema::TableRecord;

/// Format of the file as a whole: what the entry `format` of `meta` holds.
pub(super) const FORMAT: u32 = 1;
/// Says that a redb file is ours.
const MAGIC: &[u8; 16] = b"vecstash store\0\0";
/// Version byte of every value.
const VERSION: u8 = 1;
const SUM_LEN: usize = 8;
const HEADER_AT: usize = 1;
const HEADER_LEN: usize = 37;
const BODY_AT: usize = HEADER_AT + HEADER_LEN;
const METADATA_APART: u8 = 1;
/// Most parameters of any codec, so that a row's fit on the stack.
pub(super) const PARAMS_MAX: usize = 2;
/// Longest schema record: its name, a mean of 65,535 floats and the plain fields.
const SCHEMA_LEN_MAX: usize = 4 * limits::DIM_MAX + 4_096;

pub(super) const META: &str = "meta";
pub(super) const SCHEMAS: &str = "schemas";
pub(super) const META_FORMAT: &str = "format";
pub(super) const META_STORE_ID: &str = "store_id";
pub(super) const META_NEXT_TABLE_ID: &str = "next_table_id";

const _: () = {
    assert!(size_of::<u64>() * 3 + 1 + 1 + 2 + 1 + 4 + 4 == HEADER_LEN);
    assert!(BODY_AT == 38);
    assert!(limits::METADATA_LEN_MAX <= u32::MAX as usize);
    assert!(limits::INLINE_METADATA_LEN_MAX <= limits::METADATA_LEN_MAX);
    let mut i = 0;
    while i < Codec::ALL.len() {
        assert!(Codec::ALL[i].params_len() <= PARAMS_MAX);
        i += 1;
    }
};

pub(super) fn rows_table(table: TableId) -> String {
    format!("rows/{table}")
}

pub(super) fn payloads_table(table: TableId) -> String {
    format!("payloads/{table}")
}

pub(super) fn links_table(table: TableId) -> String {
    format!("links/{table}")
}

pub(super) fn row_ids_entry(table: TableId) -> String {
    format!("row_ids/{table}")
}

/// What a checksum is seeded by besides table and key.
#[derive(Clone, Copy)]
enum Kind {
    Meta = 1,
    Schema = 2,
    Row = 3,
    Payload = 4,
    Links = 5,
}

fn seed(kind: Kind, table: TableId, key: &[u8]) -> u64 {
    xxh3_64_with_seed(key, (kind as u64) << 32 | u64::from(table.get()))
}

fn seal(out: &mut Vec<u8>, seed: u64) {
    let sum = xxh3_64_with_seed(out, seed);
    out.extend_from_slice(&sum.to_le_bytes());
}

/// The bytes between the version and the checksum, both of which are then known to be good.
fn unseal(bytes: &[u8], seed: u64) -> Result<&[u8], String> {
    match bytes.first() {
        None => return Err("the value is empty".into()),
        Some(&VERSION) => {}
        Some(version) => {
            return Err(format!(
                "the value has version {version}, and this vecstash reads {VERSION}"
            ));
        }
    }
    let Some((body, sum)) = bytes
        .split_last_chunk::<SUM_LEN>()
        .filter(|(b, _)| !b.is_empty())
    else {
        return Err(format!("the value is cut off after {} bytes", bytes.len()));
    };
    if xxh3_64_with_seed(body, seed) != u64::from_le_bytes(*sum) {
        return Err("the checksum does not match".into());
    }
    Ok(&body[1..])
}

fn bincode_config() -> impl bincode::config::Config {
    bincode::config::standard()
        .with_little_endian()
        .with_fixed_int_encoding()
        .with_limit::<SCHEMA_LEN_MAX>()
}

fn from_bincode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let (value, used) = bincode::serde::decode_from_slice(bytes, bincode_config())
        .map_err(|error| format!("the record cannot be decoded: {error}"))?;
    // bincode accepts trailing bytes, and bytes nobody read are bytes nobody checked.
    if used != bytes.len() {
        return Err(format!("{} bytes too many", bytes.len() - used));
    }
    Ok(value)
}

#[derive(Serialize, Deserialize)]
struct RowHeader {
    id: u64,
    created_at: u64,
    updated_at: u64,
    flags: u8,
    codec: u8,
    dim: u16,
    params_len: u8,
    vector_len: u32,
    metadata_len: u32,
}

/// What every row of a table has in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RowShape {
    pub(super) table: TableId,
    pub(super) codec: Codec,
    pub(super) dim: u16,
}

impl RowShape {
    pub(super) fn of(record: &TableRecord) -> Self {
        Self {
            table: record.id,
            codec: record.schema.codec,
            dim: record.schema.dim,
        }
    }
}

/// Where a row's metadata is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum StoredMetadata<'a> {
    Inline(&'a [u8]),
    Apart { len: usize },
}

/// A stored row, borrowed, whose checksum, lengths, codec and coordinates are good.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowRef<'a> {
    pub(super) id: RowId,
    pub(super) created_at: u64,
    pub(super) updated_at: u64,
    pub(super) metadata: StoredMetadata<'a>,
    shape: RowShape,
    params: [f32; PARAMS_MAX],
    params_len: usize,
    vector: &'a [u8],
}

impl RowRef<'_> {
    pub(super) fn vector(&self) -> EncodedView<'_> {
        EncodedView {
            codec: self.shape.codec,
            dim: self.shape.dim,
            bytes: self.vector,
            params: &self.params[..self.params_len],
        }
    }
}

/// Writes the value of `row` into `out`, whose metadata is `json`; `true` when `json` belongs
/// into `payloads`. The row has passed `check::row`, so every length fits its field.
pub(super) fn encode_row(
    table: TableId,
    id: RowId,
    row: &VectorRow,
    json: &[u8],
    out: &mut Vec<u8>,
) -> bool {
    let apart = json.len() > limits::INLINE_METADATA_LEN_MAX;
    let header = RowHeader {
        id: id.get(),
        created_at: row.created_at,
        updated_at: row.updated_at,
        flags: if apart { METADATA_APART } else { 0 },
        codec: codec_code(row.vector.codec),
        dim: row.vector.dim,
        params_len: row.vector.params.len() as u8,
        vector_len: row.vector.bytes.len() as u32,
        metadata_len: json.len() as u32,
    };
    out.clear();
    out.push(VERSION);
    out.resize(BODY_AT, 0);
    let written =
        bincode::serde::encode_into_slice(&header, &mut out[HEADER_AT..], bincode_config());
    assert!(
        matches!(written, Ok(HEADER_LEN)),
        "a row header is {HEADER_LEN} bytes"
    );
    for param in &row.vector.params {
        out.extend_from_slice(&param.to_le_bytes());
    }
    out.extend_from_slice(&row.vector.bytes);
    if !apart {
        out.extend_from_slice(json);
    }
    seal(out, seed(Kind::Row, table, &row.key));
    apart
}

/// Reads the value under `key` of a table of this shape.
pub(super) fn decode_row<'a>(
    shape: RowShape,
    key: &[u8],
    bytes: &'a [u8],
) -> Result<RowRef<'a>, String> {
    let body = unseal(bytes, seed(Kind::Row, shape.table, key))?;
    let Some((header, rest)) = body.split_at_checked(HEADER_LEN) else {
        return Err(format!("the row is cut off after {} bytes", bytes.len()));
    };
    let header: RowHeader = from_bincode(header)?;
    if header.flags & !METADATA_APART != 0 {
        return Err(format!("unknown flags {:#04x}", header.flags));
    }
    let codec = codec_of(header.codec)?;
    if codec != shape.codec || header.dim != shape.dim {
        return Err(format!(
            "a {codec} vector of dimension {} in a table of {} and {}",
            header.dim, shape.codec, shape.dim
        ));
    }
    if header.id >= limits::ROW_ID_END {
        return Err(format!("row id {} was never handed out", header.id));
    }
    let apart = header.flags & METADATA_APART != 0;
    let params_len = usize::from(header.params_len);
    let metadata_len = header.metadata_len as usize;
    let inline_len = if apart { 0 } else { metadata_len };
    // In u64, so that no sum of hostile lengths wraps on a 32-bit machine.
    let expected = 4 * params_len as u64 + u64::from(header.vector_len) + inline_len as u64;
    if rest.len() as u64 != expected || params_len > PARAMS_MAX {
        return Err(format!(
            "{} bytes of body where {expected} belong",
            rest.len()
        ));
    }
    if metadata_len > limits::METADATA_LEN_MAX
        || apart != (metadata_len > limits::INLINE_METADATA_LEN_MAX)
    {
        return Err(format!(
            "{metadata_len} bytes of metadata in the wrong place"
        ));
    }
    let (param_bytes, rest) = rest.split_at(4 * params_len);
    let (vector, inline) = rest.split_at(header.vector_len as usize);
    let mut params = [0.0; PARAMS_MAX];
    for (param, bytes) in params.iter_mut().zip(param_bytes.as_chunks::<4>().0) {
        *param = f32::from_le_bytes(*bytes);
    }
    let metadata = if apart {
        StoredMetadata::Apart { len: metadata_len }
    } else {
        StoredMetadata::Inline(inline)
    };
    let row = RowRef {
        id: RowId::new(header.id),
        created_at: header.created_at,
        updated_at: header.updated_at,
        metadata,
        shape,
        params,
        params_len,
        vector,
    };
    row.vector().validate().map_err(|error| error.to_string())?;
    Ok(row)
}

pub(super) fn encode_payload(table: TableId, id: RowId, json: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.push(VERSION);
    out.extend_from_slice(json);
    seal(out, seed(Kind::Payload, table, &id.get().to_le_bytes()));
}

/// The JSON text of a payload whose row says that it has `len` bytes.
pub(super) fn decode_payload(
    table: TableId,
    id: RowId,
    len: usize,
    bytes: &[u8],
) -> Result<&[u8], String> {
    let json = unseal(bytes, seed(Kind::Payload, table, &id.get().to_le_bytes()))
        .map_err(|detail| format!("its metadata: {detail}"))?;
    if json.len() != len {
        return Err(format!(
            "{} bytes of metadata where {len} belong",
            json.len()
        ));
    }
    Ok(json)
}

mod codes;
mod links;
mod meta;
mod schema;
#[cfg(test)]
pub(super) mod tests;

use self::codes::{codec_code, codec_of};
pub(super) use self::links::{decode_links, encode_links};
pub(super) use self::meta::{
    decode_format, decode_next_row_id, decode_next_table_id, decode_store_id, encode_format,
    encode_next_row_id, encode_next_table_id, encode_store_id,
};
pub(super) use self::schema::{decode_schema, encode_schema};
