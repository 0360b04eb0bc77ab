//! Reads the `.npy` arrays of the fixtures: two dimensions, C order, little-endian.

use std::path::Path;

/// An array's rows as `f32`, from `<f4`, `<f2` or `|u1`.
pub fn floats(path: &Path) -> Vec<Vec<f32>> {
    let (descr, columns, body) = parse(path);
    let flat: Vec<f32> = match descr.as_str() {
        "<f4" => words::<4>(&body).map(f32::from_le_bytes).collect(),
        "<f2" => words::<2>(&body)
            .map(|bytes| half_to_f32(u16::from_le_bytes(bytes)))
            .collect(),
        "|u1" => body.iter().map(|&byte| f32::from(byte)).collect(),
        other => panic!("{}: no floats in {other}", path.display()),
    };
    flat.chunks_exact(columns).map(<[f32]>::to_vec).collect()
}

/// An array's rows as `i32`, from `<i4`.
pub fn ints(path: &Path) -> Vec<Vec<i32>> {
    let (descr, columns, body) = parse(path);
    assert_eq!(descr, "<i4", "{}", path.display());
    let flat: Vec<i32> = words::<4>(&body).map(i32::from_le_bytes).collect();
    flat.chunks_exact(columns).map(<[i32]>::to_vec).collect()
}

/// The type, the number of columns and the bytes after the header.
fn parse(path: &Path) -> (String, usize, Vec<u8>) {
    let name = path.display();
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00", "{name}");
    let header_end = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..header_end]).expect("an ASCII header");
    assert!(header.contains("'fortran_order': False"), "{name}");
    let between = |open: &str, close: &str| {
        let start = header.find(open).expect(open) + open.len();
        let len = header[start..].find(close).expect(close);
        header[start..start + len].to_owned()
    };
    let shape: Vec<usize> = between("'shape': (", ")")
        .split(',')
        .filter_map(|part| part.trim().parse().ok())
        .collect();
    let descr = between("'descr': '", "'");
    let width: usize = descr[2..].parse().expect("a width in bytes");
    let body = bytes[header_end..].to_vec();
    assert_eq!(shape.len(), 2, "{name}");
    assert_eq!(body.len(), shape[0] * shape[1] * width, "{name}");
    (descr, shape[1], body)
}

fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    bytes
        .chunks_exact(N)
        .map(|chunk| chunk.try_into().expect("N bytes"))
}

/// A half float, subnormals included; the fixtures hold no infinities.
fn half_to_f32(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let exponent = i32::from((bits >> 10) & 0x1f);
    let fraction = f32::from(bits & 0x3ff) / 1024.0;
    assert_ne!(exponent, 31, "not finite");
    match exponent {
        0 => sign * fraction * 2f32.powi(-14),
        _ => sign * (1.0 + fraction) * 2f32.powi(exponent - 15),
    }
}
