//! `aquifer compactor`: does compactions that jobs leave on the object store, until it is told to stop.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aquifer::config_file;
use aquifer::runner::RunError;
use aquifer_dataflow::config::Configuration;
use aquifer_store::{Compactor, CompactorOptions, CompactorProgress, Folds, RateLimiter, objects};

use super::arguments::CompactorArguments;
use super::clock;
use super::screen::Screen;

/// Jobs are looked for this often.
const POLL: Duration = Duration::from_secs(1);
const STATUS_EVERY: Duration = Duration::from_secs(1);
const MIB: u64 = 1 << 20;

/// Runs until Ctrl-C, or with `--once` until there is nothing to do. Jobs under way are finished; a second Ctrl-C does not wait for them.
pub fn run(arguments: &CompactorArguments, screen: &Screen) -> Result<(), RunError> {
    let mut configuration = Configuration::default();
    if let Some(path) = &arguments.config {
        config_file::load(path, &mut configuration)?;
    }
    arguments.define_in(&mut configuration)?;
    let settings = configuration.object_store_keys();
    let (objects, base) =
        objects::open(&arguments.dir, &settings).map_err(|error| usage(&error.message))?;
    let threads = usize::from(arguments.threads);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.min(4))
        .enable_all()
        .build()
        .map_err(|error| failed(&format!("cannot start threads: {error}")))?;
    let now_ms = clock::wall();
    let options = CompactorOptions {
        base,
        // Processes of one machine differ in their number, and of two that had the same number one was started later.
        id: format!("{}-{}-{}", host(), std::process::id(), now_ms()),
        threads,
        poll: POLL,
        once: arguments.once,
        rate: RateLimiter::new(
            arguments.megabytes_per_second.saturating_mul(MIB),
            now_ms.clone(),
        ),
        clock: now_ms,
        folds: Folds::default(),
    };
    let compactor = Compactor::new(objects, runtime.handle().clone(), options);
    let ended = runtime.block_on(watched(&compactor, screen));
    screen.clear_status();
    // What is still under way after a second Ctrl-C is given up; its claims expire.
    runtime.shutdown_background();
    ended.map_err(|error| failed(&error.message))?;
    screen.tell(&summary(&compactor.progress()));
    Ok(())
}

/// Runs the compactor, listens to Ctrl-C, and draws the status line.
async fn watched(compactor: &Arc<Compactor>, screen: &Screen) -> Result<(), aquifer_store::Error> {
    let progress = compactor.progress();
    let work = compactor.run();
    tokio::pin!(work);
    // One listener until it has heard something: Ctrl-C may come while the status line is drawn.
    let pressed = tokio::signal::ctrl_c();
    tokio::pin!(pressed);
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = &mut work => return ended,
            heard = &mut pressed => {
                if stopping || heard.is_err() {
                    return Ok(());
                }
                stopping = true;
                pressed.set(tokio::signal::ctrl_c());
                compactor.stop();
                if progress.running.load(Ordering::Relaxed) > 0 {
                    screen.tell("finishing the jobs under way; Ctrl-C again ends at once");
                }
            }
            () = tokio::time::sleep(STATUS_EVERY) => if screen.has_status() {
                screen.status(&status(&progress));
            },
        }
    }
}

fn status(progress: &CompactorProgress) -> String {
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    format!(
        "{} running, {} done, {} given up, {} MiB read, {} MiB written",
        count(&progress.running),
        count(&progress.done),
        count(&progress.lost),
        count(&progress.bytes_in) / MIB,
        count(&progress.bytes_out) / MIB,
    )
}

fn summary(progress: &CompactorProgress) -> String {
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    format!(
        "{} compactions done, {} given up, {} bytes read, {} bytes written",
        count(&progress.done),
        count(&progress.lost),
        count(&progress.bytes_in),
        count(&progress.bytes_out),
    )
}

/// The name of this machine, for people who look at claims.
fn host() -> String {
    let name = std::env::var("HOSTNAME").unwrap_or_default();
    let plain: String = name
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
        .take(64)
        .collect();
    if plain.is_empty() {
        "host".into()
    } else {
        plain
    }
}

fn usage(message: &str) -> RunError {
    RunError::Usage(format!("error: {message}"))
}

fn failed(message: &str) -> RunError {
    RunError::Failed(format!("error: {message}"))
}
