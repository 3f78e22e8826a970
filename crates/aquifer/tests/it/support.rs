//! Starting the binary in a directory of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use tempfile::TempDir;

/// A directory with scripts, results and the user's data directory; it goes with the value.
pub struct Place {
    directory: TempDir,
}

/// How a run ended.
pub struct Ended {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// The run, which must have ended with `status`.
    #[track_caller]
    pub fn with_status(self, status: i32) -> Self {
        assert_eq!(
            self.status,
            Some(status),
            "stdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// Lines of standard output, sorted.
    pub fn rows(&self) -> Vec<&str> {
        let mut rows: Vec<&str> = self.stdout.lines().collect();
        rows.sort_unstable();
        rows
    }
}

impl Place {
    pub fn new() -> Self {
        Self {
            directory: TempDir::new().expect("a temporary directory"),
        }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file and returns its name, which is relative to the directory in which the binary runs.
    pub fn file(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path().join(name), text).expect("a file is written");
        name.to_owned()
    }

    /// `aquifer` with these arguments, not started yet. Nothing of the surroundings that could change its behaviour is inherited.
    pub fn aquifer(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aquifer"));
        command
            .args(arguments)
            .current_dir(self.path())
            .env("XDG_DATA_HOME", self.path().join("data"))
            .env("HOME", self.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for name in [
            "AWS_ENDPOINT_URL",
            "AWS_ENDPOINT",
            "AWS_REGION",
            "AWS_PROFILE",
        ] {
            command.env_remove(name);
        }
        command
    }

    /// Runs `aquifer` with these arguments to its end.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        ended(self.aquifer(arguments).output().expect("the binary starts"))
    }

    /// Runs a script to its end.
    pub fn sql(&self, script: &str) -> Ended {
        let file = self.file("script.sql", script);
        self.run(&["sql", "-f", &file])
    }
}

pub fn ended(output: Output) -> Ended {
    Ended {
        status: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("rows are text"),
        stderr: String::from_utf8(output.stderr).expect("messages are text"),
    }
}

/// Waits; the events that tests wait for happen in another process, which cannot wake them.
pub fn wait_ms(ms: u64) {
    let (_keep, never) = channel::<()>();
    assert_eq!(
        never.recv_timeout(Duration::from_millis(ms)),
        Err(RecvTimeoutError::Timeout)
    );
}

/// Waits until something is so in another process. Five minutes are more than any machine needs: then it never will be.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..15_000 {
        if is_so() {
            return;
        }
        wait_ms(20);
    }
    panic!("waited in vain until {what}");
}

/// Ends a process the hard way, if it has not ended by itself. Returns whether it was still running.
pub fn kill(mut child: Child) -> bool {
    let running = child
        .try_wait()
        .expect("the process can be asked")
        .is_none();
    // SIGKILL on Unix.
    let _ = child.kill();
    let _ = child.wait();
    running
}

/// Files below a directory, hidden ones too; none if there is no such directory.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten() {
        let path = entry.expect("a directory entry").path();
        if path.is_dir() {
            found.extend(files(&path))
        } else {
            found.push(path)
        }
    }
    found.sort();
    found
}

/// Numbers that repeat: the same seed, the same kills.
pub struct Seeded(pub u64);

impl Seeded {
    /// A number below `bound` (splitmix64).
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}
