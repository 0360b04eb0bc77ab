//! Files of vectors, .npy, .fvecs and .bvecs, read row by row with every header distrusted.
//!
//! Needs `std` and `half` alone, because benches and tests include this file by its path.
#![allow(dead_code, reason = "each of its three users needs a different part")]

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use half::f16;

#[path = "npy.rs"]
mod npy;

use self::npy::{NpyHeader, bad};
#[allow(
    unused_imports,
    reason = "each of its three users needs a different part"
)]
pub(crate) use self::npy::{NpyWriter, read_npy_f32, read_npy_i32, read_npy_i64};

/// A longer row than any table takes would only make us allocate for a hostile file.
const DIM_MAX: usize = 1 << 20;

/// Type of one stored number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Element {
    U8,
    F16,
    F32,
    F64,
}

impl Element {
    fn size(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::F16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    fn from_descr(descr: &str) -> io::Result<Self> {
        match descr {
            "|u1" | "<u1" => Ok(Self::U8),
            "<f2" => Ok(Self::F16),
            "<f4" => Ok(Self::F32),
            "<f8" => Ok(Self::F64),
            other if other.starts_with('>') => Err(bad(format!(
                "numbers are big-endian ({other}); save the array with little-endian numbers"
            ))),
            other => Err(bad(format!(
                "numbers of type {other} are not read; use f32 (<f4), f16 (<f2), f64 (<f8) or u8 (|u1)"
            ))),
        }
    }

    fn decode(self, bytes: &[u8], out: &mut Vec<f32>) {
        out.clear();
        match self {
            Self::U8 => out.extend(bytes.iter().map(|&b| f32::from(b))),
            Self::F16 => out.extend(
                bytes
                    .chunks_exact(2)
                    .map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32()),
            ),
            Self::F32 => out.extend(
                bytes
                    .chunks_exact(4)
                    .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])),
            ),
            Self::F64 => out.extend(bytes.chunks_exact(8).map(|b| {
                f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32
            })),
        }
    }
}

/// How a file of vectors is laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    /// A NumPy array of two axes in C order.
    Npy,
    /// Rows of a little-endian `i32` dimension and that many `f32`.
    Fvecs,
    /// Rows of a little-endian `i32` dimension and that many bytes.
    Bvecs,
}

impl Format {
    /// The format that the extension of `path` names.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "npy" => Some(Self::Npy),
            "fvecs" => Some(Self::Fvecs),
            "bvecs" => Some(Self::Bvecs),
            _ => None,
        }
    }
}

/// A file of equally long vectors, read one row at a time as `f32`.
pub(crate) struct VectorFile<R = File> {
    reader: BufReader<R>,
    element: Element,
    /// Byte offset of row 0.
    start: u64,
    /// Bytes in front of every row: its dimension again, in .fvecs and .bvecs.
    row_head: usize,
    dim: usize,
    len: usize,
    /// The row the reader stands at, so that reading in order never seeks.
    next: usize,
    buffer: Vec<u8>,
}

impl VectorFile<File> {
    /// Opens a file and checks its header and its length.
    pub(crate) fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let format = Format::of(path).ok_or_else(|| {
            bad("the extension is none of .npy, .fvecs and .bvecs, so its format is unknown")
        })?;
        Self::new(File::open(path)?, format)
    }
}

impl<'a> VectorFile<Cursor<&'a [u8]>> {
    /// A .npy file that is already in memory.
    pub(crate) fn from_npy_bytes(bytes: &'a [u8]) -> io::Result<Self> {
        Self::new(Cursor::new(bytes), Format::Npy)
    }
}

impl<R: Read + Seek> VectorFile<R> {
    /// Reads the header of `source` and checks that its length fits.
    pub(crate) fn new(mut source: R, format: Format) -> io::Result<Self> {
        let bytes = source.seek(SeekFrom::End(0))?;
        source.seek(SeekFrom::Start(0))?;
        let mut reader = BufReader::with_capacity(1 << 18, source);
        let (element, start, row_head, dim, len) = match format {
            Format::Npy => {
                let header = NpyHeader::read(&mut reader, bytes)?;
                let element = Element::from_descr(&header.descr)?;
                let &[len, dim] = header.shape.as_slice() else {
                    return Err(bad(format!(
                        "the array has {} axes; one row per vector makes two",
                        header.shape.len()
                    )));
                };
                check_dim(dim)?;
                header.check_len(bytes, element.size())?;
                (element, header.start, 0, dim, len)
            }
            Format::Fvecs | Format::Bvecs => {
                let element = if format == Format::Fvecs {
                    Element::F32
                } else {
                    Element::U8
                };
                if bytes == 0 {
                    return Err(bad("the file is empty"));
                }
                let mut head = [0; 4];
                reader
                    .read_exact(&mut head)
                    .map_err(|_| bad("the file ends inside the dimension of row 0"))?;
                reader.seek(SeekFrom::Start(0))?;
                let dim = usize::try_from(i32::from_le_bytes(head))
                    .map_err(|_| bad("row 0 has a negative dimension"))?;
                check_dim(dim)?;
                let row_len = (4 + dim * element.size()) as u64;
                if !bytes.is_multiple_of(row_len) {
                    return Err(bad(format!(
                        "{bytes} bytes are not a whole number of rows of {dim} coordinates: \
                         the file is cut off in row {}, or its rows differ in length",
                        bytes / row_len
                    )));
                }
                (element, 0, 4, dim, (bytes / row_len) as usize)
            }
        };
        Ok(Self {
            reader,
            element,
            start,
            row_head,
            dim,
            len,
            next: 0,
            buffer: Vec::new(),
        })
    }

    /// Coordinates of every row.
    pub(crate) fn dim(&self) -> usize {
        self.dim
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Reads row `row` into `out`.
    pub(crate) fn read_row(&mut self, row: usize, out: &mut Vec<f32>) -> io::Result<()> {
        if row >= self.len {
            return Err(bad(format!(
                "there is no row {row}: the file has {} rows, counted from 0",
                self.len
            )));
        }
        let row_len = self.row_head + self.dim * self.element.size();
        if row != self.next {
            let at = self.start + row as u64 * row_len as u64;
            self.reader.seek(SeekFrom::Start(at))?;
        }
        // Until the row is read whole, nobody knows where the reader stands.
        self.next = usize::MAX;
        self.buffer.resize(row_len, 0);
        self.reader
            .read_exact(&mut self.buffer)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => bad(format!("the file ends inside row {row}")),
                _ => error,
            })?;
        let (head, body) = self.buffer.split_at(self.row_head);
        if let &[a, b, c, d] = head {
            let dim = i32::from_le_bytes([a, b, c, d]);
            if usize::try_from(dim) != Ok(self.dim) {
                return Err(bad(format!(
                    "row {row} has {dim} coordinates, where row 0 has {}",
                    self.dim
                )));
            }
        }
        self.element.decode(body, out);
        self.next = row + 1;
        Ok(())
    }

    /// All rows in order.
    pub(crate) fn rows(mut self) -> impl Iterator<Item = io::Result<Vec<f32>>> {
        (0..self.len).map(move |row| {
            let mut vector = Vec::new();
            self.read_row(row, &mut vector).map(|()| vector)
        })
    }
}

fn check_dim(dim: usize) -> io::Result<()> {
    match dim {
        0 => Err(bad("its vectors have no coordinates")),
        1..=DIM_MAX => Ok(()),
        _ => Err(bad(format!(
            "{dim} coordinates in a row are more than any table holds"
        ))),
    }
}

#[cfg(test)]
#[path = "vectors_tests.rs"]
mod tests;
