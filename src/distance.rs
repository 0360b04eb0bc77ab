//! The distances a table can be searched by: their orientation and their units.

use serde::{Deserialize, Serialize};

/// How far apart two vectors are. Smaller is closer, for every variant.
///
/// Serialised in snake case (`"euclidean"`, `"cosine"`, `"dot_product"`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Distance {
    /// The true L2 distance, with the square root, in the units of the vectors. In `[0, inf)`.
    Euclidean,
    /// `1 - cos(a, b)`, in `[0, 2]`. A zero vector is at distance 1 from everything.
    Cosine,
    /// The negated inner product `-(a . b)`, so that the largest product comes first.
    /// Unbounded on both sides; not a metric.
    DotProduct,
}

impl Distance {
    /// The name used in schemas, in JSON and by the command.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Euclidean => "euclidean",
            Self::Cosine => "cosine",
            Self::DotProduct => "dot_product",
        }
    }
}

impl std::fmt::Display for Distance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
