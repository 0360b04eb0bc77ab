//! What a file is, told from its kind and its first bytes before anybody locks or writes it.

use std::fs::{self, File, Metadata};
use std::io::Read;
use std::path::Path;

use crate::error::StoreError;

/// First bytes of every redb file.
const REDB_MAGIC: &[u8] = b"redb\x1A\x0A\xA9\x0D\x0A";

/// Bytes of redb's header: the file's own fields and two commit slots.
const REDB_HEADER_LEN: usize = 320;

/// First bytes of what people mistake for a store.
const KNOWN: [(&[u8], &str); 22] = [
    (b"\x89PNG", "a PNG image"),
    (b"\xFF\xD8\xFF", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"\x1F\x8B", "a gzip archive"),
    (b"\x28\xB5\x2F\xFD", "a zstd archive"),
    (b"\xFD7zXZ\0", "an xz archive"),
    (b"BZh", "a bzip2 archive"),
    (b"7z\xBC\xAF\x27\x1C", "a 7z archive"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"\x7FELF", "a program (ELF)"),
    (b"MZ", "a program (PE)"),
    (b"\xCF\xFA\xED\xFE", "a program (Mach-O)"),
    (b"\0asm", "a WebAssembly module"),
    (b"\x89HDF", "an HDF5 file"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"GGUF", "a GGUF model"),
    (b"RIFF", "a RIFF file"),
    (b"#!", "a script"),
];

/// Checks that the file at `path` may be a store: a regular file that begins as redb's do.
///
/// Looks at the kind of file before it opens it, since opening a FIFO waits for a writer.
pub(super) fn check(path: &Path) -> Result<(), StoreError> {
    let not_a_store = |detail: &str| {
        Err(StoreError::NotAStore {
            path: path.to_owned(),
            detail: detail.to_owned(),
        })
    };
    let metadata = fs::metadata(path).map_err(|e| StoreError::io("opening", path, e))?;
    if !metadata.is_file() {
        return not_a_store(kind_of(&metadata));
    }
    if metadata.len() == 0 {
        return not_a_store("an empty file");
    }
    let mut file = File::open(path).map_err(|e| StoreError::io("opening", path, e))?;
    let mut head = Vec::with_capacity(REDB_HEADER_LEN);
    file.by_ref()
        .take(REDB_HEADER_LEN as u64)
        .read_to_end(&mut head)
        .map_err(|e| StoreError::io("reading", path, e))?;
    if !head.starts_with(REDB_MAGIC) {
        return not_a_store(&describe(&head));
    }
    if head.len() < REDB_HEADER_LEN {
        return not_a_store(&format!("a redb file cut off after {} bytes", head.len()));
    }
    Ok(())
}

fn kind_of(metadata: &Metadata) -> &'static str {
    if metadata.is_dir() {
        return "a folder";
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        let kind = metadata.file_type();
        if kind.is_fifo() {
            return "a FIFO";
        }
        if kind.is_socket() {
            return "a socket";
        }
        if kind.is_char_device() || kind.is_block_device() {
            return "a device";
        }
    }
    "not a regular file"
}

fn describe(head: &[u8]) -> String {
    if let Some((_, what)) = KNOWN.iter().find(|(magic, _)| head.starts_with(magic)) {
        return (*what).to_owned();
    }
    if head.iter().all(|byte| *byte == 0) {
        return "a file of zeros".to_owned();
    }
    if head.get(257..262) == Some(b"ustar") {
        return "a tar archive".to_owned();
    }
    let text = head
        .iter()
        .all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..=0x7E | 0x80..));
    match head {
        _ if !text => format!(
            "it begins with \"{}\"",
            head[..head.len().min(8)].escape_ascii()
        ),
        [b'{' | b'[', ..] => "a JSON text".to_owned(),
        [b'<', ..] => "a markup text".to_owned(),
        _ => "a text".to_owned(),
    }
}
