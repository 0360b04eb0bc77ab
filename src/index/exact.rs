//! Exact distances: the one definition that every path, live or reopened, computes bit for bit.
//!
//! A distance is exact when it is computed from the stored form of a row: from its decoded
//! coordinates, or from its codes by a kernel that decodes in the same order of operations.

use crate::distance::Distance;
use crate::encoding::{Codec, EncodedView};
use crate::kernel::{Kernels, Refined, kernels};

/// A query, prepared to be compared with many rows.
pub(crate) struct ExactQuery {
    distance: Distance,
    /// The query; under Cosine its unit vector, or zeros where the query is zero.
    query: Vec<f32>,
    /// Length of `query`: 1 or 0 under Cosine.
    norm: f32,
    kernels: &'static Kernels,
}

impl ExactQuery {
    pub(crate) fn new(distance: Distance, query: &[f32]) -> Self {
        let mut query = query.to_vec();
        let mut norm = norm_of(&query);
        if distance == Distance::Cosine {
            norm = normalise(&mut query, norm);
        }
        Self {
            distance,
            query,
            norm: norm as f32,
            kernels: kernels(),
        }
    }

    /// The coordinates that rows are compared with: a unit vector under Cosine.
    pub(super) fn coordinates(&self) -> &[f32] {
        &self.query
    }

    /// Length of [`Self::coordinates`].
    pub(super) fn norm(&self) -> f32 {
        self.norm
    }

    pub(super) fn distance(&self) -> Distance {
        self.distance
    }

    /// The distance to a row of the query's length.
    pub(crate) fn score_f32(&self, row: &[f32]) -> f32 {
        self.score_f32_with(row, row_norm(self.distance, row))
    }

    /// The distance to a stored row of the query's length. `scratch` holds its decoded form.
    pub(crate) fn score_view(&self, view: EncodedView<'_>, scratch: &mut Vec<f32>) -> f32 {
        if view.codec != Codec::Int8Quantized {
            decode(view, scratch);
            return self.score_f32(scratch);
        }
        let mut norm = 0.0;
        if self.distance == Distance::Cosine {
            decode(view, scratch);
            norm = row_norm(self.distance, scratch);
        }
        self.score_view_with(view, norm, scratch)
    }

    /// As [`Self::score_f32`], for a row whose [`row_norm`] is known.
    pub(super) fn score_f32_with(&self, row: &[f32], norm: f32) -> f32 {
        match self.distance {
            Distance::Euclidean => (self.kernels.l2_squared)(&self.query, row).sqrt(),
            Distance::Cosine => self.cosine((self.kernels.dot)(&self.query, row), norm),
            Distance::DotProduct => -(self.kernels.dot)(&self.query, row),
        }
    }

    /// As [`Self::score_view`], for a row whose [`row_norm`] is known.
    pub(super) fn score_view_with(
        &self,
        view: EncodedView<'_>,
        norm: f32,
        scratch: &mut Vec<f32>,
    ) -> f32 {
        if view.codec != Codec::Int8Quantized {
            decode(view, scratch);
            return self.score_f32_with(scratch, norm);
        }
        match view.int8_refined() {
            Some(row) => self.score_refined(&row, norm),
            None => self.score_code(view.bytes, view.params[0], view.params[1], norm),
        }
    }

    /// The distance to a row that is its code and no more, whose [`row_norm`] is known. `codes` has
    /// as many bytes as the query has coordinates, or padding behind them.
    pub(super) fn score_code(&self, codes: &[u8], min: f32, scale: f32, norm: f32) -> f32 {
        let dot = || (self.kernels.dot_u8)(&self.query, codes, min, scale);
        match self.distance {
            Distance::Euclidean => {
                (self.kernels.l2_squared_u8)(&self.query, codes, min, scale).sqrt()
            }
            Distance::Cosine => self.cosine(dot(), norm),
            Distance::DotProduct => -dot(),
        }
    }

    /// The distance to a row of the query's length whose [`row_norm`] is known.
    pub(super) fn score_refined(&self, row: &Refined<'_>, norm: f32) -> f32 {
        let dot = || (self.kernels.dot_refined)(&self.query, row);
        match self.distance {
            Distance::Euclidean => (self.kernels.l2_squared_refined)(&self.query, row).sqrt(),
            Distance::Cosine => self.cosine(dot(), norm),
            Distance::DotProduct => -dot(),
        }
    }

    fn cosine(&self, dot: f32, norm: f32) -> f32 {
        if norm == 0.0 || self.norm == 0.0 {
            return 1.0;
        }
        1.0 - (dot / norm).clamp(-1.0, 1.0)
    }
}

/// Length of a decoded row under Cosine; other distances have no use for it and get 0.
pub(super) fn row_norm(distance: Distance, row: &[f32]) -> f32 {
    match distance {
        Distance::Cosine => norm_of(row) as f32,
        Distance::Euclidean | Distance::DotProduct => 0.0,
    }
}

/// Length of a vector, summed in eight lanes of `f64` in a fixed order.
pub(super) fn norm_of(vector: &[f32]) -> f64 {
    let mut lanes = [0.0f64; 8];
    for chunk in vector.chunks(lanes.len()) {
        for (lane, &value) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(value) * f64::from(value);
        }
    }
    lanes.iter().sum::<f64>().sqrt()
}

/// Scales `vector`, of this length, to the length that is returned: 1, or 0 for a zero vector.
fn normalise(vector: &mut [f32], norm: f64) -> f64 {
    if norm == 0.0 {
        return 0.0;
    }
    for value in vector {
        *value = (f64::from(*value) / norm) as f32;
    }
    1.0
}

/// Decodes a row that has been validated into `out`.
pub(super) fn decode(view: EncodedView<'_>, out: &mut Vec<f32>) {
    out.clear();
    out.resize(usize::from(view.dim), 0.0);
    let decoded = view.decode_into(out);
    debug_assert!(decoded.is_ok(), "a row of the index fits its codec");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn codes_and_floats_score_alike(
            row in proptest::collection::vec(-3.0f32..3.0, 70),
            query in proptest::collection::vec(-3.0f32..3.0, 70),
        ) {
            for codec in [Codec::F32, Codec::Fp16, Codec::Int8Quantized] {
                let stored = codec.encoder().encode(&row).unwrap();
                let decoded = stored.decode().unwrap();
                for distance in [Distance::Euclidean, Distance::Cosine, Distance::DotProduct] {
                    let exact = ExactQuery::new(distance, &query);
                    let score = exact.score_view(stored.view(), &mut Vec::new());
                    prop_assert_eq!(score.to_bits(), exact.score_f32(&decoded).to_bits());
                }
            }
        }
    }

    #[test]
    fn zero_vectors_are_at_cosine_distance_one() {
        let exact = ExactQuery::new(Distance::Cosine, &[0.0, 0.0]);
        assert_eq!(exact.score_f32(&[1.0, 2.0]).to_bits(), 1.0f32.to_bits());
        let exact = ExactQuery::new(Distance::Cosine, &[3.0, 4.0]);
        assert_eq!(exact.score_f32(&[0.0, 0.0]).to_bits(), 1.0f32.to_bits());
        assert!(exact.score_f32(&[6.0, 8.0]).abs() < 1e-6);
    }
}
