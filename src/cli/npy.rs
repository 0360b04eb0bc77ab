//! The .npy format: its header, whole arrays of numbers, and a writer of rows.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// A longer header than any real file has would only make us allocate for a hostile one.
const NPY_HEADER_LEN_MAX: usize = 1 << 16;
/// Room for the largest shape, so that the header can be written again once the rows are counted.
const NPY_WRITTEN_HEADER_LEN: usize = 128;

pub(super) fn bad(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.into())
}

/// The header of a .npy file (NumPy enhancement proposal 1, versions 1 to 3).
pub(super) struct NpyHeader {
    pub(super) descr: String,
    pub(super) shape: Vec<usize>,
    /// Byte offset of the data.
    pub(super) start: u64,
}

impl NpyHeader {
    pub(super) fn read(reader: &mut impl Read, bytes: u64) -> io::Result<Self> {
        let cut = |_| bad("the file ends inside its .npy header");
        let mut head = [0; 8];
        reader.read_exact(&mut head).map_err(cut)?;
        if &head[..6] != b"\x93NUMPY" {
            return Err(bad("this is not a .npy file: its first bytes are others"));
        }
        let (len, prefix) = match head[6] {
            1 => {
                let mut len = [0; 2];
                reader.read_exact(&mut len).map_err(cut)?;
                (usize::from(u16::from_le_bytes(len)), 10)
            }
            2 | 3 => {
                let mut len = [0; 4];
                reader.read_exact(&mut len).map_err(cut)?;
                (u32::from_le_bytes(len) as usize, 12)
            }
            other => return Err(bad(format!(".npy version {other} is unknown"))),
        };
        if len > NPY_HEADER_LEN_MAX || (prefix + len) as u64 > bytes {
            return Err(bad(format!(
                "a .npy header of {len} bytes does not fit this file"
            )));
        }
        let mut text = vec![0; len];
        reader.read_exact(&mut text).map_err(cut)?;
        let text = String::from_utf8(text).map_err(|_| bad("the .npy header is not text"))?;
        match value_of(&text, "fortran_order")? {
            v if v.starts_with("False") => {}
            v if v.starts_with("True") => {
                return Err(bad(
                    "the array is in Fortran order; save numpy.ascontiguousarray(array)",
                ));
            }
            _ => return Err(bad("the .npy header has a malformed fortran_order")),
        }
        let descr = value_of(&text, "descr")?;
        let descr = descr
            .strip_prefix('\'')
            .and_then(|rest| rest.split_once('\''))
            .or_else(|| {
                descr
                    .strip_prefix('"')
                    .and_then(|rest| rest.split_once('"'))
            })
            .map(|(name, _)| name.to_string())
            .ok_or_else(|| bad("the .npy header names no plain number type"))?;
        let shape = value_of(&text, "shape")?
            .strip_prefix('(')
            .and_then(|rest| rest.split_once(')'))
            .ok_or_else(|| bad("the .npy header has a malformed shape"))?
            .0
            .split(',')
            .map(str::trim)
            .filter(|axis| !axis.is_empty())
            .map(|axis| {
                axis.parse()
                    .map_err(|_| bad(format!("the .npy header has an axis of {axis:?}")))
            })
            .collect::<io::Result<Vec<usize>>>()?;
        Ok(Self {
            descr,
            shape,
            start: (prefix + len) as u64,
        })
    }

    /// Number of elements, once the file is known to hold exactly that many.
    pub(super) fn check_len(&self, bytes: u64, element_len: usize) -> io::Result<usize> {
        let count = self
            .shape
            .iter()
            .try_fold(1usize, |product, &axis| product.checked_mul(axis));
        let expected = count
            .and_then(|count| count.checked_mul(element_len))
            .and_then(|data| (data as u64).checked_add(self.start));
        match (count, expected) {
            (Some(count), Some(expected)) if expected == bytes => Ok(count),
            (_, Some(expected)) if expected < bytes => Err(bad(format!(
                "the file has {} bytes more than its shape {:?} takes",
                bytes - expected,
                self.shape
            ))),
            _ => Err(bad(format!(
                "the file is cut off: its shape {:?} takes more than its {bytes} bytes",
                self.shape
            ))),
        }
    }
}

/// What follows `'key':` in a Python dict.
fn value_of<'a>(text: &'a str, key: &str) -> io::Result<&'a str> {
    [format!("'{key}'"), format!("\"{key}\"")]
        .iter()
        .find_map(|quoted| text.split_once(quoted.as_str()))
        .and_then(|(_, rest)| rest.trim_start().strip_prefix(':'))
        .map(str::trim_start)
        .ok_or_else(|| bad(format!("the .npy header has no {key}")))
}

fn read_npy<const N: usize, T>(
    path: &Path,
    descr: &str,
    number: impl Fn([u8; N]) -> T,
) -> io::Result<(Vec<usize>, Vec<T>)> {
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let mut reader = BufReader::new(file);
    let header = NpyHeader::read(&mut reader, bytes)?;
    if header.descr != descr {
        return Err(bad(format!(
            "numbers of type {}, where {descr} is expected",
            header.descr
        )));
    }
    let count = header.check_len(bytes, N)?;
    let mut data = vec![0; count * N];
    reader.read_exact(&mut data)?;
    let (chunks, _) = data.as_chunks::<N>();
    Ok((
        header.shape,
        chunks.iter().map(|&chunk| number(chunk)).collect(),
    ))
}

/// Shape and numbers of a .npy array of `i32`.
pub(crate) fn read_npy_i32(path: impl AsRef<Path>) -> io::Result<(Vec<usize>, Vec<i32>)> {
    read_npy(path.as_ref(), "<i4", i32::from_le_bytes)
}

/// Shape and numbers of a .npy array of `i64`.
pub(crate) fn read_npy_i64(path: impl AsRef<Path>) -> io::Result<(Vec<usize>, Vec<i64>)> {
    read_npy(path.as_ref(), "<i8", i64::from_le_bytes)
}

/// Shape and numbers of a .npy array of `f32`.
pub(crate) fn read_npy_f32(path: impl AsRef<Path>) -> io::Result<(Vec<usize>, Vec<f32>)> {
    read_npy(path.as_ref(), "<f4", f32::from_le_bytes)
}

/// Writes a .npy array of `f32`, one row at a time.
pub(crate) struct NpyWriter<W: Write + Seek> {
    writer: BufWriter<W>,
    dim: usize,
    rows: usize,
}

impl<W: Write + Seek> NpyWriter<W> {
    /// Starts an array whose rows have `dim` numbers.
    pub(crate) fn new(target: W, dim: usize) -> io::Result<Self> {
        let mut writer = BufWriter::with_capacity(1 << 18, target);
        writer.write_all(&npy_header(0, dim))?;
        Ok(Self {
            writer,
            dim,
            rows: 0,
        })
    }

    /// Adds a row.
    pub(crate) fn write_row(&mut self, row: &[f32]) -> io::Result<()> {
        if row.len() != self.dim {
            return Err(bad(format!(
                "row {} has {} coordinates, where {} belong",
                self.rows,
                row.len(),
                self.dim
            )));
        }
        for value in row {
            self.writer.write_all(&value.to_le_bytes())?;
        }
        self.rows += 1;
        Ok(())
    }

    /// Writes the number of rows into the header and returns it with the target.
    pub(crate) fn finish(mut self) -> io::Result<(usize, W)> {
        self.writer.seek(SeekFrom::Start(0))?;
        self.writer.write_all(&npy_header(self.rows, self.dim))?;
        let target = self
            .writer
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        Ok((self.rows, target))
    }
}

fn npy_header(rows: usize, dim: usize) -> Vec<u8> {
    let dict = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dim}), }}");
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend_from_slice(&((NPY_WRITTEN_HEADER_LEN - 10) as u16).to_le_bytes());
    header.extend_from_slice(dict.as_bytes());
    header.resize(NPY_WRITTEN_HEADER_LEN - 1, b' ');
    header.push(b'\n');
    header
}
