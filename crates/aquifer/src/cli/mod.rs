//! The `aquifer` command: arguments, prompt, progress. Here the real world comes in: clock, directories, terminal.

mod arguments;
mod clock;
mod compactor;
mod directories;
mod key_groups;
mod progress;
mod prompt;
mod screen;
mod state;
mod store;

use std::io::{IsTerminal, Read};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use aquifer::config_file;
use aquifer::runner::{RunError, Runner, RunnerSettings};
use aquifer_dataflow::config::Configuration;
use clap::Parser;

use arguments::{Arguments, Command, SqlArguments};
use progress::Terminal;
use screen::{Rows, Screen};

const SCRIPT_BYTES_MAX: u64 = 16 << 20;

/// Runs the command and says how it ended. Wrong arguments end the process with status 2 before that.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let screen = Screen::default();
    let ended = match &arguments.command {
        Command::Sql(arguments) => sql(arguments, &screen),
        Command::Compactor(arguments) => compactor::run(arguments, &screen),
        Command::Store(command) => store::run(command, &screen),
        Command::State(command) => state::run(command, &screen),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            screen.tell(&error.to_string());
            match error {
                RunError::Failed(_) => ExitCode::from(1),
                RunError::Usage(_) => ExitCode::from(2),
            }
        }
    }
}

fn sql(arguments: &SqlArguments, screen: &Screen) -> Result<(), RunError> {
    let mut configuration = Configuration::default();
    if let Some(path) = &arguments.config {
        config_file::load(path, &mut configuration)?;
    }
    arguments.define_in(&mut configuration)?;

    let source = Source::choose(arguments.file.as_deref());
    let now_ms = clock::wall();
    let mut runner = Runner::new(RunnerSettings {
        configuration,
        default_job_name: source.job_name(),
        default_checkpoint_dir: directories::checkpoints(),
        default_local_dir: directories::local(),
        resume: arguments.resume,
        now_ms: now_ms.clone(),
        rows: Arc::new(Mutex::new(Rows::new(screen.clone()))),
        console: Arc::new(Terminal::new(screen.clone(), now_ms)),
    });
    match source {
        Source::Prompt => prompt::run(&mut runner, screen, directories::history()),
        Source::Input => runner.run_script(
            "<stdin>",
            &read_script("standard input", std::io::stdin().lock())?,
        ),
        Source::File(path) => {
            let name = path.display().to_string();
            let file = std::fs::File::open(path).map_err(|error| unreadable(&name, &error))?;
            runner.run_script(&name, &read_script(&name, file)?)
        }
    }
}

/// Where statements come from.
enum Source<'a> {
    File(&'a Path),
    Input,
    Prompt,
}

impl<'a> Source<'a> {
    fn choose(file: Option<&'a Path>) -> Self {
        match file {
            Some(path) if path.as_os_str() == "-" => Source::Input,
            Some(path) => Source::File(path),
            None if std::io::stdin().is_terminal() => Source::Prompt,
            None => Source::Input,
        }
    }

    fn job_name(&self) -> String {
        match self {
            Source::File(path) => path.file_stem().map_or("script".to_owned(), |stem| {
                stem.to_string_lossy().into_owned()
            }),
            Source::Input => "stdin".to_owned(),
            Source::Prompt => "prompt".to_owned(),
        }
    }
}

fn read_script(name: &str, input: impl Read) -> Result<String, RunError> {
    let mut text = String::new();
    input
        .take(SCRIPT_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| unreadable(name, &error))?;
    if text.len() as u64 > SCRIPT_BYTES_MAX {
        return Err(RunError::Usage(format!(
            "error: {name}: expected a script of at most {SCRIPT_BYTES_MAX} bytes"
        )));
    }
    Ok(text)
}

fn unreadable(name: &str, error: &std::io::Error) -> RunError {
    RunError::Usage(format!("error: cannot read {name}: {error}"))
}
