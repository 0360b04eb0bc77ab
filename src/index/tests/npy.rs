//! Reads the `.npy` files of the fixtures: little-endian `f4`, `f2` and `u1` matrices.

use half::f16;

/// A matrix of floats.
pub(super) struct Matrix {
    pub(super) columns: usize,
    values: Vec<f32>,
}

impl Matrix {
    pub(super) fn rows(&self) -> Vec<Vec<f32>> {
        self.values
            .chunks(self.columns)
            .map(<[f32]>::to_vec)
            .collect()
    }
}

/// The matrix in `fixtures/<path>.npy`.
pub(super) fn read(path: &str) -> Matrix {
    let root = env!("CARGO_MANIFEST_DIR");
    let bytes = std::fs::read(format!("{root}/fixtures/{path}.npy")).unwrap();
    let header_len = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let (header, data) = bytes[10..].split_at(header_len);
    let header = std::str::from_utf8(header).unwrap();
    let shape = header.split("'shape': (").nth(1).unwrap();
    let columns = shape
        .split([',', ')'])
        .nth(1)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let values = if header.contains("<f4") {
        let chunks = data.as_chunks::<4>().0.iter();
        chunks.map(|chunk| f32::from_le_bytes(*chunk)).collect()
    } else if header.contains("<f2") {
        let chunks = data.as_chunks::<2>().0.iter();
        chunks
            .map(|chunk| f16::from_le_bytes(*chunk).to_f32())
            .collect()
    } else {
        assert!(header.contains("u1"), "{header}");
        data.iter().map(|&byte| f32::from(byte)).collect()
    };
    Matrix { columns, values }
}
