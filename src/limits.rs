//! Every limit of the crate and its reason, on one page.

/// Largest dimension of a table. `TableSchema::dim` is a `u16`, and an integer dot product of
/// 65,535 products of an unsigned by a signed byte still fits an `i32`.
pub const DIM_MAX: usize = u16::MAX as usize;

/// Largest dimension of vectors that `Codec::Int8Quantized` writes to a quarter of a step. Among near
/// vectors that a byte cannot tell apart the quarters tell which is nearer.
pub const INT8_QUARTERS_DIM_MAX: usize = 256;

/// Largest dimension of vectors that `Codec::Int8Quantized` writes to a third of a step: quarters
/// would weigh more. Beyond, thirds would as well, and tell less.
pub const INT8_REFINED_DIM_MAX: usize = 512;

/// Largest dimension of a turbo table: turbovec takes 16,384 coordinates, and Euclidean tables
/// need one of them for the norm.
pub const TURBO_DIM_MAX: usize = 16_384;

/// Longest row key in bytes. Keys live in memory and in the branch pages of the file, where a
/// longer one would take the place of a hundred others.
pub const KEY_LEN_MAX: usize = 1_024;

/// Longest table name in bytes.
pub const TABLE_NAME_LEN_MAX: usize = 255;

/// Most tables in one store: each holds an index, a lock and two trees in the file.
pub const TABLES_MAX: usize = 4_096;

/// Largest metadata of one row, in bytes of JSON text. One megabyte of `[0,0,...]` becomes
/// 16 MB of `serde_json::Value` when it is read back.
pub const METADATA_LEN_MAX: usize = 1 << 20;

/// Deepest nesting of metadata, counted in arrays and objects including the row's own object.
/// `serde_json` stops parsing at 128, so a deeper value could be written and never read back.
pub const METADATA_DEPTH_MAX: usize = 100;

/// Largest absolute value of one coordinate. Squared and summed over 65,535 coordinates it stays
/// finite in `f32`, and turbovec refuses 1e16 and above.
pub const MAGNITUDE_MAX: f32 = 1e15;

/// Largest absolute value of one coordinate under `Codec::Fp16`: the largest finite half float.
pub const FP16_MAX: f32 = 65_504.0;

/// Most rows in one table: slots are 32 bits, of which lists of rows use one for a mark.
pub const ROWS_MAX: usize = (1 << 31) - 2;

/// Most writes in one batch: a batch is one transaction, held in memory until it commits.
pub const BATCH_LEN_MAX: usize = 1 << 20;

/// Largest `m` and `m0` of an HNSW table. Beyond it a list costs more to read than it saves.
pub const M_MAX: usize = 256;

/// Largest `ef_construction` of an HNSW table, and largest `ef_search` a schema may name.
pub const EF_MAX: usize = 10_000;

/// Tables with fewer distinct vectors than this have no graph: an exact scan is faster and exact.
pub const GRAPH_MIN: usize = 2_000;

/// Metadata up to this many bytes is stored inside its row, longer metadata apart, so that the
/// walk at open does not read cached answers.
pub const INLINE_METADATA_LEN_MAX: usize = 512;

/// Longest group of a log of links, in bytes. A group is one value of the file, read and written
/// as one. It takes the next power of two with its key and checksum, so a long group wastes least
/// when it is a hundred bytes short of one.
pub const LINKS_GROUP_LEN_MAX: usize = 1 << 20;

/// Row ids stay below this: never reached by counting, and far from where adding would overflow.
pub const ROW_ID_END: u64 = 1 << 62;

/// Most threads of a store. More only wait for each other, and some systems refuse to start them.
pub const THREADS_MAX: usize = 1_024;
