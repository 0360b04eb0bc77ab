//! The checks of what a caller wants written: everything that can be refused, is refused here.

use super::shared::TableCore;
use crate::encoding::EncodedVector;
use crate::error::StoreError;
use crate::limits;
use crate::row::Metadata;

/// Encodes one vector of a table, checked.
pub(crate) fn encode(table: &TableCore, vector: &[f32]) -> Result<EncodedVector, StoreError> {
    table.check_dim(vector)?;
    let mut encoded = EncodedVector::empty(table.record.schema.codec);
    table
        .record
        .schema
        .codec
        .encode_into(vector, &mut encoded)?;
    Ok(encoded)
}

/// Checks a key: 1 to 1,024 bytes.
pub(crate) fn check_key(key: &[u8]) -> Result<(), StoreError> {
    if (1..=limits::KEY_LEN_MAX).contains(&key.len()) {
        return Ok(());
    }
    Err(StoreError::Limit {
        what: "key length",
        value: format!("{} bytes", key.len()),
        limit: format!("1 to {} bytes", limits::KEY_LEN_MAX),
        remedy: "use a shorter key, such as a hash of yours",
    })
}

/// Checks metadata: nesting first, so that measuring its size cannot overflow the stack.
pub(crate) fn check_metadata(metadata: &Metadata) -> Result<(), StoreError> {
    fn depth_within(value: &serde_json::Value, left: usize) -> bool {
        match value {
            serde_json::Value::Array(items) => {
                left > 0 && items.iter().all(|item| depth_within(item, left - 1))
            }
            serde_json::Value::Object(items) => {
                left > 0 && items.values().all(|item| depth_within(item, left - 1))
            }
            _ => true,
        }
    }
    // The row's own object is the first level.
    let left = limits::METADATA_DEPTH_MAX - 1;
    if !metadata.values().all(|value| depth_within(value, left)) {
        return Err(StoreError::Limit {
            what: "metadata nesting",
            value: format!("more than {} levels", limits::METADATA_DEPTH_MAX),
            limit: format!("up to {} levels", limits::METADATA_DEPTH_MAX),
            remedy: "flatten it, or store the inner part as text",
        });
    }
    let mut size = ByteCount(0);
    let counted = serde_json::to_writer(&mut size, metadata);
    if counted.is_err() || size.0 > limits::METADATA_LEN_MAX {
        return Err(StoreError::Limit {
            what: "metadata size",
            value: format!("{} bytes of JSON", size.0),
            limit: format!("up to {} bytes", limits::METADATA_LEN_MAX),
            remedy: "keep large values elsewhere and their address here",
        });
    }
    Ok(())
}

/// Counts what is written to it.
struct ByteCount(usize);

impl std::io::Write for ByteCount {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Checks the number of operations of one batch.
pub(crate) fn check_batch_len(len: usize) -> Result<(), StoreError> {
    if len <= limits::BATCH_LEN_MAX {
        return Ok(());
    }
    Err(StoreError::Limit {
        what: "batch length",
        value: len.to_string(),
        limit: format!("up to {} writes", limits::BATCH_LEN_MAX),
        remedy: "write several batches",
    })
}
