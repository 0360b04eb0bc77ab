//! The coordinates a turbo table scans: how rows, queries and scores translate into turbovec's.
//!
//! turbovec estimates inner products. Cosine feeds it unit vectors. Inner product feeds it rows
//! over their root-mean-square norm, so that its smallest and largest norms are far from any row.
//! Euclidean feeds it `[y, (1 - |y|^2) / (2s)]` with `y = (x - mean) / rms`, and asks with
//! `[z, s]`: the product is `(|z|^2 + 1 - |y - z|^2) / 2`, which orders rows by distance.

use crate::distance::Distance;
use crate::error::IndexError;
use crate::schema::TurboFit;

/// The extra coordinate of a query, `s` above. Recall@10 over 2, 3 and 4 bits on MiniLM, GloVe and
/// SIFT, re-ranking 10 and 30: .848 and .992 with 0.5, .856 and .992 with 0.35, .850 and .991
/// with 0.25.
const TAIL: f64 = 0.35;

/// Largest coordinate handed to turbovec, which refuses 1e16.
const COORDINATE_MAX: f64 = 1e15;

/// What coordinates are padded to. turbovec takes multiples of 8, but its fast layout for tables
/// of 32,768 rows and more, of 2 and 4 bits only, asks for this: four times the speed for at most
/// twelve bytes more a row.
const WIDTH_STEP: usize = 32;

/// The translation for one table.
pub(super) struct Frame {
    distance: Distance,
    /// Empty where nothing is subtracted.
    mean: Vec<f64>,
    /// What one unit of turbovec's coordinates is in those of the rows.
    unit: f64,
    width: usize,
}

/// A query ready for turbovec, and what turns its scores into distances.
pub(super) struct Query {
    pub(super) coordinates: Vec<f32>,
    /// The length of the query in turbovec's coordinates.
    norm: f64,
}

impl Frame {
    pub(super) fn new(
        dim: usize,
        distance: Distance,
        fit: Option<&TurboFit>,
    ) -> Result<Self, IndexError> {
        let mut mean = Vec::new();
        let mut unit = 1.0;
        if let Some(fit) = fit.filter(|_| distance != Distance::Cosine) {
            let finite = fit.mean.iter().all(|value| value.is_finite());
            if fit.mean.len() != dim || !finite || !(0.0..=f32::MAX).contains(&fit.rms) {
                return Err(IndexError::Turbo {
                    detail: format!(
                        "fit {} has {} coordinates and norm {}, where {dim} finite ones belong",
                        fit.generation,
                        fit.mean.len(),
                        fit.rms
                    ),
                });
            }
            if distance == Distance::Euclidean {
                mean = fit.mean.iter().map(|&value| f64::from(value)).collect();
            }
            // Rows that are all alike have no scale of their own.
            if fit.rms > 0.0 {
                unit = f64::from(fit.rms);
            }
        }
        let tail = usize::from(distance == Distance::Euclidean);
        Ok(Self {
            distance,
            mean,
            unit,
            width: (dim + tail).next_multiple_of(WIDTH_STEP),
        })
    }

    /// Coordinates of one row as turbovec sees it.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Appends the coordinates of a row, each of them within turbovec's bounds whatever the row.
    pub(super) fn push_row(&self, row: &[f32], out: &mut Vec<f32>) {
        let start = out.len();
        let (squares, peak) = self.measure(row);
        let (factor, tail) = match self.distance {
            Distance::Cosine if squares > 0.0 => (1.0 / squares.sqrt(), None),
            Distance::Cosine => (0.0, None),
            Distance::DotProduct => (bounded(peak), None),
            Distance::Euclidean => {
                let tail = (1.0 - squares) / (2.0 * TAIL);
                // Shrinking the row as a whole keeps the sign of its score: far stays far.
                let factor = bounded(peak.max(tail.abs()));
                (factor, Some(factor * tail))
            }
        };
        self.push_scaled(row, factor, out);
        out.extend(tail.map(|tail| tail as f32));
        out.resize(start + self.width, 0.0);
    }

    /// The coordinates that ask for the nearest rows of `query`: of unit length, so that neither
    /// a huge nor a tiny query leaves the range of `f32`.
    pub(super) fn query(&self, query: &[f32]) -> Query {
        let (mut squares, _) = self.measure(query);
        let tail = (self.distance == Distance::Euclidean).then_some(TAIL);
        squares += tail.map_or(0.0, |tail| tail * tail);
        let norm = squares.sqrt();
        let factor = if norm > 0.0 { 1.0 / norm } else { 0.0 };
        let mut coordinates = Vec::with_capacity(self.width);
        self.push_scaled(query, factor, &mut coordinates);
        coordinates.extend(tail.map(|tail| (factor * tail) as f32));
        coordinates.resize(self.width, 0.0);
        Query { coordinates, norm }
    }

    /// What a score says about the distance, in the table's units.
    pub(super) fn estimate(&self, query: &Query, score: f32) -> f32 {
        let score = f64::from(score);
        let estimate = match self.distance {
            Distance::Cosine => 1.0 - score,
            // One unit for the row and one for the query.
            Distance::DotProduct => -score * query.norm * self.unit * self.unit,
            Distance::Euclidean => {
                let squared =
                    query.norm * query.norm - TAIL * TAIL + 1.0 - 2.0 * score * query.norm;
                squared.max(0.0).sqrt() * self.unit
            }
        };
        estimate as f32
    }

    /// The sum of the squares and the largest absolute value, in turbovec's coordinates.
    fn measure(&self, row: &[f32]) -> (f64, f64) {
        // Eight sums side by side, because one would wait for itself at every coordinate.
        let (mut squares, mut peaks) = ([0.0f64; 8], [0.0f64; 8]);
        let scale = 1.0 / self.unit;
        let mut add = |lane: usize, value: f64| {
            squares[lane] += value * value;
            peaks[lane] = peaks[lane].max(value.abs());
        };
        if self.mean.is_empty() {
            for chunk in row.chunks(8) {
                for (lane, &value) in chunk.iter().enumerate() {
                    add(lane, f64::from(value) * scale);
                }
            }
        } else {
            for (chunk, means) in row.chunks(8).zip(self.mean.chunks(8)) {
                for (lane, (&value, mean)) in chunk.iter().zip(means).enumerate() {
                    add(lane, (f64::from(value) - mean) * scale);
                }
            }
        }
        (squares.iter().sum(), peaks.into_iter().fold(0.0, f64::max))
    }

    fn push_scaled(&self, row: &[f32], factor: f64, out: &mut Vec<f32>) {
        let scale = factor / self.unit;
        if self.mean.is_empty() {
            out.extend(row.iter().map(|&value| (f64::from(value) * scale) as f32));
        } else {
            let centred = row.iter().zip(&self.mean);
            out.extend(centred.map(|(&value, mean)| ((f64::from(value) - mean) * scale) as f32));
        }
    }
}

/// What brings a coordinate of this size within turbovec's bounds.
fn bounded(peak: f64) -> f64 {
    if peak > COORDINATE_MAX {
        COORDINATE_MAX / peak
    } else {
        1.0
    }
}

/// Measures where a table's rows lie, in one pass. The order of the rows decides the last bits,
/// so the store adds them in the order of their keys.
pub(crate) struct FitAccumulator {
    centred: bool,
    rows: u64,
    /// The first row: sums of differences from it do not cancel when all rows are far from zero.
    origin: Vec<f64>,
    sums: Vec<f64>,
    squares: f64,
}

impl FitAccumulator {
    pub(crate) fn new(dim: usize, distance: Distance) -> Self {
        Self {
            centred: distance == Distance::Euclidean,
            rows: 0,
            origin: vec![0.0; dim],
            sums: vec![0.0; dim],
            squares: 0.0,
        }
    }

    pub(crate) fn add(&mut self, row: &[f32]) {
        debug_assert_eq!(row.len(), self.sums.len());
        if self.rows == 0 && self.centred {
            self.origin = row.iter().map(|&value| f64::from(value)).collect();
        }
        self.rows += 1;
        for ((&value, origin), sum) in row.iter().zip(&self.origin).zip(&mut self.sums) {
            let difference = f64::from(value) - origin;
            *sum += difference;
            self.squares += difference * difference;
        }
    }

    /// The fit under this generation. Without rows it changes nothing.
    pub(crate) fn finish(self, generation: u64) -> TurboFit {
        let rows = self.rows.max(1) as f64;
        let mut variance = self.squares / rows;
        let mut mean = vec![0.0; self.sums.len()];
        if self.centred {
            for ((place, sum), origin) in mean.iter_mut().zip(&self.sums).zip(&self.origin) {
                let offset = sum / rows;
                variance -= offset * offset;
                *place = (origin + offset) as f32;
            }
        }
        TurboFit {
            generation,
            rows: self.rows,
            mean,
            rms: variance.max(0.0).sqrt() as f32,
        }
    }
}
