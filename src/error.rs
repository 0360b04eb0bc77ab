//! Every error of the crate: a label with the value, the limit and the remedy in `Display`, the
//! cause in `source()`, never the same thing in both.

use std::path::PathBuf;

use thiserror::Error;

use crate::ids::{DisplayKey, RowKey};

/// A cause of another crate's type, kept whole.
pub(crate) type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Errors of encoding and decoding one vector.
#[derive(Clone, PartialEq, Debug, Error)]
#[non_exhaustive]
pub enum EncodingError {
    /// A coordinate is NaN or infinite.
    #[error("coordinate {index} is {value}; every coordinate must be finite")]
    NotFinite {
        /// Position of the first such coordinate.
        index: usize,
        /// Its value.
        value: f32,
    },
    /// A coordinate is too large for its codec.
    #[error(
        "coordinate {index} is {value}, beyond the {max} that {codec} can hold; \
         scale the vector or use a codec with a wider range"
    )]
    Magnitude {
        /// Position of the first such coordinate.
        index: usize,
        /// Its value.
        value: f32,
        /// Largest absolute value allowed.
        max: f32,
        /// The codec that cannot hold it.
        codec: &'static str,
    },
    /// A vector has no coordinates, or more than 65,535.
    #[error("a vector of {len} coordinates cannot be encoded; 1 to 65,535 can")]
    Length {
        /// Number of coordinates given.
        len: usize,
    },
    /// An encoded vector was handed to the encoder of another codec.
    #[error("a vector encoded as {got} was given to the decoder of {expected}")]
    CodecMismatch {
        /// The decoder's codec.
        expected: &'static str,
        /// The vector's codec.
        got: &'static str,
    },
    /// An encoded vector contradicts itself.
    #[error("malformed {codec} vector of dimension {dim}: {detail}")]
    Malformed {
        /// The vector's codec.
        codec: &'static str,
        /// The dimension it claims.
        dim: u16,
        /// What does not fit.
        detail: String,
    },
}

/// Errors of an index.
#[derive(Clone, PartialEq, Debug, Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The index is full.
    #[error("the table holds {rows} rows, the most it can; split it into several tables")]
    Full {
        /// Rows held.
        rows: usize,
    },
    /// The rebuild was cancelled by its progress callback.
    #[error("the rebuild was cancelled")]
    Cancelled,
    /// The turbo scan refused a vector.
    #[error("the turbo index refused a vector: {detail}")]
    Turbo {
        /// What turbovec said.
        detail: String,
    },
}

/// Errors of the store.
///
/// Every error says what was wrong, what the limit is and what to do. After any of them except
/// [`StoreError::OutcomeUnknown`] nothing has changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Table not registered with this store.
    #[error("table not found: {0}")]
    UnknownTable(String),
    /// Table already exists.
    #[error("table already exists: {0}")]
    TableExists(String),
    /// A vector's length is not the table's dimension.
    #[error("dimension mismatch: table {table} expects {expected}, got {got}")]
    DimensionMismatch {
        /// Table name.
        table: String,
        /// Dimension of the table.
        expected: u16,
        /// Length of the vector.
        got: usize,
    },
    /// Row not found, where the call needs it to exist.
    #[error("row not found in table {table}: {}", DisplayKey(.key))]
    RowNotFound {
        /// Table name.
        table: String,
        /// Row key.
        key: RowKey,
    },
    /// A vector cannot be encoded or decoded.
    #[error("encoding failed")]
    Encoding(#[from] EncodingError),
    /// The index refused.
    #[error("index failed")]
    Index(#[from] IndexError),
    /// A failure of a user's own backend, or what is wrong with what a backend holds.
    #[error("backend: {0}")]
    Backend(String),
    /// The name cannot be a table's.
    #[error("invalid table name {name:?}: {reason}; use 1 to 255 bytes of printable UTF-8")]
    InvalidTableName {
        /// The name, cut at 64 characters.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A schema or an option that no table can have.
    #[error("table {table}: {what} = {value} is out of range ({limit}); {remedy}")]
    InvalidSchema {
        /// Table name.
        table: String,
        /// The field.
        what: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        limit: String,
        /// What to do.
        remedy: &'static str,
    },
    /// An argument beyond its limit.
    #[error("{what} = {value} is out of range ({limit}); {remedy}")]
    Limit {
        /// The argument.
        what: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        limit: String,
        /// What to do.
        remedy: &'static str,
    },
    /// This backend, build or kind of table cannot do that.
    #[error("not supported here: {what}; {remedy}")]
    Unsupported {
        /// What was asked.
        what: &'static str,
        /// What to do instead.
        remedy: &'static str,
    },
    /// The store was opened read-only.
    #[error("the store is open read-only; open it with OpenOptions::read_only(false) to write")]
    ReadOnly,
    /// The store was opened without its indexes.
    #[error(
        "table {table} has no index in this read-only store; open with OpenOptions::index(true)"
    )]
    NoIndex {
        /// Table name.
        table: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// An earlier failure ended this handle; a reopen decides what is on disk.
    #[error("the store refuses further work after a failure ({reason}); reopen it")]
    Failed {
        /// The first failure.
        reason: String,
    },
    /// A commit failed in a way that leaves its outcome open.
    #[error(
        "the commit failed and its outcome is unknown: it is on disk whole or not at all; \
         reopen the store to see which"
    )]
    OutcomeUnknown {
        /// The failure.
        source: Cause,
    },
    /// The disk is full.
    #[error("no space left for {op}; free some space and reopen the store")]
    StorageFull {
        /// What was being done.
        op: &'static str,
        /// The failure.
        source: Cause,
    },
    /// A read or a write of the file failed.
    #[error("{op} failed")]
    Storage {
        /// What was being done.
        op: &'static str,
        /// The failure.
        source: Cause,
    },
    /// A file operation beside the store itself failed.
    #[error("{op} {}", path.display())]
    Io {
        /// What was being done.
        op: &'static str,
        /// To which file.
        path: PathBuf,
        /// The failure.
        source: std::io::Error,
    },
    /// The file is damaged.
    #[error("{} is damaged: {detail}; `vecstash salvage` copies what is whole into a new file", path.display())]
    CorruptFile {
        /// The file.
        path: PathBuf,
        /// What does not hold.
        detail: String,
        /// The failure behind it, when there is one.
        source: Option<Cause>,
    },
    /// A row's bytes are damaged, or are not a row.
    #[error(
        "row {} of table {table} is damaged: {detail}; \
         open with OnCorrupt::Quarantine, then delete or overwrite it", DisplayKey(.key)
    )]
    CorruptRow {
        /// Table name.
        table: String,
        /// Row key.
        key: RowKey,
        /// What does not hold.
        detail: String,
    },
    /// The file is not a vecstash store. It was left as it is.
    #[error("{} is not a vecstash store: {detail}", path.display())]
    NotAStore {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        detail: String,
    },
    /// The file was written by a newer version. It was left as it is.
    #[error(
        "{} has format {found}, and this version reads up to {supported}; use a newer vecstash",
        path.display()
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Format of the file.
        found: u32,
        /// Newest format this version reads.
        supported: u32,
    },
    /// Another handle or process has the file open.
    #[error("{} is open elsewhere; close it there, or wait", path.display())]
    AlreadyOpen {
        /// The file.
        path: PathBuf,
    },
    /// Somebody still reads, and the call needs to be alone.
    #[error("busy: {what}")]
    Busy {
        /// What is in the way.
        what: &'static str,
    },
    /// The progress callback asked to stop.
    #[error("cancelled by the caller")]
    Cancelled,
}

impl StoreError {
    /// A failure of `op`, told apart from a full disk.
    pub(crate) fn storage(op: &'static str, source: impl Into<Cause>) -> Self {
        let source = source.into();
        if is_storage_full(source.as_ref()) {
            Self::StorageFull { op, source }
        } else {
            Self::Storage { op, source }
        }
    }

    /// A failure of `op` on the file at `path`.
    pub(crate) fn io(op: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Io {
            op,
            path: path.into(),
            source,
        }
    }

    /// `Display` of this error and of every cause behind it, joined by `: `.
    ///
    /// ```
    /// use vecstash::{EncodingError, StoreError};
    /// let error = StoreError::from(EncodingError::Length { len: 0 });
    /// assert!(error.chain().starts_with("encoding failed: a vector of 0 coordinates"));
    /// ```
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

fn is_storage_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && matches!(
                io.kind(),
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
            )
        {
            return true;
        }
        // redb shows an I/O error's text but does not name it as its source.
        if error.to_string().contains("No space left on device") {
            return true;
        }
        cause = error.source();
    }
    false
}
