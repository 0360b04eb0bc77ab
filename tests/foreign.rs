//! Proves that a file that is not ours is told apart by type and left byte-identical, and that a
//! second handle or process is turned away without harm to the first.

mod common_fault;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Barrier, mpsc};
use std::time::Duration;

use common_fault::{Seen, make_store, observe, raw, schema};
use redb::{Database, TableDefinition};
use vecstash::{Codec, Distance, OpenOptions, StoreError, VectorStore};

/// What must not change about a file.
#[derive(PartialEq, Debug)]
struct Trace {
    bytes: Option<Vec<u8>>,
    len: u64,
    mtime: (i64, i64),
    mode: u32,
    inode: u64,
    links: u64,
}

fn trace(path: &Path) -> Trace {
    let meta = std::fs::symlink_metadata(path).expect("metadata");
    Trace {
        bytes: meta.is_file().then(|| std::fs::read(path).expect("read")),
        len: meta.len(),
        mtime: (meta.mtime(), meta.mtime_nsec()),
        mode: meta.mode(),
        inode: meta.ino(),
        links: meta.nlink(),
    }
}

fn names_in(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .expect("read_dir")
        .map(|entry| {
            entry
                .expect("entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}

/// Opens on another thread, so that an open that hangs (a FIFO) ends the test with a message.
fn open_guarded(path: &Path, options: OpenOptions) -> Result<(), StoreError> {
    let (send, receive) = mpsc::channel();
    let path = path.to_path_buf();
    let shown = path.display().to_string();
    std::thread::spawn(move || {
        let _ = send.send(options.open(&path).map(drop));
    });
    match receive.recv_timeout(Duration::from_secs(60)) {
        Ok(result) => result,
        Err(error) => panic!("opening {shown} hangs or panics: {error}"),
    }
}

/// Every way to open `path` fails with an error that `fits`, and leaves the file and its folder
/// as they are.
fn turned_away(kind: &str, path: &Path, fits: fn(&StoreError) -> bool) {
    let folder = path.parent().expect("a folder");
    let before = (trace(path), names_in(folder));
    let ways = [
        ("open", OpenOptions::new()),
        ("open without create", OpenOptions::new().create(false)),
        ("open read-only", OpenOptions::new().read_only(true)),
        (
            "open read-only with index",
            OpenOptions::new().read_only(true).index(true),
        ),
    ];
    for (way, options) in ways {
        let error = match open_guarded(path, options) {
            Ok(()) => panic!("{kind}: {way} took it for a store"),
            Err(error) => error,
        };
        assert!(fits(&error), "{kind}: {way}: {error:?}");
        let text = error.to_string();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        assert!(
            path.is_symlink() || text.contains(&name),
            "{kind}: {way}: the path is not named in {text:?}"
        );
        let after = (trace(path), names_in(folder));
        assert!(
            before == after,
            "{kind}: {way} changed the file or its folder"
        );
    }
}

fn any_typed(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::NotAStore { .. }
            | StoreError::NewerFormat { .. }
            | StoreError::CorruptFile { .. }
            | StoreError::Io { .. }
    )
}

fn not_a_store(error: &StoreError) -> bool {
    matches!(error, StoreError::NotAStore { .. })
}

fn not_a_store_or_io(error: &StoreError) -> bool {
    matches!(error, StoreError::NotAStore { .. } | StoreError::Io { .. })
}

fn newer(error: &StoreError) -> bool {
    matches!(error, StoreError::NewerFormat { found, supported, .. } if found > supported)
}

fn padded(head: &[u8], len: usize) -> Vec<u8> {
    let mut bytes = head.to_vec();
    let mut rng = common_fault::Rng::new(len as u64);
    while bytes.len() < len {
        bytes.push(rng.next() as u8);
    }
    bytes
}

#[test]
fn files_of_other_kinds() {
    let dir = tempfile::tempdir().expect("tempdir");
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    let kinds: Vec<(&str, Vec<u8>)> = vec![
        ("png", padded(png, 5_000)),
        ("zeros", vec![0; 8_192]),
        ("many zeros", vec![0; 2 << 20]),
        ("ones", vec![0xff; 4_096]),
        ("empty", Vec::new()),
        ("one byte", vec![b'r']),
        ("text", "The quick brown fox.\n".repeat(400).into_bytes()),
        ("json", b"{\"vectors\": [[1.0, 2.0]]}".to_vec()),
        (
            "elf",
            padded(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0>\0", 9_000),
        ),
        ("gzip", padded(b"\x1f\x8b\x08\0\0\0\0\0\0\x03", 4_096)),
        (
            "sqlite",
            padded(b"SQLite format 3\0\x10\0\x01\x01\0", 8_192),
        ),
        ("zip", padded(b"PK\x03\x04\x14\0\0\0\x08\0", 4_096)),
        ("npy", padded(b"\x93NUMPY\x01\0v\0{'descr': '<f4'}", 4_096)),
        ("random", padded(b"", 65_537)),
    ];
    for (kind, bytes) in &kinds {
        let path = dir.path().join(format!("{kind}.bin"));
        std::fs::write(&path, bytes).expect("write");
        turned_away(kind, &path, not_a_store);
    }
    // The magic number of redb and nothing sound behind it: not ours, or damaged.
    for (kind, len) in [
        ("redb head, nine bytes", 9),
        ("redb head, short", 64),
        ("redb head", 4_096),
        ("redb head, long", 1 << 20),
    ] {
        let path = dir.path().join(format!("{kind}.bin"));
        std::fs::write(&path, padded(b"redb\x1a\x0a\xa9\x0d\x0a", len)).expect("write");
        turned_away(kind, &path, any_typed);
    }
}

#[test]
fn things_that_are_no_files() {
    let dir = tempfile::tempdir().expect("tempdir");
    let folder = dir.path().join("folder");
    std::fs::create_dir(&folder).expect("mkdir");
    std::fs::write(folder.join("inside"), b"x").expect("write");
    turned_away("folder", &folder, not_a_store_or_io);
    assert_eq!(names_in(&folder), ["inside"]);

    let socket = dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("bind");
    turned_away("socket", &socket, not_a_store_or_io);

    let ring = dir.path().join("ring");
    std::os::unix::fs::symlink(&ring, &ring).expect("symlink");
    turned_away("symlink loop", &ring, not_a_store_or_io);

    let to_folder = dir.path().join("to folder");
    std::os::unix::fs::symlink(&folder, &to_folder).expect("symlink");
    turned_away("symlink to a folder", &to_folder, not_a_store_or_io);

    let fifo = dir.path().join("fifo");
    match Command::new("mkfifo").arg(&fifo).status() {
        Ok(status) if status.success() => turned_away("fifo", &fifo, not_a_store_or_io),
        _ => println!("skipped: no mkfifo here"),
    }

    for absent in [
        dir.path().join("no/such/folder/x.vecstash"),
        folder.join("inside/x"),
    ] {
        match VectorStore::open_path(&absent) {
            Err(StoreError::Io { .. }) => {}
            other => panic!("{}: {:?}", absent.display(), other.err()),
        }
    }
    let absent = dir.path().join("absent");
    for options in [
        OpenOptions::new().create(false),
        OpenOptions::new().read_only(true),
    ] {
        match options.open(&absent) {
            Err(StoreError::Io { .. }) => {}
            other => panic!("absent: {:?}", other.err()),
        }
        assert!(!absent.exists());
    }
    match VectorStore::open_path("") {
        Err(StoreError::Io { .. } | StoreError::NotAStore { .. }) => {}
        other => panic!("empty path: {:?}", other.err()),
    }
}

#[test]
fn a_file_without_permission() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("locked.vecstash");
    make_store(&path, 1, 3).expect("make");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).expect("chmod");
    if std::fs::read(&path).is_ok() {
        println!("skipped: this user reads everything");
        return;
    }
    match VectorStore::open_path(&path) {
        Err(StoreError::Io { .. }) => {}
        other => panic!("no permission: {:?}", other.err()),
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    VectorStore::open_path(&path).expect("still sound");
}

#[test]
fn redb_files_of_another_program() {
    let dir = tempfile::tempdir().expect("tempdir");
    let new = |name: &str| -> (PathBuf, Database) {
        let path = dir.path().join(name);
        let db = Database::create(&path).expect("create");
        (path, db)
    };

    let (path, db) = new("empty.redb");
    drop(db);
    turned_away("an empty redb file", &path, not_a_store);

    let (path, db) = new("users.redb");
    let write = db.begin_write().expect("write");
    {
        let mut users = write
            .open_table(TableDefinition::<&str, u64>::new("users"))
            .expect("table");
        for i in 0..500u64 {
            users
                .insert(format!("user {i}").as_str(), i)
                .expect("insert");
        }
    }
    write.commit().expect("commit");
    drop(db);
    turned_away("another program's redb file", &path, not_a_store);

    let (path, db) = new("meta_u64.redb");
    let write = db.begin_write().expect("write");
    write
        .open_table(TableDefinition::<u64, u64>::new("meta"))
        .expect("table")
        .insert(1, 1)
        .expect("insert");
    write.commit().expect("commit");
    drop(db);
    turned_away("a meta table of other types", &path, not_a_store);

    let (path, db) = new("meta_str.redb");
    let write = db.begin_write().expect("write");
    write
        .open_table(TableDefinition::<&str, &str>::new("meta"))
        .expect("table")
        .insert("version", "12")
        .expect("insert");
    write.commit().expect("commit");
    drop(db);
    turned_away("a meta table of texts", &path, not_a_store);

    for (name, key) in [("meta_bytes.redb", "hello"), ("meta_none.redb", "")] {
        let (path, db) = new(name);
        let write = db.begin_write().expect("write");
        {
            let mut meta = write
                .open_table(TableDefinition::<&str, &[u8]>::new("meta"))
                .expect("table");
            if !key.is_empty() {
                meta.insert(key, &b"world"[..]).expect("insert");
            }
        }
        write.commit().expect("commit");
        drop(db);
        turned_away("a meta table that does not name us", &path, any_typed);
    }

    // Left by a crash: redb would repair it on the way in, and must not.
    let (path, db) = new("crashed.redb");
    let write = db.begin_write().expect("write");
    write
        .open_table(TableDefinition::<&str, u64>::new("users"))
        .expect("table")
        .insert("a", 1)
        .expect("insert");
    write.commit().expect("commit");
    let crashed = dir.path().join("crashed copy.redb");
    std::fs::copy(&path, &crashed).expect("copy");
    drop(db);
    turned_away("another program's crashed redb file", &crashed, not_a_store);
}

#[test]
fn stores_of_a_newer_format_and_spoiled_stores() {
    let dir = tempfile::tempdir().expect("tempdir");
    let good = dir.path().join("good.vecstash");
    make_store(&good, 2, 20).expect("make");
    let copy = |name: &str| {
        let path = dir.path().join(name);
        std::fs::copy(&good, &path).expect("copy");
        path
    };

    let path = copy("newer.vecstash");
    assert!(
        raw::set_format_version(&path, 99) > 0,
        "tests/common_fault/raw.rs must learn `meta`"
    );
    turned_away("a newer vecstash format", &path, newer);

    let path = copy("far newer.vecstash");
    raw::set_format_version(&path, u32::MAX);
    turned_away("the newest vecstash format", &path, newer);

    let path = copy("spoiled.vecstash");
    assert!(
        raw::spoil_meta(&path) > 0,
        "tests/common_fault/raw.rs must learn `meta`"
    );
    turned_away("garbage in meta", &path, any_typed);

    let bytes = std::fs::read(&good).expect("read");
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).expect("write");
        path
    };
    for at in [0, 3, 8] {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x40;
        let path = write(&format!("magic {at}.vecstash"), &bytes);
        turned_away("a damaged magic number", &path, any_typed);
    }
    // redb keeps its own format version in the first byte of both commit slots.
    let mut newer_redb = bytes.clone();
    newer_redb[64] = 4;
    newer_redb[192] = 4;
    let path = write("newer redb.vecstash", &newer_redb);
    turned_away("a newer redb format", &path, any_typed);

    for len in [
        1, 9, 63, 64, 319, 320, 511, 512, 4_095, 4_096, 4_097, 8_192, 65_536,
    ] {
        if len < bytes.len() {
            let path = write(&format!("cut {len}.vecstash"), &bytes[..len]);
            turned_away("a truncated store", &path, any_typed);
        }
    }
    let path = write("half.vecstash", &bytes[..bytes.len() / 2]);
    turned_away("half a store", &path, any_typed);

    let store = VectorStore::open_path(&good).expect("the original is as it was");
    assert!(store.check().expect("check").is_clean());
}

// ---------------------------------------------------------------------------------------------
// Row 12

const CHILD: &str = "VECSTASH_FOREIGN_CHILD";

/// Not a test of its own: a second process that tries to open the store.
#[test]
fn child_opener() {
    let Ok(path) = std::env::var(CHILD) else {
        return;
    };
    // The exit code is the answer: the harness would flatten a panic to 101.
    let code = match VectorStore::open_path(path) {
        Ok(store) => {
            // Holds it for a while, so that a race has one winner.
            std::thread::sleep(Duration::from_millis(300));
            match store.close() {
                Ok(()) => 40,
                Err(_) => 43,
            }
        }
        Err(StoreError::AlreadyOpen { .. }) => 41,
        Err(error) => {
            eprintln!("{}", error.chain());
            42
        }
    };
    std::process::exit(code);
}

fn child(path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command
        .args(["child_opener", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, path)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

fn already_open(path: &Path, options: OpenOptions) {
    match options.open(path) {
        Err(error @ StoreError::AlreadyOpen { .. }) => {
            assert!(error.to_string().contains("open elsewhere"), "{error}");
        }
        other => panic!("{}: {:?}", path.display(), other.err()),
    }
}

#[test]
fn a_second_handle_is_turned_away() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("one.vecstash");
    let want: Seen = make_store(&path, 3, 10).expect("make");
    let store = VectorStore::open_path(&path).expect("open");

    already_open(&path, OpenOptions::new());
    already_open(&path, OpenOptions::new().create(false));
    already_open(&path, OpenOptions::new().read_only(true));
    let alias = dir.path().join("alias.vecstash");
    std::os::unix::fs::symlink(&path, &alias).expect("symlink");
    already_open(&alias, OpenOptions::new());
    let status = child(&path).status().expect("child");
    assert_eq!(status.code(), Some(41), "a second process: AlreadyOpen");

    // The first is unharmed: it reads, writes, and its write survives.
    assert_eq!(observe(&store).expect("observe"), want);
    store
        .upsert(
            "flat",
            b"after".to_vec(),
            &[1.0, 2.0, 3.0, 4.0],
            Default::default(),
        )
        .expect("upsert");
    assert!(store.check().expect("check").is_clean());
    store.close().expect("close");
    let status = child(&path).status().expect("child");
    assert_eq!(status.code(), Some(40), "free again after close");
    let store = VectorStore::open_path(&path).expect("free again");
    assert!(store.get("flat", b"after").expect("get").is_some());
}

#[test]
fn dropping_every_clone_frees_the_file() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("one.vecstash");
    make_store(&path, 4, 3).expect("make");
    let store = VectorStore::open_path(&path).expect("open");
    let clone = store.clone();
    let table = store.table("flat").expect("table");
    drop(store);
    already_open(&path, OpenOptions::new());
    drop(clone);
    drop(table);
    VectorStore::open_path(&path).expect("free again");
}

/// Creators race for one path: one wins, the others are told, and what the winner wrote is there.
#[test]
fn two_hundred_creation_races() {
    for race in 0..200 {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("race.vecstash");
        let threads = 2 + race % 2;
        let (ready, done) = (Barrier::new(threads), Barrier::new(threads));
        let winners: usize = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..threads)
                .map(|racer| {
                    let (path, ready, done) = (&path, &ready, &done);
                    scope.spawn(move || {
                        ready.wait();
                        let opened = VectorStore::open_path(path);
                        let written = opened.as_ref().map(|store| {
                            let name = format!("of {racer}");
                            store.create_table(schema(&name, 2, Codec::F32, Distance::Cosine))?;
                            store.upsert(&name, vec![1], &[1.0, 2.0], Default::default())
                        });
                        // Everybody holds what he has until all have tried.
                        done.wait();
                        match written {
                            Ok(Ok(())) => 1,
                            Err(StoreError::AlreadyOpen { .. }) => 0,
                            other => panic!("race {race}, racer {racer}: {other:?}"),
                        }
                    })
                })
                .collect();
            racers
                .into_iter()
                .map(|racer| racer.join().expect("racer"))
                .sum()
        });
        assert_eq!(winners, 1, "race {race}");
        let store = VectorStore::open_path(&path).expect("reopen");
        let tables = store.tables();
        assert_eq!(tables.len(), 1, "race {race}: {tables:?}");
        assert!(
            store.get(&tables[0].name, &[1]).expect("get").is_some(),
            "race {race}: the winner's row is gone"
        );
        drop(store);
        assert_eq!(
            names_in(dir.path()),
            ["race.vecstash"],
            "race {race}: something is left over"
        );
    }
}

#[test]
fn creation_races_of_processes() {
    for race in 0..10 {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("race.vecstash");
        let children: Vec<_> = (0..2)
            .map(|_| child(&path).spawn().expect("spawn"))
            .collect();
        let codes: Vec<_> = children
            .into_iter()
            .map(|mut child| child.wait().expect("wait").code())
            .collect();
        // A loaded machine may run one after the other; then both win.
        assert!(
            codes.iter().all(|code| matches!(code, Some(40 | 41))) && codes.contains(&Some(40)),
            "race {race}: {codes:?}"
        );
        VectorStore::open_path(&path).expect("reopen");
        assert_eq!(names_in(dir.path()), ["race.vecstash"], "race {race}");
    }
}
