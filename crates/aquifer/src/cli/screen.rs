//! Standard output and standard error as one screen: rows, notes and a status line that do not write into each other.
//!
//! Rows go to standard output only, all else to standard error. Whoever writes holds the screen's lock and clears the status line first. A closed
//! standard error is ignored: a job must not die because nobody listens.

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use parking_lot::Mutex;

/// The screen; clones are the same screen.
#[derive(Clone, Default)]
pub struct Screen {
    status_drawn: Arc<Mutex<bool>>,
}

impl Screen {
    /// Whether a status line can be drawn.
    pub fn has_status(&self) -> bool {
        std::io::stderr().is_terminal()
    }

    /// A line for people.
    pub fn tell(&self, text: &str) {
        let mut drawn = self.status_drawn.lock();
        clear(&mut drawn);
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    /// Draws the status line anew.
    pub fn status(&self, text: &str) {
        let mut drawn = self.status_drawn.lock();
        // Back to the first column, so that a line of the terminal itself (^C) overwrites it.
        let _ = write!(std::io::stderr(), "\r\x1b[2K{text}");
        *drawn = true;
    }

    /// Removes the status line.
    pub fn clear_status(&self) {
        clear(&mut self.status_drawn.lock());
    }

    /// The answer of a statement, on standard output.
    pub fn answer(&self, text: &str) {
        let mut drawn = self.status_drawn.lock();
        clear(&mut drawn);
        let _ = writeln!(std::io::stdout(), "{text}");
    }
}

fn clear(drawn: &mut bool) {
    if std::mem::take(drawn) {
        let _ = write!(std::io::stderr(), "\r\x1b[2K");
    }
}

/// Standard output for rows. Errors (a closed pipe) are returned, for they end the job.
pub struct Rows {
    screen: Screen,
}

impl Rows {
    /// Rows on this screen.
    pub fn new(screen: Screen) -> Self {
        Self { screen }
    }
}

impl Write for Rows {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut drawn = self.screen.status_drawn.lock();
        clear(&mut drawn);
        std::io::stdout().write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stdout().flush()
    }
}
