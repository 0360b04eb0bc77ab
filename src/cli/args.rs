//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use vecstash::{
    Codec, Distance, HnswParams, IndexKind, Residence, StoreError, TableId, TableOptions,
    TableRecord, TableSchema,
};

/// A durable vector cache in one file.
#[derive(Parser, Debug)]
#[command(name = "vecstash", version, about, max_term_width = 100)]
pub(crate) struct Cli {
    /// Print one JSON document instead of text.
    #[arg(long, global = true)]
    pub json: bool,
    /// Leave damaged rows out and go on, instead of failing at the first.
    #[arg(long, global = true)]
    pub quarantine: bool,
    /// Threads for rebuilding indexes; 0 for one per core.
    #[arg(long, global = true, default_value_t = 0, value_name = "N")]
    pub threads: usize,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Verb {
    /// See it work: real sentences, a writer killed half way, nothing lost
    Demo(DemoArgs),
    /// Create a table, and the file when it is missing
    Create(CreateArgs),
    /// Import vectors from .npy, .fvecs, .bvecs or .jsonl
    Import(ImportArgs),
    /// Find the nearest rows
    Search(SearchArgs),
    /// Measure recall and speed against an exact scan of your own rows
    Recall(RecallArgs),
    /// Show one row
    Get(GetArgs),
    /// Delete rows
    Delete(DeleteArgs),
    /// List the tables
    Tables(DbArgs),
    /// Show how many rows there are and what they weigh
    Stats(StatsArgs),
    /// Open the store, rebuild its indexes and say how long each stage took
    Open(DbArgs),
    /// Compare every row on disk with the indexes; exit code 1 when something does not hold
    Check(DbArgs),
    /// Write a table to .jsonl or .npy
    Export(ExportArgs),
    /// Copy the store into a new file
    Backup(BackupArgs),
    /// Give unused space back to the file system
    Compact(DbArgs),
    /// Remove a table and its rows
    Drop(DropArgs),
    /// Measure on this machine
    #[command(subcommand)]
    Bench(BenchVerb),
    /// Copy everything whole in a damaged store into a new file
    Salvage(SalvageArgs),
    #[command(hide = true)]
    SalvageRead(SalvageReadArgs),
    #[command(hide = true)]
    DemoWriter(DemoWriterArgs),
}

#[derive(Args, Debug)]
pub(crate) struct DbArgs {
    /// The store
    pub db: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// Keep the demo's store as this new file
    #[arg(long, value_name = "FILE")]
    pub keep: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// The store
    pub db: PathBuf,
    /// Name of the table
    pub table: String,
    /// Number of coordinates of every vector
    #[arg(long, value_name = "N")]
    pub dim: u16,
    #[command(flatten)]
    pub shape: ShapeArgs,
}

/// What a table is, apart from its name and dimension.
#[derive(Args, Debug)]
pub(crate) struct ShapeArgs {
    /// Distance of searches [default: cosine]
    #[arg(long, value_enum)]
    pub distance: Option<DistanceArg>,
    /// How vectors are stored [default: int8_quantized]
    #[arg(long, value_enum)]
    pub codec: Option<CodecArg>,
    /// Index in memory [default: turbo for turbovec codecs, hnsw for all others]
    #[arg(long, value_enum)]
    pub index: Option<IndexArg>,
    /// What an HNSW table of codec f32 or fp16 keeps in memory [default: compact]
    #[arg(long, value_enum)]
    pub resident: Option<ResidentArg>,
    /// HNSW: links of a new node on every layer [default: 16]
    #[arg(long)]
    pub m: Option<usize>,
    /// HNSW: most links on layer 0 [default: 2 m]
    #[arg(long)]
    pub m0: Option<usize>,
    /// HNSW: candidates while building [default: 200]
    #[arg(long)]
    pub ef_construction: Option<usize>,
    /// HNSW: candidates of a search that names none [default: 50]
    #[arg(long)]
    pub ef_search: Option<usize>,
    /// HNSW: seed of the level draw
    #[arg(long)]
    pub seed: Option<u64>,
}

impl ShapeArgs {
    pub(crate) fn schema(&self, name: &str, dim: u16) -> TableSchema {
        let default = HnswParams::default();
        let m = self.m.unwrap_or(default.m);
        TableSchema {
            name: name.to_string(),
            dim,
            codec: self.codec.unwrap_or(CodecArg::Int8Quantized).into(),
            distance: self.distance.unwrap_or(DistanceArg::Cosine).into(),
            hnsw: HnswParams {
                m,
                m0: self.m0.unwrap_or(m.saturating_mul(2)),
                ef_construction: self.ef_construction.unwrap_or(default.ef_construction),
                ef_search: self.ef_search.unwrap_or(default.ef_search),
                seed: self.seed.unwrap_or(default.seed),
            },
        }
    }

    /// Refuses what no table can be, before a file is made for it.
    pub(crate) fn validate(&self, name: &str, dim: u16) -> Result<(), StoreError> {
        let record = TableRecord {
            id: TableId::new(1),
            schema: self.schema(name, dim),
            options: self.options(),
            turbo: None,
        };
        record.validate()
    }

    pub(crate) fn options(&self) -> TableOptions {
        let options = TableOptions::default();
        let options = match self.index {
            Some(index) => options.index(index.into()),
            None => options,
        };
        match self.resident {
            Some(resident) => options.resident(resident.into()),
            None => options,
        }
    }
}

/// An enum of the command line for each enum of the crate, which may grow without us.
macro_rules! value_enum {
    ($arg:ident => $target:ident { $($name:literal $variant:ident,)* }) => {
        #[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
        pub(crate) enum $arg { $(#[value(name = $name)] $variant,)* }

        impl From<$arg> for $target {
            fn from(arg: $arg) -> Self {
                match arg { $($arg::$variant => Self::$variant,)* }
            }
        }
    };
}

value_enum!(DistanceArg => Distance {
    "euclidean" Euclidean,
    "cosine" Cosine,
    "dot_product" DotProduct,
});
value_enum!(CodecArg => Codec {
    "f32" F32,
    "int8_quantized" Int8Quantized,
    "fp16" Fp16,
    "turbovec_2bit" Turbovec2Bit,
    "turbovec_3bit" Turbovec3Bit,
    "turbovec_4bit" Turbovec4Bit,
});
value_enum!(IndexArg => IndexKind {
    "hnsw" Hnsw,
    "turbo" Turbo,
    "flat" Flat,
});
value_enum!(ResidentArg => Residence {
    "compact" Compact,
    "full" Full,
});

#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    /// The store
    pub db: PathBuf,
    /// Name of the table
    pub table: String,
    /// Vectors: .npy (2 axes, f32, f16, f64 or u8), .fvecs, .bvecs, or .jsonl with lines of
    /// {"key": .., "vector": [..], "metadata": {..}}
    pub file: PathBuf,
    /// Metadata: line i is the JSON object of row i
    #[arg(long, value_name = "FILE.jsonl")]
    pub metadata: Option<PathBuf>,
    /// Keys and metadata, as `export` writes them beside a .npy file
    #[arg(long, value_name = "FILE.keys.jsonl", conflicts_with = "metadata")]
    pub keys: Option<PathBuf>,
    /// Take the key from this field of the metadata [default: the row number in plain decimal,
    /// counted from 0]
    #[arg(long, value_name = "NAME")]
    pub key_field: Option<String>,
    /// Rows in one transaction
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub batch: usize,
    /// Stop after this many rows of the file
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Leave rows alone whose key is there already: makes an import resumable
    #[arg(long)]
    pub skip_existing: bool,
    /// Create the table, and the file, when missing; its dimension comes from FILE
    #[arg(long)]
    pub create: bool,
    #[command(flatten)]
    pub shape: ShapeArgs,
}

#[derive(Args, Debug)]
pub(crate) struct SearchArgs {
    /// The store
    pub db: PathBuf,
    /// Name of the table
    pub table: String,
    /// Search near this row
    #[arg(long, required_unless_present_any = ["vector", "npy"], conflicts_with_all = ["vector", "npy"])]
    pub key: Option<String>,
    /// The key is given in hexadecimal
    #[arg(long, requires = "key")]
    pub hex: bool,
    /// Search near this JSON array of numbers
    #[arg(long, value_name = "JSON", conflicts_with = "npy")]
    pub vector: Option<String>,
    /// Search near a row of this .npy, .fvecs or .bvecs file
    #[arg(long, value_name = "FILE", requires = "row")]
    pub npy: Option<PathBuf>,
    /// Which row of the file, counted from 0
    #[arg(long, value_name = "N", requires = "npy")]
    pub row: Option<usize>,
    /// How many rows to find
    #[arg(short, long, value_name = "N", default_value_t = 10)]
    pub k: usize,
    /// HNSW: size of the candidate pool [default: the table's ef_search]
    #[arg(long, value_name = "N")]
    pub ef: Option<usize>,
    /// How many candidates get an exact distance
    #[arg(long, value_name = "N")]
    pub rerank: Option<usize>,
    /// Compare every row instead of asking the index
    #[arg(long)]
    pub exact: bool,
    /// Leave out rows farther than this
    #[arg(long, value_name = "D", allow_negative_numbers = true)]
    pub max_distance: Option<f32>,
    /// Show the vectors too
    #[arg(long)]
    pub vectors: bool,
}

#[derive(Args, Debug)]
pub(crate) struct RecallArgs {
    /// The store
    pub db: PathBuf,
    /// Name of the table
    pub table: String,
    /// Queries: .npy, .fvecs or .bvecs
    #[arg(long, value_name = "FILE")]
    pub queries: PathBuf,
    /// Neighbours per query
    #[arg(short, long, value_name = "N", default_value_t = 10)]
    pub k: usize,
    /// HNSW: the candidate pools to measure
    #[arg(long, value_delimiter = ',', default_values_t = [16, 32, 64, 128, 256], value_name = "N,N,..")]
    pub ef: Vec<usize>,
    /// Use only the first N queries
    #[arg(long, value_name = "N")]
    pub queries_limit: Option<usize>,
}

#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    /// The store
    pub db: PathBuf,
    /// Name of the table
    pub table: String,
    /// Key of the row
    pub key: String,
    /// The key is given in hexadecimal
    #[arg(long)]
    pub hex: bool,
}

#[derive(Args, Debug)]
pub(crate) struct DeleteArgs {
    /// The store
    pub db: PathBuf,
    /// Name of the table
    pub table: String,
    /// Keys of the rows
    #[arg(required = true, value_name = "KEY")]
    pub keys: Vec<String>,
    /// The keys are given in hexadecimal
    #[arg(long)]
    pub hex: bool,
}

#[derive(Args, Debug)]
pub(crate) struct StatsArgs {
    /// The store
    pub db: PathBuf,
    /// Name of the table [default: all]
    pub table: Option<String>,
    /// Build the indexes first, to show what they take in memory
    #[arg(long)]
    pub memory: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// The store
    pub db: PathBuf,
    /// Name of the table
    pub table: String,
    /// A new .jsonl file, or a new .npy file with keys and metadata beside it in FILE.keys.jsonl
    pub file: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct BackupArgs {
    /// The store
    pub db: PathBuf,
    /// The new file
    pub file: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct DropArgs {
    /// The store
    pub db: PathBuf,
    /// Name of the table
    pub table: String,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

#[derive(Subcommand, Debug)]
pub(crate) enum BenchVerb {
    /// How long opens take, by the number of rows, with and without links in the file, and after
    /// changes
    Open(BenchOpenArgs),
}

#[derive(Args, Debug)]
pub(crate) struct BenchOpenArgs {
    /// Vectors: .npy, .fvecs or .bvecs [default: clusters made up as they are needed]
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// Number of coordinates of vectors that are made up
    #[arg(long, value_name = "N", default_value_t = 128, conflicts_with = "data")]
    pub dim: u16,
    /// Sizes of the tables
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000], value_name = "N,N,..")]
    pub rows: Vec<usize>,
    /// Percent of the rows that are deleted, and as many others inserted, before an open
    #[arg(long, value_delimiter = ',', default_values_t = [0.0, 2.0, 20.0], value_name = "P,P,..")]
    pub changed: Vec<f64>,
    /// Opens of each file, of which the medians count
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub opens: usize,
    /// Above so many rows links are found by one open alone, of a file that has none yet
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    pub found_max: usize,
    /// Write open.json and the plot open.svg into this folder
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Keep the stores in this folder meanwhile [default: the system's for temporary files]
    #[arg(long, value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
    #[command(flatten)]
    pub shape: ShapeArgs,
}

#[derive(Args, Debug)]
pub(crate) struct SalvageArgs {
    /// The damaged store; it is only read
    pub src: PathBuf,
    /// The new store
    pub dst: PathBuf,
    /// Give up on a reader that says nothing for this long
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub patience: u64,
}

#[derive(Args, Debug)]
pub(crate) struct SalvageReadArgs {
    pub src: PathBuf,
    #[arg(long)]
    pub table_id: Option<u32>,
    #[arg(long, value_name = "HEX")]
    pub after: Option<String>,
    #[arg(long)]
    pub reverse: bool,
}

#[derive(Args, Debug)]
pub(crate) struct DemoWriterArgs {
    pub db: PathBuf,
}
