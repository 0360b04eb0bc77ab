//! Interleaved runs: every peer once, in a process of its own, then every peer again.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::Args;
use crate::common::truth::Truth;
use crate::common::{DataSet, K};
use crate::job::{Answer, Job};
use crate::peers;
use crate::prepare;
use crate::score::{self, PeerResult};

/// The peers that `peers.py` runs.
const PYTHON: [&str; 3] = ["hnswlib", "faiss-f32", "faiss-sq8"];
/// Rows that every peer must find as their own nearest.
const OWN: usize = 200;

/// Peers without figures.
pub(crate) type LeftOut = Vec<(String, Reason)>;

/// Why a peer has no figures.
pub(crate) enum Reason {
    /// It cannot hold this set or is not installed.
    Refused(String),
    /// It broke or did not find its own rows.
    Failed(String),
}

impl Reason {
    pub(crate) fn is_failure(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) => write!(f, "{reason}"),
            Self::Failed(reason) => write!(f, "FAILED: {reason}"),
        }
    }
}

/// Where the answer to the job in this file belongs.
pub(crate) fn answer_of(job: &Path) -> PathBuf {
    job.with_file_name("answer.json")
}

/// Runs what was asked for and returns the peers' figures and those that have none.
pub(crate) fn all(
    args: &Args,
    set: &DataSet,
    truth: &Truth,
) -> io::Result<(Vec<PeerResult>, LeftOut)> {
    let folder = TempDir::new()?;
    let data = folder.path().join("data");
    prepare::write(set, &data)?;
    let mut asked = chosen(args)?;
    let mut left_out = Vec::new();
    let mut answers: BTreeMap<String, Vec<Answer>> = BTreeMap::new();
    for run in 1..=args.runs {
        let mut going = Vec::new();
        for peer in asked {
            eprintln!("run {run} of {}: {peer}", args.runs);
            match one(args, set, &peer, &data) {
                Ok(answer) => {
                    answers.entry(peer.clone()).or_default().push(answer);
                    going.push(peer);
                }
                Err(reason) => {
                    eprintln!("{peer}: {reason}");
                    answers.remove(&peer);
                    left_out.push((peer, reason));
                }
            }
        }
        asked = going;
    }
    let results = asked.into_iter().map(|peer| {
        let answers = answers.remove(&peer).unwrap_or_default();
        score::result(peer, answers, set, truth)
    });
    Ok((results.collect(), left_out))
}

fn chosen(args: &Args) -> io::Result<Vec<String>> {
    let mut names = peers::NAMES.to_vec();
    let before = names.iter().position(|name| *name == "hnsw_rs");
    let at = before.unwrap_or(names.len());
    names.splice(at..at, PYTHON);
    let of = |asked: &str, name: &str| {
        let rest = name.strip_prefix(asked);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    for asked in &args.peers {
        if !names.iter().any(|name| of(asked, name)) {
            let all = names.join(", ");
            return Err(io::Error::other(format!(
                "no peer {asked}; there are {all}"
            )));
        }
    }
    names.retain(|name| args.peers.is_empty() || args.peers.iter().any(|asked| of(asked, name)));
    Ok(names.iter().map(ToString::to_string).collect())
}

fn one(args: &Args, set: &DataSet, peer: &str, data: &Path) -> Result<Answer, Reason> {
    let failed = |error: io::Error| Reason::Failed(error.to_string());
    let folder = TempDir::new().map_err(failed)?;
    let rows = set.base.len();
    for file in ["base.npy", "query.npy"] {
        // A link, where the system has them: the data may be large.
        let (from, to) = (data.join(file), folder.path().join(file));
        let linked = fs::hard_link(&from, &to).or_else(|_| fs::copy(&from, &to).map(|_| ()));
        linked.map_err(failed)?;
    }
    let job = Job {
        peer: peer.to_string(),
        folder: folder.path().to_path_buf(),
        distance: set.distance,
        k: K.min(rows),
        efforts: args.ef.clone(),
        threads: args.threads,
        seconds: args.seconds,
        own: (0..OWN.min(rows))
            .map(|i| i * rows / OWN.min(rows))
            .collect(),
    };
    let path = folder.path().join("job.json");
    fs::write(
        &path,
        serde_json::to_vec(&job).map_err(|e| failed(e.into()))?,
    )
    .map_err(failed)?;
    let mut command = command(args, peer, &path).map_err(failed)?;
    let threads = args.threads.to_string();
    command.env("RAYON_NUM_THREADS", &threads);
    command.env("OMP_NUM_THREADS", &threads);
    let status = command.status().map_err(failed)?;
    if !status.success() {
        return Err(Reason::Failed(format!("its process ended with {status}")));
    }
    let bytes = fs::read(answer_of(&path)).map_err(failed)?;
    let answer: Answer = serde_json::from_slice(&bytes).map_err(|e| failed(e.into()))?;
    if let Some(reason) = answer.refused {
        return Err(Reason::Refused(reason));
    }
    score::assert_own(peer, &job.own, &answer, set).map_err(Reason::Failed)?;
    Ok(answer)
}

fn command(args: &Args, peer: &str, job: &Path) -> io::Result<Command> {
    let mut command;
    if PYTHON.contains(&peer) {
        command = Command::new(&args.python);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/peers.py"));
        command.arg(job);
    } else {
        command = Command::new(std::env::current_exe()?);
        command.arg("--job").arg(job);
    }
    Ok(command)
}
