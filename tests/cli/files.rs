//! Whole tables and whole files: out, in again, copied, made smaller.

use super::Cli;

#[test]
fn export_and_import_round_trip() {
    let cli = Cli::with_docs("300");
    assert_eq!(
        cli.json(&["export", "a.db", "docs", "out.jsonl"])["rows"],
        300
    );
    cli.text(&[
        "import",
        "b.db",
        "docs",
        "out.jsonl",
        "--create",
        "--codec",
        "f32",
    ]);
    assert_eq!(
        cli.json(&["export", "a.db", "docs", "out.npy"])["rows"],
        300
    );
    cli.text(&[
        "import",
        "c.db",
        "docs",
        "out.npy",
        "--keys",
        "out.npy.keys.jsonl",
        "--create",
        "--codec",
        "f32",
    ]);
    let want = cli.json(&["get", "a.db", "docs", "acme"]);
    for db in ["b.db", "c.db"] {
        assert_eq!(cli.json(&["stats", db])["tables"][0]["live_rows"], 300);
        let got = cli.json(&["get", db, "docs", "acme"]);
        assert_eq!(got["vector"], want["vector"], "{db}");
        assert_eq!(got["metadata"], want["metadata"], "{db}");
    }
    let refused = cli.refusal(&["export", "a.db", "docs", "out.npy"]);
    assert!(refused.contains("cannot make out.npy"), "{refused}");
    assert!(cli.path("out.npy").exists() && cli.path("out.npy.keys.jsonl").exists());
    assert!(
        cli.refusal(&["export", "a.db", "docs", "out.csv"])
            .contains(".jsonl or .npy")
    );
}

#[test]
fn backup_open_compact_drop() {
    let cli = Cli::with_docs("500");
    cli.text(&["backup", "a.db", "b.db"]);
    let report = cli.json(&["open", "b.db", "--threads", "2"]);
    assert_eq!(report["rows"], 500);
    assert_eq!(report["threads"], 2);
    assert!(cli.text(&["open", "b.db"]).contains("index docs"));
    assert!(cli.refusal(&["backup", "a.db", "b.db"]).contains("b.db"));

    assert!(cli.refusal(&["drop", "a.db", "docs"]).contains("--yes"));
    assert!(
        cli.text(&["drop", "a.db", "docs", "--yes"])
            .contains("500 rows")
    );
    let size = |name: &str| std::fs::metadata(cli.path(name)).unwrap().len();
    let before = size("a.db");
    cli.text(&["compact", "a.db"]);
    assert!(
        size("a.db") < before,
        "{} is not less than {before}",
        size("a.db")
    );
    assert_eq!(
        cli.json(&["tables", "a.db"])["tables"],
        serde_json::json!([])
    );
    assert_eq!(cli.json(&["check", "b.db"])["clean"], true);
}
