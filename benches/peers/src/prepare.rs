//! The data as every peer gets them: normalised once for cosine, in one folder.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use vecstash::Distance;

use crate::common::vectors::NpyWriter;
use crate::common::{DataSet, Rows, truth};

/// The vector at unit length where the distance is cosine, as it is elsewhere.
pub(crate) fn fitting(vector: &[f32], distance: Distance) -> Vec<f32> {
    let norm = truth::dot(vector, vector).sqrt();
    if distance == Distance::Cosine && norm > 0.0 {
        vector.iter().map(|x| x / norm).collect()
    } else {
        vector.to_vec()
    }
}

/// Normalises a set for its distance.
pub(crate) fn normalise(set: &mut DataSet) {
    for rows in [&mut set.base, &mut set.queries] {
        let values = rows.iter().flat_map(|row| fitting(row, set.distance));
        *rows = Rows::new(rows.dim(), values.collect());
    }
}

/// Writes a set where peers read it.
pub(crate) fn write(set: &DataSet, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for (name, rows) in [("base.npy", &set.base), ("query.npy", &set.queries)] {
        let mut writer = NpyWriter::new(File::create(folder.join(name))?, rows.dim())?;
        for row in rows.iter() {
            writer.write_row(row)?;
        }
        writer.finish()?;
    }
    Ok(())
}
