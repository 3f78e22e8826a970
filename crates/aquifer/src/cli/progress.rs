//! What is told of a running job: a status line each second on a terminal, and one line at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use aquifer::runner::Console;
use aquifer_dataflow::job::{JobCounters, JobObserver, JobReport};
use parking_lot::Mutex;

use super::screen::Screen;

/// The console of the command.
pub struct Terminal {
    screen: Screen,
    now_ms: Arc<dyn Fn() -> i64 + Send + Sync>,
    status: Mutex<Option<StatusLine>>,
}

/// The thread that draws the status line; it ends when `stop` is dropped.
struct StatusLine {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Terminal {
    /// A console on this screen.
    pub fn new(screen: Screen, now_ms: Arc<dyn Fn() -> i64 + Send + Sync>) -> Self {
        Self {
            screen,
            now_ms,
            status: Mutex::new(None),
        }
    }
}

impl Console for Terminal {
    fn answer(&self, text: &str) {
        self.screen.answer(text);
    }

    fn note(&self, text: &str) {
        self.screen.tell(text);
    }

    fn job_starts(&self, _name: &str, counters: Arc<JobCounters>) -> Arc<dyn JobObserver> {
        let progress = Arc::new(Progress {
            screen: self.screen.clone(),
            checkpoints: AtomicU64::new(0),
            state_bytes: AtomicU64::new(0),
        });
        if self.screen.has_status() {
            let (stop, stopped) = channel::<()>();
            let (now_ms, shown) = (self.now_ms.clone(), progress.clone());
            let thread = std::thread::spawn(move || {
                let start_ms = now_ms();
                let mut last = (start_ms, 0);
                while let Err(RecvTimeoutError::Timeout) =
                    stopped.recv_timeout(Duration::from_secs(1))
                {
                    let now = (now_ms(), counters.rows_in.load(Ordering::Relaxed));
                    let rate =
                        per_second(now.1.saturating_sub(last.1), now.0.saturating_sub(last.0));
                    last = now;
                    shown.draw(now.0.saturating_sub(start_ms), &counters, rate);
                }
            });
            *self.status.lock() = Some(StatusLine { stop, thread });
        }
        progress
    }

    fn job_ended(&self, name: &str, report: Option<&JobReport>) {
        if let Some(StatusLine { stop, thread }) = self.status.lock().take() {
            drop(stop);
            // It can only have panicked if drawing did, and then there is nothing to clear.
            let _ = thread.join();
            self.screen.clear_status();
        }
        if let Some(report) = report {
            self.screen.tell(&summary(name, report));
        }
    }
}

struct Progress {
    screen: Screen,
    checkpoints: AtomicU64,
    state_bytes: AtomicU64,
}

impl Progress {
    fn draw(&self, elapsed_ms: i64, counters: &JobCounters, rate: u64) {
        self.screen.status(&format!(
            "{} s | {} rows in, {}/s | {} rows out | {} checkpoints | {} of state",
            elapsed_ms / 1000,
            grouped(counters.rows_in.load(Ordering::Relaxed)),
            grouped(rate),
            grouped(counters.rows_out.load(Ordering::Relaxed)),
            self.checkpoints.load(Ordering::Relaxed),
            bytes(self.state_bytes.load(Ordering::Relaxed)),
        ));
    }
}

impl JobObserver for Progress {
    fn restored(&self, checkpoint_id: u64, workers_then: u16, workers_now: u16) {
        let workers = if workers_then == workers_now {
            format!("{workers_now} workers")
        } else {
            format!("{workers_now} workers, {workers_then} before")
        };
        self.screen.tell(&format!(
            "Resumed from checkpoint {checkpoint_id} ({workers})"
        ));
    }

    fn note(&self, message: &str) {
        self.screen.tell(&format!("note: {message}"));
    }

    fn checkpoint(&self, _checkpoint_id: u64, _duration_ms: u64, state_bytes: u64) {
        self.checkpoints.fetch_add(1, Ordering::Relaxed);
        self.state_bytes.store(state_bytes, Ordering::Relaxed);
    }
}

/// The line at the end of a job.
fn summary(name: &str, report: &JobReport) -> String {
    if report.already_finished {
        return format!("Job '{name}' has already finished; nothing to resume");
    }
    format!(
        "Job '{name}' finished in {:.2} s: {} rows in ({} rows/s), {} rows out, {} checkpoints, {} of state, {} cache hits, {} misses",
        report.elapsed_ms as f64 / 1000.0,
        grouped(report.rows_in),
        grouped(per_second(
            report.rows_in,
            i64::try_from(report.elapsed_ms).unwrap_or(i64::MAX)
        )),
        grouped(report.rows_out),
        grouped(report.checkpoints),
        bytes(report.state_bytes),
        grouped(report.cache_hits),
        grouped(report.cache_misses),
    )
}

fn per_second(rows: u64, elapsed_ms: i64) -> u64 {
    let elapsed_ms = u128::try_from(elapsed_ms).unwrap_or(0).max(1);
    u64::try_from(u128::from(rows) * 1000 / elapsed_ms).unwrap_or(u64::MAX)
}

/// A number with commas between its thousands.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A size in binary units, as Flink's sizes are.
pub(super) fn bytes(size: u64) -> String {
    let mut value = size as f64;
    let mut units = ["bytes", "kb", "mb", "gb"].iter();
    let mut unit = units.next();
    while value >= 1024.0 {
        let Some(next) = units.next() else { break };
        value /= 1024.0;
        unit = Some(next);
    }
    let unit = unit.unwrap_or(&"bytes");
    if *unit == "bytes" {
        format!("{size} bytes")
    } else {
        format!("{value:.1} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_one_line_with_every_figure() {
        let report = JobReport {
            rows_in: 2_000_000,
            rows_out: 999,
            checkpoints: 12,
            state_bytes: 36_175_872,
            cache_hits: 1_000,
            cache_misses: 1,
            elapsed_ms: 4_000,
            ..JobReport::default()
        };
        assert_eq!(
            summary("auctions", &report),
            "Job 'auctions' finished in 4.00 s: 2,000,000 rows in (500,000 rows/s), 999 rows out, 12 checkpoints, 34.5 mb of state, 1,000 cache hits, 1 misses"
        );
        let finished = JobReport {
            already_finished: true,
            ..JobReport::default()
        };
        assert_eq!(
            summary("auctions", &finished),
            "Job 'auctions' has already finished; nothing to resume"
        );
    }

    #[test]
    fn figures_at_their_edges() {
        assert_eq!(
            [grouped(0), grouped(1_000), grouped(u64::MAX)],
            ["0", "1,000", "18,446,744,073,709,551,615"]
        );
        assert_eq!(
            [bytes(1023), bytes(1024), bytes(5 << 40)],
            ["1023 bytes", "1.0 kb", "5120.0 gb"]
        );
        assert_eq!(per_second(10, 0), 10_000);
    }
}
