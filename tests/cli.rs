//! The command, run as a user runs it: what it prints, what it leaves on disk, how it fails.
#![cfg(feature = "cli")]

#[path = "cli/failures.rs"]
mod failures;
#[path = "cli/files.rs"]
mod files;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

struct Cli {
    dir: TempDir,
}

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/minilm2k")
        .join(name);
    path.display().to_string()
}

impl Cli {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_vecstash"))
            .current_dir(self.dir.path())
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// What a successful run prints.
    fn text(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{args:?}: {} {stderr}",
            output.status
        );
        assert_eq!(
            stderr, "",
            "{args:?}: nothing belongs on stderr without a terminal"
        );
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        let text = self.text(&[args, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}"))
    }

    /// The message of a run that must fail with exit code 1.
    fn refusal(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {stderr}");
        assert!(stderr.starts_with("error: "), "{args:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
        stderr
    }

    /// A store `a.db` with the fixture in table `docs`.
    fn with_docs(limit: &str) -> Self {
        let cli = Self::new();
        cli.text(&[
            "import",
            "a.db",
            "docs",
            &fixture("base.npy"),
            "--metadata",
            &fixture("meta.jsonl"),
            "--key-field",
            "name",
            "--create",
            "--distance",
            "cosine",
            "--codec",
            "int8_quantized",
            "--limit",
            limit,
        ]);
        cli
    }
}

#[test]
fn create_import_search_get_delete() {
    let cli = Cli::new();
    let created = cli.text(&[
        "create",
        "a.db",
        "docs",
        "--dim",
        "384",
        "--distance",
        "cosine",
        "--codec",
        "int8_quantized",
    ]);
    assert!(created.contains("created table docs"), "{created}");
    let imported = cli.json(&[
        "import",
        "a.db",
        "docs",
        &fixture("base.npy"),
        "--metadata",
        &fixture("meta.jsonl"),
        "--key-field",
        "name",
    ]);
    assert_eq!(imported["inserted"], 2000);

    let found = cli.json(&["search", "a.db", "docs", "--key", "warcio", "-k", "5"]);
    let hits = found["hits"].as_array().unwrap();
    assert_eq!(hits.len(), 5);
    assert_eq!(hits[0]["key"], "warcio");
    assert!(hits[0]["distance"].as_f64().unwrap().abs() < 1e-3);
    assert!(
        hits[0]["metadata"]["summary"]
            .as_str()
            .unwrap()
            .contains("WARC")
    );
    assert!(hits[0].get("vector").is_none());

    let exact = cli.json(&[
        "search",
        "a.db",
        "docs",
        "--npy",
        &fixture("query.npy"),
        "--row",
        "3",
        "--exact",
        "--vectors",
    ]);
    let index = cli.json(&[
        "search",
        "a.db",
        "docs",
        "--npy",
        &fixture("query.npy"),
        "--row",
        "3",
        "--ef",
        "256",
    ]);
    let keys = |answer: &Value| -> Vec<String> {
        answer["hits"]
            .as_array()
            .unwrap()
            .iter()
            .map(|hit| hit["key"].to_string())
            .collect()
    };
    let common = keys(&exact)
        .iter()
        .filter(|key| keys(&index).contains(key))
        .count();
    assert!(common >= 9, "{common} of 10 in common");
    let vector = exact["hits"][0]["vector"].to_string();
    let by_vector = cli.json(&["search", "a.db", "docs", "--vector", &vector, "-k", "1"]);
    assert_eq!(by_vector["hits"][0]["key"], exact["hits"][0]["key"]);
    let limit = exact["hits"][2]["distance"].to_string();
    let near = cli.json(&[
        "search",
        "a.db",
        "docs",
        "--npy",
        &fixture("query.npy"),
        "--row",
        "3",
        "--exact",
        "--max-distance",
        &limit,
    ]);
    assert_eq!(
        near["hits"].as_array().unwrap().len(),
        3,
        "the threshold is inclusive"
    );
    assert!(
        cli.text(&["search", "a.db", "docs", "--key", "warcio"])
            .contains("10 found in")
    );

    let row = cli.json(&["get", "a.db", "docs", "acme"]);
    assert_eq!(row["metadata"]["version"], "5.9.0");
    assert_eq!(row["vector"].as_array().unwrap().len(), 384);
    assert!(
        cli.text(&["get", "a.db", "docs", "acme"])
            .contains("ACME protocol")
    );

    let deleted = cli.json(&["delete", "a.db", "docs", "acme", "warcio", "no-such-key"]);
    assert_eq!(deleted["deleted"], 2);
    assert_eq!(deleted["missing"], serde_json::json!(["no-such-key"]));
    assert!(
        cli.refusal(&["get", "a.db", "docs", "acme"])
            .contains("row not found")
    );

    let stats = cli.json(&["stats", "a.db", "--memory"]);
    assert_eq!(stats["tables"][0]["live_rows"], 1998);
    assert!(stats["tables"][0]["memory"]["codes"].as_u64().unwrap() > 1998 * 384);
    assert_eq!(
        cli.json(&["stats", "a.db", "docs"])["tables"][0]["live_rows"],
        1998
    );
    assert!(cli.text(&["tables", "a.db"]).contains("1,998"));
    let check = cli.json(&["check", "a.db"]);
    assert_eq!(
        (&check["clean"], &check["rows"]),
        (&Value::Bool(true), &1998.into())
    );
}

#[test]
fn recall_has_a_floor() {
    let cli = Cli::with_docs("2000");
    let answer = cli.json(&[
        "recall",
        "a.db",
        "docs",
        "--queries",
        &fixture("query.npy"),
        "--k",
        "10",
        "--ef",
        "64,256",
    ]);
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    assert!(results[0]["recall"].as_f64().unwrap() >= 0.95, "{answer}");
    assert!(results[1]["recall"].as_f64().unwrap() >= 0.985, "{answer}");
    for one in results {
        assert!(one["qps"].as_f64().unwrap() > 0.0);
        assert!(one["p50_us"].as_f64().unwrap() <= one["p99_us"].as_f64().unwrap());
    }
    let text = cli.text(&[
        "recall",
        "a.db",
        "docs",
        "--queries",
        &fixture("query.npy"),
        "--queries-limit",
        "5",
    ]);
    assert!(
        text.contains("recall@10") && text.contains("ef 16"),
        "{text}"
    );
}

#[test]
fn an_import_resumes() {
    let cli = Cli::with_docs("700");
    let again = [
        "import",
        "a.db",
        "docs",
        &fixture("base.npy"),
        "--metadata",
        &fixture("meta.jsonl"),
        "--key-field",
        "name",
        "--skip-existing",
        "--batch",
        "333",
    ];
    let answer = cli.json(&again);
    assert_eq!(
        (&answer["inserted"], &answer["skipped"]),
        (&1300.into(), &700.into())
    );
    let answer = cli.json(&again);
    assert_eq!(
        (&answer["inserted"], &answer["skipped"]),
        (&0.into(), &2000.into())
    );
    assert_eq!(cli.json(&["stats", "a.db"])["tables"][0]["live_rows"], 2000);
}

#[test]
fn an_import_into_a_table_of_another_shape_is_refused() {
    let cli = Cli::with_docs("20");
    let base = fixture("base.npy");
    let import = |shape: &[&'static str]| {
        [
            &["import", "a.db", "docs", &base, "--limit", "5", "--create"],
            shape,
        ]
        .concat()
    };
    for (shape, is) in [
        (["--distance", "euclidean"], "distance cosine"),
        (["--codec", "f32"], "codec int8_quantized"),
        (["--index", "flat"], "index hnsw"),
        (["--resident", "full"], "resident compact"),
        (["--m", "64"], "m 16"),
        (["--m0", "64"], "m0 32"),
        (["--ef-construction", "64"], "ef-construction 200"),
        (["--ef-search", "64"], "ef-search 50"),
        (["--seed", "64"], "seed "),
    ] {
        let refused = cli.refusal(&import(&shape));
        let told = format!("table docs is there already, with {is}");
        assert!(refused.contains(&told), "{refused}");
        assert_eq!(cli.json(&["stats", "a.db"])["tables"][0]["live_rows"], 20);
    }
    let same = ["--index", "hnsw", "--codec", "int8_quantized", "--m", "16"];
    cli.text(&import(&same));
    assert_eq!(cli.json(&["stats", "a.db"])["tables"][0]["live_rows"], 25);
}

#[test]
fn keys_are_row_numbers_unless_told_otherwise() {
    let cli = Cli::new();
    cli.text(&[
        "import",
        "a.db",
        "t",
        &fixture("query.npy"),
        "--create",
        "--index",
        "flat",
    ]);
    assert_eq!(cli.json(&["get", "a.db", "t", "49"])["key"], "49");
    assert!(
        cli.refusal(&["get", "a.db", "t", "50"])
            .contains("row not found")
    );
    std::fs::write(
        cli.path("b.jsonl"),
        "{\"key\": {\"hex\": \"ff00\"}, \"vector\": [1, 2]}\n",
    )
    .unwrap();
    cli.text(&[
        "import", "b.db", "t", "b.jsonl", "--create", "--codec", "f32",
    ]);
    let row = cli.json(&["get", "b.db", "t", "ff00", "--hex"]);
    assert_eq!(row["key"], serde_json::json!({ "hex": "ff00" }));
    assert_eq!(row["vector"], serde_json::json!([1.0, 2.0]));
    assert!(
        cli.text(&["get", "b.db", "t", "ff00", "--hex"])
            .contains("0xff00")
    );
}

#[test]
fn the_demo_holds() {
    let cli = Cli::new();
    let started = std::time::Instant::now();
    let text = cli.text(&["demo"]);
    assert!(
        started.elapsed().as_secs() < 15,
        "the demo took {:?}",
        started.elapsed()
    );
    assert!(text.is_ascii());
    assert!(text.lines().count() < 70, "{text}");
    assert!(text.contains("bit for bit"), "{text}");
    let widest = text.lines().map(str::len).max().unwrap();
    assert!(widest <= 100, "{widest} columns:\n{text}");

    let answer = cli.json(&["demo", "--keep", "kept.db"]);
    assert_eq!(answer["lost"], 0);
    assert_eq!(answer["queries"].as_array().unwrap().len(), 3);
    let stats = cli.json(&["stats", "kept.db", "sentences"]);
    assert_eq!(stats["tables"][0]["live_rows"], 2000);
    assert!(
        cli.refusal(&["demo", "--keep", "kept.db"])
            .contains("there already")
    );
}
