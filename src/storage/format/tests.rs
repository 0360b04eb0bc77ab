//! The contract, both ways: values to bytes, bytes to values, and no bytes that do harm.

use std::path::PathBuf;

use super::*;
use crate::inner_storage::tests::{record, row};
use crate::inner_storage::{check, metadata};
use crate::schema::TurboFit;
use crate::testing::Random;

fn shape(codec: Codec) -> RowShape {
    RowShape {
        table: TableId::new(7),
        codec,
        dim: 5,
    }
}

fn encoded(codec: Codec, large: bool) -> (VectorRow, Vec<u8>, Vec<u8>) {
    let row = row(b"key-1", codec, 5, 1, large);
    let json = check::row("t", codec, 5, &row).unwrap();
    let mut value = Vec::new();
    assert_eq!(
        encode_row(TableId::new(7), RowId::new(42), &row, &json, &mut value),
        large
    );
    (row, json, value)
}

#[test]
fn rows_round_trip() {
    for codec in Codec::ALL {
        for large in [false, true] {
            let (row, json, value) = encoded(codec, large);
            let read = decode_row(shape(codec), b"key-1", &value).unwrap();
            assert_eq!(read.id, RowId::new(42));
            assert_eq!(
                (read.created_at, read.updated_at),
                (row.created_at, row.updated_at)
            );
            assert_eq!(read.vector().to_owned(), row.vector);
            let text = match read.metadata {
                StoredMetadata::Inline(text) => text.to_vec(),
                StoredMetadata::Apart { len } => {
                    let mut payload = Vec::new();
                    encode_payload(TableId::new(7), read.id, &json, &mut payload);
                    decode_payload(TableId::new(7), read.id, len, &payload)
                        .unwrap()
                        .to_vec()
                }
            };
            assert_eq!(metadata::decode(&text).unwrap(), row.metadata);
        }
    }
}

#[test]
fn a_value_under_another_key_table_or_id_does_not_pass() {
    let (_, json, value) = encoded(Codec::F32, true);
    assert!(decode_row(shape(Codec::F32), b"key-2", &value).is_err());
    let other = RowShape {
        table: TableId::new(8),
        ..shape(Codec::F32)
    };
    assert!(decode_row(other, b"key-1", &value).is_err());
    let mut payload = Vec::new();
    encode_payload(TableId::new(7), RowId::new(42), &json, &mut payload);
    let decode = |table, id| {
        decode_payload(TableId::new(table), RowId::new(id), json.len(), &payload).is_ok()
    };
    assert_eq!(
        [decode(7, 42), decode(7, 43), decode(8, 42)],
        [true, false, false]
    );
    encode_links(TableId::new(7), 42, b"group", &mut payload);
    let decode = |table, number| {
        decode_links(TableId::new(table), number, &payload).is_ok_and(|group| group == b"group")
    };
    assert_eq!(
        [decode(7, 42), decode(7, 43), decode(8, 42)],
        [true, false, false]
    );
    // The same table and key, another kind.
    assert!(decode_payload(TableId::new(7), RowId::new(42), 5, &payload).is_err());
    let schema = encode_schema(&record(3, "docs", Codec::F32, 5)).unwrap();
    assert!(decode_schema("docs", &schema).is_ok());
    assert!(decode_schema("other", &schema).is_err());
}

#[test]
fn a_row_id_that_no_table_hands_out_does_not_pass() {
    let (row, json, mut value) = encoded(Codec::F32, false);
    for (id, passes) in [
        (limits::ROW_ID_END - 1, true),
        (limits::ROW_ID_END, false),
        (u64::MAX, false),
    ] {
        encode_row(TableId::new(7), RowId::new(id), &row, &json, &mut value);
        let read = decode_row(shape(Codec::F32), b"key-1", &value);
        assert_eq!(read.is_ok(), passes, "row id {id}");
    }
}

#[test]
fn a_promise_of_row_ids_that_no_table_hands_out_does_not_pass() {
    let table = TableId::new(7);
    let decoded = |next| decode_next_row_id(table, &encode_next_row_id(table, RowId::new(next)));
    assert_eq!(
        decoded(limits::ROW_ID_END),
        Ok(RowId::new(limits::ROW_ID_END))
    );
    for next in [limits::ROW_ID_END + 1, u64::MAX] {
        assert!(decoded(next).is_err(), "{next}");
    }
}

#[test]
fn random_bytes_truncations_and_flips_are_refused_without_a_panic() {
    let mut random = Random::new(1);
    let values: Vec<(Codec, Vec<u8>)> = Codec::ALL
        .into_iter()
        .flat_map(|codec| [false, true].map(|large| (codec, encoded(codec, large).2)))
        .collect();
    let schema = encode_schema(&record(3, "docs", Codec::F32, 5)).unwrap();
    for case in 0..100_000_u64 {
        let (codec, good) = &values[random.below(values.len() as u64) as usize];
        let mut bytes = match case % 3 {
            0 => {
                let mut bytes: Vec<u8> = (0..random.below(200))
                    .map(|_| random.next_u64() as u8)
                    .collect();
                bytes.insert(0, VERSION);
                bytes
            }
            1 => good[..random.below(good.len() as u64) as usize].to_vec(),
            _ => good.clone(),
        };
        if case % 3 == 2 {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << random.below(8);
        }
        assert!(decode_row(shape(*codec), b"key-1", &bytes).is_err());
        assert!(decode_payload(TableId::new(7), RowId::new(42), 3, &bytes).is_err());
        assert!(decode_links(TableId::new(7), 42, &bytes).is_err());
        assert!(decode_schema("docs", &bytes).is_err());
        assert!(decode_next_table_id(&bytes).is_err());
        assert!(decode_next_row_id(TableId::new(7), &bytes).is_err());
        assert!(!matches!(decode_format(&bytes), Some(Ok(FORMAT))));
        let mut flipped = schema.clone();
        let at = random.below(flipped.len() as u64) as usize;
        flipped[at] ^= 1 << random.below(8);
        assert!(decode_schema("docs", &flipped).is_err());
    }
}

/// Bytes that were changed and then sealed again: a hostile writer, not a broken disk.
fn reseal(mut bytes: Vec<u8>, seed: u64) -> Vec<u8> {
    bytes.truncate(bytes.len() - SUM_LEN);
    seal(&mut bytes, seed);
    bytes
}

#[test]
fn hostile_lengths_with_a_good_checksum_neither_panic_nor_allocate() {
    let seed_row = seed(Kind::Row, TableId::new(7), b"key-1");
    let (_, _, good) = encoded(Codec::Int8Quantized, false);
    for at in [29, 30, 34] {
        for hostile in [0x8000_0000_u32, u32::MAX, 1 << 20, 1] {
            let mut bytes = good.clone();
            bytes[at..at + 4].copy_from_slice(&hostile.to_le_bytes());
            assert!(
                decode_row(
                    shape(Codec::Int8Quantized),
                    b"key-1",
                    &reseal(bytes, seed_row)
                )
                .is_err()
            );
        }
    }
    let seed_schema = seed(Kind::Schema, TableId::default(), b"docs");
    let schema = encode_schema(&record(3, "docs", Codec::F32, 5)).unwrap();
    for at in 1..schema.len() - SUM_LEN - 8 {
        for hostile in [1_u64 << 31, 1 << 40, 1 << 63, u64::MAX] {
            let mut bytes = schema.clone();
            bytes[at..at + 8].copy_from_slice(&hostile.to_le_bytes());
            let _ = decode_schema("docs", &reseal(bytes, seed_schema));
        }
    }
    // A mean of 2^40 floats that are not there.
    let mut body = vec![VERSION];
    body.extend_from_slice(&schema[1..schema.len() - SUM_LEN - 1]);
    body.push(1);
    body.extend_from_slice(&[0; 16]);
    body.extend_from_slice(&(1_u64 << 40).to_le_bytes());
    seal(&mut body, seed_schema);
    assert!(decode_schema("docs", &body).is_err());
    // Any byte at all, sealed: an error or a row that is sound.
    let mut random = Random::new(2);
    for _ in 0..100_000 {
        let mut bytes = good.clone();
        for _ in 0..=random.below(4) {
            let at = random.below((bytes.len() - SUM_LEN) as u64) as usize;
            bytes[at] = random.next_u64() as u8;
        }
        if let Ok(row) = decode_row(
            shape(Codec::Int8Quantized),
            b"key-1",
            &reseal(bytes, seed_row),
        ) {
            row.vector().validate().unwrap();
        }
    }
}

#[test]
fn a_newer_version_is_named() {
    let (_, _, mut value) = encoded(Codec::F32, false);
    value[0] = 2;
    assert!(
        decode_row(shape(Codec::F32), b"key-1", &value)
            .unwrap_err()
            .contains("version 2")
    );
    let newer = encode_format(9);
    assert_eq!(decode_format(&newer), Some(Ok(9)));
    assert_eq!(decode_format(&encode_format(FORMAT)), Some(Ok(FORMAT)));
    assert_eq!(decode_format(b"somebody else's"), None);
    assert!(decode_format(&encode_format(0)).unwrap().is_err());
}

/// The golden file of a row as this version writes it.
fn row_file(codec: Codec, size: &str) -> String {
    match codec {
        Codec::Int8Quantized => format!("row_{codec}_refined_{size}.bin"),
        _ => format!("row_{codec}_{size}.bin"),
    }
}

/// Every golden file with the bytes this version writes.
fn goldens() -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for codec in Codec::ALL {
        for (large, size) in [(false, "inline"), (true, "large")] {
            let (_, json, value) = encoded(codec, large);
            files.push((row_file(codec, size), value));
            if large {
                let mut payload = Vec::new();
                encode_payload(TableId::new(7), RowId::new(42), &json, &mut payload);
                files.push((format!("payload_{codec}.bin"), payload));
            }
        }
        let mut schema = record(3, "docs", codec, 5);
        files.push((
            format!("schema_{codec}.bin"),
            encode_schema(&schema).unwrap(),
        ));
        if codec.turbovec_bits().is_some() {
            schema.turbo = Some(TurboFit {
                generation: 2,
                rows: 1_000,
                mean: vec![0.5, -1.0, 0.0, 2.0, 1e-3],
                rms: 1.25,
            });
            files.push((
                format!("schema_{codec}_fitted.bin"),
                encode_schema(&schema).unwrap(),
            ));
        }
    }
    let mut links = Vec::new();
    encode_links(TableId::new(7), 42, b"opaque bytes", &mut links);
    files.push(("links.bin".into(), links));
    files.push(("meta_format.bin".into(), encode_format(FORMAT)));
    files.push((
        "meta_next_table_id.bin".into(),
        encode_next_table_id(TableId::new(9)),
    ));
    files.push((
        "meta_row_ids.bin".into(),
        encode_next_row_id(TableId::new(7), RowId::new(43)),
    ));
    files.push((
        "meta_store_id.bin".into(),
        encode_store_id(*b"0123456789abcdef"),
    ));
    files
}

pub(crate) fn golden_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/format/v1")
}

/// Set to write the golden files of a new format version; they are never written again.
pub(crate) fn write_goldens() -> bool {
    std::env::var_os("VECSTASH_WRITE_GOLDENS").is_some()
}

#[test]
fn golden_files_hold_both_ways() {
    let folder = golden_folder();
    let files = goldens();
    if write_goldens() {
        std::fs::create_dir_all(&folder).unwrap();
        for (name, bytes) in &files {
            std::fs::write(folder.join(name), bytes).unwrap();
        }
    }
    for (name, written) in &files {
        let golden = std::fs::read(folder.join(name)).unwrap();
        assert_eq!(golden, *written, "value to bytes: {name}");
    }
    for codec in Codec::ALL {
        for (large, size) in [(false, "inline"), (true, "large")] {
            let read = |name: String| std::fs::read(folder.join(name)).unwrap();
            let (expected, _, _) = encoded(codec, large);
            let bytes = read(row_file(codec, size));
            let got = decode_row(shape(codec), b"key-1", &bytes).unwrap();
            assert_eq!(
                (got.id, got.vector().to_owned()),
                (RowId::new(42), expected.vector)
            );
            let text = match got.metadata {
                StoredMetadata::Inline(text) => text.to_vec(),
                StoredMetadata::Apart { len } => {
                    let payload = read(format!("payload_{codec}.bin"));
                    decode_payload(TableId::new(7), got.id, len, &payload)
                        .unwrap()
                        .to_vec()
                }
            };
            assert_eq!(metadata::decode(&text).unwrap(), expected.metadata);
            let schema = decode_schema("docs", &read(format!("schema_{codec}.bin"))).unwrap();
            assert_eq!(schema, record(3, "docs", codec, 5));
        }
    }
}

/// Rows of before there were digits stand for the same vectors as ever.
#[test]
fn golden_rows_without_digits_are_read() {
    let codec = Codec::Int8Quantized;
    for (large, size) in [(false, "inline"), (true, "large")] {
        let file = golden_folder().join(format!("row_{codec}_{size}.bin"));
        let bytes = std::fs::read(file).unwrap();
        let got = decode_row(shape(codec), b"key-1", &bytes).unwrap();
        let (written_now, _, _) = encoded(codec, large);
        let vector = got.vector().to_owned();
        assert_eq!(vector.params, written_now.vector.params);
        assert_eq!(vector.bytes, written_now.vector.bytes[..5]);
        let [min, scale] = vector.params[..] else {
            panic!("two parameters")
        };
        let value = |&byte: &u8| min + scale * f32::from(byte);
        let plain: Vec<f32> = vector.bytes.iter().map(value).collect();
        assert_eq!(vector.decode().unwrap(), plain);
    }
}
