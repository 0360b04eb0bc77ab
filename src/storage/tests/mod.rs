//! What the storage room owes: damaged, foreign and contested files, crashes, and two backends
//! that agree.

mod crash;
mod damage;
mod files;
mod golden;
mod twin;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Backend, Change, TableKey};
use crate::distance::Distance;
use crate::encoding::Codec;
use crate::ids::{RowId, TableId};
use crate::row::{Metadata, RowKey, VectorRow, Want};
use crate::schema::{HnswParams, TableOptions, TableRecord, TableSchema};

pub(crate) fn record(id: u32, name: &str, codec: Codec, dim: u16) -> TableRecord {
    TableRecord {
        id: TableId::new(id),
        schema: TableSchema {
            name: name.to_owned(),
            dim,
            codec,
            distance: Distance::Cosine,
            hnsw: HnswParams::default(),
        },
        options: TableOptions::default(),
        turbo: None,
    }
}

/// A row whose vector, metadata and times follow from `salt`.
pub(crate) fn row(key: &[u8], codec: Codec, dim: u16, salt: u64, large: bool) -> VectorRow {
    let vector: Vec<f32> = (0..u64::from(dim))
        .map(|i| ((salt * 31 + i * 7) % 64) as f32 / 8.0 - 3.5)
        .collect();
    let mut metadata = Metadata::new();
    metadata.insert("salt".into(), salt.into());
    metadata.insert(
        "nested".into(),
        serde_json::json!({"b": [1, 2.5, null], "a": "text"}),
    );
    if large {
        metadata.insert("answer".into(), "long text ".repeat(80).into());
    }
    VectorRow {
        key: key.to_vec(),
        vector: codec.encoder().encode(&vector).unwrap(),
        metadata,
        created_at: 1_700_000_000_000,
        updated_at: 1_700_000_000_000 + salt,
    }
}

pub(crate) fn table_key(record: &TableRecord) -> TableKey {
    TableKey {
        id: record.id,
        name: record.schema.name.as_str().into(),
    }
}

pub(crate) fn create_table(record: &TableRecord) -> Change {
    Change::PutTable(Box::new(record.clone()))
}

pub(crate) fn put(table: &TableKey, id: u64, row: VectorRow) -> Change {
    Change::Put {
        table: table.clone(),
        id: RowId::new(id),
        row,
    }
}

/// Everything a backend holds.
pub(crate) type Contents = BTreeMap<String, BTreeMap<RowKey, (Option<RowId>, VectorRow)>>;

pub(crate) fn contents(backend: &dyn Backend) -> Result<Contents, crate::error::StoreError> {
    let mut all = Contents::new();
    for stored in backend.list_tables()?.tables {
        let key = table_key(&stored.record);
        let mut keys = Vec::new();
        backend.scan(&key, &mut |view| {
            keys.push(view?.key.to_vec());
            Ok(std::ops::ControlFlow::Continue(()))
        })?;
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        let rows = backend.get_many(&key, &keys, Want::ALL)?;
        let rows = rows
            .into_iter()
            .flatten()
            .map(|r| (r.row.key.clone(), (r.id, r.row)))
            .collect();
        all.insert(stored.record.schema.name, rows);
    }
    Ok(all)
}

/// Backends are shared between threads.
pub(crate) type Shared = Arc<dyn Backend>;
