//! Codecs: how a vector becomes bytes on disk and what comes back.
//!
//! | codec | bytes per coordinate | largest error of one coordinate |
//! |---|---|---|
//! | [`Codec::F32`], `Turbovec*` | 4 | 0 |
//! | [`Codec::Fp16`] | 2 | 2^-11 of the value, or 2^-25 below 2^-14 |
//! | [`Codec::Int8Quantized`] | 1.25, beyond 256 coordinates 1.2, beyond 512 1; and 8 a vector | (max - min) / 2,040, beyond 256 / 1,530, beyond 512 / 510; and 2^-21 of the largest |
//!
//! "The largest" is the largest absolute value of the vector: what `f32` rounds away in
//! `min + scale * code`. A vector whose coordinates are all within 3e-36 of each other is stored
//! as constant.
//!
//! The `Turbovec*` codecs store the `f32` row: their 2, 3 or 4 bits are what stays in memory, and
//! the row on disk is what hits are re-ranked from.

mod fp16;
mod full;
mod int8;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub(crate) use self::int8::{code as int8_code, range as int8_range};
pub use crate::error::EncodingError;
use crate::kernel::Refined;
use crate::limits;

/// How a table stores its vectors.
///
/// Serialised in snake case (`"int8_quantized"`, `"turbovec_4bit"`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Codec {
    /// 32-bit floats, lossless.
    F32,
    /// One byte per coordinate between the vector's own minimum and maximum, in vectors of
    /// up to 256 coordinates to a quarter of a step, of up to 512 to a third.
    Int8Quantized,
    /// IEEE half floats, for coordinates up to 65,504.
    Fp16,
    /// 32-bit floats on disk, 2 bits per coordinate in memory.
    #[serde(rename = "turbovec_2bit")]
    Turbovec2Bit,
    /// 32-bit floats on disk, 3 bits per coordinate in memory.
    #[serde(rename = "turbovec_3bit")]
    Turbovec3Bit,
    /// 32-bit floats on disk, 4 bits per coordinate in memory.
    #[serde(rename = "turbovec_4bit")]
    Turbovec4Bit,
}

impl Codec {
    /// Every codec of this version.
    pub const ALL: [Self; 6] = [
        Self::F32,
        Self::Int8Quantized,
        Self::Fp16,
        Self::Turbovec2Bit,
        Self::Turbovec3Bit,
        Self::Turbovec4Bit,
    ];

    /// The encoder and decoder of this codec.
    ///
    /// ```
    /// use vecstash::Codec;
    /// let encoder = Codec::Int8Quantized.encoder();
    /// let encoded = encoder.encode(&[0.0, 1.0, 2.55])?;
    /// assert_eq!(encoded.bytes[..3], [0, 100, 255]);
    /// let decoded = encoder.decode(&encoded)?;
    /// assert!((decoded[1] - 1.0).abs() <= 2.55 / 2_040.0 + 1e-6);
    /// # Ok::<(), vecstash::EncodingError>(())
    /// ```
    #[must_use]
    pub fn encoder(self) -> Box<dyn Encoder> {
        Box::new(CodecEncoder(self))
    }

    /// Bits per coordinate that a turbo table keeps in memory, for the `Turbovec*` codecs.
    #[must_use]
    pub const fn turbovec_bits(self) -> Option<usize> {
        match self {
            Self::Turbovec2Bit => Some(2),
            Self::Turbovec3Bit => Some(3),
            Self::Turbovec4Bit => Some(4),
            _ => None,
        }
    }

    /// The name used in schemas, in JSON and by the command.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Int8Quantized => "int8_quantized",
            Self::Fp16 => "fp16",
            Self::Turbovec2Bit => "turbovec_2bit",
            Self::Turbovec3Bit => "turbovec_3bit",
            Self::Turbovec4Bit => "turbovec_4bit",
        }
    }

    /// Bytes that a vector of `dim` coordinates is encoded to, without its parameters. Those of
    /// `Int8Quantized` may have no digits and be shorter.
    #[must_use]
    pub const fn vector_len(self, dim: usize) -> usize {
        match self {
            Self::Int8Quantized => dim + int8::digits_len(dim),
            Self::Fp16 => 2 * dim,
            _ => 4 * dim,
        }
    }

    /// Fewest bytes that a vector of `dim` coordinates takes: those of one without digits.
    pub(crate) const fn vector_len_min(self, dim: usize) -> usize {
        match self {
            Self::Int8Quantized => dim,
            _ => self.vector_len(dim),
        }
    }

    /// Whether a vector of `dim` coordinates has so many bytes.
    const fn fits(self, dim: usize, bytes: usize) -> bool {
        bytes == self.vector_len(dim) || bytes == self.vector_len_min(dim)
    }

    /// Number of `f32` parameters stored beside the bytes.
    #[must_use]
    pub const fn params_len(self) -> usize {
        match self {
            Self::Int8Quantized => 2,
            _ => 0,
        }
    }

    /// Checks that `vector` can be encoded: length, NaN, infinity, magnitude.
    ///
    /// # Errors
    ///
    /// [`EncodingError::Length`], [`EncodingError::NotFinite`] or [`EncodingError::Magnitude`],
    /// with the first coordinate that cannot be encoded.
    pub fn validate(self, vector: &[f32]) -> Result<(), EncodingError> {
        if vector.is_empty() || vector.len() > limits::DIM_MAX {
            return Err(EncodingError::Length { len: vector.len() });
        }
        let max = match self {
            // Values up to 65,520 would round to 65,504 and are refused all the same: a limit one
            // can state beats a few more values.
            Self::Fp16 => limits::FP16_MAX,
            _ => limits::MAGNITUDE_MAX,
        };
        // A NaN compares false, so it is found too.
        let good = |value: &f32| value.abs() <= max;
        if all(vector, good) {
            return Ok(());
        }
        let index = vector.iter().take_while(|value| good(value)).count();
        let value = vector[index];
        if !value.is_finite() {
            return Err(EncodingError::NotFinite { index, value });
        }
        Err(EncodingError::Magnitude {
            index,
            value,
            max,
            codec: self.as_str(),
        })
    }

    /// Encodes `vector` into `out`, reusing its buffers.
    ///
    /// # Errors
    ///
    /// As [`Codec::validate`]; `out` is then left as it was.
    pub fn encode_into(self, vector: &[f32], out: &mut EncodedVector) -> Result<(), EncodingError> {
        self.validate(vector)?;
        out.codec = self;
        out.dim = vector.len() as u16;
        out.bytes.clear();
        out.params.clear();
        match self {
            Self::Int8Quantized => int8::encode(vector, &mut out.bytes, &mut out.params),
            Self::Fp16 => fp16::encode(vector, &mut out.bytes),
            _ => full::encode(vector, &mut out.bytes),
        }
        Ok(())
    }
}

impl std::fmt::Display for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An encoded vector that says itself how to decode it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct EncodedVector {
    /// The codec of `bytes`.
    pub codec: Codec,
    /// Number of coordinates.
    pub dim: u16,
    /// The coordinates: `2 dim` little-endian half floats under `Fp16`, `dim` bytes under
    /// `Int8Quantized`, `4 dim` little-endian floats under all others.
    ///
    /// Behind the `dim` bytes of `Int8Quantized` stand digits, one a coordinate, where `dim` is at most
    /// 512: up to 256 of base four in `dim / 4` bytes, rounded up, beyond of base three in `dim / 5`,
    /// the first of a byte the lowest. They say which part of a step is nearest; those left over in the
    /// last byte are the ones that move nothing. A vector without them is read as if none moved.
    pub bytes: Vec<u8>,
    /// `[min, scale]` under `Int8Quantized` (`value = min + scale * (byte + moved)`, where `moved` is
    /// `(digit - 1) / 3`, or of base four `(digit - 2) / 4` at coordinates 0, 2, 4 and so on and
    /// `(digit - 1) / 4` at the others; within 1e15 in any case), empty otherwise.
    pub params: Vec<f32>,
}

impl EncodedVector {
    /// A vector without coordinates: what a read returns when the vector was not asked for.
    #[must_use]
    pub fn empty(codec: Codec) -> Self {
        Self {
            codec,
            dim: 0,
            bytes: Vec::new(),
            params: Vec::new(),
        }
    }

    /// This vector, borrowed.
    #[must_use]
    pub fn view(&self) -> EncodedView<'_> {
        EncodedView {
            codec: self.codec,
            dim: self.dim,
            bytes: &self.bytes,
            params: &self.params,
        }
    }

    /// The coordinates as floats.
    ///
    /// # Errors
    ///
    /// [`EncodingError::Malformed`] when the fields contradict each other.
    pub fn decode(&self) -> Result<Vec<f32>, EncodingError> {
        let mut out = vec![0.0; usize::from(self.dim)];
        self.view().decode_into(&mut out)?;
        Ok(out)
    }
}

/// An encoded vector whose bytes are somebody else's.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct EncodedView<'a> {
    /// The codec of `bytes`.
    pub codec: Codec,
    /// Number of coordinates.
    pub dim: u16,
    /// As [`EncodedVector::bytes`].
    pub bytes: &'a [u8],
    /// As [`EncodedVector::params`].
    pub params: &'a [f32],
}

impl EncodedView<'_> {
    /// An owned copy.
    #[must_use]
    pub fn to_owned(self) -> EncodedVector {
        EncodedVector {
            codec: self.codec,
            dim: self.dim,
            bytes: self.bytes.to_vec(),
            params: self.params.to_vec(),
        }
    }

    /// The bytes of the code of an `Int8Quantized` vector, and its digits, if it has any.
    pub(crate) fn int8_parts(&self) -> (&[u8], &[u8]) {
        self.bytes.split_at(usize::from(self.dim))
    }

    /// An `Int8Quantized` vector as its code and digits, those that move nothing where it has none;
    /// `None` where vectors of its dimension have none.
    pub(crate) fn int8_refined(&self) -> Option<Refined<'_>> {
        let (codes, own) = self.int8_parts();
        let digits = match own {
            [] => int8::no_digits(codes.len()),
            own => own,
        };
        (!digits.is_empty()).then(|| Refined {
            codes,
            digits,
            min: self.params[0],
            scale: self.params[1],
        })
    }

    /// Appends the digits of an `Int8Quantized` vector to `out`, as many as one of this dimension is
    /// written with.
    pub(crate) fn append_digits(&self, out: &mut Vec<u8>) {
        let end = out.len() + int8::digits_len(usize::from(self.dim));
        out.extend_from_slice(self.int8_parts().1);
        out.resize(end, int8::plain(usize::from(self.dim)));
    }

    /// Appends the bytes to `out`, as many as vectors of this codec and dimension are written with.
    pub(crate) fn append_bytes(&self, out: &mut Vec<u8>) {
        let end = out.len() + self.codec.vector_len(usize::from(self.dim));
        out.extend_from_slice(self.bytes);
        out.resize(end, int8::plain(usize::from(self.dim)));
    }

    /// Checks that lengths fit the codec and that every number is finite and within its limit,
    /// so that nothing decoded from it can be refused later.
    ///
    /// # Errors
    ///
    /// [`EncodingError::Malformed`].
    pub fn validate(self) -> Result<(), EncodingError> {
        let malformed = |detail: String| {
            Err(EncodingError::Malformed {
                codec: self.codec.as_str(),
                dim: self.dim,
                detail,
            })
        };
        let dim = usize::from(self.dim);
        let params = self.codec.params_len();
        if dim == 0 {
            return malformed("it has no coordinates".into());
        }
        if !self.codec.fits(dim, self.bytes.len()) || self.params.len() != params {
            let bytes = self.codec.vector_len(dim);
            let or_fewer = match self.codec.vector_len_min(dim) {
                least if least < bytes => format!(" or {least}"),
                _ => String::new(),
            };
            return malformed(format!(
                "{} bytes and {} parameters, where {bytes}{or_fewer} and {params} belong",
                self.bytes.len(),
                self.params.len()
            ));
        }
        let good = match self.codec {
            Codec::Int8Quantized => int8::is_valid(self.params),
            Codec::Fp16 => fp16::is_valid(self.bytes),
            _ => full::is_valid(self.bytes),
        };
        if !good {
            return malformed("a coordinate is not finite or beyond its limit".into());
        }
        Ok(())
    }

    /// Decodes into `out`, which has `dim` places.
    ///
    /// # Errors
    ///
    /// [`EncodingError::Malformed`] when lengths do not fit; `out` is then left as it was.
    pub fn decode_into(self, out: &mut [f32]) -> Result<(), EncodingError> {
        let dim = usize::from(self.dim);
        if out.len() != dim
            || !self.codec.fits(dim, self.bytes.len())
            || self.params.len() != self.codec.params_len()
        {
            return Err(EncodingError::Malformed {
                codec: self.codec.as_str(),
                dim: self.dim,
                detail: format!(
                    "{} bytes and {} parameters for {} places",
                    self.bytes.len(),
                    self.params.len(),
                    out.len()
                ),
            });
        }
        match self.codec {
            Codec::Int8Quantized => int8::decode(self, out),
            Codec::Fp16 => fp16::decode(self.bytes, out),
            _ => full::decode(self.bytes, out),
        }
        Ok(())
    }
}

/// Encodes and decodes vectors of one codec.
pub trait Encoder: Send + Sync {
    /// The codec.
    fn codec(&self) -> Codec;

    /// Encodes `vector`.
    ///
    /// # Errors
    ///
    /// As [`Codec::validate`].
    fn encode(&self, vector: &[f32]) -> Result<EncodedVector, EncodingError>;

    /// Decodes `encoded` into `dim` floats.
    ///
    /// # Errors
    ///
    /// [`EncodingError::CodecMismatch`] or [`EncodingError::Malformed`].
    fn decode(&self, encoded: &EncodedVector) -> Result<Vec<f32>, EncodingError>;
}

/// Whether all items pass, asked of many at once: stopping at the first that fails would take a
/// branch an item.
fn all<T>(items: &[T], passes: impl Fn(&T) -> bool) -> bool {
    items
        .chunks(64)
        .all(|chunk| chunk.iter().fold(true, |good, item| good & passes(item)))
}

struct CodecEncoder(Codec);

impl Encoder for CodecEncoder {
    fn codec(&self) -> Codec {
        self.0
    }

    fn encode(&self, vector: &[f32]) -> Result<EncodedVector, EncodingError> {
        let mut out = EncodedVector::empty(self.0);
        self.0.encode_into(vector, &mut out)?;
        Ok(out)
    }

    fn decode(&self, encoded: &EncodedVector) -> Result<Vec<f32>, EncodingError> {
        if encoded.codec != self.0 {
            return Err(EncodingError::CodecMismatch {
                expected: self.0.as_str(),
                got: encoded.codec.as_str(),
            });
        }
        encoded.view().validate()?;
        encoded.decode()
    }
}
