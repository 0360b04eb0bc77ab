//! How a store file is opened.

use crate::inner_storage::Verify;

/// Cache of redb's pages: what a core's own cache holds. With 32 MiB the check of a file takes twice
/// as long; redb's own default of 1 GiB makes a walk several times slower and holds every row a second
/// time.
pub(super) const CACHE_BYTES: usize = 2 << 20;

/// How a [`RedbBackend`](super::RedbBackend) opens its file. Start from `default()` and set what differs.
///
/// ```
/// use vecstash::RedbOptions;
/// let options = RedbOptions::default().read_only(true);
/// assert!(options.read_only && options.create);
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RedbOptions {
    /// Create the file when it is missing. Default: yes. A read-only open never creates.
    pub create: bool,
    /// Open for reading only: the file is not altered by a byte, not even after a crash, and may
    /// be open for reading elsewhere. Default: no.
    pub read_only: bool,
    /// Bytes of redb's page cache. Default: 2 MiB.
    pub cache_bytes: usize,
    /// How much of the file is proved first. Default: all of it.
    pub verify: Verify,
}

impl Default for RedbOptions {
    fn default() -> Self {
        Self {
            create: true,
            read_only: false,
            cache_bytes: CACHE_BYTES,
            verify: Verify::Full,
        }
    }
}

impl RedbOptions {
    /// These options with `create`.
    #[must_use]
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// These options with `read_only`.
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// These options with a page cache of this many bytes.
    #[must_use]
    pub fn cache_bytes(mut self, bytes: usize) -> Self {
        self.cache_bytes = bytes;
        self
    }

    /// These options with this much of the file proved first.
    #[must_use]
    pub fn verify(mut self, verify: Verify) -> Self {
        self.verify = verify;
        self
    }
}
