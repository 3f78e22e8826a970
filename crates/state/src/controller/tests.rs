//! What Flink's `StateExecutionControllerTest` asks for, with scripted work and a scripted clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;

type Work = (u8, u32);

/// Drives a controller: keeps what runs, in the order in which it began.
struct Script {
    controller: Controller<Work, &'static str>,
    running: Vec<(Work, Ticket)>,
    began: Vec<Work>,
    in_flight_most: usize,
}

fn key(name: &u8) -> KeyRef<'_> {
    KeyRef {
        group: u16::from(*name % 16),
        bytes: std::slice::from_ref(name),
    }
}

impl Script {
    fn new(options: ControllerOptions) -> Self {
        Self {
            controller: Controller::new(options),
            running: Vec::new(),
            began: Vec::new(),
            in_flight_most: 0,
        }
    }

    fn begin(&mut self, ticket: Ticket, work: Work) {
        assert!(
            !ticket.holds_key()
                || !self
                    .running
                    .iter()
                    .any(|((k, _), t)| *k == work.0 && t.holds_key()),
            "two pieces of work hold key {}",
            work.0
        );
        self.began.push(work);
        self.running.push((work, ticket));
        self.in_flight_most = self.in_flight_most.max(self.controller.in_flight());
    }

    fn admit(&mut self, name: u8, number: u32, kind: WorkKind) -> bool {
        match self
            .controller
            .admit(key(&name), (name, number), kind)
            .unwrap()
        {
            Admit::Run(ticket, work) => self.begin(ticket, work),
            Admit::Queued => {}
            Admit::Full(_) => return false,
        }
        true
    }

    fn record(&mut self, name: u8, number: u32) -> bool {
        self.admit(name, number, WorkKind::Record)
    }

    fn lineage(&self, work: Work) -> Lineage {
        let running = self.running.iter().find(|(w, _)| *w == work);
        running.expect("it runs").1.lineage()
    }

    fn finish(&mut self, work: Work) {
        let at = self
            .running
            .iter()
            .position(|(w, _)| *w == work)
            .expect("it runs");
        let (_, ticket) = self.running.remove(at);
        if let Some((ticket, next)) = self.controller.finished(ticket) {
            self.begin(ticket, next);
        }
    }

    fn finish_all(&mut self) {
        while let Some((work, _)) = self.running.first() {
            self.finish(*work);
        }
    }
}

fn options(in_flight_max: usize) -> ControllerOptions {
    ControllerOptions {
        in_flight_max,
        ..ControllerOptions::default()
    }
}

/// testBasicRun
#[test]
fn a_record_runs_and_is_done() {
    let mut script = Script::new(options(100));
    assert!(script.record(1, 0));
    assert_eq!(script.controller.in_flight(), 1);
    assert_eq!(script.controller.key(&script.running[0].1), Some(key(&1)));
    assert!(script.record(1, 1));
    assert!(script.record(3, 0));
    assert_eq!(script.began, [(1, 0), (3, 0)]);
    let gauges = script.controller.gauges(7);
    assert_eq!(
        gauges,
        Gauges {
            in_flight: 3,
            active_buffer: 7,
            blocking_buffer: 1,
            blocked_keys: 1
        }
    );
    script.finish((1, 0));
    assert_eq!(script.began.last(), Some(&(1, 1)));
    script.finish_all();
    assert_eq!(script.controller.gauges(0), Gauges::default());
    assert!(script.controller.is_drained());
}

/// testRecordsRunInOrder
#[test]
fn records_of_a_key_run_in_order_and_others_overtake() {
    let mut script = Script::new(options(100));
    script.record(1, 1);
    script.record(2, 1);
    script.record(1, 2);
    script.finish((2, 1));
    script.finish((1, 1));
    script.finish((1, 2));
    assert_eq!(script.began, [(1, 1), (2, 1), (1, 2)]);

    // Random arrivals and ends: per key the order of arrival, over keys some overtaking.
    let mut script = Script::new(options(64));
    let mut random: u64 = 11;
    let mut arrived: VecDeque<Work> = (0..10_000).map(|n| ((n * 7 % 50) as u8, n)).collect();
    let mut ended = Vec::new();
    while let Some((name, number)) = arrived.pop_front() {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let refused = !script.record(name, number);
        if refused {
            arrived.push_front((name, number));
        }
        if refused || random >> 63 == 1 {
            let at = (random >> 20) as usize % script.running.len().max(1);
            if let Some((work, _)) = script.running.get(at) {
                let work = *work;
                script.finish(work);
                ended.push(work.1);
            }
        }
    }
    script.finish_all();
    let mut last: BTreeMap<u8, u32> = BTreeMap::new();
    for (name, number) in &script.began {
        assert!(
            last.insert(*name, *number)
                .is_none_or(|before| before < *number)
        );
    }
    assert_eq!(script.began.len(), 10_000);
    assert!(
        ended.windows(2).any(|pair| pair[0] > pair[1]),
        "nothing has overtaken"
    );
    assert!(script.in_flight_most <= 64);
}

/// testInFlightRecordControl
#[test]
fn records_in_flight_are_bounded() {
    let mut script = Script::new(options(10));
    let mut waiting: VecDeque<u32> = (0..100).collect();
    while let Some(number) = waiting.front() {
        let number = *number;
        if script.record((number % 20) as u8, number) {
            waiting.pop_front();
        } else {
            assert_eq!(script.controller.in_flight(), 10);
            assert!(!script.controller.accepts_records());
            let (work, _) = &script.running[0];
            let work = *work;
            script.finish(work);
        }
    }
    script.finish_all();
    assert_eq!(script.began.len(), 100);
    assert_eq!(script.in_flight_most, 10);
}

/// FLINK-37017, FLINK-37089: timers that wait for room that only they can make lock the operator up.
#[test]
fn timers_overdraft_a_full_buffer() {
    for bound in [1, 2, 3, 10] {
        let mut script = Script::new(options(bound));
        for number in 0..bound as u32 {
            assert!(script.record(number as u8, number));
        }
        assert!(!script.record(100, 0));
        for number in 0..10_000 {
            assert!(script.admit(
                (number % 200) as u8,
                1000 + number,
                WorkKind::ProcessingTimer
            ));
        }
        assert!(!script.record(100, 0), "records still wait");
        script.finish_all();
        assert_eq!(script.began.len(), 10_000 + bound);
        assert!(script.record(100, 0));
    }
}

/// testSyncPointWithOverdraft, testManyAsyncProcessWithKey: a record starts more work than there is room for.
#[test]
fn derived_work_of_a_blocked_key_runs() {
    let mut script = Script::new(options(6000));
    for round in 0..2u32 {
        let parent = (5, round);
        assert!(script.record(5, round));
        let lineage = script.lineage(parent);
        for number in 0..6001 {
            let derived = WorkKind::Derived(lineage);
            assert!(script.admit(5, 10 + round * 10_000 + number, derived));
        }
        assert!(!script.record(9, round), "records wait for room");
        script.finish_all();
        assert!(script.controller.is_drained());
    }
    assert_eq!(script.began.len(), 2 * 6002);
    for pair in script.began.windows(2) {
        assert!(pair[0].1 < pair[1].1 || pair[1].1 < 2, "{pair:?}");
    }
}

/// testAsyncProcessWithKey: derived work runs after its parent and before later records of its key.
#[test]
fn work_for_another_key_waits_its_turn() {
    let mut script = Script::new(options(100));
    script.record(5, 0);
    script.record(5, 1);
    script.record(6, 0);
    let derived = WorkKind::Derived(script.lineage((5, 0)));
    script.admit(5, 50, derived);
    script.admit(6, 60, derived);
    script.admit(7, 70, derived);
    assert_eq!(script.began, [(5, 0), (6, 0), (7, 70)]);
    script.finish((5, 0));
    // What derived work starts comes before what its parent has started later.
    let second = WorkKind::Derived(script.lineage((5, 50)));
    script.admit(5, 51, derived);
    script.admit(5, 52, second);
    for work in [(5, 50), (5, 52), (5, 51), (5, 1), (6, 0), (6, 60)] {
        script.finish(work);
    }
    assert!(script.controller.gauges(0).in_flight == 1);
}

#[test]
fn overdrafts_end_somewhere() {
    let mut controller: Controller<u32, ()> = Controller::new(options(1));
    let mut tickets = Vec::new();
    let refused = (0..).find_map(
        |n| match controller.admit(key(&1), n, WorkKind::EventTimer) {
            Ok(Admit::Run(ticket, _)) => {
                tickets.push(ticket);
                None
            }
            Ok(_) => None,
            Err(error) => Some((n, error)),
        },
    );
    let (number, error) = refused.expect("there is a bound");
    assert_eq!(number as usize, OVERDRAFT_MAX + 1);
    assert!(matches!(error, StateError::Limit(_)), "{error}");
}

/// testSyncPoint, and FIRST_REQUEST_ORDER of `testRecordProcessorWithFirstRequestOrder`.
#[test]
fn a_sync_point_waits_for_its_key() {
    let mut script = Script::new(ControllerOptions {
        order: ElementOrder::FirstRequest,
        ..options(100)
    });
    // All begin at once, without their key.
    for number in 0..3 {
        script.record(1, number);
    }
    script.record(2, 0);
    assert_eq!(script.began.len(), 4);
    assert!(script.running.iter().all(|(_, ticket)| !ticket.holds_key()));
    // The second asks for the key first, so it comes first.
    let sync = |script: &mut Script, work: Work| {
        let at = script.running.iter().position(|(w, _)| *w == work).unwrap();
        let (_, ticket) = script.running.remove(at);
        match script.controller.sync_point(ticket, key(&work.0), work) {
            Admit::Run(ticket, work) => {
                script.running.push((work, ticket));
                true
            }
            Admit::Queued => false,
            Admit::Full(_) => unreachable!("a sync point is never refused"),
        }
    };
    assert!(sync(&mut script, (1, 1)));
    assert!(!sync(&mut script, (1, 0)));
    assert!(!sync(&mut script, (1, 2)));
    assert!(sync(&mut script, (2, 0)), "another key does not matter");
    assert!(sync(&mut script, (2, 0)), "a second sync point is none");
    assert_eq!(script.controller.in_flight(), 4);
    script.began.clear();
    script.finish((1, 1));
    script.finish((1, 0));
    script.finish((1, 2));
    assert_eq!(script.began, [(1, 0), (1, 2)]);
    script.finish((2, 0));
    assert!(script.controller.is_drained());
    // One that ends without having asked holds nothing.
    script.record(1, 9);
    script.finish((1, 9));
    assert!(script.controller.is_drained());
}

/// testEpochManager, testMixEpochMode
#[test]
fn a_watermark_waits_for_the_records_before_it() {
    for epochs in [EpochMode::Serial, EpochMode::Parallel] {
        let mut script = Script::new(ControllerOptions {
            epochs,
            ..options(100)
        });
        script.record(1, 1);
        script.record(2, 2);
        script.controller.close_epoch("W1");
        assert_eq!(script.controller.epoch_action(), None);
        let ahead = script.record(3, 3);
        assert_eq!(ahead, epochs == EpochMode::Parallel);
        if ahead {
            script.record(1, 4);
            assert!(!script.began.contains(&(1, 4)), "same key: it waits");
            script.finish((3, 3));
        }
        script.finish((1, 1));
        assert_eq!(script.controller.epoch_action(), None);
        script.finish((2, 2));
        assert_eq!(script.controller.epoch_action(), Some("W1"));
        assert!(script.admit(8, 80, WorkKind::EventTimer));
        assert!(!script.controller.epoch_is_quiet());
        assert!(!script.controller.is_drained());
        script.finish((8, 80));
        assert!(script.controller.epoch_is_quiet());
        script.controller.epoch_done();
        assert!(script.record(3, 5));
        script.finish_all();
        assert!(script.controller.is_drained());
    }
}

#[test]
fn watermarks_pass_in_order() {
    let mut script = Script::new(ControllerOptions {
        epochs: EpochMode::Parallel,
        ..options(100)
    });
    script.record(1, 1);
    script.controller.close_epoch("W1");
    script.record(2, 2);
    script.controller.close_epoch("W2");
    script.finish((2, 2));
    assert_eq!(script.controller.epoch_action(), None);
    script.finish((1, 1));
    assert_eq!(script.controller.epoch_action(), Some("W1"));
    assert_eq!(script.controller.epoch_action(), None);
    script.controller.epoch_done();
    assert_eq!(script.controller.epoch_action(), Some("W2"));
    script.controller.epoch_done();
    assert!(script.controller.is_drained());
}

/// testUserCodeException
#[test]
fn an_error_of_user_code_ends_the_task() {
    let mut script = Script::new(options(10));
    script.record(1, 1);
    script.record(1, 2);
    script.record(2, 3);
    script.controller.close_epoch("W1");
    script
        .controller
        .fail("operator `count`: the price is negative");
    script.controller.fail("a later one");
    assert_eq!(script.controller.gauges(0), Gauges::default());
    for kind in [
        WorkKind::Record,
        WorkKind::EventTimer,
        WorkKind::ProcessingTimer,
    ] {
        let refused = script.controller.admit(key(&1), (1, 4), kind).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "no more work is done, because an earlier record failed: operator `count`: the price is negative"
        );
    }
    assert_eq!(script.controller.epoch_action(), None);
}

/// Random work of all kinds against the rules themselves.
#[test]
fn random_work_keeps_the_rules() {
    for seed in 1..20u64 {
        let mut random = seed;
        let mut next = move |below: u64| {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        let mut script = Script::new(ControllerOptions {
            epochs: if seed % 2 == 0 {
                EpochMode::Serial
            } else {
                EpochMode::Parallel
            },
            ..options(8)
        });
        let mut epoch_of: BTreeMap<u32, u32> = BTreeMap::new();
        let (mut epoch, mut passed) = (0u32, 0u32);
        let mut ended: BTreeSet<u32> = BTreeSet::new();
        for number in 0..2000u32 {
            match next(10) {
                0 if epoch - passed < 3 => {
                    script.controller.close_epoch("W");
                    epoch += 1;
                }
                1..5 => {
                    let admitted = script.record(next(6) as u8, number);
                    epoch_of.extend(admitted.then_some((number, epoch)));
                }
                5 if !script.running.is_empty() => {
                    let at = next(script.running.len() as u64) as usize;
                    let parent = script.running[at].0;
                    let derived = WorkKind::Derived(script.running[at].1.lineage());
                    script.admit(next(6) as u8, number, derived);
                    epoch_of.insert(number, epoch_of[&parent.1]);
                }
                _ if !script.running.is_empty() => {
                    let at = next(script.running.len() as u64) as usize;
                    let work = script.running[at].0;
                    script.finish(work);
                    ended.insert(work.1);
                }
                _ => {}
            }
            if script.controller.epoch_action().is_some() {
                let before = epoch_of.iter().filter(|(_, of)| **of <= passed);
                assert!(
                    before.into_iter().all(|(work, _)| ended.contains(work)),
                    "seed {seed}"
                );
                passed += 1;
                script.controller.epoch_done();
            }
        }
        script.finish_all();
        while script.controller.epoch_action().is_some() {
            script.controller.epoch_done();
        }
        assert!(script.controller.is_drained());
        assert_eq!(script.began.len(), epoch_of.len());
    }
}

/// What may begin without being admitted is what would run at once if it were.
#[test]
fn a_record_may_begin_if_it_would_run_at_once() {
    let options = ControllerOptions {
        in_flight_max: 2,
        ..ControllerOptions::default()
    };
    let mut script = Script::new(options);
    assert!(script.controller.may_begin(key(&1), WorkKind::Record));
    assert!(script.admit(1, 0, WorkKind::Record));
    assert!(
        !script.controller.may_begin(key(&1), WorkKind::Record),
        "its key is held"
    );
    assert!(script.controller.may_begin(key(&2), WorkKind::Record));
    assert!(script.admit(1, 1, WorkKind::Record), "and it is queued");
    assert!(
        !script.controller.may_begin(key(&2), WorkKind::Record),
        "two are under way"
    );
    let (_, ticket) = script.running.remove(0);
    let lineage = script.controller.lineage(WorkKind::Record);
    assert_eq!(lineage, ticket.lineage());
    let (ticket, _) = script.controller.finished(ticket).expect("1 waits");
    assert!(
        !script.controller.may_begin(key(&1), WorkKind::Record),
        "the next one holds it"
    );
    assert!(script.controller.may_begin(key(&2), WorkKind::Record));
    script.controller.close_epoch("W");
    assert!(
        !script.controller.may_begin(key(&2), WorkKind::Record),
        "a watermark comes first"
    );
    assert!(script.controller.finished(ticket).is_none());
    assert_eq!(script.controller.epoch_action(), Some("W"));
    assert!(
        script.controller.may_begin(key(&2), WorkKind::EventTimer),
        "its timers may"
    );
    assert_eq!(script.controller.lineage(WorkKind::EventTimer), lineage);
    assert_ne!(script.controller.lineage(WorkKind::Record), lineage);
    assert!(!script.controller.may_begin(key(&1), WorkKind::Record));
    script.controller.epoch_done();
    assert!(script.controller.may_begin(key(&1), WorkKind::Record));
    assert_ne!(script.controller.lineage(WorkKind::Record), lineage);
    script.controller.fail("planted");
    assert!(!script.controller.may_begin(key(&1), WorkKind::Record));

    let by_request = ControllerOptions {
        order: ElementOrder::FirstRequest,
        ..options
    };
    let waits = Controller::<Work, ()>::new(by_request);
    assert!(
        !waits.may_begin(key(&1), WorkKind::Record),
        "it has to ask for its key"
    );
    let ahead = ControllerOptions {
        epochs: EpochMode::Parallel,
        ..options
    };
    let mut ahead = Controller::<Work, ()>::new(ahead);
    ahead.close_epoch(());
    assert!(
        ahead.may_begin(key(&1), WorkKind::Record),
        "it may run ahead of a watermark"
    );
}
