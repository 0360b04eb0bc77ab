//! Metadata as text: a JSON object with its keys in order, the same bytes for the same value.

use std::collections::BTreeMap;

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::Value;

use crate::limits;
use crate::row::Metadata;

/// The JSON text of `metadata`: nothing when it is empty, else an object with sorted keys.
pub(super) fn encode(metadata: &Metadata) -> Result<Vec<u8>, String> {
    if metadata.is_empty() {
        return Ok(Vec::new());
    }
    let sorted: BTreeMap<&str, Sorted<'_>> = metadata
        .iter()
        .map(|(key, value)| (key.as_str(), Sorted(value)))
        .collect();
    serde_json::to_vec(&sorted).map_err(|error| error.to_string())
}

/// Reads what [`encode`] wrote.
pub(super) fn decode(json: &[u8]) -> Result<Metadata, String> {
    if json.is_empty() {
        return Ok(Metadata::new());
    }
    serde_json::from_slice(json).map_err(|error| format!("its metadata is not JSON: {error}"))
}

/// Whether `metadata` nests no deeper than what can be read back.
pub(super) fn is_shallow(metadata: &Metadata) -> bool {
    fn fits(value: &Value, left: usize) -> bool {
        match value {
            Value::Array(items) => left > 0 && items.iter().all(|item| fits(item, left - 1)),
            Value::Object(map) => left > 0 && map.values().all(|item| fits(item, left - 1)),
            _ => true,
        }
    }
    metadata
        .values()
        .all(|value| fits(value, limits::METADATA_DEPTH_MAX - 1))
}

/// A value whose objects are written in the order of their keys, also when some crate of the
/// application turns on serde_json's `preserve_order`.
struct Sorted<'a>(&'a Value);

impl Serialize for Sorted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Array(items) => {
                let mut seq = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    seq.serialize_element(&Sorted(item))?;
                }
                seq.end()
            }
            Value::Object(map) => {
                let sorted: BTreeMap<&String, &Value> = map.iter().collect();
                let mut out = serializer.serialize_map(Some(sorted.len()))?;
                for (key, value) in sorted {
                    out.serialize_entry(key, &Sorted(value))?;
                }
                out.end()
            }
            scalar => scalar.serialize(serializer),
        }
    }
}
