//! A folder of our own, gone when its user is.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The folder.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes one in `parent`, or where the system keeps what is temporary.
    pub(crate) fn new(parent: Option<&Path>, user: &str) -> Result<Self> {
        let nanos = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.subsec_nanos());
        let name = format!("vecstash-{user}-{}-{nanos}", std::process::id());
        let parent = parent.map_or_else(std::env::temp_dir, Path::to_path_buf);
        let path = parent.join(name);
        std::fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left behind, it is the operating system's to clear away.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
