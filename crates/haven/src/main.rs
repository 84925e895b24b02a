//! The one binary: arguments, settings, messages, and the wiring of all rooms. What it decides is how to say things.

mod cli;
mod config;
mod copies;
mod export;
mod keeper;
mod library;
mod manager;
mod media;
mod origin;
mod past;
mod points;
mod reach;
mod remembered;
mod replicas;
mod report;
mod saved;
mod secret;
mod served;
mod settings_file;
mod silence;
mod standing;
mod whose;
mod wire;
mod words;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
