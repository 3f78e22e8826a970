//! Runs cases, and makes those that fail small: fewer operations first, then fewer faults and a plainer shape.
use std::cell::{Cell, RefCell};
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use aquifer_testkit::{History, Storm};

use super::case::Case;
use super::run::{Failure, Outcome, Simulation};

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Panics of simulated code are failures like others: they are not printed while a case runs.
fn catch_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if QUIET.get() {
                PANIC.with_borrow_mut(|text| *text = info.to_string());
            } else {
                usual(info);
            }
        }));
    });
}

/// Runs a case; a panic is a failure of the check "panic".
pub fn check(case: &Case) -> Result<Outcome, Failure> {
    check_recorded(case).0
}

/// Like [`check`], with the record of what happened.
pub fn check_recorded(case: &Case) -> (Result<Outcome, Failure>, History) {
    catch_panics();
    let mut simulation = Simulation::new(case);
    let history = simulation.history();
    QUIET.set(true);
    let result = catch_unwind(AssertUnwindSafe(|| simulation.run()));
    // What a panic has left half done may panic again while it is dropped.
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(simulation)));
    QUIET.set(false);
    let panicked = || Failure {
        check: "panic",
        message: PANIC.with_borrow_mut(std::mem::take),
    };
    let result = match (result, dropped) {
        (Ok(result), Ok(())) => result,
        _ => Err(panicked()),
    };
    let history = history.lock().clone();
    (result, history)
}

/// The smallest case found that fails the same check, within a number of runs.
pub fn shrink(case: &Case, failure: &Failure, runs_max: usize) -> (Case, Failure) {
    let mut best = (case.clone(), failure.clone());
    let mut runs = 0;
    let mut attempt = |best: &mut (Case, Failure), smaller: Case| {
        if runs >= runs_max {
            return false;
        }
        runs += 1;
        match check(&smaller) {
            Err(failure) if failure.check == best.1.check => {
                *best = (smaller, failure);
                true
            }
            _ => false,
        }
    };
    loop {
        let before = best.0.clone();
        let mut size = best.0.ops.len().div_ceil(2).max(1);
        loop {
            let mut start = 0;
            while start < best.0.ops.len() {
                let mut smaller = best.0.clone();
                let end = (start + size).min(smaller.ops.len());
                smaller.ops.drain(start..end);
                if !attempt(&mut best, smaller) {
                    start += size;
                }
            }
            if size == 1 {
                break;
            }
            size = size.div_ceil(2);
        }
        if !best.0.storm.per_mille.is_empty() {
            let mut calm = best.0.clone();
            calm.storm = Storm::none();
            if !attempt(&mut best, calm) {
                for i in (0..best.0.storm.per_mille.len()).rev() {
                    let mut fewer = best.0.clone();
                    fewer.storm.per_mille.remove(i);
                    attempt(&mut best, fewer);
                }
            }
        }
        for plain in 0..3 {
            let mut plainer = best.0.clone();
            match plain {
                0 => plainer.shape.workers = 1,
                1 => plainer.shape.retained = 1,
                _ => plainer.shape.cache_bytes = 1 << 20,
            }
            if plainer != best.0 {
                attempt(&mut best, plainer);
            }
        }
        if best.0 == before {
            return best;
        }
    }
}

/// What to print of a failure: how to repeat it, and a test that does.
pub fn report(case: &Case, failure: &Failure, small: &Case, small_failure: &Failure) -> String {
    let mut out = String::new();
    let seed = case.seed;
    let _ = writeln!(out, "{case}\n  {failure}");
    let _ = writeln!(
        out,
        "repeat it: AQUIFER_SIM_SEED={seed} cargo test -p aquifer-store --test sim replay"
    );
    let _ = writeln!(
        out,
        "made small ({} operations): {small_failure}\n",
        small.ops.len()
    );
    let _ = writeln!(out, "#[test]\nfn seed_{seed}() {{");
    let _ = writeln!(out, "    let ops = vec![");
    for op in &small.ops {
        let _ = writeln!(out, "        Op::{op:?},");
    }
    let _ = writeln!(out, "    ];");
    let faults: Vec<String> = small
        .storm
        .per_mille
        .iter()
        .map(|(kind, rate)| format!("(FaultKind::{kind:?}, {rate})"))
        .collect();
    let _ = writeln!(
        out,
        "    let storm = Storm {{ seed: {}, per_mille: vec![{}], ends_at: {} }};",
        small.storm.seed,
        faults.join(", "),
        small.storm.ends_at
    );
    let _ = writeln!(out, "    let shape = {:?};", small.shape);
    let _ = writeln!(
        out,
        "    check(&Case {{ seed: {seed}, shape, storm, crashes: vec!{:?}, ops }}).unwrap();\n}}",
        small.crashes
    );
    out
}
