//! What a table is: the schema every program of the seed's face writes, the options beyond it,
//! and the parameters fitted to a turbo table's rows.

use serde::{Deserialize, Serialize};

use crate::distance::Distance;
use crate::encoding::Codec;
use crate::error::StoreError;
use crate::ids::TableId;
use crate::limits;

/// Per-table schema, frozen when the table is created.
///
/// ```
/// use vecstash::{Codec, Distance, HnswParams, TableSchema};
/// let schema = TableSchema {
///     name: "answers".to_string(),
///     dim: 384,
///     codec: Codec::Int8Quantized,
///     distance: Distance::Cosine,
///     hnsw: HnswParams::default(),
/// };
/// assert_eq!(schema.hnsw.m0, 32);
/// ```
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TableSchema {
    /// Table name: 1 to 255 bytes of UTF-8 without control characters.
    pub name: String,
    /// Number of coordinates of every vector, 1 to 65,535.
    pub dim: u16,
    /// How vectors are stored on disk.
    pub codec: Codec,
    /// Which distance searches use.
    pub distance: Distance,
    /// Graph parameters. Checked for every table, used by HNSW tables.
    pub hnsw: HnswParams,
}

/// Parameters of an HNSW graph (Malkov and Yashunin, arXiv 1603.09320, section 4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HnswParams {
    /// Links a new node chooses on every layer, and most links on layers above 0. 2 to 256.
    pub m: usize,
    /// Most links on layer 0. `m` to 256.
    pub m0: usize,
    /// Size of the candidate pool of a row that is inserted by itself. A build of many rows compares
    /// each with more others the larger this is, up to 400 to 640: the fewer rows, the sooner all
    /// that helps is done. 1 to 10,000.
    pub ef_construction: usize,
    /// Size of the candidate pool of a search that names none. 1 to 10,000.
    pub ef_search: usize,
    /// Seed of the level draw. Any value: levels are a hash of the seed and the row's id.
    pub seed: u64,
}

impl Default for HnswParams {
    fn default() -> Self {
        Self {
            m: 16,
            m0: 32,
            ef_construction: 200,
            ef_search: 50,
            seed: 0x7665_6373_7461_7368,
        }
    }
}

/// Which index a table keeps in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum IndexKind {
    /// What the codec implies: turbo for `Turbovec*` codecs, HNSW for all others.
    #[default]
    Auto,
    /// A hierarchical navigable small world graph over 8-bit codes.
    Hnsw,
    /// A scan of 2, 3 or 4 bit codes, re-ranked from the stored rows.
    Turbo,
    /// An exact scan of the stored form.
    Flat,
}

/// What an HNSW table with a lossless or half-float codec keeps in memory beside its graph.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Residence {
    /// An 8-bit code and an 8-bit residual per coordinate. The distances of the hits are then
    /// computed from their stored rows, one read each.
    #[default]
    Compact,
    /// The stored form itself beside the code: more memory, and no read of a row per hit.
    Full,
}

/// What a table needs beyond its schema. Start from `default()` and set what differs.
///
/// ```
/// use vecstash::{IndexKind, TableOptions};
/// let options = TableOptions::default().index(IndexKind::Flat);
/// assert_eq!(options.index, IndexKind::Flat);
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TableOptions {
    /// Which index the table keeps in memory.
    pub index: IndexKind,
    /// What stays in memory beside an HNSW graph.
    pub resident: Residence,
}

impl TableOptions {
    /// These options with this kind of index.
    #[must_use]
    pub fn index(mut self, index: IndexKind) -> Self {
        self.index = index;
        self
    }

    /// These options with this residence.
    #[must_use]
    pub fn resident(mut self, resident: Residence) -> Self {
        self.resident = resident;
        self
    }
}

/// Where a turbo table's rows lie, measured once they are numerous enough.
///
/// Stored with the schema under a generation and changed only in a transaction, so that two opens
/// of one file encode every row alike.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TurboFit {
    /// Counts the fits of this table, from 1.
    pub generation: u64,
    /// How many rows the fit was measured on.
    pub rows: u64,
    /// Mean of the rows, one value per coordinate. Zero unless the distance is Euclidean.
    pub mean: Vec<f32>,
    /// Root mean square norm of the rows less their mean.
    pub rms: f32,
}

/// Everything the store remembers about a table: what the `schemas` table of the file holds.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TableRecord {
    /// The table's id.
    pub id: TableId,
    /// The schema it was created with.
    pub schema: TableSchema,
    /// The options it was created with.
    pub options: TableOptions,
    /// The latest fit of a turbo table.
    pub turbo: Option<TurboFit>,
}

impl TableRecord {
    /// The index this table keeps: what `IndexKind::Auto` stands for, resolved.
    #[must_use]
    pub fn index_kind(&self) -> IndexKind {
        match self.options.index {
            IndexKind::Auto if self.schema.codec.turbovec_bits().is_some() => IndexKind::Turbo,
            IndexKind::Auto => IndexKind::Hnsw,
            kind => kind,
        }
    }

    /// Checks everything that a table of this description would ever refuse.
    ///
    /// # Errors
    ///
    /// [`StoreError::InvalidTableName`], [`StoreError::InvalidSchema`] or
    /// [`StoreError::Unsupported`], naming the value, the limit and the remedy.
    pub fn validate(&self) -> Result<(), StoreError> {
        let schema = &self.schema;
        validate_name(&schema.name)?;
        let invalid = |what: &'static str, value: String, limit: String, remedy: &'static str| {
            Err(StoreError::InvalidSchema {
                table: schema.name.clone(),
                what,
                value,
                limit,
                remedy,
            })
        };
        if schema.dim == 0 {
            return invalid(
                "dim",
                "0".into(),
                format!("1 to {}", limits::DIM_MAX),
                "give the length of your vectors",
            );
        }
        let p = &schema.hnsw;
        let ranges = [
            ("hnsw.m", p.m, 2, limits::M_MAX),
            ("hnsw.m0", p.m0, p.m, limits::M_MAX),
            ("hnsw.ef_construction", p.ef_construction, 1, limits::EF_MAX),
            ("hnsw.ef_search", p.ef_search, 1, limits::EF_MAX),
        ];
        for (what, value, low, high) in ranges {
            if value < low || value > high {
                return invalid(
                    what,
                    value.to_string(),
                    format!("{low} to {high}"),
                    "start from HnswParams::default()",
                );
            }
        }
        match (self.index_kind(), schema.codec.turbovec_bits()) {
            (IndexKind::Turbo, None) => {
                return invalid(
                    "index",
                    format!("turbo with codec {}", schema.codec),
                    "turbo needs a turbovec codec".into(),
                    "use turbovec_4bit, or IndexKind::Hnsw",
                );
            }
            (IndexKind::Hnsw | IndexKind::Flat, Some(_)) => {
                return invalid(
                    "codec",
                    schema.codec.to_string(),
                    "turbovec codecs need the turbo index".into(),
                    "use codec f32 for the same rows on disk, or IndexKind::Turbo",
                );
            }
            (IndexKind::Turbo, Some(_)) => {
                let max = match schema.distance {
                    Distance::Euclidean => limits::TURBO_DIM_MAX - 1,
                    _ => limits::TURBO_DIM_MAX,
                };
                if usize::from(schema.dim) > max {
                    return invalid(
                        "dim",
                        schema.dim.to_string(),
                        format!("1 to {max} for a turbo table"),
                        "use another codec with IndexKind::Hnsw",
                    );
                }
                if !cfg!(feature = "turbo") {
                    return Err(StoreError::Unsupported {
                        what: "a turbo table in a build without the feature `turbo`",
                        remedy: "build vecstash with its default features",
                    });
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn validate_name(name: &str) -> Result<(), StoreError> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > limits::TABLE_NAME_LEN_MAX {
        "it is longer than 255 bytes"
    } else if name.chars().any(char::is_control) {
        "it holds a control character"
    } else {
        return Ok(());
    };
    Err(StoreError::InvalidTableName {
        name: name.chars().take(64).collect(),
        reason,
    })
}
