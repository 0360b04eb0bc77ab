//! The verbs of the command, on the public API alone.

pub(crate) mod args;
mod bench;
mod bench_rows;
mod demo;
mod demo_writer;
mod export;
mod files;
mod import;
mod open;
mod plot;
mod recall;
mod report;
mod rows;
mod salvage;
mod salvage_frames;
mod scratch;
mod search;
mod source;
mod tables;
pub(crate) mod vectors;

use std::process::ExitCode;

use self::args::{BenchVerb, Cli, Verb};
pub(crate) use self::report::{Out, is_broken_pipe};

/// Does what the command line asks.
pub(crate) fn run(cli: Cli, out: &mut Out) -> anyhow::Result<ExitCode> {
    let how = open::How {
        quarantine: cli.quarantine,
        threads: cli.threads,
    };
    match cli.verb {
        Verb::Demo(args) => demo::run(&args, out),
        Verb::Create(args) => tables::create(&args, how, out),
        Verb::Import(args) => import::run(&args, how, out),
        Verb::Search(args) => search::run(&args, how, out),
        Verb::Recall(args) => recall::run(&args, how, out),
        Verb::Get(args) => rows::get(&args, how, out),
        Verb::Delete(args) => rows::delete(&args, how, out),
        Verb::Tables(args) => tables::list(&args, how, out),
        Verb::Stats(args) => tables::stats(&args, how, out),
        Verb::Drop(args) => tables::drop_table(&args, how, out),
        Verb::Open(args) => files::open(&args, how, out),
        Verb::Check(args) => files::check(&args, how, out),
        Verb::Backup(args) => files::backup(&args, how, out),
        Verb::Compact(args) => files::compact(&args, how, out),
        Verb::Export(args) => export::run(&args, how, out),
        Verb::Bench(BenchVerb::Open(args)) => bench::open(&args, how, out),
        Verb::Salvage(args) => salvage::run(&args, out),
        Verb::SalvageRead(args) => salvage_frames::read(&args),
        Verb::DemoWriter(args) => demo_writer::run(&args),
    }
}
