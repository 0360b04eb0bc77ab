//! Whole tables and whole files: out, in again, copied, made smaller.

use super::{Cli, fixture};

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

#[test]
fn bench_open_measures_what_it_says() {
    let cli = Cli::new();
    let answer = cli.json(&[
        "bench",
        "open",
        "--rows",
        "500,2600",
        "--dim",
        "16",
        "--changed",
        "0,4",
        "--opens",
        "1",
        "--out",
        "plots",
        "--folder",
        ".",
    ]);
    let opens = answer["opens"].as_array().unwrap();
    let told: Vec<(u64, &str, f64)> = opens
        .iter()
        .map(|open| {
            (
                open["rows"].as_u64().unwrap(),
                open["links"].as_str().unwrap(),
                open["changed_percent"].as_f64().unwrap(),
            )
        })
        .collect();
    let each = [("found", 0.0), ("read", 0.0), ("read", 4.0)];
    let wanted: Vec<(u64, &str, f64)> = [500, 2600]
        .into_iter()
        .flat_map(|rows| each.map(|(links, changed)| (rows, links, changed)))
        .collect();
    assert_eq!(told, wanted);
    for open in opens {
        let of = |stage: &str| open[stage].as_f64().unwrap();
        let stages = of("check_seconds") + of("walk_seconds") + of("link_seconds");
        assert!(stages > 0.0 && stages <= of("total_seconds") * 1.001);
        assert_eq!(open["links_refused"], false);
    }
    assert_eq!(answer["exponents"].as_array().unwrap().len(), 3);
    let plot = std::fs::read_to_string(cli.path("plots/open.svg")).unwrap();
    assert_eq!(
        plot.matches("<polyline").count(),
        6,
        "curves and their legend"
    );
    assert!(plot.contains("links read, 4 % changed: n^"));
    // The stores it wrote are gone.
    let left: Vec<_> = std::fs::read_dir(cli.path(".")).unwrap().collect();
    assert_eq!(left.len(), 1);

    let text = cli.text(&[
        "bench", "open", "--rows", "300", "--opens", "1", "--codec", "f32", "--index", "flat",
    ]);
    assert!(text.contains("flat") && text.contains("none"));
    let refusal = cli.refusal(&["bench", "open", "--changed", "70"]);
    assert!(refusal.contains("--changed 70"), "{refusal}");
    let data = fixture("base.npy");
    let refusal = cli.refusal(&["bench", "open", "--data", &data, "--rows", "100000"]);
    assert!(refusal.contains("rows"), "{refusal}");
}
