//! What goes wrong and how often: a pure decision per request, made from a seed, so that a run can be repeated.

use std::collections::VecDeque;

use crate::{RequestKind, Rng};

/// What happens to one request instead of success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The store answers with an error and has done nothing.
    ErrorNotApplied,
    /// The store has done what was asked, but the caller sees an error (a lost answer).
    ErrorApplied,
    /// 503: slow down. Nothing was done.
    Throttled,
    /// The caller's process is dead: nothing was done, and nothing will be.
    Crashed,
}

/// The faults of a run. The default has none.
#[derive(Clone, Debug, Default)]
pub struct FaultPlan {
    /// Decides which requests are hit.
    pub seed: u64,
    /// Requests in a thousand that fail without effect.
    pub error_not_applied_per_mille: u32,
    /// Requests in a thousand that take effect and are then reported as failed.
    pub error_applied_per_mille: u32,
    /// Requests in a thousand that start a burst of throttling.
    pub throttle_per_mille: u32,
    /// Requests in such a burst.
    pub throttle_burst_requests: u32,
    /// Puts in create-if-absent mode overwrite, as on S3 look-alikes that do not know the condition.
    pub ignore_create_if_absent: bool,
    /// The request with this number (the first is 0) and all later ones find the process dead.
    pub crash_at: Option<u64>,
}

/// The state of a plan while it runs.
#[derive(Debug)]
pub(crate) struct Faults {
    pub plan: FaultPlan,
    rng: Rng,
    /// Faults asked for one by one; they come before chance.
    pub scripted: VecDeque<(RequestKind, Fault)>,
    throttled_left: u32,
    number: u64,
}

impl Faults {
    pub fn new(plan: FaultPlan) -> Self {
        let rng = Rng::new(plan.seed);
        Self {
            plan,
            rng,
            scripted: VecDeque::new(),
            throttled_left: 0,
            number: 0,
        }
    }

    /// Numbers the request and says what goes wrong with it, if anything.
    pub fn decide(&mut self, kind: RequestKind) -> Option<Fault> {
        let number = self.number;
        self.number += 1;
        if self.plan.crash_at.is_some_and(|at| number >= at) {
            return Some(Fault::Crashed);
        }
        if let Some(at) = self.scripted.iter().position(|(wanted, _)| *wanted == kind) {
            return self.scripted.remove(at).map(|(_, fault)| fault);
        }
        if self.throttled_left > 0 {
            self.throttled_left -= 1;
            return Some(Fault::Throttled);
        }
        if self.rng.chance(self.plan.throttle_per_mille) {
            self.throttled_left = self.plan.throttle_burst_requests.saturating_sub(1);
            return Some(Fault::Throttled);
        }
        if self.rng.chance(self.plan.error_not_applied_per_mille) {
            return Some(Fault::ErrorNotApplied);
        }
        self.rng
            .chance(self.plan.error_applied_per_mille)
            .then_some(Fault::ErrorApplied)
    }
}
