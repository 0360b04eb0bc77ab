//! What the storage room owes: damaged, foreign and contested files, crashes, and two backends
//! that agree.

mod crash;
mod damage;
mod files;
mod golden;
mod links;
mod twin;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::{Backend, Change, TableKey};
use crate::distance::Distance;
use crate::encoding::Codec;
use crate::error::StoreError;
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

pub(crate) fn contents(backend: &dyn Backend) -> Result<Contents, StoreError> {
    let mut all = Contents::new();
    for stored in backend.list_tables()?.tables {
        let key = table_key(&stored.record);
        let mut keys = Vec::new();
        backend.scan(&key, &mut |view| {
            keys.push(view?.key.to_vec());
            Ok(ControlFlow::Continue(()))
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

pub(crate) fn append(table: &TableKey, group: &[u8]) -> Change {
    Change::AppendLinks {
        table: table.clone(),
        group: group.to_vec(),
    }
}

/// A log of links, with what is wrong with its damaged groups.
pub(crate) type Log = Vec<Result<Vec<u8>, String>>;

pub(crate) fn log(backend: &dyn Backend, table: &TableKey) -> Result<Log, StoreError> {
    let mut groups = Log::new();
    backend.scan_links(table, &mut |group| {
        groups.push(group.map(<[u8]>::to_vec));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(groups)
}

/// Everything a backend holds, and the log of links of each table.
pub(crate) type State = (Contents, BTreeMap<String, Log>);

pub(crate) fn state(backend: &dyn Backend) -> Result<State, StoreError> {
    let mut logs = BTreeMap::new();
    for stored in backend.list_tables()?.tables {
        let groups = log(backend, &table_key(&stored.record))?;
        logs.insert(stored.record.schema.name, groups);
    }
    Ok((contents(backend)?, logs))
}

/// Backends are shared between threads.
pub(crate) type Shared = Arc<dyn Backend>;
