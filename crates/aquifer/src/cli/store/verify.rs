//! `aquifer store verify`: reads every byte of a checkpoint and checks it.

use std::sync::atomic::{AtomicU64, Ordering};

use aquifer::runner::RunError;
use aquifer_store::FileRef;
use aquifer_store::inspect::{Damage, Inspector};
use futures_util::stream::{self, StreamExt};
use parking_lot::Mutex;

use super::{Opened, failed};
use crate::cli::progress::{bytes, grouped};
use crate::cli::screen::Screen;

/// Files read at the same time.
const FILES_TOGETHER: usize = 4;
/// Bytes after which the progress is drawn again.
const DRAWN_EVERY_BYTES: u64 = 1 << 20;

/// Prints each damage on standard output; an error if there is one.
pub fn run(opened: &Opened, screen: &Screen) -> Result<(), RunError> {
    let files = opened.files();
    let sizes = files.values().filter_map(|refs| refs.first());
    let all: u64 = sizes.map(|file| file.size_bytes).sum();
    let progress = Progress::new(screen, all);
    let inspector = Inspector::new(opened.environment());
    let damages = Mutex::new(disagreements(files.values()));
    let unread = Mutex::new(Vec::new());
    let scrubbing =
        stream::iter(files.values()).for_each_concurrent(FILES_TOGETHER, |refs| async {
            let Some(file) = refs.first() else { return };
            let verified = inspector
                .verify(file, &|bytes| progress.advance(bytes))
                .await;
            match verified {
                Ok(found) => damages.lock().extend(found),
                Err(error) => unread.lock().push(error),
            }
        });
    opened.runtime.block_on(scrubbing);
    progress.end();
    let mut damages = damages.into_inner();
    damages.sort_by(|a, b| (&a.path, a.offset).cmp(&(&b.path, b.offset)));
    for damage in &damages {
        let place = match damage.offset {
            Some(offset) => format!("{} at offset {offset}", damage.path),
            None => damage.path.clone(),
        };
        screen.answer(&format!("{place}: {}", damage.what));
    }
    if let Some(error) = unread.into_inner().into_iter().next() {
        return Err(failed(format!("not every file could be read: {error}")));
    }
    if damages.is_empty() {
        screen.answer(&format!(
            "checkpoint {} of job '{}' is whole: {} files, {}",
            opened.metadata.checkpoint_id,
            opened.metadata.job_name,
            grouped(files.len() as u64),
            bytes(all)
        ));
        return Ok(());
    }
    let mut paths: Vec<&str> = damages.iter().map(|damage| damage.path.as_str()).collect();
    paths.dedup();
    Err(failed(format!(
        "{} of {} files are damaged",
        paths.len(),
        files.len()
    )))
}

/// Files that the checkpoint names twice must be the same file both times, except for level and clip.
fn disagreements<'a>(files: impl Iterator<Item = &'a Vec<&'a FileRef>>) -> Vec<Damage> {
    let bare = |file: &FileRef| FileRef {
        level: 0,
        clip: aquifer_store::KeyGroupRange::ALL,
        ..file.clone()
    };
    let mut damages = Vec::new();
    for refs in files {
        if let [first, others @ ..] = refs.as_slice()
            && others.iter().any(|other| bare(other) != bare(first))
        {
            damages.push(Damage {
                path: first.path.clone(),
                offset: None,
                what: "the checkpoint names it twice and says different things of it".to_owned(),
            });
        }
    }
    damages
}

/// A status line on a terminal, nothing elsewhere.
struct Progress<'a> {
    screen: &'a Screen,
    shown: bool,
    all: u64,
    done: AtomicU64,
    drawn: AtomicU64,
}

impl<'a> Progress<'a> {
    fn new(screen: &'a Screen, all: u64) -> Self {
        Self {
            screen,
            shown: screen.has_status(),
            all,
            done: AtomicU64::new(0),
            drawn: AtomicU64::new(0),
        }
    }

    fn advance(&self, read: u64) {
        let done = self.done.fetch_add(read, Ordering::Relaxed) + read;
        let drawn = self.drawn.load(Ordering::Relaxed);
        if self.shown && done >= drawn + DRAWN_EVERY_BYTES {
            self.drawn.store(done, Ordering::Relaxed);
            let percent = done.saturating_mul(100) / self.all.max(1);
            self.screen.status(&bar(percent.min(100), done, self.all));
        }
    }

    fn end(&self) {
        if self.shown {
            self.screen.clear_status();
        }
    }
}

fn bar(percent: u64, done: u64, all: u64) -> String {
    const WIDTH: usize = 30;
    let full = (percent as usize * WIDTH / 100).min(WIDTH);
    format!(
        "[{}{}] {percent} % | {} of {}",
        "#".repeat(full),
        "-".repeat(WIDTH - full),
        bytes(done),
        bytes(all)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_grows() {
        assert_eq!(
            bar(0, 0, 2048),
            format!("[{}] 0 % | 0 bytes of 2.0 kb", "-".repeat(30))
        );
        assert_eq!(
            bar(50, 1024, 2048),
            format!(
                "[{}{}] 50 % | 1.0 kb of 2.0 kb",
                "#".repeat(15),
                "-".repeat(15)
            )
        );
    }
}
