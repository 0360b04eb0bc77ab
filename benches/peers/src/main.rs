//! vecstash beside other vector indexes: the same data, one run, one table.
//!
//! Every run of every peer is a process of its own: this program again, or `peers.py`. Runs are
//! interleaved, and of every figure the median counts. `README.md` says what is compared.

#[path = "../../common/mod.rs"]
mod common;

mod child;
mod job;
mod measure;
mod memory;
mod peers;
mod plot;
mod prepare;
mod report;
mod runs;
mod score;

use std::path::PathBuf;
use std::process::ExitCode;
use std::{fs, io};

use clap::Parser;
use vecstash::Distance;

use common::DataSet;
use common::truth::Truth;

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

/// Compares vecstash with other vector indexes on one data set.
#[derive(Parser)]
pub(crate) struct Args {
    /// A folder with base and query (.npy, .fvecs or .bvecs) and, if there is one,
    /// gt_<metric>_ids.npy; or one such file, of which some rows are held out as queries.
    #[arg(long, required_unless_present = "job")]
    data: Option<PathBuf>,
    /// cosine, euclidean or dot_product; else what the data suggests.
    #[arg(long, value_parser = distance)]
    distance: Option<Distance>,
    /// Only the first so many rows.
    #[arg(long, default_value_t = usize::MAX, hide_default_value = true)]
    rows: usize,
    /// Only these peers; a family name such as usearch stands for all its members.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// The sweep.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512])]
    ef: Vec<usize>,
    /// Interleaved runs; medians of them are reported.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Threads of the build and of the second rate.
    #[arg(long, default_value_t = 2, value_parser = at_least_one)]
    threads: usize,
    /// Every rate is measured for so many seconds.
    #[arg(long, default_value_t = 0.3)]
    seconds: f64,
    /// The Python that has hnswlib, faiss-cpu and numpy.
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// Folder for the JSON and the plot.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results"), hide_default_value = true)]
    out: PathBuf,
    /// One run of one peer, for this program's own use.
    #[arg(long, hide = true)]
    job: Option<PathBuf>,
}

fn distance(text: &str) -> Result<Distance, String> {
    let all = [Distance::Cosine, Distance::Euclidean, Distance::DotProduct];
    let found = all.into_iter().find(|d| d.as_str() == text);
    found.ok_or_else(|| "cosine, euclidean or dot_product belongs here".to_string())
}

fn at_least_one(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|&number| number > 0);
    number.ok_or_else(|| "a number above 0 belongs here".to_string())
}

fn main() -> io::Result<ExitCode> {
    let mut args = Args::parse();
    if let Some(path) = &args.job {
        let job = serde_json::from_slice(&fs::read(path)?)?;
        let answer = serde_json::to_vec(&child::run(&job))?;
        fs::write(runs::answer_of(path), answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    args.ef.sort_unstable();
    args.ef.dedup();
    let data = args.data.as_deref().expect("clap asks for it");
    let mut set = DataSet::open(data, args.distance, args.rows);
    prepare::normalise(&mut set);
    let truth = Truth::of(&set);
    let (results, left_out) = runs::all(&args, &set, &truth)?;
    report::print(&args, &set, &results);
    report::write(&args, &set, &results)?;
    for (peer, reason) in &left_out {
        println!("left out: {peer}: {reason}");
    }
    // A peer that cannot hold the set is no failure; one that breaks is.
    let broken = left_out.iter().any(|(_, reason)| reason.is_failure());
    Ok(if broken {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
