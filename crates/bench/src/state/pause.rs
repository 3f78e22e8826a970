//! How long a snapshot holds the worker up: the call at the barrier, and the longest single step while it is written in the background.
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use aquifer_state::ValueStateDescriptor;

use super::backends::{Backend, Worker};
use crate::data::Random;
use crate::engine::Result;
use crate::measure::{Spent, Stretch, now};

const SNAPSHOTS: usize = 10;
/// Bytes of a value.
pub const VALUE_BYTES: u64 = 1000;
/// One key in so many is written between two snapshots.
const CHANGED: u64 = 10;
/// Writes between two looks at the background.
const STEP: u64 = 64;

/// What happened to one backend.
struct Measured {
    kind: Backend,
    held_up: Vec<Duration>,
    steps: Vec<Duration>,
    durable: Vec<Duration>,
    written: Vec<u64>,
}

pub fn run(directory: &Path, kinds: &[Backend], keys: u64) -> Result<String> {
    let mut report = String::from(
        "| backend | held up p50 | max | longest step meanwhile p50 | max | until durable p50 | MB written p50 |\n|---|---|---|---|---|---|---|\n",
    );
    for &kind in kinds {
        let mut measured = one(directory, kind, keys)?;
        let (written, _) = middle_and_most(&mut measured.written);
        let (held_up, held_up_max) = middle_and_most(&mut measured.held_up);
        let (step, step_max) = middle_and_most(&mut measured.steps);
        let (durable, _) = middle_and_most(&mut measured.durable);
        let _ = writeln!(
            report,
            "| {} | {} | {} | {} | {} | {} | {} |",
            measured.kind.name(),
            shown(held_up),
            shown(held_up_max),
            shown(step),
            shown(step_max),
            shown(durable),
            written / 1_000_000,
        );
    }
    Ok(report)
}

fn one(directory: &Path, kind: Backend, keys: u64) -> Result<Measured> {
    crate::progress(&format!("state: snapshots of {}, {keys} keys", kind.name()));
    let mut worker = Worker::open(kind, &directory.join("pause"))?;
    let states = worker.states();
    let state = states.value_state(&ValueStateDescriptor::<Vec<u8>>::new("pause"))?;
    let mut random = Random::new(7);
    let mut value = vec![0; VALUE_BYTES as usize];
    let mut write = |id: u64, random: &mut Random| -> Result<()> {
        // Half of a value compresses.
        for word in value[..VALUE_BYTES as usize / 2].chunks_exact_mut(8) {
            word.copy_from_slice(&random.next().to_le_bytes());
        }
        states.set_current_key(&(id as i64));
        Ok(state.put(value.clone())?)
    };
    for id in 0..keys {
        write(id, &mut random)?;
        if id.is_multiple_of(STEP) {
            worker.poll()?;
        }
    }
    worker.settle()?;
    let mut measured = Measured {
        kind,
        held_up: Vec::new(),
        steps: Vec::new(),
        durable: Vec::new(),
        written: Vec::new(),
    };
    for _ in 0..SNAPSHOTS {
        for i in 0..keys / CHANGED {
            write(random.below(keys), &mut random)?;
            if i.is_multiple_of(STEP) {
                worker.poll()?;
            }
        }
        let whole = Stretch::start();
        let id = worker.begin_snapshot()?;
        measured.held_up.push(whole.wall());
        let mut longest = Duration::ZERO;
        let mut done = false;
        while !done {
            let before = now();
            write(random.below(keys), &mut random)?;
            done = worker.poll()?;
            longest = longest.max(before.elapsed());
        }
        let Spent { wall, written, .. } = whole.spent();
        measured.durable.push(wall);
        measured.written.push(written);
        measured.steps.push(longest);
        worker.complete_snapshot(id)?;
    }
    Ok(measured)
}

fn middle_and_most<T: Ord + Copy + Default>(values: &mut [T]) -> (T, T) {
    values.sort_unstable();
    let at = |at: usize| values.get(at).copied().unwrap_or_default();
    (at(values.len() / 2), at(values.len().saturating_sub(1)))
}

fn shown(duration: Duration) -> String {
    match duration.as_secs_f64() * 1e3 {
        ms if ms >= 1.0 => format!("{ms:.1} ms"),
        ms => format!("{:.0} µs", ms * 1e3),
    }
}
