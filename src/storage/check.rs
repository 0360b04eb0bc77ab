//! What a backend refuses before it writes, so that everything stored can be read back.

use crate::encoding::Codec;
use crate::error::{EncodingError, StoreError};
use crate::ids::RowId;
use crate::limits;
use crate::row::VectorRow;
use crate::schema::TableRecord;

use super::metadata;

/// Checks a table's record: everything its table would ever refuse.
pub(super) fn record(record: &TableRecord) -> Result<(), StoreError> {
    record.validate()?;
    let Some(fit) = &record.turbo else {
        return Ok(());
    };
    let dim = usize::from(record.schema.dim);
    let sound = fit.rms.is_finite() && fit.mean.iter().all(|mean| mean.is_finite());
    if !sound || (!fit.mean.is_empty() && fit.mean.len() != dim) {
        return Err(StoreError::InvalidSchema {
            table: record.schema.name.clone(),
            what: "turbo",
            value: format!("a fit of {} coordinates, rms {}", fit.mean.len(), fit.rms),
            limit: format!("{dim} finite coordinates"),
            remedy: "fit the table again",
        });
    }
    Ok(())
}

/// Checks that `new` can stand where `old` stands: the same table, its rows still of one shape.
pub(super) fn new_record(new: &TableRecord, old: Option<&TableRecord>) -> Result<(), StoreError> {
    record(new)?;
    let (Some(old), schema) = (old, &new.schema) else {
        return Ok(());
    };
    if old.id != new.id {
        return Err(StoreError::TableExists(schema.name.clone()));
    }
    if (old.schema.codec, old.schema.dim) != (schema.codec, schema.dim) {
        return Err(StoreError::InvalidSchema {
            table: schema.name.clone(),
            what: "codec and dim",
            value: format!("{} and {}", schema.codec, schema.dim),
            limit: format!("{} and {}", old.schema.codec, old.schema.dim),
            remedy: "create a new table and copy the rows",
        });
    }
    Ok(())
}

/// Checks that `row` can be stored in a table of this codec and dimension, and returns the JSON
/// text of its metadata.
pub(super) fn row(
    table: &str,
    codec: Codec,
    dim: u16,
    row: &VectorRow,
) -> Result<Vec<u8>, StoreError> {
    key(&row.key)?;
    if row.vector.codec != codec {
        return Err(EncodingError::CodecMismatch {
            expected: codec.as_str(),
            got: row.vector.codec.as_str(),
        }
        .into());
    }
    if row.vector.dim != dim {
        return Err(StoreError::DimensionMismatch {
            table: table.to_owned(),
            expected: dim,
            got: usize::from(row.vector.dim),
        });
    }
    row.vector.view().validate()?;
    if !metadata::is_shallow(&row.metadata) {
        return Err(StoreError::Limit {
            what: "metadata depth",
            value: format!("more than {}", limits::METADATA_DEPTH_MAX),
            limit: format!("0 to {}", limits::METADATA_DEPTH_MAX),
            remedy: "flatten the metadata, or store it as one string",
        });
    }
    let json = metadata::encode(&row.metadata)
        .map_err(|detail| StoreError::storage("encoding metadata", detail))?;
    if json.len() > limits::METADATA_LEN_MAX {
        return Err(StoreError::Limit {
            what: "metadata length",
            value: json.len().to_string(),
            limit: format!("0 to {} bytes of JSON", limits::METADATA_LEN_MAX),
            remedy: "keep large values elsewhere and store a reference",
        });
    }
    Ok(json)
}

/// Checks the length of a group of links.
pub(super) fn links(group: &[u8]) -> Result<(), StoreError> {
    if group.len() > limits::LINKS_GROUP_LEN_MAX {
        return Err(StoreError::Limit {
            what: "length of a group of links",
            value: group.len().to_string(),
            limit: format!("0 to {} bytes", limits::LINKS_GROUP_LEN_MAX),
            remedy: "split the group",
        });
    }
    Ok(())
}

/// Checks a row's id. Ids at the end of their range would leave none for the next row, and a file
/// with such is refused at open.
pub(super) fn row_id(id: RowId) -> Result<(), StoreError> {
    if id.get() >= limits::ROW_ID_END {
        return Err(StoreError::Limit {
            what: "row id",
            value: id.get().to_string(),
            limit: format!("below {}", limits::ROW_ID_END),
            remedy: "count ids from 1",
        });
    }
    Ok(())
}

/// Checks the end of a range of row ids: the first that is not reserved.
pub(super) fn row_ids_end(next: RowId) -> Result<(), StoreError> {
    // The last id may be reserved as well.
    row_id(RowId::new(next.get().saturating_sub(1)))
}

/// Checks the length of a row key.
pub(super) fn key(key: &[u8]) -> Result<(), StoreError> {
    if key.is_empty() || key.len() > limits::KEY_LEN_MAX {
        return Err(StoreError::Limit {
            what: "key length",
            value: key.len().to_string(),
            limit: format!("1 to {} bytes", limits::KEY_LEN_MAX),
            remedy: "use a hash of the key, and keep the key in the metadata",
        });
    }
    Ok(())
}
