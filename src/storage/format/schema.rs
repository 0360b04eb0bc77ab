//! The record of one table: plain fields and explicit codes, in the order below, for ever.

use serde::{Deserialize, Serialize};

use super::codes::{
    codec_code, codec_of, distance_code, distance_of, index_code, index_of, residence_code,
    residence_of,
};
use super::{Kind, VERSION, bincode_config, from_bincode, seal, seed, unseal};
use crate::error::StoreError;
use crate::ids::TableId;
use crate::inner_storage::check;
use crate::schema::{HnswParams, TableOptions, TableRecord, TableSchema, TurboFit};

#[derive(Serialize, Deserialize)]
struct SchemaRecord {
    id: u32,
    name: String,
    dim: u16,
    codec: u8,
    distance: u8,
    m: u64,
    m0: u64,
    ef_construction: u64,
    ef_search: u64,
    seed: u64,
    index: u8,
    resident: u8,
    turbo: Option<TurboRecord>,
}

#[derive(Serialize, Deserialize)]
struct TurboRecord {
    generation: u64,
    rows: u64,
    mean: Vec<f32>,
    rms: f32,
}

/// The value of a table's record. The record has passed `check::record`.
pub(in crate::inner_storage) fn encode_schema(record: &TableRecord) -> Result<Vec<u8>, String> {
    let TableRecord {
        id,
        schema,
        options,
        turbo,
    } = record;
    let TableSchema {
        name,
        dim,
        codec,
        distance,
        hnsw,
    } = schema;
    let stored = SchemaRecord {
        id: id.get(),
        name: name.clone(),
        dim: *dim,
        codec: codec_code(*codec),
        distance: distance_code(*distance),
        m: hnsw.m as u64,
        m0: hnsw.m0 as u64,
        ef_construction: hnsw.ef_construction as u64,
        ef_search: hnsw.ef_search as u64,
        seed: hnsw.seed,
        index: index_code(options.index),
        resident: residence_code(options.resident),
        turbo: turbo.as_ref().map(|fit| TurboRecord {
            generation: fit.generation,
            rows: fit.rows,
            mean: fit.mean.clone(),
            rms: fit.rms,
        }),
    };
    let mut out = vec![VERSION];
    out.extend(
        bincode::serde::encode_to_vec(&stored, bincode_config()).map_err(|e| e.to_string())?,
    );
    seal(
        &mut out,
        seed(Kind::Schema, TableId::default(), name.as_bytes()),
    );
    Ok(out)
}

/// Reads the record under `name`.
pub(in crate::inner_storage) fn decode_schema(
    name: &str,
    bytes: &[u8],
) -> Result<TableRecord, String> {
    let body = unseal(
        bytes,
        seed(Kind::Schema, TableId::default(), name.as_bytes()),
    )?;
    let stored: SchemaRecord = from_bincode(body)?;
    if stored.name != name {
        return Err(format!("the record is that of {:?}", stored.name));
    }
    let size = |value: u64| usize::try_from(value).map_err(|_| format!("{value} is too large"));
    let record = TableRecord {
        id: TableId::new(stored.id),
        schema: TableSchema {
            name: stored.name,
            dim: stored.dim,
            codec: codec_of(stored.codec)?,
            distance: distance_of(stored.distance)?,
            hnsw: HnswParams {
                m: size(stored.m)?,
                m0: size(stored.m0)?,
                ef_construction: size(stored.ef_construction)?,
                ef_search: size(stored.ef_search)?,
                seed: stored.seed,
            },
        },
        options: TableOptions {
            index: index_of(stored.index)?,
            resident: residence_of(stored.resident)?,
        },
        turbo: stored.turbo.map(|fit| TurboFit {
            generation: fit.generation,
            rows: fit.rows,
            mean: fit.mean,
            rms: fit.rms,
        }),
    };
    match check::record(&record) {
        // What this build cannot do, another can: the record is sound.
        Ok(()) | Err(StoreError::Unsupported { .. }) => Ok(record),
        Err(error) => Err(error.to_string()),
    }
}
