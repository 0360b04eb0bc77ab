//! What a caller may choose about writing to a file and about trusting it.

/// When a write is acknowledged, and what a crash can take back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Durability {
    /// After the two-phase commit is fsynced. Nothing acknowledged is ever lost.
    #[default]
    Immediate,
    /// Once visible in this process; an fsync begins within this many milliseconds, or after a
    /// commit of up to 4,096 changes that is then under way. A crash takes at most that window and
    /// what the fsync takes.
    Within(u64),
    /// Once visible in this process. A crash takes all since the last durable commit.
    Volatile,
}

/// How much of a file is proved before anything is read from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum Verify {
    /// Every page, at every open: a second for every gigabyte or so. No damage gets past it.
    #[default]
    Full,
    /// Every page after a crash, and the rows alone after an orderly close. For files that are too
    /// large to be read twice, on disks that are trusted. What was damaged since the last close is
    /// found where it is in a row, or where rows are missing; damage to the tree may show old rows,
    /// and reading it may panic or end the process.
    AfterUncleanClose,
}
