//! The prompt: statements typed over several lines, with a history that is kept between sessions.
//!
//! An error in a statement is shown and the prompt goes on. Ctrl-C drops what is being typed; while a job runs it ends the process, as Ctrl-D does
//! at the prompt. A history that cannot be read or written is done without.

use std::path::PathBuf;

use aquifer::runner::{RunError, Runner};
use aquifer::sql::parser::is_complete;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Config, Editor, Helper};

use super::screen::Screen;

const WELCOME: &str =
    "Flink SQL; a statement ends with ';'. help; shows what there is, quit; leaves.";

const HELP: &str = "\
CREATE TABLE / CREATE VIEW / DROP      tables and views of this session
SHOW TABLES; DESCRIBE t; EXPLAIN q;    what there is and how it would run
SET 'key' = 'value'; RESET;            configuration, for example 'parallelism.default'
INSERT INTO t SELECT ...;              runs a job until it ends
SELECT ...;                            runs a job and prints its changelog
EXECUTE STATEMENT SET BEGIN ... END;   several inserts as one job
quit; exit;                            leaves";

/// Reads and runs statements until the user leaves.
pub fn run(runner: &mut Runner, screen: &Screen, history: Option<PathBuf>) -> Result<(), RunError> {
    let failed = |error: ReadlineError| {
        RunError::Failed(format!("error: cannot read from the terminal: {error}"))
    };
    let config = Config::builder().history_ignore_space(true).build();
    let mut editor: Editor<Statements, DefaultHistory> =
        Editor::with_config(config).map_err(failed)?;
    editor.set_helper(Some(Statements));
    if let Some(path) = &history {
        // A first session has none.
        let _ = editor.load_history(path);
    }
    screen.tell(WELCOME);
    loop {
        let text = match editor.readline("aquifer> ") {
            Ok(text) => text,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        remember(&mut editor, text, history.as_ref());
        match Word::of(text) {
            Some(Word::Quit) => return Ok(()),
            Some(Word::Help) => screen.tell(HELP),
            None => {
                if let Err(error) = runner.run_statements("prompt", text) {
                    screen.tell(&error.to_string());
                }
            }
        }
    }
}

fn remember(editor: &mut Editor<Statements, DefaultHistory>, text: &str, path: Option<&PathBuf>) {
    let added = editor.add_history_entry(text).unwrap_or(false);
    if let Some(path) = path.filter(|_| added) {
        if let Some(directory) = path.parent() {
            let _ = std::fs::create_dir_all(directory);
        }
        let _ = editor.append_history(path);
    }
}

/// What is understood beside SQL; these need no semicolon.
enum Word {
    Quit,
    Help,
}

impl Word {
    fn of(text: &str) -> Option<Self> {
        match text
            .trim()
            .trim_end_matches(';')
            .trim()
            .to_ascii_lowercase()
            .as_str()
        {
            "quit" | "exit" => Some(Word::Quit),
            "help" => Some(Word::Help),
            _ => None,
        }
    }
}

/// Keeps the editor open until a statement is whole.
struct Statements;

impl Validator for Statements {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let text = context.input();
        let whole = text.trim().is_empty() || Word::of(text).is_some() || is_complete(text);
        Ok(if whole {
            ValidationResult::Valid(None)
        } else {
            ValidationResult::Incomplete
        })
    }
}

impl Completer for Statements {
    type Candidate = String;
}
impl Hinter for Statements {
    type Hint = String;
}
impl Highlighter for Statements {}
impl Helper for Statements {}
