//! What lies between two watermarks, and what has to wait for it.
//!
//! Work belongs to the epoch in which it entered. The action that closes an epoch (a watermark with its timers) may run once no work of the
//! epoch is under way and every earlier epoch is done. While it runs, the work that it starts belongs to the same epoch. These epochs are not
//! those of checkpoints: a barrier waits for everything.

use std::collections::VecDeque;

/// Epochs of one operator, the oldest first; the last one is open.
#[derive(Debug)]
pub struct EpochQueue<A> {
    /// Number of the first of `epochs`.
    first: u64,
    epochs: VecDeque<Epoch<A>>,
    /// The action of the first epoch was handed out.
    in_transition: bool,
}

#[derive(Debug)]
struct Epoch<A> {
    ongoing: usize,
    action: Option<A>,
}

impl<A> Default for EpochQueue<A> {
    fn default() -> Self {
        Self {
            first: 0,
            epochs: VecDeque::from([Epoch {
                ongoing: 0,
                action: None,
            }]),
            in_transition: false,
        }
    }
}

impl<A> EpochQueue<A> {
    /// Work enters the open epoch; returns its number.
    #[inline]
    pub fn enter(&mut self) -> u64 {
        let last = self.epochs.len() - 1;
        self.epochs[last].ongoing += 1;
        self.first + last as u64
    }

    /// The number of the open epoch.
    #[inline]
    pub fn open(&self) -> u64 {
        self.first + (self.epochs.len() - 1) as u64
    }

    /// The number of the epoch whose action is running, or of the open one if none is.
    pub fn transition(&self) -> u64 {
        match self.in_transition {
            true => self.first,
            false => self.open(),
        }
    }

    /// Work enters the epoch whose action is running, or the open one if none is.
    pub fn enter_transition(&mut self) -> u64 {
        if !self.in_transition {
            return self.enter();
        }
        self.epochs[0].ongoing += 1;
        self.first
    }

    /// Work enters an epoch in which other work, that started it, is under way.
    pub fn enter_at(&mut self, epoch: u64) {
        self.at(epoch).ongoing += 1;
    }

    /// Work of an epoch is done.
    #[inline]
    pub fn leave(&mut self, epoch: u64) {
        let epoch = self.at(epoch);
        debug_assert!(
            epoch.ongoing > 0,
            "more work left an epoch than had entered"
        );
        epoch.ongoing = epoch.ongoing.saturating_sub(1);
    }

    /// Closes the open epoch with an action, and opens the next.
    pub fn close(&mut self, action: A) {
        if let Some(open) = self.epochs.back_mut() {
            open.action = Some(action);
        }
        self.epochs.push_back(Epoch {
            ongoing: 0,
            action: None,
        });
    }

    /// The action whose turn it is: call [`Self::transition_done`] when it is done.
    pub fn next_action(&mut self) -> Option<A> {
        if self.in_transition {
            return None;
        }
        let front = self.epochs.front_mut().filter(|front| front.ongoing == 0)?;
        let action = front.action.take()?;
        self.in_transition = true;
        Some(action)
    }

    /// Whether an action is running and what it started is done.
    pub fn transition_is_quiet(&self) -> bool {
        self.in_transition && self.epochs.front().is_some_and(|front| front.ongoing == 0)
    }

    /// The action is done.
    pub fn transition_done(&mut self) {
        if std::mem::take(&mut self.in_transition) {
            self.epochs.pop_front();
            self.first += 1;
        }
    }

    /// Epochs that are closed and not done.
    #[inline]
    pub fn closed(&self) -> usize {
        self.epochs.len() - 1
    }

    #[inline]
    fn at(&mut self, epoch: u64) -> &mut Epoch<A> {
        &mut self.epochs[(epoch - self.first) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Flink's `EpochManagerTest`: an action runs only after all work of its epoch.
    #[test]
    fn an_action_waits_for_the_work_of_its_epoch() {
        let mut epochs = EpochQueue::default();
        let (one, two) = (epochs.enter(), epochs.enter());
        epochs.close("W1");
        assert_eq!(epochs.next_action(), None);
        epochs.leave(one);
        assert_eq!(epochs.next_action(), None);
        let later = epochs.enter();
        assert_ne!(later, one);
        epochs.leave(two);
        assert_eq!(epochs.next_action(), Some("W1"));
        assert_eq!(epochs.next_action(), None, "it was handed out");
        let timer = epochs.enter_transition();
        assert_eq!(timer, one);
        assert!(!epochs.transition_is_quiet());
        epochs.leave(timer);
        assert!(epochs.transition_is_quiet());
        epochs.transition_done();
        assert_eq!(epochs.closed(), 0);
        epochs.leave(later);
        epochs.close("W2");
        assert_eq!(epochs.next_action(), Some("W2"));
    }

    /// Flink's `EpochManagerTest`: two actions keep their order.
    #[test]
    fn actions_run_in_the_order_of_their_epochs() {
        let mut epochs = EpochQueue::default();
        let first = epochs.enter();
        epochs.close("W1");
        let second = epochs.enter();
        epochs.close("W2");
        epochs.leave(second);
        assert_eq!(epochs.next_action(), None, "W2 may not overtake W1");
        epochs.leave(first);
        assert_eq!(epochs.next_action(), Some("W1"));
        assert_eq!(epochs.next_action(), None, "W1 is not done");
        epochs.transition_done();
        assert_eq!(epochs.next_action(), Some("W2"));
        epochs.transition_done();
        assert_eq!((epochs.next_action(), epochs.closed()), (None, 0));
    }

    #[test]
    fn what_work_starts_belongs_to_its_epoch() {
        let mut epochs = EpochQueue::default();
        let parent = epochs.enter();
        epochs.enter_at(parent);
        epochs.leave(parent);
        epochs.close(());
        assert_eq!(epochs.next_action(), None, "what it started is under way");
        epochs.leave(parent);
        assert_eq!(epochs.next_action(), Some(()));
    }
}
