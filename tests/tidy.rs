//! The house as a test. It reads `src/` and fails on an import that goes upward or sideways, on
//! `unsafe` outside its fence, on a dependency outside its room, on a file without its sentence.
//!
//! Every rule is a function from (path, text) to complaints, and `every_rule_can_fail` shows
//! each of them a file it must complain about and one it must not.

use std::fs;
use std::path::Path;

/// Which rooms the files of a room may name. What is not listed here does not exist, so a new
/// room is added to this page first.
const ROOMS: &[(&str, &[&str])] = &[
    // Floor 0.
    ("limits", &[]),
    ("distance", &[]),
    ("ids", &["limits"]),
    ("numbers", &[]),
    ("pool", &[]),
    ("kernel", &["limits"]),
    ("error", &["limits", "ids"]),
    // Floor 1.
    (
        "encoding",
        &["limits", "distance", "ids", "kernel", "error"],
    ),
    ("row", &["limits", "distance", "ids", "error", "encoding"]),
    (
        "schema",
        &["limits", "distance", "ids", "error", "encoding", "row"],
    ),
    // Floor 2: these two never meet.
    (
        "inner_index",
        &[
            "limits", "distance", "ids", "numbers", "pool", "kernel", "error", "encoding", "row",
            "schema",
        ],
    ),
    (
        "inner_storage",
        &[
            "limits", "distance", "ids", "kernel", "error", "encoding", "row", "schema", "testing",
        ],
    ),
    // Floor 3.
    (
        "store",
        &[
            "limits",
            "distance",
            "ids",
            "numbers",
            "pool",
            "kernel",
            "error",
            "encoding",
            "row",
            "schema",
            "inner_index",
            "inner_storage",
            "testing",
        ],
    ),
    // The simulator of the tests stands beside storage, and shows the kernels to the benches.
    (
        "testing",
        &[
            "kernel",
            "limits",
            "ids",
            "error",
            "row",
            "schema",
            "encoding",
            "distance",
            "inner_storage",
        ],
    ),
    // The command knows the public face only, as `vecstash::`.
    ("cli", &["cli"]),
    ("main", &["cli"]),
];

const LINES_MAX: usize = 500;

type Rule = fn(&str, &str) -> Vec<String>;

/// Every rule about one file of `src/`.
const RULES: &[(&str, Rule)] = &[
    ("imports go downward", imports_go_downward),
    ("unsafe is fenced", unsafe_is_fenced),
    ("redb stays in its room", redb_stays_in_its_room),
    ("bincode stays in its room", bincode_stays_in_its_room),
    ("plain text", plain_text),
    ("a sentence at the head", sentence_at_the_head),
    ("no long file", no_long_file),
    ("nothing unfinished", nothing_unfinished),
    ("no machine paths", no_machine_paths),
];

#[test]
fn the_house_is_in_order() {
    let mut complaints = Vec::new();
    let files = rust_files("src");
    assert!(files.len() > 10, "{} files are not the house", files.len());
    for (path, text) in &files {
        for (name, rule) in RULES {
            complaints.extend(
                rule(path, text)
                    .into_iter()
                    .map(|line| format!("{name}: {line}")),
            );
        }
    }
    complaints.extend(one_door_for_writes(&files));
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn tests_and_benches_are_in_order() {
    let mut complaints = Vec::new();
    for dir in ["tests", "benches"] {
        for (path, text) in rust_files(dir) {
            complaints.extend(plain_text(&path, &text));
            complaints.extend(sentence_at_the_head(&path, &text));
            // This file has to name what it forbids.
            if path != "tests/tidy.rs" {
                complaints.extend(nothing_unfinished(&path, &text));
                complaints.extend(no_machine_paths(&path, &text));
            }
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// Every `.rs` file below `dir` of the crate: its path with `/`, and its text.
fn rust_files(dir: &str) -> Vec<(String, String)> {
    fn walk(root: &Path, dir: &Path, files: &mut Vec<(String, String)>) {
        let Ok(entries) = fs::read_dir(dir) else {
            return;
        };
        for entry in entries {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                // A crate of its own, with its own build directory.
                if !path.join("Cargo.toml").exists() && !path.ends_with("target") {
                    walk(root, &path, files);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).expect("below the root");
                let parts: Vec<_> = name.iter().map(|part| part.to_string_lossy()).collect();
                let bytes = fs::read(&path).expect("a readable file");
                files.push((
                    parts.join("/"),
                    String::from_utf8_lossy(&bytes).into_owned(),
                ));
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    walk(root, &root.join(dir), &mut files);
    files.sort();
    files
}

/// The room of a file, by the name that code calls it.
fn room(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    let first = inside.split('/').next()?;
    Some(match first.strip_suffix(".rs").unwrap_or(first) {
        "index" => "inner_index",
        "storage" => "inner_storage",
        other => other,
    })
}

/// `text` with comments and the insides of strings blanked, line breaks kept.
fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    let blank = |out: &mut Vec<u8>, from: usize, to: usize| {
        for byte in &mut out[from..to] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
    };
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    while at < bytes.len() {
        let rest = &bytes[at..];
        if rest.starts_with(b"//") {
            let end = rest
                .iter()
                .position(|&b| b == b'\n')
                .map_or(bytes.len(), |n| at + n);
            blank(&mut out, at, end);
            at = end;
        } else if rest.starts_with(b"/*") {
            let (mut depth, mut end) = (0, at);
            while end < bytes.len() {
                if bytes[end..].starts_with(b"/*") {
                    depth += 1;
                    end += 2;
                } else if bytes[end..].starts_with(b"*/") {
                    depth -= 1;
                    end += 2;
                    if depth == 0 {
                        break;
                    }
                } else {
                    end += 1;
                }
            }
            blank(&mut out, at, end);
            at = end;
        } else if rest[0] == b'"' {
            let mut end = at + 1;
            while end < bytes.len() && bytes[end] != b'"' {
                end += if bytes[end] == b'\\' { 2 } else { 1 };
            }
            let end = end.min(bytes.len());
            blank(&mut out, at + 1, end);
            at = end + 1;
        } else if rest[0] == b'r' && (at == 0 || !is_word(bytes[at - 1]) || bytes[at - 1] == b'b') {
            let hashes = rest[1..].iter().take_while(|&&b| b == b'#').count();
            if rest.get(1 + hashes) == Some(&b'"') {
                let close = format!("\"{}", "#".repeat(hashes));
                let start = at + 2 + hashes;
                let end = text.as_bytes()[start..]
                    .windows(close.len())
                    .position(|window| window == close.as_bytes())
                    .map_or(bytes.len(), |n| start + n);
                blank(&mut out, start, end);
                at = end + close.len();
            } else {
                at += 1;
            }
        } else if rest[0] == b'\'' {
            // A character, or else a lifetime, which has no second quote so near.
            let len = match rest.get(1) {
                Some(b'\\') => rest[2..]
                    .iter()
                    .skip(1)
                    .position(|&b| b == b'\'')
                    .map(|n| n + 4),
                Some(_) if rest.get(2) == Some(&b'\'') => Some(3),
                _ => None,
            };
            if let Some(len) = len {
                blank(&mut out, at + 1, at + len - 1);
                at += len;
            } else {
                at += 1;
            }
        } else {
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Where `word` stands in `code` as a word of its own.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |&at| {
            let first = word.starts_with(is_word) && code[..at].ends_with(is_word);
            let last = word.ends_with(is_word) && code[at + word.len()..].starts_with(is_word);
            !first && !last
        })
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// The first names of a path's end: of `a::b` it is `a`; of `{a::b, c}` they are `a` and `c`.
fn first_names(rest: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        let text = text.trim_start();
        text.chars()
            .take_while(|&c| c.is_alphanumeric() || c == '_')
            .collect()
    };
    let rest = rest.trim_start();
    let Some(inside) = rest.strip_prefix('{') else {
        return vec![name(rest)];
    };
    let (mut depth, mut names, mut start) = (0, Vec::new(), 0);
    for (at, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            ',' if depth == 0 => {
                names.push(name(&inside[start..at]));
                start = at + 1;
            }
            '}' if depth == 0 => {
                names.push(name(&inside[start..at]));
                break;
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn imports_go_downward(path: &str, text: &str) -> Vec<String> {
    let room = match room(path) {
        Some("lib") | None => return Vec::new(),
        Some(room) => room,
    };
    let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
        return vec![format!(
            "{path}: `{room}` is no room of tests/tidy.rs; place it there first"
        )];
    };
    let code = code_of(text);
    let mut complaints = Vec::new();
    let mut visit = |at: usize, rest: &str| {
        for name in first_names(rest) {
            if name != room && !allowed.contains(&name.as_str()) {
                let line = line_of(&code, at);
                complaints.push(format!("{path}:{line}: {room} must not name `{name}`"));
            }
        }
    };
    for at in words(&code, "crate::") {
        // `$crate::` and `crate::` alike.
        visit(at, &code[at + "crate::".len()..]);
    }
    // `super::` often enough reaches the root too.
    let inside = path.trim_start_matches("src/").trim_end_matches(".rs");
    let depth = inside.split('/').filter(|part| *part != "mod").count();
    for at in words(&code, "super::") {
        if code[..at].ends_with("super::") {
            continue;
        }
        let mut rest = &code[at..];
        let mut supers = 0;
        while let Some(after) = rest.strip_prefix("super::") {
            supers += 1;
            rest = after;
        }
        let line_start = code[..at].rfind('\n').map_or(0, |newline| newline + 1);
        // An indented one may stand in a module within the file, one deeper.
        let indented = code[line_start..].starts_with(' ');
        if supers >= depth + usize::from(indented) {
            visit(at, rest);
        }
    }
    // The two of floor 2 do not reach each other by any other name either.
    let facades: &[&str] = match room {
        "inner_index" => &["inner_storage", "vecstash::storage", "Backend"],
        "inner_storage" => &["inner_index", "vecstash::index", "Slot"],
        _ => &[],
    };
    for facade in facades {
        if let Some(at) = words(&code, facade).next() {
            let line = line_of(&code, at);
            complaints.push(format!("{path}:{line}: {room} must not name `{facade}`"));
        }
    }
    complaints.sort();
    complaints.dedup();
    complaints
}

fn unsafe_is_fenced(path: &str, text: &str) -> Vec<String> {
    let code = code_of(text);
    let lines: Vec<&str> = text.lines().collect();
    let fenced = room(path) == Some("kernel");
    let mut complaints = Vec::new();
    for at in words(&code, "unsafe") {
        let line = line_of(&code, at);
        if !fenced {
            complaints.push(format!("{path}:{line}: unsafe outside src/kernel"));
            continue;
        }
        let after = code[at + "unsafe".len()..].trim_start();
        // The type of a function pointer promises nothing by itself.
        if after.starts_with("fn(") || after.starts_with("extern \"C\" fn(") {
            continue;
        }
        let mut reasoned = false;
        for above in (0..line).rev() {
            let shown = lines[above];
            if shown.contains("SAFETY:") || shown.contains("# Safety") {
                reasoned = true;
                break;
            }
            let trimmed = shown.trim();
            let is_comment = trimmed.starts_with("//");
            let ended = trimmed.ends_with(';') || trimmed.ends_with('}') || trimmed.is_empty();
            if above + 1 < line && !is_comment && ended {
                break;
            }
        }
        if !reasoned {
            complaints.push(format!(
                "{path}:{line}: unsafe without a SAFETY comment above it"
            ));
        }
    }
    complaints
}

fn only_in(path: &str, text: &str, name: &str, rooms: &[&str]) -> Vec<String> {
    if rooms.iter().any(|room| path.starts_with(room)) {
        return Vec::new();
    }
    let code = code_of(text);
    words(&code, name)
        .map(|at| {
            format!(
                "{path}:{}: `{name}` outside {}",
                line_of(&code, at),
                rooms[0]
            )
        })
        .collect()
}

fn redb_stays_in_its_room(path: &str, text: &str) -> Vec<String> {
    only_in(path, text, "redb::", &["src/storage/", "src/testing"])
}

fn bincode_stays_in_its_room(path: &str, text: &str) -> Vec<String> {
    only_in(
        path,
        text,
        "bincode::",
        &["src/storage/format.rs", "src/storage/format/"],
    )
}

fn plain_text(path: &str, text: &str) -> Vec<String> {
    let odd = |c: char| !c.is_ascii() || (c.is_ascii_control() && c != '\n');
    text.lines()
        .zip(1..)
        .filter(|(line, _)| line.contains(odd))
        .map(|(_, number)| format!("{path}:{number}: a character that is not plain ASCII"))
        .collect()
}

fn sentence_at_the_head(path: &str, text: &str) -> Vec<String> {
    let first = text.lines().next().unwrap_or_default();
    match first.strip_prefix("//! ") {
        Some(sentence) if sentence.len() > 10 => Vec::new(),
        _ => vec![format!(
            "{path}:1: no `//!` sentence that says what this file is"
        )],
    }
}

fn no_long_file(path: &str, text: &str) -> Vec<String> {
    match text.lines().count() {
        count if count > LINES_MAX => {
            vec![format!(
                "{path}: {count} lines, and {LINES_MAX} are the most"
            )]
        }
        _ => Vec::new(),
    }
}

fn nothing_unfinished(path: &str, text: &str) -> Vec<String> {
    let code = code_of(text);
    let mut found: Vec<usize> = Vec::new();
    for name in ["todo!", "unimplemented!", "dbg!"] {
        found.extend(words(&code, name).map(|at| line_of(&code, at)));
    }
    for name in ["TODO", "FIXME", "XXX"] {
        found.extend(words(text, name).map(|at| line_of(text, at)));
    }
    found.sort_unstable();
    found.dedup();
    found
        .into_iter()
        .map(|line| format!("{path}:{line}: something unfinished"))
        .collect()
}

fn no_machine_paths(path: &str, text: &str) -> Vec<String> {
    ["/home/", "/work/", "/root/", "/Users/", "/mnt/", "C:\\"]
        .into_iter()
        .flat_map(|place| text.match_indices(place))
        .map(|(at, place)| {
            format!(
                "{path}:{}: a path of one machine, {place}",
                line_of(text, at)
            )
        })
        .collect()
}

/// Exactly one place begins a write transaction, so that none forgets its two phases. Tests may
/// damage files their own way.
fn one_door_for_writes(files: &[(String, String)]) -> Vec<String> {
    let mut doors = Vec::new();
    for (path, text) in files {
        if path.starts_with("src/testing")
            || path.ends_with("/tests.rs")
            || path.contains("/tests/")
        {
            continue;
        }
        let code = code_of(text);
        let production = code.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        for at in words(production, ".begin_write(") {
            doors.push(format!("{path}:{}", line_of(&code, at)));
        }
    }
    match doors.len() {
        1 => Vec::new(),
        count => vec![format!(
            "one door for writes: {count} calls of begin_write: {doors:?}"
        )],
    }
}

#[test]
fn every_rule_can_fail() {
    let rule = |name: &str| -> Rule {
        RULES
            .iter()
            .find(|(known, _)| *known == name)
            .expect("a rule")
            .1
    };
    let imports = rule("imports go downward");
    let fence = rule("unsafe is fenced");
    let redb = rule("redb stays in its room");
    let bincode = rule("bincode stays in its room");
    let unfinished = rule("nothing unfinished");
    let long = "//! A file.\n".repeat(LINES_MAX + 1);

    let bad: &[(Rule, &str, &str)] = &[
        (
            imports,
            "src/index/hnsw/graph.rs",
            "use crate::inner_storage::Backend;",
        ),
        (
            imports,
            "src/index/mod.rs",
            "fn f(x: &dyn crate::storage::Backend) {}",
        ),
        (imports, "src/index/mod.rs", "use crate::store::Table;"),
        (
            imports,
            "src/storage/redb.rs",
            "use crate::inner_index::Index;",
        ),
        (
            imports,
            "src/storage/redb.rs",
            "use crate::{error::StoreError, store::Table};",
        ),
        (
            imports,
            "src/storage/redb.rs",
            "use crate::{\n    row::{Record, Want},\n    kernel,\n    inner_index,\n};",
        ),
        (imports, "src/storage/memory.rs", "fn f(at: Slot) {}"),
        (
            imports,
            "src/encoding/int8.rs",
            "use crate::schema::TableSchema;",
        ),
        (imports, "src/kernel/x86.rs", "use crate::encoding::Codec;"),
        (imports, "src/limits.rs", "use crate::error::StoreError;"),
        (imports, "src/row.rs", "use super::store::Table;"),
        (
            imports,
            "src/index/codes.rs",
            "use super::super::inner_storage::Backend;",
        ),
        (
            imports,
            "src/index/hnsw/graph.rs",
            "use super::super::super::store;",
        ),
        (
            imports,
            "src/row.rs",
            "mod tests {\n    use super::super::store::Table;\n}",
        ),
        (imports, "src/store/open.rs", "use crate::StoreError;"),
        (imports, "src/cli/import.rs", "use crate::store::Table;"),
        (imports, "src/helpers.rs", "fn anything() {}"),
        (
            fence,
            "src/store/open.rs",
            "// SAFETY: none\nlet x = unsafe { f() };",
        ),
        (
            fence,
            "src/kernel/x86.rs",
            "fn f() {\n    let x = unsafe { g() };\n}",
        ),
        (fence, "src/kernel/x86.rs", "/// Fast.\nunsafe fn f() {}"),
        (
            fence,
            "src/kernel/x86.rs",
            "// SAFETY: of the first\nunsafe { f() };\nlet y = 1;\nunsafe { g() };",
        ),
        (
            fence,
            "src/kernel/x86.rs",
            "// SAFETY: of the first\nunsafe { f() };\nunsafe { g() };",
        ),
        (redb, "src/store/open.rs", "fn f(e: redb::Error) {}"),
        (redb, "src/error.rs", "Storage(#[from] redb::StorageError),"),
        (bincode, "src/storage/redb.rs", "bincode::encode()"),
        (bincode, "src/row.rs", "use bincode::Encode;"),
        (
            rule("plain text"),
            "src/row.rs",
            "//! A dash \u{2014} here.",
        ),
        (rule("plain text"), "src/row.rs", "\tlet x = 1;"),
        (
            rule("a sentence at the head"),
            "src/row.rs",
            "use std::fmt;\n//! Too late to say it.",
        ),
        (
            rule("a sentence at the head"),
            "src/row.rs",
            "//!\nuse std::fmt;",
        ),
        (rule("a sentence at the head"), "src/row.rs", ""),
        (rule("no long file"), "src/row.rs", &long),
        (unfinished, "src/row.rs", "fn f() { todo!() }"),
        (
            unfinished,
            "src/row.rs",
            "fn f() { unimplemented!(\"later\") }",
        ),
        (unfinished, "src/row.rs", "// TODO: later"),
        (unfinished, "src/row.rs", "/// FIXME"),
        (
            rule("no machine paths"),
            "src/row.rs",
            "let x = \"/home/me/data\";",
        ),
        (rule("no machine paths"), "src/row.rs", "// see /work/notes"),
    ];
    for (rule, path, text) in bad {
        assert!(
            !rule(path, text).is_empty(),
            "no complaint about {path}: {text}"
        );
    }

    let good: &[(Rule, &str, &str)] = &[
        (
            imports,
            "src/index/hnsw/graph.rs",
            "use super::super::codes::Codes;\nuse crate::ids::RowId;",
        ),
        (
            imports,
            "src/index/mod.rs",
            "// unlike crate::store::Table\n//! [`crate::inner_storage`]",
        ),
        (
            imports,
            "src/index/mod.rs",
            "let text = \"crate::store\"; let c = '\"'; f(crate::ids::x);",
        ),
        (
            imports,
            "src/error.rs",
            "#[error(\"row {}\", crate::ids::DisplayKey(.key))]",
        ),
        (
            imports,
            "src/row.rs",
            "#[cfg(test)]\nmod tests {\n    use super::*;\n    use super::RowKey;\n}",
        ),
        (
            imports,
            "src/storage/mod.rs",
            "pub use self::redb::RedbBackend;\nuse crate::row::{Record, Want};",
        ),
        (
            imports,
            "src/store/open.rs",
            "use crate::{inner_index::Index, inner_storage::{Backend, Change}};",
        ),
        (imports, "src/store/open.rs", "use super::options::Hit;"),
        (imports, "src/lib.rs", "pub use crate::store::Table;"),
        (
            imports,
            "src/cli/import.rs",
            "use vecstash::Table;\nuse crate::cli::bar;",
        ),
        (
            fence,
            "src/store/open.rs",
            "#![deny(unsafe_code)] // unsafe is elsewhere\nlet x = \"unsafe\";",
        ),
        (
            fence,
            "src/kernel/x86.rs",
            "// SAFETY: checked.\nlet x = unsafe { f() };",
        ),
        (
            fence,
            "src/kernel/x86.rs",
            "// SAFETY: checked.\nlet x =\n    unsafe { f() };",
        ),
        (
            fence,
            "src/kernel/x86.rs",
            "/// # Safety\n///\n/// Needs AVX2.\n#[target_feature(enable = \"avx2\")]\nunsafe fn f() {}",
        ),
        (
            fence,
            "src/kernel/x86.rs",
            "type Dot = unsafe fn(&[u8], &[i8]) -> i32;",
        ),
        (redb, "src/storage/redb/open.rs", "use redb::Database;"),
        (
            redb,
            "src/testing/disk.rs",
            "impl redb::StorageBackend for Disk {}",
        ),
        (
            redb,
            "src/error.rs",
            "// redb::Error does not name its cause",
        ),
        (bincode, "src/storage/format.rs", "use bincode::config;"),
        (
            rule("plain text"),
            "src/row.rs",
            "//! A dash - here.\n\nuse std::fmt;\n",
        ),
        (
            rule("a sentence at the head"),
            "src/row.rs",
            "//! A row as a caller sees it.\n",
        ),
        (rule("no long file"), "src/row.rs", "//! A file.\n"),
        (
            unfinished,
            "src/row.rs",
            "#![allow(clippy::todo)]\nlet todo = 1;",
        ),
        (
            rule("no machine paths"),
            "src/row.rs",
            "let x = \"https://example.org/homework/a\";",
        ),
    ];
    for (rule, path, text) in good {
        let complaints = rule(path, text);
        assert!(complaints.is_empty(), "{path}: {text}\n{complaints:?}");
    }

    let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let door = file("src/storage/redb.rs", "let t = db.begin_write()?;");
    let comment = file("src/storage/mod.rs", "// db.begin_write() is called once\n");
    let test = file(
        "src/storage/walk.rs",
        "fn f() {}\n#[cfg(test)]\nmod tests { fn g() { db.begin_write(); } }",
    );
    assert!(one_door_for_writes(&[door.clone(), comment.clone(), test]).is_empty());
    assert!(!one_door_for_writes(&[comment]).is_empty());
    assert!(!one_door_for_writes(&[door.clone(), door]).is_empty());
}

#[test]
fn code_is_told_from_comments_and_strings() {
    for (text, code) in [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        ("f(\"x \\\" y\") + z", "f(\"      \") + z"),
        ("r#\"a \" b\"# + c", "r#\"     \"# + c"),
        ("let a = b'\"'; c", "let a = b' '; c"),
        (
            "fn f<'a>(x: &'a str) {} // y",
            "fn f<'a>(x: &'a str) {}     ",
        ),
        ("'\\'' // x", "'  '     "),
        ("'\\n' + y", "'  ' + y"),
    ] {
        assert_eq!(code_of(text), code);
    }
    assert_eq!(first_names("a::b::{c}"), ["a"]);
    assert_eq!(first_names("{a::{b, c}, d, e::f}"), ["a", "d", "e"]);
    assert_eq!(
        words("unsafe_code unsafe", "unsafe").collect::<Vec<_>>(),
        [12]
    );
}
