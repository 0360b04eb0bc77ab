//! The reading half of `salvage`: a child process that may die at any page, and the frames it
//! tells its parent by.
//!
//! A frame is the length of its body (`u32`), its kind (one byte) and its body. All numbers are
//! little-endian.

use std::io::{self, BufWriter, Read, Write};
use std::ops::ControlFlow;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use vecstash::{
    Codec, EncodedVector, Metadata, RowId, Salvage, TableId, TableRecord, VectorRow, limits,
};

use super::args::SalvageReadArgs;
use super::report::from_hex;

/// A key, a vector and metadata at their largest, and room for the rest.
const BODY_LEN_MAX: usize =
    limits::KEY_LEN_MAX + 4 * limits::DIM_MAX + limits::METADATA_LEN_MAX + 4_096;
/// The records of [`limits::TABLES_MAX`] tables, each with a fit, are larger than any row.
const TABLES_LEN_MAX: usize = 1 << 30;

const TABLES: u8 = b'T';
const ROW: u8 = b'R';
const END: u8 = b'E';
const FAILED: u8 = b'X';

/// What a reader says.
#[derive(PartialEq, Debug)]
pub(crate) enum Frame {
    /// Every table, and the names of those whose records are damaged.
    Tables(Vec<TableRecord>, Vec<String>),
    /// The next row.
    Row(RowId, VectorRow),
    /// There are no more rows; this many did not pass their checksum.
    End { damaged: u64 },
    /// The reader met an error and stops.
    Failed(String),
}

/// The hidden verb: reads one table, or the list of tables, and writes frames on stdout.
pub(crate) fn read(args: &SalvageReadArgs) -> Result<ExitCode> {
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let frame = match frames(args, &mut out) {
        Ok(frame) => frame,
        Err(error) => Frame::Failed(format!("{error:#}")),
    };
    write(&mut out, &frame)?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Writes all frames but the last, which it returns.
fn frames(args: &SalvageReadArgs, out: &mut impl Write) -> Result<Frame> {
    let source = Salvage::open(&args.src)?;
    let Some(id) = args.table_id else {
        return Ok(Frame::Tables(
            source.tables()?,
            source.lost_tables().to_vec(),
        ));
    };
    let after = args.after.as_deref().map(from_hex).transpose()?;
    let mut failure = None;
    let count = source.rows(
        TableId::new(id),
        after.as_deref(),
        args.reverse,
        &mut |id, row| {
            // Flushed one by one: a row in a buffer dies with us.
            match write(out, &Frame::Row(id, row)).and_then(|()| Ok(out.flush()?)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
            }
        },
    )?;
    match failure {
        Some(error) => Err(error),
        // The parent goes on from the last row it got, as if this process had died here.
        None if !count.complete => bail!("a page of table {id} cannot be read"),
        None => Ok(Frame::End {
            damaged: count.damaged,
        }),
    }
}

pub(crate) fn write(out: &mut impl Write, frame: &Frame) -> Result<()> {
    let (kind, body) = match frame {
        Frame::Tables(tables, lost) => (TABLES, serde_json::to_vec(&(tables, lost))?),
        Frame::Row(id, row) => (ROW, encode_row(*id, row)?),
        Frame::End { damaged } => (END, damaged.to_le_bytes().to_vec()),
        Frame::Failed(reason) => (FAILED, reason.as_bytes().to_vec()),
    };
    out.write_all(&(body.len() as u32).to_le_bytes())?;
    out.write_all(&[kind])?;
    out.write_all(&body)?;
    Ok(())
}

/// The next frame; `None` when the reader is gone, in the middle of a frame or not.
pub(crate) fn next(input: &mut impl Read) -> Result<Option<Frame>> {
    let mut head = [0; 5];
    if !filled(input, &mut head)? {
        return Ok(None);
    }
    let [a, b, c, d, kind] = head;
    let len = u32::from_le_bytes([a, b, c, d]) as usize;
    let max = if kind == TABLES {
        TABLES_LEN_MAX
    } else {
        BODY_LEN_MAX
    };
    if len > max {
        bail!("the reader announced a frame of {len} bytes");
    }
    let mut body = vec![0; len];
    if !filled(input, &mut body)? {
        return Ok(None);
    }
    Ok(Some(match kind {
        TABLES => {
            let (tables, lost) = serde_json::from_slice(&body)?;
            Frame::Tables(tables, lost)
        }
        ROW => {
            let (id, row) = decode_row(&body)?;
            Frame::Row(id, row)
        }
        END => Frame::End {
            damaged: u64::from_le_bytes(Cut(&body).array()?),
        },
        FAILED => Frame::Failed(String::from_utf8_lossy(&body).into_owned()),
        other => bail!("the reader sent a frame of unknown kind {other}"),
    }))
}

fn filled(input: &mut impl Read, buffer: &mut [u8]) -> Result<bool> {
    match input.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn encode_row(id: RowId, row: &VectorRow) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(64 + row.key.len() + row.vector.bytes.len());
    for number in [id.get(), row.created_at, row.updated_at] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&row.vector.dim.to_le_bytes());
    let params: Vec<u8> = row
        .vector
        .params
        .iter()
        .flat_map(|p| p.to_le_bytes())
        .collect();
    let metadata = serde_json::to_vec(&row.metadata)?;
    let codec = row.vector.codec.as_str().as_bytes();
    for part in [codec, &row.key, &params, &row.vector.bytes, &metadata] {
        out.extend_from_slice(&(part.len() as u32).to_le_bytes());
        out.extend_from_slice(part);
    }
    Ok(out)
}

fn decode_row(body: &[u8]) -> Result<(RowId, VectorRow)> {
    let mut body = Cut(body);
    let id = RowId::new(u64::from_le_bytes(body.array()?));
    let created_at = u64::from_le_bytes(body.array()?);
    let updated_at = u64::from_le_bytes(body.array()?);
    let dim = u16::from_le_bytes(body.array()?);
    let codec = body.part()?;
    let codec = Codec::ALL
        .into_iter()
        .find(|known| known.as_str().as_bytes() == codec)
        .context("a row of an unknown codec")?;
    let key = body.part()?.to_vec();
    let (params, _) = body.part()?.as_chunks::<4>();
    let params = params.iter().map(|&p| f32::from_le_bytes(p)).collect();
    let bytes = body.part()?.to_vec();
    let metadata: Metadata = serde_json::from_slice(body.part()?)?;
    let vector = EncodedVector {
        codec,
        dim,
        bytes,
        params,
    };
    Ok((
        id,
        VectorRow {
            key,
            vector,
            metadata,
            created_at,
            updated_at,
        },
    ))
}

/// Bytes that parts are cut off from the front of.
struct Cut<'a>(&'a [u8]);

impl<'a> Cut<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk().context("a frame is too short")?;
        self.0 = rest;
        Ok(*array)
    }

    fn part(&mut self) -> Result<&'a [u8]> {
        let len = u32::from_le_bytes(self.array()?) as usize;
        let (part, rest) = self
            .0
            .split_at_checked(len)
            .context("a frame is too short")?;
        self.0 = rest;
        Ok(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> VectorRow {
        VectorRow {
            key: b"k\xff".to_vec(),
            vector: Codec::Int8Quantized
                .encoder()
                .encode(&[0.1, -3.0, 2.0])
                .unwrap(),
            metadata: [("a".to_string(), serde_json::json!([1, 0.1, null]))].into(),
            created_at: 5,
            updated_at: u64::MAX,
        }
    }

    #[test]
    fn frames_go_there_and_back() {
        let frames = [
            Frame::Tables(Vec::new(), vec!["lost".to_string()]),
            Frame::Row(RowId::new(u64::MAX), row()),
            Frame::End { damaged: 3 },
            Frame::Failed("why".to_string()),
        ];
        let mut bytes = Vec::new();
        for frame in &frames {
            write(&mut bytes, frame).unwrap();
        }
        let mut input = bytes.as_slice();
        for frame in &frames {
            assert_eq!(next(&mut input).unwrap().as_ref(), Some(frame));
        }
        assert_eq!(next(&mut input).unwrap(), None);
    }

    #[test]
    fn a_dead_reader_and_a_mad_one() {
        let mut bytes = Vec::new();
        write(&mut bytes, &Frame::Row(RowId::new(1), row())).unwrap();
        for len in 0..bytes.len() {
            assert_eq!(next(&mut &bytes[..len]).unwrap(), None, "{len} bytes");
        }
        let body = encode_row(RowId::new(1), &row()).unwrap();
        for len in 0..body.len() {
            assert!(decode_row(&body[..len]).is_err(), "{len} bytes");
        }
        assert!(next(&mut [255, 255, 255, 255, ROW].as_slice()).is_err());
        assert!(next(&mut [0, 0, 0, 0, b'?'].as_slice()).is_err());
    }
}
