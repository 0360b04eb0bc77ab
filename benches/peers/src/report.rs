//! The table for people, the JSON for programs and the plot.

use std::fs;
use std::io;

use serde_json::json;

use crate::Args;
use crate::common::{DataSet, print_table};
use crate::plot;
use crate::score::{At, PeerResult, ScoredPoint, TARGETS, at};

/// Prints the table.
pub(crate) fn print(args: &Args, set: &DataSet, results: &[PeerResult]) {
    let title = format!(
        "{}: {} rows of {} coordinates, {}, {} queries; medians of {} runs",
        set.name,
        set.base.len(),
        set.base.dim(),
        set.distance.as_str(),
        set.queries.len(),
        args.runs
    );
    let threads = args.threads;
    let mut head = vec!["peer".to_string(), format!("build/s {threads}t")];
    for threads in [1, threads] {
        head.extend(TARGETS.map(|target| format!("qps@{target:.2} {threads}t")));
    }
    let rest = [
        "p50us@.95",
        "p99us@.95",
        "recall",
        "B/vector",
        "reopen s",
        "durable/s",
        "1,000s/s",
    ];
    head.extend(rest.map(str::to_string));
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    let lines: Vec<Vec<String>> = results.iter().map(|result| line(result, set)).collect();
    print_table(&title, &head, &lines);
    println!(
        "\n  qps: searches a second at recall@10; >= where the cheapest point is better already, \
         - where the sweep ends below.\n  recall: of the cheapest and of the dearest point. \
         B/vector: a counted by the allocator, r by the resident set, f the file.\n  \
         durable/s: rows a second, one and 1,000 a transaction."
    );
}

fn line(result: &PeerResult, set: &DataSet) -> Vec<String> {
    let rows = set.base.len() as f64;
    let mut line = vec![
        result.peer.clone(),
        format!("{:.0}", rows / result.build_seconds),
    ];
    for thread in [0, 1] {
        let qps = |point: &ScoredPoint| point.qps[thread];
        line.extend(TARGETS.map(|target| shown(at(&result.points, target, qps), ">=")));
    }
    let latency =
        |figure: &dyn Fn(&ScoredPoint) -> f64| shown(at(&result.points, TARGETS[1], figure), "<=");
    line.push(latency(&|point| point.p50_us));
    line.push(latency(&|point| point.p99_us));
    let recall = |point: Option<&ScoredPoint>| point.map_or(f64::NAN, |point| point.recall);
    let [low, high] = [result.points.first(), result.points.last()].map(recall);
    line.push(format!("{low:.3}-{high:.3}"));
    let by = result.bytes_by.get(..1).unwrap_or_default();
    line.push(format!("{:.0}{by}", result.bytes / rows));
    line.push(optional(result.reopen_seconds, 4));
    line.push(optional(result.upserts_single, 0));
    line.push(optional(result.upserts_batch, 0));
    line
}

fn shown(figure: At, bound: &str) -> String {
    match figure {
        At::Between(value) => format!("{value:.0}"),
        At::Cheapest(value) => format!("{bound}{value:.0}"),
        At::Never => "-".to_string(),
    }
}

fn optional(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".to_string(), |value| format!("{value:.digits$}"))
}

/// Writes `<set>-<distance>.json` and `.svg`.
pub(crate) fn write(args: &Args, set: &DataSet, results: &[PeerResult]) -> io::Result<()> {
    fs::create_dir_all(&args.out)?;
    let name = format!("{}-{}", set.name, set.distance.as_str());
    let raw = json!({
        "set": set.name,
        "rows": set.base.len(),
        "dim": set.base.dim(),
        "queries": set.queries.len(),
        "distance": set.distance,
        "threads": args.threads,
        "seconds": args.seconds,
        "peers": results,
    });
    let json = args.out.join(&name).with_extension("json");
    fs::write(&json, serde_json::to_vec_pretty(&raw)?)?;
    let svg = args.out.join(&name).with_extension("svg");
    fs::write(&svg, plot::svg(&name, results))?;
    println!("  {}\n  {}", json.display(), svg.display());
    Ok(())
}
