//! The `homeward` command.

use std::process::ExitCode;

use clap::Parser as _;
use homeward::commands::{Cli, run};

fn main() -> ExitCode {
    run(&Cli::parse())
}
