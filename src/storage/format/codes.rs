//! The numbers that stand for codecs, distances, kinds of index and residences on disk.

use crate::distance::Distance;
use crate::encoding::Codec;
use crate::schema::{IndexKind, Residence};

/// Explicit codes both ways: the order of a public enum is never what is on disk.
macro_rules! codes {
    ($to:ident, $from:ident, $type:ident, $what:literal, $($variant:ident = $code:literal),+) => {
        pub(super) fn $to(value: $type) -> u8 {
            match value {
                $($type::$variant => $code,)+
            }
        }

        pub(super) fn $from(code: u8) -> Result<$type, String> {
            match code {
                $($code => Ok($type::$variant),)+
                _ => Err(format!(concat!("unknown ", $what, " code {}"), code)),
            }
        }
    };
}

codes!(
    codec_code,
    codec_of,
    Codec,
    "codec",
    F32 = 1,
    Int8Quantized = 2,
    Fp16 = 3,
    Turbovec2Bit = 4,
    Turbovec3Bit = 5,
    Turbovec4Bit = 6
);
codes!(
    distance_code,
    distance_of,
    Distance,
    "distance",
    Euclidean = 1,
    Cosine = 2,
    DotProduct = 3
);
codes!(
    index_code,
    index_of,
    IndexKind,
    "index",
    Auto = 1,
    Hnsw = 2,
    Turbo = 3,
    Flat = 4
);
codes!(
    residence_code,
    residence_of,
    Residence,
    "residence",
    Compact = 1,
    Full = 2
);
