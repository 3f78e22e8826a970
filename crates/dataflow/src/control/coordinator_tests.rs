//! The coordinator, step by step.

use super::*;

fn coordinator(workers: u16, interval_ms: Option<u64>) -> Coordinator {
    let template = CheckpointMetadata {
        checkpoint_id: 0,
        job_name: "job".into(),
        attempt: 3,
        created_unix_ms: 0,
        parallelism: workers,
        max_parallelism: 128,
        plan: "plan".into(),
        finished: false,
        kind: Default::default(),
        backend: aquifer_state::BackendKind::Forst,
        tables: Vec::new(),
        keyed: Vec::new(),
        origin: Default::default(),
        operators: Vec::new(),
    };
    Coordinator::new(
        Schedule {
            interval_ms,
            min_pause_ms: 50,
            timeout_ms: 1000,
        },
        template,
        7,
        0,
    )
}

fn part(worker: usize, checkpoint_id: u64, element: u8) -> Event {
    Event::Acknowledged(Acknowledgement {
        worker,
        checkpoint_id,
        range: KeyGroupRange { start: 0, end: 1 },
        keyed: KeyedSnapshot::default(),
        tables: Vec::new(),
        operators: vec![OperatorSnapshot {
            operator: "source".into(),
            elements: vec![vec![element]],
            ..OperatorSnapshot::default()
        }],
    })
}

#[test]
fn a_checkpoint_goes_from_trigger_to_announcement() {
    let mut c = coordinator(2, Some(100));
    assert!(c.step(Event::Tick, 99).is_empty());
    assert_eq!(c.next_tick_ms(99), Some(1));
    assert!(matches!(c.step(Event::Tick, 100)[..], [Effect::Trigger(7)]));
    assert!(c.step(part(1, 7, 1), 110).is_empty());
    assert!(
        c.step(part(1, 6, 9), 110).is_empty(),
        "an answer to another checkpoint is ignored"
    );
    let effects = c.step(part(0, 7, 0), 120);
    let [Effect::Write(metadata)] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(
        (metadata.checkpoint_id, metadata.attempt, metadata.finished),
        (7, 3, false)
    );
    assert_eq!(
        metadata.operators[0].elements,
        vec![vec![0], vec![1]],
        "elements are pooled in the order of the workers"
    );
    assert!(c.step(Event::Tick, 250).is_empty(), "one at a time");
    let effects = c.step(Event::Written(7, Ok(CommitOutcome::Committed)), 260);
    let [Effect::Announce(completed)] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!((completed.checkpoint_id, completed.duration_ms), (7, 160));
    assert!(
        c.step(Event::Tick, 300).is_empty(),
        "the pause after a checkpoint is kept"
    );
    assert!(matches!(c.step(Event::Tick, 310)[..], [Effect::Trigger(8)]));
}

#[test]
fn the_last_checkpoint_follows_the_end_of_all_sources() {
    let mut c = coordinator(2, None);
    assert_eq!(c.next_tick_ms(0), None);
    assert!(c.step(Event::SourcesFinished(1), 5).is_empty());
    assert!(
        c.step(Event::SourcesFinished(1), 5).is_empty(),
        "one worker does not count twice"
    );
    assert!(matches!(
        c.step(Event::SourcesFinished(0), 6)[..],
        [Effect::Trigger(7)]
    ));
    c.step(part(0, 7, 0), 7);
    let effects = c.step(part(1, 7, 1), 7);
    assert!(matches!(&effects[..], [Effect::Write(m)] if m.finished));
    let effects = c.step(Event::Written(7, Ok(CommitOutcome::Committed)), 8);
    assert!(matches!(effects[..], [Effect::Announce(_), Effect::Finish]));
    assert!(c.step(Event::Tick, 9000).is_empty());
}

#[test]
fn sources_that_end_during_a_checkpoint_get_one_more() {
    let mut c = coordinator(1, Some(100));
    assert!(matches!(c.step(Event::Tick, 100)[..], [Effect::Trigger(7)]));
    assert!(c.step(Event::SourcesFinished(0), 101).is_empty());
    assert!(matches!(&c.step(part(0, 7, 0), 102)[..], [Effect::Write(m)] if !m.finished));
    let effects = c.step(Event::Written(7, Ok(CommitOutcome::Committed)), 103);
    assert!(
        matches!(effects[..], [Effect::Announce(_), Effect::Trigger(8)]),
        "{effects:?}"
    );
}

#[test]
fn a_zombie_ends_and_so_does_a_checkpoint_that_hangs() {
    let mut c = coordinator(1, Some(100));
    c.step(Event::Tick, 100);
    c.step(part(0, 7, 0), 101);
    let effects = c.step(Event::Written(7, Ok(CommitOutcome::Lost)), 102);
    assert!(
        matches!(&effects[..], [Effect::Fail(e)] if e.message.contains("another attempt")),
        "{effects:?}"
    );
    assert!(c.step(Event::Tick, 500).is_empty());

    let mut c = coordinator(1, Some(100));
    c.step(Event::Tick, 100);
    assert!(c.step(Event::Tick, 1100).is_empty());
    let effects = c.step(Event::Tick, 1101);
    assert!(
        matches!(&effects[..], [Effect::Fail(e)] if e.message.contains("[0]")),
        "{effects:?}"
    );
}

#[test]
fn a_savepoint_waits_for_no_interval_and_the_job_goes_on() {
    let mut c = coordinator(1, None);
    let effects = c.step(Event::SavepointWanted(31, false), 5);
    assert!(matches!(effects[..], [Effect::Trigger(7)]), "{effects:?}");
    // One that is wanted meanwhile needs a checkpoint of its own.
    assert!(c.step(Event::SavepointWanted(32, false), 6).is_empty());
    c.step(part(0, 7, 0), 7);
    let effects = c.step(Event::Written(7, Ok(CommitOutcome::Committed)), 8);
    let [
        Effect::Announce(_),
        Effect::WriteSavepoints(7, tickets),
        Effect::Trigger(8),
    ] = &effects[..]
    else {
        panic!("{effects:?}")
    };
    assert_eq!(tickets, &[31]);
    assert!(c.step(Event::SavepointsWritten(7, Ok(())), 9).is_empty());
    c.step(part(0, 8, 0), 10);
    let effects = c.step(Event::Written(8, Ok(CommitOutcome::Committed)), 11);
    assert!(
        matches!(&effects[..], [Effect::Announce(_), Effect::WriteSavepoints(8, t)] if t == &[32]),
        "{effects:?}"
    );
    // Savepoints that fail are their requests' affair.
    assert!(
        c.step(Event::SavepointsWritten(8, Err("no".into())), 12)
            .is_empty()
    );
    assert_eq!(c.next_tick_ms(12), None);
}

/// A coordinator that writes the savepoint with which the job is to stop.
fn stopping() -> Coordinator {
    let mut c = coordinator(1, Some(100));
    let effects = c.step(Event::SavepointWanted(1, true), 5);
    assert!(
        matches!(effects[..], [Effect::TriggerAndStop(7)]),
        "{effects:?}"
    );
    c.step(part(0, 7, 0), 7);
    let effects = c.step(Event::Written(7, Ok(CommitOutcome::Committed)), 8);
    assert!(
        matches!(
            effects[..],
            [Effect::Announce(_), Effect::WriteSavepoints(7, _)]
        ),
        "{effects:?}"
    );
    assert!(
        c.step(Event::Tick, 10_000).is_empty(),
        "there are no more checkpoints, and no time-out"
    );
    assert_eq!(c.next_tick_ms(10_000), None);
    c
}

#[test]
fn a_job_stops_when_its_savepoint_is_written() {
    let mut c = stopping();
    let ended = c.step(Event::SavepointsWritten(7, Ok(())), 10_001);
    assert!(matches!(ended[..], [Effect::Finish]), "{ended:?}");
    assert!(c.step(Event::SavepointWanted(2, false), 10_002).is_empty());
}

/// The job failed, and whoever had mistyped a directory had to start it again.
#[test]
fn a_job_goes_on_if_the_savepoint_with_which_it_was_to_stop_is_not_written() {
    let mut c = stopping();
    assert!(c.step(Event::SavepointWanted(2, false), 10_000).is_empty());
    let failed = Event::SavepointsWritten(7, Err("the disk is full".into()));
    let effects = c.step(failed, 10_001);
    let [Effect::GoOn(why), Effect::Trigger(8)] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert!(why.contains("the disk is full"));
    c.step(part(0, 8, 0), 10_002);
    let effects = c.step(Event::Written(8, Ok(CommitOutcome::Committed)), 10_003);
    assert!(
        matches!(
            effects[..],
            [Effect::Announce(_), Effect::WriteSavepoints(8, _)]
        ),
        "{effects:?}"
    );
    // And it takes checkpoints as before.
    assert!(matches!(
        c.step(Event::Tick, 10_102)[..],
        [Effect::Trigger(9)]
    ));
}

/// Sources that end while the job waits for its savepoint end the job as usual if it goes on.
#[test]
fn a_job_that_goes_on_can_still_finish() {
    let mut c = stopping();
    assert!(c.step(Event::SourcesFinished(0), 10_000).is_empty());
    let effects = c.step(Event::SavepointsWritten(7, Err("no".into())), 10_001);
    assert!(
        matches!(effects[..], [Effect::GoOn(_), Effect::Trigger(8)]),
        "{effects:?}"
    );
    let effects = c.step(part(0, 8, 0), 10_002);
    assert!(
        matches!(&effects[..], [Effect::Write(metadata)] if metadata.finished),
        "{effects:?}"
    );
}

#[test]
fn a_finished_job_leaves_no_savepoint() {
    let mut c = coordinator(1, None);
    c.step(Event::SourcesFinished(0), 1);
    assert!(c.step(Event::SavepointWanted(1, true), 2).is_empty());
    c.step(part(0, 7, 0), 3);
    let effects = c.step(Event::Written(7, Ok(CommitOutcome::Committed)), 4);
    assert!(
        matches!(effects[..], [Effect::Announce(_), Effect::Finish]),
        "{effects:?}"
    );
}

#[test]
fn what_has_no_time_counts_from_the_latest_beginning_of_event_time() {
    let part = |worker, untimed_as_ms| {
        let Event::Acknowledged(mut part) = part(worker, 7, 0) else {
            panic!("a part is an acknowledgement")
        };
        let options = aquifer_store::TableOptions {
            ttl_ms: Some(100),
            event_time: true,
            untimed_as_ms,
            ..Default::default()
        };
        let mut description = StateDescription::raw("op", "lived", options, "bytes");
        description.schema.untimed_as_ms = untimed_as_ms;
        part.tables = vec![(description, TableId(0))];
        Event::Acknowledged(part)
    };
    for moments in [[Some(10), Some(20)], [Some(20), Some(10)], [None, Some(20)]] {
        let mut c = coordinator(2, Some(100));
        c.step(Event::Tick, 100);
        c.step(part(0, moments[0]), 101);
        let effects = c.step(part(1, moments[1]), 102);
        let [Effect::Write(metadata)] = &effects[..] else {
            panic!("{effects:?}")
        };
        let (known, _) = &metadata.tables[0];
        assert_eq!(known.schema.untimed_as_ms, Some(20));
        assert_eq!(known.options.untimed_as_ms, Some(20));
    }
}

/// Only the first worker's tables were kept: rows of what another one had asked for besides were nobody's, and of what it had asked for in another
/// order somebody else's.
#[test]
fn tables_of_all_workers_are_kept_and_must_agree() {
    let part = |worker, states: &[&str]| {
        let Event::Acknowledged(mut part) = part(worker, 7, 0) else {
            panic!("a part is an acknowledgement")
        };
        let tables = states.iter().zip(0..).map(|(state, id)| {
            let options = aquifer_store::TableOptions::default();
            let description = StateDescription::raw("op", *state, options, "bytes");
            (description, TableId(id))
        });
        part.tables = tables.collect();
        Event::Acknowledged(part)
    };
    let step = |first: &[&str], second: &[&str]| {
        let mut c = coordinator(2, Some(100));
        c.step(Event::Tick, 100);
        c.step(part(0, first), 101);
        c.step(part(1, second), 102)
    };
    for (first, second) in [
        (&["a", "b"][..], &["a", "b"][..]),
        (&["a"], &["a", "b"]),
        (&["a", "b"], &["a"]),
        (&[], &["a", "b"]),
    ] {
        let effects = step(first, second);
        let [Effect::Write(metadata)] = &effects[..] else {
            panic!("{effects:?}")
        };
        let states = metadata
            .tables
            .iter()
            .map(|(known, id)| (known.state.as_str(), id.0));
        assert_eq!(states.collect::<Vec<_>>(), [("a", 0), ("b", 1)]);
    }
    let effects = step(&["a", "b"], &["b", "a"]);
    let [Effect::Fail(error)] = &effects[..] else {
        panic!("{effects:?}")
    };
    for part in ["table 0", "`a`", "`b`", "`op`"] {
        assert!(error.message.contains(part), "{error}");
    }
}
