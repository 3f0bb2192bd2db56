//! The `hallpass-broker` binary.

use std::process::ExitCode;

use clap::Parser as _;
use hallpass_broker::{cli, compose};
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    if let Err(error) = compose::install_process_defaults() {
        eprintln!("hallpass-broker: {error}");
        return ExitCode::FAILURE;
    }
    cli::run(cli::Cli::parse())
}
