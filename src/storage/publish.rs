//! Putting a new store file into place: whole, or not at all.
//!
//! A file is written under a temporary name in the same folder, closed and synced, and then
//! linked to its path. A link fails when the path exists; a rename would replace a file that a
//! second creator has just opened and written. The folder is synced last, since redb never does.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::StoreError;

/// A temporary file this old has no living creator: a creation takes milliseconds, a backup
/// keeps writing.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// How often a creation starts over when somebody removes its temporary file.
const ATTEMPTS: usize = 4;

/// Distinguishes the temporary files of one process.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Makes a file at `path` with what `fill` writes into it. `false` when a file was there first,
/// which is then untouched.
pub(super) fn create(
    path: &Path,
    fill: &mut dyn FnMut(File) -> Result<(), StoreError>,
) -> Result<bool, StoreError> {
    let (folder, name) = split(path)?;
    remove_stale(&folder, &name);
    for _ in 0..ATTEMPTS {
        let temporary = Temporary(folder.join(temporary_name(&name)));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&temporary.0)
            .map_err(|e| StoreError::io("creating", path, e))?;
        // Synced through its own handle, after redb has closed the one it was given.
        let handle = file
            .try_clone()
            .map_err(|e| StoreError::io("creating", path, e))?;
        fill(file)?;
        handle
            .sync_all()
            .map_err(|e| StoreError::io("syncing", &temporary.0, e))?;
        drop(handle);
        match fs::hard_link(&temporary.0, path) {
            Ok(()) => {
                drop(temporary);
                sync_folder(&folder)?;
                return Ok(true);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Unsupported | ErrorKind::PermissionDenied
                ) =>
            {
                return Err(StoreError::io(
                    "linking a new store into place (the file system needs hard links) as",
                    path,
                    error,
                ));
            }
            Err(error) => {
                return Err(StoreError::io(
                    "linking a new store into place as",
                    path,
                    error,
                ));
            }
        }
    }
    Err(StoreError::io("creating", path, ErrorKind::NotFound.into()))
}

/// Removes its file when dropped, whatever happened.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // One that stays behind is harmless and is removed when it is stale.
        let _ = fs::remove_file(&self.0);
    }
}

fn split(path: &Path) -> Result<(PathBuf, OsString), StoreError> {
    let Some(name) = path.file_name() else {
        return Err(StoreError::NotAStore {
            path: path.to_owned(),
            detail: "the path names no file".to_owned(),
        });
    };
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    Ok((folder, name.to_owned()))
}

fn prefix(name: &OsString) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(".tmp-");
    prefix
}

fn temporary_name(name: &OsString) -> OsString {
    let mut temporary = prefix(name);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    temporary.push(format!("{}-{number}", std::process::id()));
    temporary
}

/// Removes temporary files of dead creators. What cannot be removed is left.
fn remove_stale(folder: &Path, name: &OsString) {
    let prefix = prefix(name);
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let file_name = entry.file_name();
        let ours = file_name
            .as_encoded_bytes()
            .strip_prefix(prefix.as_encoded_bytes())
            .is_some_and(|rest| {
                rest.iter()
                    .all(|byte| byte.is_ascii_digit() || *byte == b'-')
            });
        if !ours {
            continue;
        }
        let age = entry
            .metadata()
            .and_then(|m| m.modified())
            .ok()
            .and_then(|t| t.elapsed().ok());
        if age.is_some_and(|age| age > STALE) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|e| StoreError::io("syncing", folder, e))
}

/// Windows has no sync of a folder; its file systems log their own entries.
#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> Result<(), StoreError> {
    Ok(())
}
