//! What stays in memory of the rows' stored form, by slot, and the distances scored from it.

use super::IndexSpec;
use super::arena::Arena;
use super::codes::{Geometry, Point};
use super::exact::{ExactQuery, decode, norm_of, row_norm};
use super::topk::Estimate;
use crate::distance::Distance;
use crate::encoding::{Codec, EncodedView};
use crate::ids::Slot;
use crate::schema::{IndexKind, Residence};

/// What a record holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// Nothing: the row's code is its stored form.
    Code,
    /// The stored bytes, the codec's parameters and, under Cosine, the length of the row.
    Full,
    /// A residual byte per coordinate, the length of what code and residual still miss, and the
    /// length of the row.
    Compact,
}

/// Records of equal length by slot.
pub(super) struct Stored {
    form: Form,
    codec: Codec,
    geometry: Geometry,
    records: Arena<u8>,
}

impl Stored {
    pub(super) fn new(spec: &IndexSpec) -> Self {
        let form = match (spec.kind, spec.codec, spec.resident) {
            (IndexKind::Flat, _, _) => Form::Full,
            (_, Codec::Int8Quantized, _) => Form::Code,
            (_, _, Residence::Full) => Form::Full,
            (_, _, Residence::Compact) => Form::Compact,
        };
        let norm = if spec.distance == Distance::Cosine {
            4
        } else {
            0
        };
        let len = match form {
            Form::Code => 0,
            Form::Full => spec.codec.vector_len(spec.dim) + 4 * spec.codec.params_len() + norm,
            Form::Compact => spec.dim + 8,
        };
        Self {
            form,
            codec: spec.codec,
            geometry: Geometry::new(spec.dim, spec.distance),
            records: Arena::new(len, 0),
        }
    }

    /// Whether rows with equal codes are equal, so that one distance serves all of them.
    pub(super) fn is_code(&self) -> bool {
        self.form == Form::Code
    }

    /// The record of a row; `code` is its code.
    pub(super) fn record(&self, view: EncodedView<'_>, code: Point<'_>) -> Vec<u8> {
        match self.form {
            Form::Code => Vec::new(),
            Form::Full => self.full_record(view),
            Form::Compact => compact_record(view, code),
        }
    }

    /// The record of a row that has no code beside it.
    pub(super) fn full_record(&self, view: EncodedView<'_>) -> Vec<u8> {
        let mut record = view.bytes.to_vec();
        for param in view.params {
            record.extend(param.to_le_bytes());
        }
        if self.geometry.distance == Distance::Cosine {
            let mut row = Vec::new();
            decode(view, &mut row);
            record.extend(row_norm(Distance::Cosine, &row).to_le_bytes());
        }
        record
    }

    pub(super) fn put(&mut self, slot: Slot, record: &[u8]) {
        self.records.put(slot.index(), record);
    }

    /// The distance of the row in `slot`, whose code is `code`.
    pub(super) fn score(
        &self,
        query: &ExactQuery,
        slot: Slot,
        code: Point<'_>,
        scratch: &mut Vec<f32>,
    ) -> Estimate {
        match self.form {
            Form::Code => exact(self.score_code(query, code, scratch)),
            Form::Full => exact(self.score_full(query, slot, scratch)),
            Form::Compact => self.estimate(query, slot, code, scratch),
        }
    }

    /// Whether two rows with the same code score alike.
    pub(super) fn are_alike(&self, a: Slot, b: Slot) -> bool {
        self.is_code() || self.records.row(a.index()) == self.records.row(b.index())
    }

    /// The exact distance of a row that was stored as this code.
    fn score_code(&self, query: &ExactQuery, code: Point<'_>, scratch: &mut Vec<f32>) -> f32 {
        let params = [code.terms.min, code.terms.scale];
        let view = EncodedView {
            codec: Codec::Int8Quantized,
            dim: self.geometry.dim as u16,
            bytes: &code.bytes[..self.geometry.dim],
            params: &params,
        };
        query.score_view_with(view, f32::from_bits(code.terms.aux), scratch)
    }

    /// The exact distance of a row whose stored bytes are here.
    pub(super) fn score_full(&self, query: &ExactQuery, slot: Slot, scratch: &mut Vec<f32>) -> f32 {
        let record = self.records.row(slot.index());
        let (bytes, tail) = record.split_at(self.codec.vector_len(self.geometry.dim));
        let (params, norm) = tail.split_at(4 * self.codec.params_len());
        let mut values = [0.0; 2];
        for (value, bytes) in values.iter_mut().zip(params.as_chunks::<4>().0) {
            *value = f32::from_le_bytes(*bytes);
        }
        let view = EncodedView {
            codec: self.codec,
            dim: self.geometry.dim as u16,
            bytes,
            params: &values[..self.codec.params_len()],
        };
        let norm = norm.as_chunks::<4>().0.first();
        query.score_view_with(view, norm.map_or(0.0, |b| f32::from_le_bytes(*b)), scratch)
    }

    /// The distance from code and residual, with a bound on what it misses.
    fn estimate(
        &self,
        query: &ExactQuery,
        slot: Slot,
        code: Point<'_>,
        scratch: &mut Vec<f32>,
    ) -> Estimate {
        let (residuals, tail) = self.records.row(slot.index()).split_at(self.geometry.dim);
        let [error, norm] = compact_tail(tail);
        approximate(code, residuals, scratch);
        let distance = query.score_f32_with(scratch, norm);
        // Two sums of `dim` products in `f32`, this one and the exact one, each in 32 lanes.
        let rounding = (self.geometry.dim as f32 / 32.0 + 16.0) * f32::EPSILON;
        let slack = match query.distance() {
            Distance::Euclidean => error + rounding * (distance + error),
            Distance::Cosine if norm == 0.0 => 0.0,
            Distance::Cosine => error / norm + 2.0 * rounding,
            Distance::DotProduct => query.norm() * (error + rounding * (norm + error)),
        };
        // Some way from zero, so that an estimate is never taken for an exact distance.
        Estimate {
            distance,
            slack: slack * 1.001 + f32::MIN_POSITIVE,
        }
    }

    /// Whether the row in `slot`, whose code is `code`, was stored as `view`, as far as memory
    /// can tell.
    pub(super) fn holds(&self, slot: Slot, view: EncodedView<'_>, code: Point<'_>) -> bool {
        match self.form {
            Form::Code => {
                view.bytes == &code.bytes[..self.geometry.dim]
                    && view.params[0].to_bits() == code.terms.min.to_bits()
                    && view.params[1].to_bits() == code.terms.scale.to_bits()
            }
            Form::Full => self.holds_full(slot, view),
            Form::Compact => false,
        }
    }

    /// As [`Self::holds`], where the stored bytes are here.
    pub(super) fn holds_full(&self, slot: Slot, view: EncodedView<'_>) -> bool {
        let record = self.records.row(slot.index());
        let (bytes, tail) = record.split_at(self.codec.vector_len(self.geometry.dim));
        let params = view.params.iter().flat_map(|param| param.to_le_bytes());
        bytes == view.bytes && params.eq(tail[..4 * self.codec.params_len()].iter().copied())
    }

    /// The record in a slot.
    pub(super) fn bytes(&self, slot: Slot) -> &[u8] {
        self.records.row(slot.index())
    }

    /// Makes room for this many rows, where there are none yet.
    pub(super) fn reserve(&mut self, rows: usize) {
        self.records.reserve(rows);
    }

    /// Allocated bytes.
    pub(super) fn memory(&self) -> usize {
        self.records.memory()
    }
}

fn exact(distance: f32) -> Estimate {
    Estimate {
        distance,
        slack: 0.0,
    }
}

/// Residual bytes, the length of what they still miss, and the length of the row.
fn compact_record(view: EncodedView<'_>, code: Point<'_>) -> Vec<u8> {
    let (mut row, mut near) = (Vec::new(), vec![0.0; usize::from(view.dim)]);
    decode(view, &mut row);
    let scale = code.terms.scale;
    let residual = |(&value, &byte): (&f32, &u8)| {
        let coarse = code.terms.min + scale * f32::from(byte);
        let part = if scale == 0.0 {
            0.0
        } else {
            (value - coarse) / scale
        };
        // The cast saturates at 0 and 255.
        ((part + 0.5) * 255.0 + 0.5) as u8
    };
    let mut record: Vec<u8> = row.iter().zip(code.bytes).map(residual).collect();
    approximate(code, &record, &mut near);
    // Measured rather than derived: whatever rounding did on the way is in it.
    let missed: Vec<f32> = row.iter().zip(&near).map(|(x, near)| x - near).collect();
    record.extend(above(norm_of(&missed)).to_le_bytes());
    record.extend((norm_of(&row) as f32).to_le_bytes());
    record
}

/// The smallest convenient `f32` that is not below `value`.
fn above(value: f64) -> f32 {
    (value * (1.0 + 1e-6)) as f32
}

fn compact_tail(tail: &[u8]) -> [f32; 2] {
    let mut values = [0.0; 2];
    for (value, bytes) in values.iter_mut().zip(tail.as_chunks::<4>().0) {
        *value = f32::from_le_bytes(*bytes);
    }
    values
}

/// The vector that code and residuals stand for.
fn approximate(code: Point<'_>, residuals: &[u8], out: &mut Vec<f32>) {
    let Point { bytes, terms } = code;
    let (low, step) = (terms.min - 0.5 * terms.scale, terms.scale / 255.0);
    out.clear();
    out.extend(bytes.iter().zip(residuals).map(|(&byte, &residual)| {
        low + terms.scale * f32::from(byte) + step * f32::from(residual)
    }));
}
