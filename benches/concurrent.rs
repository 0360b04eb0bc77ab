//! What a search costs beside others: searches on two threads, and searches beside a writer.
//!
//! Spells of searches that return keys and distances take turns, round after round, and medians
//! over the rounds are printed. A ratio is the median of the rounds' own ratios, so that a machine
//! that slows down for a while slows down both of its sides; `least` and `most` are the ratios of
//! single rounds. Every rate stands beside the recall@10 of one in seven of its own answers, judged
//! against the rows that were there when each was asked for.
//!
//! The first table has one thread, two threads that call `search`, and `search_batch` on the two
//! threads of its store, both against the one thread. The second has one searching thread alone,
//! one writing thread alone and the two together. The writer upserts single rows, each durable
//! before the next: new keys from a part of the set that was held back, or new vectors, moved by a
//! tenth of their length, under keys that are there. Each round uses an equal share of the rows
//! held back, and a spell ends early where a fast disk has used it up.
//!
//! ```sh
//! VECSTASH_BENCH_DATA=folder VECSTASH_BENCH_KINDS=hnsw_int8,hnsw_f32 cargo bench --bench concurrent
//! ```
//!
//! `common/mod.rs` says how to name the data; without `VECSTASH_BENCH_KINDS` the table is
//! `hnsw_int8`. Of its own this bench has `VECSTASH_BENCH_ROUNDS` (5), `VECSTASH_BENCH_SPELL_MS`
//! (1000) and `VECSTASH_BENCH_EF` (64). A round is nine spells. The file is written under `TMPDIR`.
//!
//! Asserted: k hits, in order, for every query; recall when all has been written within a point of
//! that before; and every row written is there, in its last version, then and after a reopen.

mod common;

use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::ledger::{Ledger, Sample, Write};
use common::{
    DataSet, HNSW_INT8, K, Kind, TABLE, assert_hits, fill, key_of, kinds_or, median, number,
    percentiles_us, print_table,
};
use tempfile::TempDir;
use vecstash::{Durability, Hit, NewRow, OpenOptions, Return, SearchOptions, Table};

const SYNTHETIC: (usize, usize) = (20_000, 128);
const THREADS: usize = 2;
/// One row in so many is held back from the table.
const HELD_BACK: usize = 5;
/// One in so many of the rows held back is there from the start, to be written over.
const REWRITTEN: usize = 10;
/// One answer in so many is judged: all of them would take longer than to search.
const JUDGED: usize = 7;
/// Spells of a round that insert: the writer alone, and beside searches.
const INSERTING: usize = 2;

/// What the writer writes.
#[derive(Clone, Copy)]
enum Writes {
    NewKeys,
    Overwrites,
}

/// What was measured in one spell. Zeros where nobody searched, or nobody wrote.
#[derive(Default)]
struct Spell {
    searches_per_second: f64,
    p50_us: f64,
    p99_us: f64,
    recall: f64,
    rows_per_second: f64,
}

/// What one searching thread brings home.
#[derive(Default)]
struct Searched {
    per_second: f64,
    seconds: Vec<f64>,
    samples: Vec<Sample>,
}

/// A search and a write alone, and both together.
struct Pair {
    search: Spell,
    write: Spell,
    both: Spell,
}

struct Round {
    one: Spell,
    two: Spell,
    batch: Spell,
    new_keys: Pair,
    overwrites: Pair,
}

/// What the threads of a spell share.
struct Shared {
    start: Barrier,
    out_of_rows: AtomicBool,
    acknowledged: AtomicUsize,
}

struct Bench<'a> {
    set: &'a DataSet,
    table: Table,
    ledger: Ledger<'a>,
    options: SearchOptions,
    spell: Duration,
    /// New keys of one spell, at most.
    inserts: usize,
}

fn main() {
    let set = DataSet::from_env();
    let set = set.unwrap_or_else(|| DataSet::synthetic(SYNTHETIC.0, SYNTHETIC.1));
    let count = set.base.len() / HELD_BACK;
    let (set, held) = set.hold_back(count);
    for kind in kinds_or(&[HNSW_INT8]) {
        let folder = TempDir::new().expect("a temporary folder");
        let path = folder.path().join("concurrent.vecstash");
        fill(&path, &set, set.base.len(), kind);
        let ledger = Ledger::new(&set, &held, held.len() / REWRITTEN);
        let ledger = measure(&path, kind, &set, ledger);
        // Without an index an open is quick, and rows are read all the same.
        let options = OpenOptions::new().read_only(true);
        let store = options.open(&path).expect("the store opens again");
        assert_written(&store.table(TABLE).expect("the table is there"), &ledger);
    }
}

/// Runs every round on a filled store and closes it.
fn measure<'a>(path: &Path, kind: Kind, set: &'a DataSet, ledger: Ledger<'a>) -> Ledger<'a> {
    let options = OpenOptions::new()
        .create(false)
        .durability(Durability::Immediate)
        .threads(THREADS);
    let store = options.open(path).expect("the store opens");
    let table = store.table(TABLE).expect("the table is there");
    let rounds = number("VECSTASH_BENCH_ROUNDS").unwrap_or(5);
    let spell = number("VECSTASH_BENCH_SPELL_MS").unwrap_or(1_000) as u64;
    let ef = number("VECSTASH_BENCH_EF").unwrap_or(64);
    let mut bench = Bench {
        set,
        table,
        ledger,
        options: SearchOptions::new(K).returning(Return::Keys).ef(ef),
        spell: Duration::from_millis(spell),
        inserts: 0,
    };
    bench.write_first();
    bench.inserts = bench.ledger.unwritten() / (rounds * INSERTING);
    assert!(bench.inserts > 0, "too few rows for {rounds} rounds");
    let before = bench.recall();
    let rounds: Vec<Round> = (0..rounds).map(|_| bench.round()).collect();
    let after = bench.recall();
    let (table, ledger) = (bench.table, bench.ledger);
    print_rounds(set, kind, ef, &rounds);
    let (writes, keys) = (ledger.len(), ledger.keys());
    println!("\n{writes} writes of {keys} keys; recall@10 {before:.4} before, {after:.4} after");
    assert!(
        (after - before).abs() <= 0.01,
        "recall moved by more than a point"
    );
    assert_written(&table, &ledger);
    store.close().expect("every row durable");
    ledger
}

impl Bench<'_> {
    fn write_first(&mut self) {
        let writes: Vec<Write> = self.ledger.first().collect();
        let row = |&write: &Write| NewRow {
            key: key_of(self.ledger.row(write)),
            vector: self.ledger.vector(write),
            metadata: self.ledger.metadata(write),
        };
        let rows = writes.iter().map(row).collect();
        self.table.upsert_many(rows).expect("a batch of rows");
        self.ledger.enter(&writes);
    }

    /// Recall over every query while nobody writes.
    fn recall(&self) -> f64 {
        let writes = self.ledger.len();
        let samples = self.set.queries.iter().enumerate().map(|(number, query)| {
            let hits = self.search(number, query);
            Sample::new(number, &hits, writes..writes)
        });
        self.ledger.recall(&samples.collect::<Vec<_>>())
    }

    fn round(&mut self) -> Round {
        Round {
            one: self.run(1, None),
            two: self.run(THREADS, None),
            batch: self.batches(),
            new_keys: self.pair(Writes::NewKeys),
            overwrites: self.pair(Writes::Overwrites),
        }
    }

    fn pair(&mut self, writes: Writes) -> Pair {
        Pair {
            search: self.run(1, None),
            write: self.run(0, Some(writes)),
            both: self.run(1, Some(writes)),
        }
    }

    /// One spell of so many searching threads and, if anything is to be written, a writer.
    fn run(&mut self, searching: usize, writes: Option<Writes>) -> Spell {
        let shared = Shared {
            start: Barrier::new(searching + usize::from(writes.is_some())),
            out_of_rows: AtomicBool::new(false),
            acknowledged: AtomicUsize::new(self.ledger.len()),
        };
        let (this, shared) = (&*self, &shared);
        let (searched, written) = thread::scope(|scope| {
            let writer = writes.map(|writes| scope.spawn(move || this.write_for(shared, writes)));
            let searchers: Vec<_> = (0..searching)
                .map(|thread| thread * this.set.queries.len() / searching)
                .map(|first| scope.spawn(move || this.search_for(shared, first)))
                .collect();
            let searched = searchers.into_iter().map(|one| one.join());
            let searched: Result<Vec<Searched>, _> = searched.collect();
            let written = writer.map(|writer| writer.join().expect("the writer ends"));
            (searched.expect("the searches end"), written)
        });
        let mut spell = Spell::default();
        if let Some((writes, rows_per_second)) = written {
            self.ledger.enter(&writes);
            spell.rows_per_second = rows_per_second;
        }
        let (mut seconds, mut samples) = (Vec::new(), Vec::new());
        for one in searched {
            spell.searches_per_second += one.per_second;
            seconds.extend(one.seconds);
            samples.extend(one.samples);
        }
        if searching > 0 {
            [spell.p50_us, spell.p99_us] = percentiles_us(&mut seconds);
            spell.recall = self.ledger.recall(&samples);
        }
        spell
    }

    fn search(&self, number: usize, query: &[f32]) -> Vec<Hit> {
        let hits = self.table.search(query, &self.options).expect("a search");
        assert_hits(&hits, self.ledger.k(), number);
        hits
    }

    /// Searches for one spell, from query number `first` on.
    fn search_for(&self, shared: &Shared, first: usize) -> Searched {
        let mut searched = Searched::default();
        shared.start.wait();
        let started = Instant::now();
        for turn in 0.. {
            let number = (first + turn) % self.set.queries.len();
            let query = self.set.queries.row(number);
            let writes_before = shared.acknowledged.load(Ordering::Acquire);
            let before = Instant::now();
            let hits = self.search(number, query);
            searched.seconds.push(before.elapsed().as_secs_f64());
            if turn % JUDGED == 0 {
                let writes = writes_before..shared.acknowledged.load(Ordering::Acquire);
                searched.samples.push(Sample::new(number, &hits, writes));
            }
            if started.elapsed() >= self.spell || shared.out_of_rows.load(Ordering::Relaxed) {
                break;
            }
        }
        searched.per_second = searched.seconds.len() as f64 / started.elapsed().as_secs_f64();
        searched
    }

    /// Writes for one spell. Returns the writes and how many there were a second.
    fn write_for(&self, shared: &Shared, writes: Writes) -> (Vec<Write>, f64) {
        let mut planned: Box<dyn Iterator<Item = Write>> = match writes {
            Writes::NewKeys => Box::new(self.ledger.inserts(self.inserts)),
            Writes::Overwrites => Box::new(self.ledger.overwrites()),
        };
        let mut written = Vec::new();
        shared.start.wait();
        let started = Instant::now();
        while started.elapsed() < self.spell {
            let Some(write) = planned.next() else {
                shared.out_of_rows.store(true, Ordering::Relaxed);
                break;
            };
            let key = key_of(self.ledger.row(write));
            let (vector, metadata) = (self.ledger.vector(write), self.ledger.metadata(write));
            self.table
                .upsert(key, &vector, metadata)
                .expect("a durable row");
            written.push(write);
            shared.acknowledged.fetch_add(1, Ordering::Release);
        }
        let per_second = written.len() as f64 / started.elapsed().as_secs_f64();
        (written, per_second)
    }

    /// One spell of `search_batch`, each of all queries.
    fn batches(&self) -> Spell {
        let queries: Vec<&[f32]> = self.set.queries.iter().collect();
        let writes = self.ledger.len();
        let (mut searches, mut samples) = (0, Vec::new());
        let started = Instant::now();
        while started.elapsed() < self.spell {
            let answers = self.table.search_batch(&queries, &self.options);
            for (number, hits) in answers.expect("a batch").iter().enumerate() {
                assert_hits(hits, self.ledger.k(), number);
                if searches % JUDGED == 0 {
                    samples.push(Sample::new(number, hits, writes..writes));
                }
                searches += 1;
            }
        }
        Spell {
            searches_per_second: searches as f64 / started.elapsed().as_secs_f64(),
            recall: self.ledger.recall(&samples),
            ..Spell::default()
        }
    }
}

/// Every key written is there, in its last version, and no other row has come or gone.
fn assert_written(table: &Table, ledger: &Ledger<'_>) {
    let rows = table.count().expect("a count");
    assert_eq!(rows, ledger.rows(), "rows in the table");
    for write in ledger.last() {
        let row = ledger.row(write);
        let found = table.get(&key_of(row)).expect("a read");
        let found = found.unwrap_or_else(|| panic!("row {row} is not there"));
        assert_eq!(found.metadata, ledger.metadata(write), "row {row}");
    }
}

fn middle(rounds: &[Round], of: impl Fn(&Round) -> f64) -> f64 {
    median(rounds.iter().map(of).collect())
}

/// The ratio of the middle round, the least and the most.
fn ratios(rounds: &[Round], of: impl Fn(&Round) -> f64) -> [String; 3] {
    let least = rounds.iter().map(&of).fold(f64::INFINITY, f64::min);
    let most = rounds.iter().map(&of).fold(0.0, f64::max);
    [middle(rounds, of), least, most].map(|ratio| format!("{ratio:.3}"))
}

fn print_rounds(set: &DataSet, kind: Kind, ef: usize, rounds: &[Round]) {
    let title = format!(
        "{} of {}: {} x {}, {}, {} queries, ef {ef}, median of {} rounds",
        kind.name,
        set.name,
        set.base.len(),
        set.base.dim(),
        set.distance,
        set.queries.len(),
        rounds.len()
    );
    print_threads(&title, rounds);
    print_beside(rounds);
}

fn print_threads(title: &str, rounds: &[Round]) {
    type Of = fn(&Round) -> &Spell;
    let callers: [(&str, Of); 3] = [
        ("one thread", |round| &round.one),
        ("two threads", |round| &round.two),
        ("search_batch", |round| &round.batch),
    ];
    let lines = callers.map(|(name, of)| {
        let one = |round: &Round| round.one.searches_per_second;
        let ratio = |round: &Round| of(round).searches_per_second / one(round);
        let microseconds = |us: f64| {
            if us > 0.0 {
                format!("{us:.1}")
            } else {
                "-".into()
            }
        };
        let rate = middle(rounds, |round| of(round).searches_per_second);
        let mut line = vec![name.to_string(), format!("{rate:.0}")];
        line.extend(ratios(rounds, ratio));
        line.extend([
            microseconds(middle(rounds, |round| of(round).p50_us)),
            microseconds(middle(rounds, |round| of(round).p99_us)),
            format!("{:.4}", middle(rounds, |round| of(round).recall)),
        ]);
        line
    });
    let head = [
        "callers",
        "keys/s",
        "ratio",
        "least",
        "most",
        "p50 us",
        "p99 us",
        "recall@10",
    ];
    print_table(title, &head, &lines);
}

fn print_beside(rounds: &[Round]) {
    type OfRound = fn(&Round) -> &Pair;
    type OfPair = fn(&Pair) -> [f64; 2];
    let writers: [(&str, OfRound); 2] = [
        ("new keys", |round| &round.new_keys),
        ("overwrites", |round| &round.overwrites),
    ];
    let figures: [(&str, usize, OfPair); 5] = [
        ("keys/s", 0, |pair| {
            [&pair.search, &pair.both].map(|spell| spell.searches_per_second)
        }),
        ("recall@10", 4, |pair| {
            [&pair.search, &pair.both].map(|spell| spell.recall)
        }),
        ("p50 us", 1, |pair| {
            [&pair.search, &pair.both].map(|spell| spell.p50_us)
        }),
        ("p99 us", 1, |pair| {
            [&pair.search, &pair.both].map(|spell| spell.p99_us)
        }),
        ("rows/s", 0, |pair| {
            [&pair.write, &pair.both].map(|spell| spell.rows_per_second)
        }),
    ];
    let lines = writers.iter().flat_map(|(writer, of_round)| {
        figures.iter().map(move |(figure, digits, of_pair)| {
            let both = |round: &Round| of_pair(of_round(round));
            let mut line = vec![writer.to_string(), figure.to_string()];
            line.extend([0, 1].map(|side| {
                let figure = middle(rounds, |round| both(round)[side]);
                format!("{figure:.digits$}")
            }));
            line.extend(ratios(rounds, |round| both(round)[1] / both(round)[0]));
            line
        })
    });
    let head = [
        "writes", "figure", "alone", "beside", "ratio", "least", "most",
    ];
    let title = "One searching thread and one writer of durable single rows";
    print_table(title, &head, &lines.collect::<Vec<_>>());
}
