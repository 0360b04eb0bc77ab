//! What goes wrong, and what stays as it was.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Cli, fixture};

#[test]
fn errors_say_what_is_wrong_and_change_nothing() {
    let cli = Cli::with_docs("50");
    let before = std::fs::read(cli.path("a.db")).unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(cli.path(name), bytes).unwrap();
    write("junk.npy", b"not an array");
    write("empty.jsonl", b"");
    write("ragged.jsonl", b"{\"vector\": [1, 2]}\n{\"vector\": [1]}\n");
    write("short.jsonl", b"{}\n");
    write(
        "big.jsonl",
        b"{\"vector\": [1, 2]}\n{\"vector\": [1, 1e30]}\n",
    );
    write("foreign.db", b"SQLite format 3\0 and so on");
    let cut = std::fs::read(fixture("base.npy")).unwrap();
    write("cut.npy", &cut[..1_000_000]);

    let query = fixture("query.npy");
    let cases: &[(&[&str], &str)] = &[
        (&["tables", "no.db"], "no store at no.db"),
        (
            &["search", "no.db", "docs", "--key", "acme"],
            "no store at no.db",
        ),
        (&["import", "no.db", "docs", &query], "no store at no.db"),
        (&["tables", "foreign.db"], "not a vecstash store"),
        (&["get", "a.db", "other", "acme"], "the store has docs"),
        (
            &["search", "a.db", "docs", "--key", "nobody"],
            "row not found",
        ),
        (
            &["search", "a.db", "docs", "--vector", "[1, 2"],
            "JSON array",
        ),
        (
            &["search", "a.db", "docs", "--vector", "[1, 2]"],
            "expects 384, got 2",
        ),
        (
            &["search", "a.db", "docs", "--npy", &query, "--row", "50"],
            "no row 50",
        ),
        (&["import", "a.db", "docs", "junk.npy"], "not a .npy file"),
        (&["import", "a.db", "docs", "cut.npy"], "cut off"),
        (&["import", "a.db", "docs", "gone.npy"], "gone.npy"),
        (
            &[
                "import",
                "a.db",
                "docs",
                &query,
                "--metadata",
                "short.jsonl",
            ],
            "1 lines for 50 rows",
        ),
        (
            &["import", "a.db", "docs", &query, "--codec", "f32"],
            "--create",
        ),
        (
            &[
                "import", "a.db", "docs", &query, "--create", "--codec", "f32",
            ],
            "codec int8_quantized",
        ),
        (
            &["import", "a.db", "docs", "ragged.jsonl"],
            "vectors of 2 coordinates",
        ),
        (
            &["import", "new.db", "t", "empty.jsonl", "--create"],
            "no rows",
        ),
        (
            &["import", "new.db", "t", "ragged.jsonl", "--create"],
            "row 1 has 1 coordinates",
        ),
        (
            &["import", "new2.db", "t", "big.jsonl", "--create"],
            "row 1",
        ),
        (&["create", "new3.db", "t", "--dim", "0"], "dim = 0"),
        (&["create", "a.db", "docs", "--dim", "3"], "already exists"),
        (
            &["recall", "a.db", "docs", "--queries", "junk.npy"],
            "not a .npy file",
        ),
        (&["salvage", "no.db", "b.db"], "no store at no.db"),
        (&["salvage", "a.db", "foreign.db"], "there already"),
    ];
    for (args, expected) in cases {
        let message = cli.refusal(args);
        assert!(
            message.contains(expected),
            "{args:?}: {message:?} lacks {expected:?}"
        );
    }
    assert!(!cli.path("no.db").exists(), "a reading verb made a file");
    assert!(
        !cli.path("new3.db").exists(),
        "a refused create left a file"
    );
    assert_eq!(cli.json(&["stats", "a.db"])["tables"][0]["live_rows"], 50);
    let foreign = std::fs::read(cli.path("foreign.db")).unwrap();
    assert_eq!(foreign, b"SQLite format 3\0 and so on");
    drop(before);

    let output = cli.run(&["get", "a.db", "docs", "nobody", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        document["error"]
            .as_str()
            .unwrap()
            .contains("row not found")
    );
    assert_eq!(
        cli.run(&["search", "a.db"]).status.code(),
        Some(2),
        "usage is clap's business"
    );
}

#[test]
fn reading_leaves_the_file_as_it_is() {
    let cli = Cli::with_docs("50");
    let before = std::fs::read(cli.path("a.db")).unwrap();
    for args in [
        ["tables", "a.db"].as_slice(),
        &["stats", "a.db"],
        &["open", "a.db"],
        &["check", "a.db"],
        &["get", "a.db", "docs", "acme"],
        &["search", "a.db", "docs", "--key", "acme"],
        &["export", "a.db", "docs", "out.jsonl"],
    ] {
        cli.text(args);
        assert!(
            std::fs::read(cli.path("a.db")).unwrap() == before,
            "{args:?} changed the file"
        );
    }
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let cli = Cli::with_docs("50");
    let mut child = Command::new(env!("CARGO_BIN_EXE_vecstash"))
        .current_dir(cli.dir.path())
        .args([
            "search",
            "a.db",
            "docs",
            "--key",
            "acme",
            "-k",
            "50",
            "--vectors",
            "--json",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn salvage_copies_a_whole_store() {
    let cli = Cli::with_docs("500");
    let answer = cli.json(&["salvage", "a.db", "b.db"]);
    assert_eq!(answer["complete"], true, "{answer}");
    assert_eq!(answer["tables"][0]["rows"], 500);
    assert_eq!(cli.json(&["check", "b.db"])["clean"], true);
    let row = |db| cli.json(&["get", db, "docs", "acme"]);
    assert_eq!(row("a.db"), row("b.db"), "times included");
}

#[test]
fn salvage_of_a_damaged_store_copies_what_is_whole() {
    let cli = Cli::with_docs("2000");
    let mut bytes = std::fs::read(cli.path("a.db")).unwrap();
    // Damage one page in the middle, among the rows.
    let at = bytes.len() / 2 / 4096 * 4096;
    bytes[at..at + 512].fill(0xa5);
    std::fs::write(cli.path("bad.db"), bytes).unwrap();
    let answer = cli.json(&["salvage", "bad.db", "b.db", "--patience", "20"]);
    let rows = answer["tables"][0]["rows"].as_u64().unwrap();
    assert!(rows >= 1000, "{answer}");
    assert_eq!(cli.json(&["check", "b.db"])["clean"], true);
}

#[test]
fn salvage_takes_the_rows_between_damaged_pages() {
    let cli = Cli::with_docs("2000");
    let mut bytes = std::fs::read(cli.path("a.db")).unwrap();
    let pages = bytes.len() / 4096;
    // Leaves begin with the byte 1; redb's own few are at the front.
    let leaves: Vec<usize> = (16..pages).filter(|page| bytes[page * 4096] == 1).collect();
    for at in [1, 2, 4, 5, 7] {
        let page = leaves[leaves.len() * at / 8];
        bytes[page * 4096..(page + 1) * 4096].fill(0xa5);
    }
    std::fs::write(cli.path("bad.db"), bytes).unwrap();
    let answer = cli.json(&["salvage", "bad.db", "b.db", "--patience", "20"]);
    let table = &answer["tables"][0];
    // A page holds some six rows.
    assert!(table["rows"].as_u64().unwrap() >= 1_900, "{answer}");
    assert!(
        table["unreachable"].as_array().unwrap().len() <= 5,
        "{answer}"
    );
    assert_eq!(cli.json(&["check", "b.db"])["clean"], true);
}
