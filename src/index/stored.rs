//! What stays in memory of the rows' stored form, by slot, and the distances scored from it.

use super::IndexSpec;
use super::arena::Arena;
use super::codes::{Geometry, Point, Terms};
use super::exact::{ExactQuery, decode, norm_of, row_norm};
use super::topk::Estimate;
use crate::distance::Distance;
use crate::encoding::{Codec, EncodedView};
use crate::ids::Slot;
use crate::kernel::{self, Refined, prefetch};
use crate::limits::{INT8_REFINED_DIM_MAX, MAGNITUDE_MAX};
use crate::schema::{IndexKind, Residence};

/// What a record holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Form {
    /// Nothing: the row's code is its stored form.
    Code,
    /// The stored bytes, the codec's parameters and, under Cosine, the length of the row.
    Full,
    /// The digits of the row's code and, under Cosine, the length of the row.
    Digits,
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
            (_, Codec::Int8Quantized, _) if spec.dim > INT8_REFINED_DIM_MAX => Form::Code,
            (_, Codec::Int8Quantized, _) => Form::Digits,
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
            Form::Digits => spec.codec.vector_len(spec.dim) - spec.dim + norm,
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

    /// Whether a code alone tells how far its rows are at least.
    pub(super) fn bounds_by_code(&self) -> bool {
        matches!(self.form, Form::Code | Form::Digits)
    }

    /// The record of a row; `code` is its code.
    pub(super) fn record(&self, view: EncodedView<'_>, code: Point<'_>) -> Vec<u8> {
        match self.form {
            Form::Code => Vec::new(),
            Form::Full => self.full_record(view),
            Form::Digits => {
                let mut record = Vec::with_capacity(self.records.stride());
                view.append_digits(&mut record);
                self.with_norm(record, view)
            }
            Form::Compact => compact_record(view, code),
        }
    }

    /// The record of a row that has no code beside it.
    pub(super) fn full_record(&self, view: EncodedView<'_>) -> Vec<u8> {
        let mut record = Vec::with_capacity(self.records.stride());
        view.append_bytes(&mut record);
        for param in view.params {
            record.extend(param.to_le_bytes());
        }
        self.with_norm(record, view)
    }

    /// A record with the length of its row behind it where one is kept.
    fn with_norm(&self, mut record: Vec<u8>, view: EncodedView<'_>) -> Vec<u8> {
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
            Form::Code => exact(self.score_code(query, code)),
            Form::Full => exact(self.score_full(query, slot, scratch)),
            Form::Digits => exact(self.score_refined(query, slot, code)),
            Form::Compact => self.estimate(query, slot, code, scratch),
        }
    }

    /// Whether two rows with the same code score alike.
    pub(super) fn are_alike(&self, a: Slot, b: Slot) -> bool {
        self.is_code() || self.records.row(a.index()) == self.records.row(b.index())
    }

    /// The distance of a code, and how far those of its rows may be from it.
    pub(super) fn bound(&self, query: &ExactQuery, code: Point<'_>) -> Estimate {
        let distance = self.score_code(query, code);
        if self.form == Form::Code {
            return exact(distance);
        }
        // No coordinate is farther from its code than half of a step with quarters or a third with
        // thirds, and what rounding makes of both where steps are small beside the values.
        let Terms { min, scale, .. } = *code.terms;
        let reach = min.abs().max((min + 256.0 * scale).abs());
        let rounding = 2.0 * f32::EPSILON * (reach + 256.0 * scale);
        let error = (scale * kernel::reach(self.geometry.dim) + rounding)
            * (self.geometry.dim as f32).sqrt();
        let aux = f32::from_bits(code.terms.aux);
        let (error, norm) = match query.distance() {
            Distance::Euclidean => (error, 0.0),
            // The lengths of row and code differ as well.
            Distance::Cosine => (2.0 * error, aux),
            Distance::DotProduct => (error, aux.max(0.0).sqrt()),
        };
        let slack = match query.distance() {
            // Rows near the origin point anywhere.
            Distance::Cosine if norm <= error => 2.0,
            // Rows end at the limit, and a code that no encoder wrote may not.
            _ if reach > MAGNITUDE_MAX => f32::INFINITY,
            _ => self.slack(query, distance, error, norm),
        };
        Estimate { distance, slack }
    }

    /// How far a distance may be from that of a row which is so far from what was scored, and so
    /// long.
    fn slack(&self, query: &ExactQuery, distance: f32, error: f32, norm: f32) -> f32 {
        // Two sums of `dim` products in `f32`, this one and the exact one, each in 32 lanes.
        let rounding = (self.geometry.dim as f32 / 32.0 + 16.0) * f32::EPSILON;
        let slack = match query.distance() {
            // Squares of less than about 1e-22 vanish.
            Distance::Euclidean => {
                error + rounding * (distance + error) + 1e-22 * (self.geometry.dim as f32).sqrt()
            }
            Distance::Cosine if norm == 0.0 => 0.0,
            Distance::Cosine => error / norm + 2.0 * rounding,
            Distance::DotProduct => query.norm().next_up() * (error + rounding * (norm + error)),
        };
        // Some way from zero, so that an estimate is never taken for an exact distance.
        slack * 1.001 + f32::MIN_POSITIVE
    }

    /// The distance of a row that is this code and no more.
    fn score_code(&self, query: &ExactQuery, code: Point<'_>) -> f32 {
        let Terms {
            min, scale, aux, ..
        } = *code.terms;
        query.score_code(code.bytes, min, scale, f32::from_bits(aux))
    }

    /// The exact distance of a row that was stored as this code and the digits that are here.
    fn score_refined(&self, query: &ExactQuery, slot: Slot, code: Point<'_>) -> f32 {
        let dim = self.geometry.dim;
        let record = self.records.row(slot.index());
        let (digits, norm) = record.split_at(self.codec.vector_len(dim) - dim);
        let Terms { min, scale, .. } = *code.terms;
        let row = Refined {
            codes: &code.bytes[..dim],
            digits,
            min,
            scale,
        };
        query.score_refined(&row, norm_in(norm))
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
        query.score_view_with(view, norm_in(norm), scratch)
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
        let slack = self.slack(query, distance, error, norm);
        Estimate { distance, slack }
    }

    /// Whether the row in `slot`, whose code is `code`, was stored as `view`, as far as memory
    /// can tell.
    pub(super) fn holds(&self, slot: Slot, view: EncodedView<'_>, code: Point<'_>) -> bool {
        match self.form {
            Form::Code => self.is_coded_so(view, code),
            Form::Digits => {
                let mut digits = Vec::new();
                view.append_digits(&mut digits);
                self.is_coded_so(view, code) && self.bytes(slot).starts_with(&digits)
            }
            Form::Full => self.holds_full(slot, view),
            Form::Compact => false,
        }
    }

    fn is_coded_so(&self, view: EncodedView<'_>, code: Point<'_>) -> bool {
        view.int8_parts().0 == &code.bytes[..self.geometry.dim]
            && view.params[0].to_bits() == code.terms.min.to_bits()
            && view.params[1].to_bits() == code.terms.scale.to_bits()
    }

    /// As [`Self::holds`], where the stored bytes are here.
    pub(super) fn holds_full(&self, slot: Slot, view: EncodedView<'_>) -> bool {
        let mut wanted = Vec::with_capacity(self.records.stride());
        view.append_bytes(&mut wanted);
        wanted.extend(view.params.iter().flat_map(|param| param.to_le_bytes()));
        self.bytes(slot).starts_with(&wanted)
    }

    /// Asks for what scoring the row in a slot will read.
    #[inline]
    pub(super) fn prefetch(&self, slot: Slot) {
        if slot.index() < self.records.rows()
            && let [first @ .., last] = self.records.row(slot.index())
        {
            // Records begin anywhere in a line.
            prefetch(first);
            prefetch(std::slice::from_ref(last));
        }
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

/// The length of a row at the end of its record, 0 where none is kept.
fn norm_in(tail: &[u8]) -> f32 {
    let norm = tail.as_chunks::<4>().0.first();
    norm.map_or(0.0, |bytes| f32::from_le_bytes(*bytes))
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
