//! The vecstash command: parses its arguments, hands over to a verb and says what went wrong.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let cli = cli::args::Cli::parse();
    let mut out = cli::Out::new(cli.json);
    let result = cli::run(cli, &mut out).and_then(|code| {
        out.flush()?;
        Ok(code)
    });
    result.unwrap_or_else(|error| {
        // Whoever read our output has seen enough: `vecstash export ... | head` is no failure.
        if cli::is_broken_pipe(&error) {
            return ExitCode::SUCCESS;
        }
        out.error(&error);
        ExitCode::FAILURE
    })
}
