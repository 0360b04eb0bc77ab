//! Files of vectors, good and hostile.

use std::io::Cursor;

use super::*;

fn npy(descr: &str, fortran: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let dict = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend_from_slice(&(dict.len() as u16).to_le_bytes());
    bytes.extend_from_slice(dict.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

fn open(bytes: &[u8], format: Format) -> io::Result<VectorFile<Cursor<&[u8]>>> {
    VectorFile::new(Cursor::new(bytes), format)
}

fn refusal(bytes: &[u8], format: Format) -> String {
    match open(bytes, format) {
        Ok(_) => panic!("accepted"),
        Err(error) => error.to_string(),
    }
}

fn le<const N: usize>(numbers: impl IntoIterator<Item = [u8; N]>) -> Vec<u8> {
    numbers.into_iter().flatten().collect()
}

#[test]
fn npy_of_every_type() {
    let values = [1.0f32, -2.0, 0.5, 4.0, 5.0, 6.0];
    let cases = [
        ("<f4", le(values.map(f32::to_le_bytes))),
        ("<f2", le(values.map(|v| f16::from_f32(v).to_le_bytes()))),
        ("<f8", le(values.map(|v| f64::from(v).to_le_bytes()))),
    ];
    for (descr, data) in cases {
        let bytes = npy(descr, "False", "(2, 3)", &data);
        let mut file = open(&bytes, Format::Npy).unwrap();
        assert_eq!((file.len(), file.dim()), (2, 3));
        let mut row = Vec::new();
        file.read_row(1, &mut row).unwrap();
        assert_eq!(row, values[3..], "{descr}");
        file.read_row(0, &mut row).unwrap();
        assert_eq!(row, values[..3], "{descr}");
        assert!(
            file.read_row(2, &mut row)
                .unwrap_err()
                .to_string()
                .contains("no row 2")
        );
        let rows: Vec<_> = open(&bytes, Format::Npy)
            .unwrap()
            .rows()
            .map(Result::unwrap)
            .collect();
        assert_eq!(rows.concat(), values);
    }
    let bytes = npy("|u1", "False", "(2, 2)", &[0, 1, 254, 255]);
    let rows: Vec<_> = open(&bytes, Format::Npy)
        .unwrap()
        .rows()
        .map(Result::unwrap)
        .collect();
    assert_eq!(rows, [[0.0, 1.0], [254.0, 255.0]]);
}

#[test]
fn npy_refusals_say_why() {
    let data = [0; 24];
    let cases = [
        (npy("<f4", "True", "(2, 3)", &data), "Fortran order"),
        (npy(">f4", "False", "(2, 3)", &data), "big-endian"),
        (npy("<i8", "False", "(1, 3)", &data), "<i8"),
        (npy("<f4", "False", "(6,)", &data), "1 axes"),
        (npy("<f4", "False", "(1, 2, 3)", &data), "3 axes"),
        (npy("<f4", "False", "(3, 3)", &data), "cut off"),
        (npy("<f4", "False", "(1, 3)", &data), "12 bytes more"),
        (npy("<f4", "False", "(6, 0)", &[]), "no coordinates"),
        (npy("<f4", "False", "(2, -3)", &data), "axis of"),
        (
            npy("<f4", "False", "(2, 18446744073709551615)", &data),
            "more than any table",
        ),
        (
            npy("<f4", "False", "(18446744073709551615, 9)", &data),
            "cut off",
        ),
        (npy("<f4", "Maybe", "(2, 3)", &data), "fortran_order"),
        (npy("<f4", "False", "2, 3", &data), "shape"),
        (b"\x93NUMPY\x01\x00\xff\xff{}".to_vec(), "does not fit"),
        (
            b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}".to_vec(),
            "does not fit",
        ),
        (b"\x93NUMPY\x09\x00\x02\x00{}".to_vec(), "version 9"),
        (b"\x93NUMPY\x01\x00\x02\x00{}".to_vec(), "no fortran_order"),
        (b"\x93NUMPY\x01\x00\x02\x00\xff\xff".to_vec(), "not text"),
        (b"\x93NUM".to_vec(), "ends inside"),
        (b"PK\x03\x04 something else".to_vec(), "not a .npy"),
        (Vec::new(), "ends inside"),
    ];
    for (bytes, expected) in cases {
        let message = refusal(&bytes, Format::Npy);
        assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    }
    let structured = "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }";
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend_from_slice(&(structured.len() as u16).to_le_bytes());
    bytes.extend_from_slice(structured.as_bytes());
    assert!(refusal(&bytes, Format::Npy).contains("no plain number type"));
}

#[test]
fn every_cut_of_a_npy_file_is_refused() {
    let whole = npy("<f4", "False", "(2, 3)", &[7; 24]);
    for len in 0..whole.len() {
        assert!(open(&whole[..len], Format::Npy).is_err(), "{len} bytes");
    }
}

#[test]
fn fvecs_and_bvecs() {
    let mut bytes = Vec::new();
    for row in [[1.0f32, 2.0], [3.0, 4.0], [5.0, 6.0]] {
        bytes.extend_from_slice(&2i32.to_le_bytes());
        bytes.extend(row.iter().flat_map(|v| v.to_le_bytes()));
    }
    let rows: Vec<_> = open(&bytes, Format::Fvecs)
        .unwrap()
        .rows()
        .map(Result::unwrap)
        .collect();
    assert_eq!(rows, [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]);

    assert!(refusal(&bytes[..bytes.len() - 1], Format::Fvecs).contains("cut off in row 2"));
    assert!(refusal(&bytes[..2], Format::Fvecs).contains("inside the dimension"));
    assert!(refusal(&[], Format::Fvecs).contains("empty"));
    assert!(refusal(&(-1i32).to_le_bytes(), Format::Fvecs).contains("negative"));
    assert!(refusal(&0i32.to_le_bytes(), Format::Fvecs).contains("no coordinates"));
    assert!(refusal(&i32::MAX.to_le_bytes(), Format::Fvecs).contains("more than any"));

    let mut ragged = bytes.clone();
    ragged[12..16].copy_from_slice(&3i32.to_le_bytes());
    let mut file = open(&ragged, Format::Fvecs).unwrap();
    let mut row = Vec::new();
    file.read_row(0, &mut row).unwrap();
    let message = file.read_row(1, &mut row).unwrap_err().to_string();
    assert!(
        message.contains("row 1 has 3 coordinates, where row 0 has 2"),
        "{message}"
    );
    file.read_row(2, &mut row).unwrap();
    assert_eq!(row, [5.0, 6.0]);

    let bytes = [3, 0, 0, 0, 9, 8, 7, 3, 0, 0, 0, 6, 5, 4];
    let rows: Vec<_> = open(&bytes, Format::Bvecs)
        .unwrap()
        .rows()
        .map(Result::unwrap)
        .collect();
    assert_eq!(rows, [[9.0, 8.0, 7.0], [6.0, 5.0, 4.0]]);
}

#[test]
fn formats_by_extension() {
    assert_eq!(Format::of(Path::new("a.NPY")), Some(Format::Npy));
    assert_eq!(Format::of(Path::new("b/a.fvecs")), Some(Format::Fvecs));
    assert_eq!(Format::of(Path::new("a.bvecs")), Some(Format::Bvecs));
    assert_eq!(Format::of(Path::new("npy")), None);
    let error = VectorFile::open("vectors.parquet").err().unwrap();
    assert!(error.to_string().contains("extension"));
}

#[test]
fn what_is_written_reads_back() {
    let mut writer = NpyWriter::new(Cursor::new(Vec::new()), 2).unwrap();
    writer.write_row(&[1.5, -0.0]).unwrap();
    writer.write_row(&[f32::MIN_POSITIVE, 3.0]).unwrap();
    assert!(
        writer
            .write_row(&[1.0])
            .unwrap_err()
            .to_string()
            .contains("row 2")
    );
    let (rows, target) = writer.finish().unwrap();
    let bytes = target.into_inner();
    assert_eq!((rows, bytes.len()), (2, 128 + 16));
    let read: Vec<_> = VectorFile::from_npy_bytes(&bytes)
        .unwrap()
        .rows()
        .map(Result::unwrap)
        .collect();
    assert_eq!(read, [[1.5, -0.0], [f32::MIN_POSITIVE, 3.0]]);
}

#[test]
fn whole_arrays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ids.npy");
    std::fs::write(
        &path,
        npy(
            "<i4",
            "False",
            "(2, 2)",
            &le([1, -1, 3, 4].map(i32::to_le_bytes)),
        ),
    )
    .unwrap();
    assert_eq!(
        read_npy_i32(&path).unwrap(),
        (vec![2, 2], vec![1, -1, 3, 4])
    );
    assert!(read_npy_f32(&path).unwrap_err().to_string().contains("<i4"));
    std::fs::write(
        &path,
        npy("<i8", "False", "(2,)", &le([5i64, 6].map(i64::to_le_bytes))),
    )
    .unwrap();
    assert_eq!(read_npy_i64(&path).unwrap(), (vec![2], vec![5, 6]));
    std::fs::write(&path, npy("<f4", "False", "()", &1.5f32.to_le_bytes())).unwrap();
    assert_eq!(read_npy_f32(&path).unwrap(), (vec![], vec![1.5]));
}
