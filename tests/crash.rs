//! Proves that `kill -9` of a writing process loses nothing that was acknowledged and leaves
//! nothing half done, checked after each kill.
//!
//! The test binary starts itself again as the writer. The writer tells each operation before it
//! begins and after it is acknowledged, one `write` a message on its stderr; the parent kills it
//! at a random time, follows the same random operations in its model, and reopens the store.

mod common_fault;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use common_fault::{
    Model, Op, Rng, State, as_state, check_inv_fully, number, observe, on_two_threads, random_op,
    seed, workload,
};
use vecstash::VectorStore;

const CHILD: &str = "VECSTASH_CRASH_CHILD";
const CHILD_SEED: &str = "VECSTASH_CRASH_SEED";
/// More operations than any child lives to do.
const ENDLESS: usize = 1_000_000;

fn tell(message: &str) {
    // One unbuffered write, shorter than a pipe's atomic length.
    let _ = std::io::stderr().write_all(format!("VS {message}\n").as_bytes());
}

/// Not a test of its own: the writing child, when the environment says so.
#[test]
fn child_writer() {
    let Ok(path) = std::env::var(CHILD) else {
        return;
    };
    let mut rng = Rng::new(number(CHILD_SEED, 0));
    let mut store = match VectorStore::open_path(&path) {
        Ok(store) => store,
        Err(error) => {
            tell(&format!("E open: {}", error.chain()));
            return;
        }
    };
    let mut state = as_state(&observe(&store).expect("observe"));
    tell("O");
    for n in 0..ENDLESS {
        let op = random_op(&mut rng, &state, true);
        tell(&format!("B {n}"));
        let result = if op == Op::Reopen {
            match store.close().and_then(|()| VectorStore::open_path(&path)) {
                Ok(again) => {
                    store = again;
                    Ok(())
                }
                Err(error) => {
                    tell(&format!("E {n} reopen: {}", error.chain()));
                    return;
                }
            }
        } else {
            op.run(&store)
        };
        if let Err(error) = result {
            tell(&format!("E {n} {}: {}", op.word(), error.chain()));
            return;
        }
        tell(&format!("A {n}"));
        op.apply(&mut state);
    }
}

fn start_child(path: &Path, seed: u64) -> Child {
    Command::new(std::env::current_exe().expect("this binary"))
        .args(["child_writer", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, path)
        .env(CHILD_SEED, seed.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the child starts")
}

/// What a killed child had told.
struct Told {
    opened: bool,
    begun: usize,
    acked: usize,
}

/// Starts a writer, kills it at a random time, and says what it had told until then.
fn kill_one(path: &Path, seed: u64, rng: &mut Rng, from_start: bool) -> Result<Told, String> {
    let mut child = start_child(path, seed);
    let pipe = child.stderr.take().expect("piped");
    let (opened, has_opened) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut told = Told {
            opened: false,
            begun: 0,
            acked: 0,
        };
        let mut trouble = None;
        for line in BufReader::new(pipe).split(b'\n') {
            let Ok(line) = line else { break };
            let line = String::from_utf8_lossy(&line).into_owned();
            let number = || line[5..].trim().parse::<usize>().expect("a number");
            if line == "VS O" {
                told.opened = true;
                let _ = opened.send(());
            } else if line.starts_with("VS B ") {
                told.begun = number() + 1;
            } else if line.starts_with("VS A ") {
                told.acked = number() + 1;
            } else if line.starts_with("VS E ") || line.contains("panicked") {
                trouble.get_or_insert(line);
            }
        }
        (told, trouble)
    });
    if !from_start {
        // The guard only ends a test that would hang; the kill comes in any case.
        let _ = has_opened.recv_timeout(Duration::from_secs(60));
    }
    std::thread::sleep(Duration::from_micros(rng.below(80_000) as u64));
    let killed = child.kill();
    child.wait().map_err(|error| format!("wait: {error}"))?;
    killed.map_err(|error| format!("kill: {error}"))?;
    match reader.join().expect("the reader") {
        (_, Some(trouble)) => Err(format!("the child failed by itself: {trouble}")),
        (told, None) => Ok(told),
    }
}

/// The model after what a child told, from the state it started with.
fn follow(state: &State, child_seed: u64, told: &Told) -> Model {
    let mut rng = Rng::new(child_seed);
    let mut model = Model {
        acked: state.clone(),
        in_flight: None,
    };
    for n in 0..told.begun {
        let op = random_op(&mut rng, &model.acked, true);
        if n < told.acked {
            op.apply(&mut model.acked);
        } else {
            model.in_flight = Some(op);
        }
    }
    model
}

/// Kills writers of one store file, one after the other. Returns (kills, operations
/// acknowledged, kills with an operation in flight).
fn kill_many(seed: u64, kills: usize) -> Result<(usize, usize, usize), String> {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("crash.vecstash");
    let mut rng = Rng::new(seed);
    let mut state = State::new();
    let (mut acked, mut in_flight) = (0, 0);
    for kill in 0..kills {
        let child_seed = rng.next();
        // The first kill of a file falls into its creation or soon after; a quarter of the others
        // may fall into an open.
        let from_start = kill == 0 || rng.chance(25);
        let at = |error: String| format!("seed {seed}, kill {kill}: {error}");
        let told = kill_one(&path, child_seed, &mut rng, from_start).map_err(at)?;
        acked += told.acked;
        in_flight += usize::from(told.begun > told.acked);
        // Absent after the first kill: the creation had not come so far. Whatever it left aside
        // is in nobody's way.
        if !path.exists() && (told.opened || kill > 0) {
            return Err(at("the file is gone".to_string()));
        }
        let model = follow(&state, child_seed, &told);
        state =
            check_inv_fully(&mut || VectorStore::open_path(&path), &model).map_err(|error| {
                at(format!(
                    "{error} (begun {}, acknowledged {}, in flight {:?})",
                    told.begun,
                    told.acked,
                    model.in_flight.as_ref().map(Op::word)
                ))
            })?;
    }
    Ok((kills, acked, in_flight))
}

fn kill_files(seed: u64, files: usize, kills: usize) {
    let all = on_two_threads(files, |file| {
        kill_many(seed.wrapping_add(file as u64 * 7_919), kills)
    });
    let all = all.unwrap_or_else(|error| panic!("VECSTASH_SEED={seed}: {error}"));
    let sum = |f: fn(&(usize, usize, usize)) -> usize| all.iter().map(f).sum::<usize>();
    println!(
        "seed {seed}: {} kills, {} operations acknowledged, {} kills with one in flight",
        sum(|one| one.0),
        sum(|one| one.1),
        sum(|one| one.2)
    );
    assert!(
        sum(|one| one.1) > 0,
        "no child ever wrote: the test proves nothing"
    );
}

#[test]
fn three_hundred_kills_lose_nothing() {
    kill_files(seed(0x5eed_0001), 60, 5);
}

/// The generator is a function of its seed and of keys alone, and does everything that it can.
#[test]
fn the_workload_holds_every_kind_of_operation() {
    let (ops, states) = workload(9, 400, true);
    let (again, _) = workload(9, 400, true);
    assert_eq!(ops, again);
    let words: BTreeSet<_> = ops.iter().map(Op::word).collect();
    assert_eq!(words.len(), 9, "{words:?}");
    let most = states.iter().map(|state| state.len()).max();
    assert!(most >= Some(3), "{most:?} tables at once");
}

/// Many files, killed in their first milliseconds: each is absent or a valid store.
#[test]
fn kills_during_creation_leave_no_file_or_a_valid_one() {
    let seed = seed(0x5eed_0002);
    let result = on_two_threads(40, |file| {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("new.vecstash");
        let mut rng = Rng::new(seed.wrapping_add(file as u64));
        let child_seed = rng.next();
        let mut child = start_child(&path, child_seed);
        // Kill as soon as anything appears in the folder, or shortly after.
        for _ in 0..20_000 {
            let appeared = std::fs::read_dir(dir.path()).is_ok_and(|mut dir| dir.next().is_some());
            if appeared {
                break;
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        std::thread::sleep(Duration::from_micros(rng.below(4_000) as u64));
        let killed = child.kill();
        child.wait().map_err(|error| error.to_string())?;
        killed.map_err(|error| error.to_string())?;
        let existed = path.exists();
        let opened = VectorStore::open_path(&path).map_err(|error| {
            format!(
                "file {file}, there after the kill: {existed}: {}",
                error.chain()
            )
        })?;
        let report = opened.check().map_err(|error| error.chain())?;
        if !report.is_clean() {
            return Err(format!("file {file}: {:?}", report.problems));
        }
        opened.close().map_err(|error| error.chain())?;
        Ok(existed)
    });
    let existed = result.unwrap_or_else(|error| panic!("VECSTASH_SEED={seed}: {error}"));
    println!(
        "seed {seed}: {} of {} files existed after the kill",
        existed.iter().filter(|&&existed| existed).count(),
        existed.len()
    );
}

#[test]
#[ignore = "20,000 kills take about an hour; cargo test --release --all-features -- --ignored crash_full"]
fn crash_full_twenty_thousand_kills() {
    kill_files(seed(0x5eed_0003), 2_000, 10);
}
