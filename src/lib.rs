//! vecstash: a durable vector cache that a Rust application embeds. One crate, one file on disk,
//! no server.
//!
//! Rows (key, vector, JSON metadata, timestamps) live in a [redb](https://docs.rs/redb) file. Each
//! table's search index lives in memory and is rebuilt from the rows when the store is opened,
//! before the first request is served, unless asked otherwise. **The rows are the truth; the index is a memory of them.**
//!
//! ```
//! use vecstash::{Codec, Distance, HnswParams, Metadata, SearchOptions, TableSchema, VectorStore};
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("answers.vecstash");
//!
//! let store = VectorStore::open_path(&path)?;
//! store.create_table(TableSchema {
//!     name: "answers".into(),
//!     dim: 4,
//!     codec: Codec::Int8Quantized,
//!     distance: Distance::Cosine,
//!     hnsw: HnswParams::default(),
//! })?;
//! let answers = store.table("answers")?;
//! let metadata = Metadata::from([("text".into(), "Paris".into())]);
//! answers.upsert(b"capital of France?", &[0.9, 0.1, 0.0, 0.2], metadata)?;
//! // On return the row is on disk, fsynced, and every search finds it.
//!
//! let hits = answers.search(&[0.8, 0.2, 0.0, 0.2], &SearchOptions::new(3).max_distance(0.1))?;
//! assert_eq!(hits[0].row.as_ref().unwrap().metadata["text"], "Paris");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! There are few nouns. A [`VectorStore`] is an open file. A [`Table`] is a handle on one of its
//! tables: `upsert`, `get`, `delete`, `search`, `scroll`. A [`WriteBatch`] is a list of writes
//! applied together. [`OpenOptions`] say how to open, an [`OpenReport`] says what the open did, a
//! [`CheckReport`] what does not hold. A [`Backend`] is where rows live: [`RedbBackend`] in a
//! file, [`MemoryBackend`] nowhere, or your own.
//!
//! # What it promises
//!
//! * When `upsert`, `delete`, `create_table` or `drop_table` returns `Ok`, the change survives
//!   `kill -9` and power loss. On [`StoreError::OutcomeUnknown`] it may or may not be there after
//!   reopening, whole or not at all, and the handle refuses further work.
//! * `open` never panics, never comes up silently empty and never serves a wrong row. A file that
//!   is not ours is left byte for byte as it was.
//! * A reopen changes no distance: every key found before and after has a bit-equal one.
//! * Searches run in parallel with each other and with writers, and never wait for an fsync.
//! * Everything that can fail happens before the commit; every error names the value, the limit
//!   and the remedy.
//!
//! # Invariants
//!
//! [`VectorStore::check`] proves those of them that can be proved.
//!
//! * I1. The index built at open is a function of what is stored: two opens with no write between
//!   them agree exactly, whatever the number of threads.
//! * I2. A row is searchable when `upsert` returns, and `upsert` returns only after its commit is
//!   durable, unless a weaker [`Durability`] was chosen by name.
//! * I3. Live keys = live slots = stored rows - quarantined rows.
//! * I4. Distances come from the stored (encoded) form, for live inserts and reopened rows alike.
//! * I5. The format version is read before any row.
//! * I6. Everything that can fail comes before the commit. Nothing fallible runs between commit
//!   and publication but taking the snapshot, and if that fails the store refuses further work.
//! * I7. No index lock is held across backend I/O.
//! * I8. Nothing on disk but rows, schemas and fits decides an answer.
//! * I9. `unsafe` exists only under `kernel/`, each block with its reason.
//!
//! # Codemap
//!
//! Imports go downward only; `index` and `storage` never meet. A test reads the source and keeps
//! it so.
//!
//! | floor | room | what it knows |
//! |---|---|---|
//! | 3 | `store/` | locks and the order of events: open, write, search |
//! | 2 | `index/` | slots and codes: HNSW, flat, turbo. No I/O, no keys |
//! | 2 | `storage/` | keys and bytes: the on-disk format, redb, memory. No geometry |
//! | 1 | `encoding/`, `schema`, `row` | what a vector, a table and a row are |
//! | 0 | `kernel/`, `distance`, `error`, `ids`, `limits`, `numbers`, `pool` | arithmetic, names, numbers, threads |
//!
//! # Features
//!
//! `turbo` (default): the turbo index. `cli`: the `vecstash` command. `testing`: the disk
//! simulator and the clock of the fault tests, not a stable interface.
//!
//! # Environment
//!
//! `VECSTASH_KERNEL` (`scalar`, `avx2`, `avxvnni`, `avx512`, `neon`) names the SIMD kernels to use in
//! place of the best that the CPU has. Answers are the same with all of them.

#![deny(unsafe_code)]

pub mod distance;
pub mod encoding;
mod error;
mod ids;
#[path = "index/mod.rs"]
mod inner_index;
#[path = "storage/mod.rs"]
mod inner_storage;
#[allow(unsafe_code)]
mod kernel;
pub mod limits;
mod numbers;
mod pool;
mod row;
mod schema;
mod store;
// The crate's own tests need them whatever the features.
#[cfg(any(test, feature = "testing"))]
pub mod testing;

/// Storage, tables and the store, under the paths that programs are written against.
pub mod storage {
    pub use crate::error::StoreError;
    pub use crate::inner_storage::{
        Backend, Capabilities, Catalog, Change, Durability, LinksVisitor, MemoryBackend,
        RecordVisitor, RedbBackend, RedbOptions, RowVisitor, Salvage, SalvageCount, Snapshot,
        StoredTable, TableKey, Verify,
    };
    pub use crate::row::{Metadata, Record, RecordView, RowKey, VectorRow, Want};
    pub use crate::schema::{
        IndexKind, Residence, TableOptions, TableRecord, TableSchema, TurboFit,
    };
    pub use crate::store::{
        Answer, CheckReport, Hit, MemoryStats, NewRow, OnCorrupt, OpenOptions, OpenProgress,
        OpenReport, OpenStage, Page, ProgressFn, QuarantinedRow, Return, SearchOptions, Table,
        TableReport, TableStats, VectorStore, WriteBatch, WriteOutcome,
    };
}

/// Graph parameters, and the names of what a search of an index finds.
pub mod index {
    pub use crate::error::IndexError;
    pub use crate::schema::{HnswParams, IndexKind};

    /// Identifies one vector of a table: the number of its [`crate::RowId`].
    pub type NodeId = u64;

    /// A hit by id.
    #[derive(Clone, Copy, PartialEq, Debug)]
    pub struct SearchResult {
        /// The vector.
        pub id: NodeId,
        /// Its distance: smaller is closer.
        pub score: f32,
    }
}

pub use distance::Distance;
pub use encoding::{Codec, EncodedVector, EncodedView, Encoder, EncodingError};
pub use error::{IndexError, StoreError};
pub use ids::{RowId, TableId};
pub use index::{HnswParams, NodeId, SearchResult};
pub use storage::*;
