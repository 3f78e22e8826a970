//! Watermarks and timers: each test opens with what went wrong elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aquifer_dataflow::JobError;
use aquifer_dataflow::job::{JobObserver, RestoreFrom, SavepointRequest, SavepointRequests};
use aquifer_dataflow::process::ProcessContext;
use aquifer_state::BackendKind;
use aquifer_state::checkpoint::ClaimMode;

use crate::fixtures::{BACKENDS, options};
use crate::script::{Function, Job, Pair, Seen, Step, code, elsewhere, rows_of, watermarks_of};

const MINUTE: i64 = 60_000;

/// Flink: the timer of the next window, registered in an asynchronous callback of the last watermark, never fires.
#[test]
fn the_last_hop_window_of_a_bounded_input_comes_out() {
    // Minutes after 8:00.
    let bids: Vec<Pair> = [(5, 4), (7, 2), (9, 5), (11, 3), (13, 1), (17, 6)]
        .map(|(minute, price)| (minute, price))
        .to_vec();
    // Size, slide or step, whether windows grow (CUMULATE), what comes out.
    let cases: [(i64, i64, bool, &[i64]); 2] = [
        (10, 5, false, &[11, 15, 10, 6]),
        (10, 2, true, &[4, 6, 11, 3, 4, 4, 10, 10]),
    ];
    for backend in BACKENDS {
        for (size, step, grows, expected) in cases {
            let prices: BTreeMap<i64, i64> = bids.iter().copied().collect();
            let steps = vec![Step::Records(
                bids.iter().map(|(minute, _)| (0, *minute)).collect(),
            )];
            let job = Job::new(
                options(&format!("hop-{backend:?}-{grows}"), 1, backend),
                steps,
            );
            let (seen, ended) = job.play(move || {
                let prices = prices.clone();
                let mut function = Function::new(code(move |states, (_, minute), context| {
                    let price = prices[&minute];
                    async move {
                        let slice = minute / step * step;
                        let sum = states.map.get(&slice).await?.unwrap_or(0) + price;
                        elsewhere().await?;
                        states.map.put(&slice, &sum)?;
                        context.register_event_time_timer((slice + step) * MINUTE - 1)
                    }
                }));
                function.event_timer = code(move |states, (_, timestamp), context| async move {
                    let end = (timestamp + 1) / MINUTE;
                    elsewhere().await?;
                    let start = if grows {
                        (end - 1) / size * size
                    } else {
                        end - size
                    };
                    let (mut sum, mut newest) = (None, None);
                    let mut slice = start;
                    while slice < end {
                        if let Some(part) = states.map.get(&slice).await? {
                            sum = Some(sum.unwrap_or(0) + part);
                            newest = Some(slice);
                        }
                        slice += step;
                    }
                    if let Some(sum) = sum {
                        context.emit((end, sum));
                    }
                    elsewhere().await?;
                    // The next window that what was seen belongs to.
                    let belongs = newest.is_some_and(|newest| {
                        if grows {
                            end % size != 0
                        } else {
                            newest > end - size
                        }
                    });
                    if belongs {
                        context.register_event_time_timer((end + step) * MINUTE - 1)?;
                    }
                    Ok(())
                });
                function
            });
            ended.unwrap();
            let sums: Vec<i64> = rows_of(&seen).iter().map(|row| row.1).collect();
            assert_eq!(sums, expected, "{backend:?}");
            assert_eq!(
                seen.last(),
                Some(&Seen::Watermark(i64::MAX)),
                "and only then the input ends"
            );
        }
    }
}

/// FLINK-36859: a watermark that comes twice fired twice.
#[test]
fn a_watermark_fires_once() {
    let steps = vec![
        Step::Records(vec![(1, 5)]),
        Step::Watermark(5),
        Step::Watermark(5),
        Step::Watermark(4),
        Step::Watermark(6),
    ];
    let fired = Arc::new(AtomicI64::new(0));
    let job = Job::new(options("once", 1, BackendKind::Forst), steps);
    let (seen, ended) = {
        let fired = Arc::clone(&fired);
        job.play(move || {
            let fired = Arc::clone(&fired);
            let mut function = Function::new(code(|_, (_, time), context| async move {
                elsewhere().await?;
                context.register_event_time_timer(time)
            }));
            function.event_timer = code(move |_, _, _| {
                fired.fetch_add(1, Ordering::Relaxed);
                elsewhere()
            });
            function
        })
    };
    ended.unwrap();
    assert_eq!(watermarks_of(&seen), [5, 6, i64::MAX]);
    assert_eq!(fired.load(Ordering::Relaxed), 1);
}

/// FLINK-36875: a watermark went on before the callbacks of its timers had ended.
#[test]
fn timers_fire_before_their_watermark_goes_on() {
    let steps = vec![
        Step::Records((0..30).map(|key| (key, 10 + key)).collect()),
        Step::Watermark(20),
        Step::Watermark(50),
    ];
    let job = Job::new(options("before", 1, BackendKind::Forst), steps);
    let (seen, ended) = job.play(|| {
        let mut function = Function::new(code(|_, (_, time), context| async move {
            context.register_event_time_timer(time)
        }));
        function.event_timer = code(|_, (_, time), context| async move {
            for _ in 0..time % 5 {
                elsewhere().await?;
            }
            context.emit((context.current_watermark(), time));
            Ok(())
        });
        function
    });
    ended.unwrap();
    let passed = |watermark| {
        seen.iter()
            .position(|seen| *seen == Seen::Watermark(watermark))
            .unwrap()
    };
    let mut early = rows_of(&seen[..passed(20)]);
    early.sort_unstable();
    assert_eq!(early, (10..=20).map(|time| (20, time)).collect::<Vec<_>>());
    let mut late = rows_of(&seen[passed(20)..passed(50)]);
    late.sort_unstable();
    assert_eq!(late, (21..40).map(|time| (50, time)).collect::<Vec<_>>());
}

/// FLINK-36892: that the input is idle was told before the watermark that came earlier. Here an idle source tells nothing but its tick; it may
/// move on while a record waits, and must not take the watermark, the timers or the end of the input along.
#[test]
fn idleness_keeps_its_place() {
    let steps = vec![Step::Records(vec![(1, 200)]), Step::Watermark(205)];
    let mut job = Job::new(options("idle-place", 1, BackendKind::Forst), steps);
    job.batches = 30;
    let (seen, ended) = job.play(|| {
        let mut function = Function::new(code(|_, (_, time), context| async move {
            for _ in 0..300 {
                elsewhere().await?;
            }
            context.register_event_time_timer(time)
        }));
        function.event_timer = code(|_, (_, time), context| async move {
            for _ in 0..300 {
                elsewhere().await?;
            }
            context.emit((0, time));
            Ok(())
        });
        function
    });
    ended.unwrap();
    assert_eq!(
        seen,
        [
            Seen::Row((0, 200)),
            Seen::Watermark(205),
            Seen::Watermark(i64::MAX)
        ]
    );
}

/// Timers are taken from state many at a time. A callback that changes those of its key must find them as if they were taken one by one.
#[test]
fn callbacks_change_timers_that_are_due_already() {
    for backend in BACKENDS {
        for clock in [false, true] {
            let steps = vec![
                Step::Records((0..5).map(|key| (key, 0)).collect()),
                Step::Watermark(1000),
            ];
            let mut job = Job::new(
                options(&format!("due-{backend:?}-{clock}"), 1, backend),
                steps,
            );
            job.batches = 20;
            let (seen, ended) = job.play(move || {
                let register = move |context: &ProcessContext<Pair>, at: i64| match clock {
                    false => context.register_event_time_timer(at),
                    true => context.register_processing_time_timer(at),
                };
                let delete = move |context: &ProcessContext<Pair>, at: i64| match clock {
                    false => context.delete_event_time_timer(at),
                    true => context.delete_processing_time_timer(at),
                };
                let mut function =
                    Function::new(code(move |states, (key, _), context| async move {
                        states.value.put(key)?;
                        (1..=5).try_for_each(|n| register(&context, 10 * n))
                    }));
                let timer = code(move |states, (_, at), context| async move {
                    elsewhere().await?;
                    match at {
                        10 => {
                            // There already, before all others, taken back, taken back and registered anew, behind all others.
                            register(&context, 20)?;
                            register(&context, 15)?;
                            delete(&context, 30)?;
                            delete(&context, 40)?;
                            elsewhere().await?;
                            register(&context, 40)?;
                            register(&context, 60)?;
                        }
                        50 => delete(&context, 60)?,
                        _ => {}
                    }
                    context.emit((states.value.get().await?.unwrap_or(-1), at));
                    Ok(())
                });
                function.event_timer = timer.clone();
                function.processing_timer = timer;
                function
            });
            ended.unwrap();
            for key in 0..5 {
                let rows = rows_of(&seen);
                let fired = rows.iter().filter(|row| row.0 == key).map(|row| row.1);
                assert_eq!(
                    fired.collect::<Vec<_>>(),
                    [10, 15, 20, 40, 50],
                    "key {key}, {backend:?}, clock: {clock}"
                );
            }
        }
    }
}

/// Flink's asynchronous timers in processing time have the same gap as those in event time: one that a callback registers for now.
#[test]
fn processing_time_timers_registered_while_firing_fire() {
    for backend in BACKENDS {
        let mut job = Job::new(
            options(&format!("clock-{backend:?}"), 1, backend),
            vec![Step::Records((0..20).map(|key| (key, key)).collect())],
        );
        // Each key fires four times, by a clock that nobody waits for.
        job.until = Some(|seen| rows_of(seen).len() >= 80);
        let (seen, ended) = job.play(|| {
            let mut function = Function::new(code(|_, (_, number), context| async move {
                let now = context.current_processing_time();
                // Some are due at once, some later; one is taken back.
                context.register_processing_time_timer(now + number)?;
                context.register_processing_time_timer(now + number)?;
                context.register_processing_time_timer(now + 10_000_000)?;
                context.delete_processing_time_timer(now + 10_000_000)
            }));
            function.processing_timer = code(|states, (_, timestamp), context| async move {
                let now = context.current_processing_time();
                assert!(
                    timestamp <= now,
                    "a timer has come {} ms early",
                    timestamp - now
                );
                let fired = states.value.get().await?.unwrap_or(0) + 1;
                elsewhere().await?;
                states.value.put(fired)?;
                context.emit((fired, 0));
                if fired < 4 {
                    context.register_processing_time_timer(if fired % 2 == 0 {
                        timestamp
                    } else {
                        now + 3
                    })?;
                }
                Ok(())
            });
            function
        });
        ended.unwrap();
        let mut counts = BTreeMap::new();
        for (fired, _) in rows_of(&seen) {
            *counts.entry(fired).or_insert(0) += 1;
        }
        assert_eq!(
            counts,
            BTreeMap::from([(1, 20), (2, 20), (3, 20), (4, 20)]),
            "{backend:?}"
        );
    }
}

/// A timer that was due while the job was down fires when it is up again, before anything arrives; and what it emits is committed once.
#[test]
fn processing_time_timers_are_restored() {
    const AWAY_MS: i64 = 3_600_000;
    for backend in BACKENDS {
        let name = format!("clock-restored-{backend:?}");
        let function = || {
            let mut function = Function::new(code(|_, (key, number), context| async move {
                context.emit((key, number));
                match number {
                    0 => context.register_processing_time_timer(
                        context.current_processing_time() + AWAY_MS,
                    ),
                    _ => Ok(()),
                }
            }));
            function.processing_timer = code(|states, _, context| async move {
                let fired = states.value.get().await?.unwrap_or(0) + 1;
                states.value.put(fired)?;
                context.emit((-1, fired));
                Ok(())
            });
            function
        };
        let mut steps = vec![Step::Records((0..10).map(|key| (key, 0)).collect())];
        steps.extend((0..20).map(|_| Step::Records(vec![(1, 1)])));
        let mut first = Job::new(options(&name, 1, backend), steps);
        first.batches = 400;
        first.fail_after = 20;
        let database = Arc::clone(&first.database);
        let (seen, ended) = first.play(function);
        ended.unwrap_err();
        assert!(
            rows_of(&seen).iter().all(|row| row.0 >= 0),
            "no timer has come yet"
        );
        let mut second = Job::new(options(&name, 1, backend), vec![]);
        second.options.resume = true;
        // It is up again when all are overdue.
        let clock = Arc::clone(&second.options.now_ms);
        second.options.now_ms = Arc::new(move || clock() + AWAY_MS);
        second.database = database;
        second.batches = 400;
        second.until = Some(|seen| rows_of(seen).len() >= 10);
        let (seen, ended) = second.play(function);
        ended.unwrap();
        assert_eq!(rows_of(&seen), vec![(-1, 1); 10], "{backend:?}");
    }
}

/// A restored operator read the first timers of every key group before its first record. Now a checkpoint keeps when the first of each key group
/// is due: until then nothing is read, however many key groups there are.
#[test]
fn a_restored_job_reads_no_timer_before_one_is_due() {
    let far_ms = 1_000_000_000_000_000;
    let function = move || {
        let mut function = Function::new(code(move |_, (key, _), context| async move {
            context.register_event_time_timer(far_ms + key)?;
            context.register_event_time_timer(1_000_000 + key / 100)?;
            context.register_processing_time_timer(far_ms + key)
        }));
        function.event_timer = code(|_, (_, time), context| async move {
            context.emit((-1, time));
            Ok(())
        });
        function
    };
    let mut first = Job::new(
        options("unread-timers", 1, BackendKind::Forst),
        vec![Step::Records((0..200).map(|key| (key, 0)).collect())],
    );
    first.batches = 50;
    let ask = SavepointRequests::new();
    first.options.savepoints = Some(Arc::clone(&ask));
    first.options.observer = Arc::new(StopAt {
        requests: ask,
        checkpoint: 3,
        directory: "memory://unread-timers-savepoint".into(),
    });
    let database = Arc::clone(&first.database);
    let (_, ended) = first.play(function);
    assert!(ended.unwrap().stopped_at.is_some());

    let resumed = |steps| {
        let mut job = Job::new(options("unread-timers", 1, BackendKind::Forst), steps);
        job.options.resume = true;
        job.database = Arc::clone(&database);
        job
    };
    let mut quiet = resumed(vec![Step::Watermark(10), Step::Watermark(999_999)]);
    quiet.batches = 400;
    let ask = SavepointRequests::new();
    quiet.options.savepoints = Some(Arc::clone(&ask));
    quiet.options.observer = Arc::new(StopAt {
        requests: ask,
        checkpoint: 10,
        directory: "memory://unread-timers-savepoint".into(),
    });
    let (seen, ended) = quiet.play(function);
    let report = ended.unwrap();
    assert_eq!(watermarks_of(&seen), [10, 999_999]);
    assert_eq!(
        (report.cache_hits, report.cache_misses),
        (0, 0),
        "something was read"
    );
    // And they are all there when they are due.
    let mut due = resumed(vec![Step::Watermark(1_000_001)]);
    due.batches = 600;
    let (seen, ended) = due.play(function);
    let report = ended.unwrap();
    assert!(report.cache_misses > 0);
    let passed = seen
        .iter()
        .position(|seen| *seen == Seen::Watermark(1_000_001));
    let mut rows = rows_of(&seen[..passed.unwrap()]);
    rows.sort_unstable();
    let expected = (0..200).map(|key| (-1, 1_000_000 + key / 100));
    assert_eq!(rows, expected.collect::<Vec<_>>());
    // The end of the input is the end of event time.
    assert_eq!(rows_of(&seen).len(), 400);
}

/// Stops the job with a savepoint when it has taken so many checkpoints.
struct StopAt {
    requests: Arc<SavepointRequests>,
    checkpoint: u64,
    directory: String,
}

impl JobObserver for StopAt {
    fn checkpoint(&self, checkpoint_id: u64, _duration_ms: u64, _state_bytes: u64) {
        if checkpoint_id == self.checkpoint {
            let request = SavepointRequest {
                directory: Some(self.directory.clone()),
                stop: true,
                ..SavepointRequest::default()
            };
            self.requests.request(request).unwrap();
        }
    }
}

/// Timers in processing time went on firing behind the barrier of the savepoint with which the job was stopped, until it was written: what they
/// emitted was not in the savepoint, and came again when the job went on from it.
#[test]
fn no_timer_fires_behind_the_savepoint_that_ends_a_job() {
    for backend in BACKENDS {
        let name = format!("quiet-stop-{backend:?}").to_lowercase();
        let ticking = || {
            let mut function = Function::new(code(|_, _, context| async move {
                context.register_processing_time_timer(context.current_processing_time())
            }));
            function.processing_timer = code(|states, _, context| async move {
                let fired = states.value.get().await?.unwrap_or(0) + 1;
                states.value.put(fired)?;
                context.emit((-1, fired));
                context.register_processing_time_timer(context.current_processing_time())
            });
            function
        };
        let mut first = Job::new(
            options(&name, 1, backend),
            vec![Step::Records(vec![(1, 0)])],
        );
        first.batches = 2000;
        let ask = SavepointRequests::new();
        first.options.savepoints = Some(Arc::clone(&ask));
        first.options.observer = Arc::new(StopAt {
            requests: ask,
            checkpoint: 5,
            directory: format!("memory://{name}-savepoint"),
        });
        let database = Arc::clone(&first.database);
        let (seen, ended) = first.play(ticking);
        let stopped_at = ended.unwrap().stopped_at.expect("it was stopped");
        let last = rows_of(&seen).last().expect("it ticked").1;
        let mut second = Job::new(options(&format!("{name}-next"), 1, backend), vec![]);
        second.options.restore = Some(RestoreFrom {
            uri: stopped_at,
            mode: ClaimMode::NoClaim,
        });
        // The rest of the first job's input, until it has shown where it goes on.
        second.batches = 2000;
        second.until = Some(|seen| !rows_of(seen).is_empty());
        second.database = database;
        second.fail_after = last + 3;
        let (seen, _) = second.play(ticking);
        assert_eq!(rows_of(&seen).first(), Some(&(-1, last + 1)), "{backend:?}");
    }
}

/// Lets all go when no more begin.
fn open_when_still(begun: &AtomicI64, gate: &tokio::sync::watch::Sender<bool>) {
    let mut before = 0;
    while before != begun.load(Ordering::Relaxed) {
        before = begun.load(Ordering::Relaxed);
        #[allow(
            clippy::disallowed_methods,
            reason = "nothing tells that nothing begins"
        )]
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    gate.send_replace(true);
}

/// After a long pause very many timers are due at once. They were all begun, and when there were more than a million whose callbacks had to
/// wait the job failed, each time it was started.
#[test]
fn not_all_overdue_timers_are_under_way_together() {
    const KEYS: i64 = 12_000;
    const PAUSE_MS: i64 = 3_600_000;
    let counter = || Arc::new(AtomicI64::new(0));
    let (paused_ms, registered) = (counter(), counter());
    let (begun, most, fired) = (counter(), counter(), counter());
    let (gate, opened) = tokio::sync::watch::channel(false);
    let gate = Arc::new(gate);
    let steps = (0..KEYS / 1000)
        .map(|n| Step::Records((n * 1000..(n + 1) * 1000).map(|key| (key, 0)).collect()));
    let mut job = Job::new(options("overdue", 1, BackendKind::Hashmap), steps.collect());
    // It ends when all have fired. A checkpoint would wait for longer than it may, by this clock.
    job.batches = 1_000_000;
    job.options.checkpoint_interval_ms = None;
    let clock = Arc::clone(&job.options.now_ms);
    job.options.now_ms = Arc::new({
        let paused_ms = Arc::clone(&paused_ms);
        move || clock() + paused_ms.load(Ordering::Relaxed)
    });
    let (_, ended) = {
        let most = Arc::clone(&most);
        job.play(move || {
            let (paused_ms, registered) = (Arc::clone(&paused_ms), Arc::clone(&registered));
            let mut function = Function::new(code(move |_, _, context| {
                let (paused_ms, registered) = (Arc::clone(&paused_ms), Arc::clone(&registered));
                async move {
                    let now = context.current_processing_time();
                    context.register_processing_time_timer(now + PAUSE_MS)?;
                    if registered.fetch_add(1, Ordering::Relaxed) + 1 == KEYS {
                        paused_ms.store(2 * PAUSE_MS, Ordering::Relaxed);
                    }
                    Ok(())
                }
            }));
            let (begun, most, fired) = (Arc::clone(&begun), Arc::clone(&most), Arc::clone(&fired));
            let (gate, opened) = (Arc::clone(&gate), opened.clone());
            function.processing_timer = code(move |_, _, _| {
                let (begun, most, fired) =
                    (Arc::clone(&begun), Arc::clone(&most), Arc::clone(&fired));
                let (gate, mut opened) = (Arc::clone(&gate), opened.clone());
                async move {
                    let now = begun.fetch_add(1, Ordering::Relaxed) + 1;
                    most.fetch_max(now, Ordering::Relaxed);
                    if now == 4000 {
                        let begun = Arc::clone(&begun);
                        std::thread::spawn(move || open_when_still(&begun, &gate));
                    }
                    let waited = opened.wait_for(|open| *open).await.map(|_| ());
                    waited.map_err(|error| JobError::failed(error.to_string()))?;
                    begun.fetch_sub(1, Ordering::Relaxed);
                    match fired.fetch_add(1, Ordering::Relaxed) + 1 {
                        KEYS => Err(JobError::failed("all have fired")),
                        _ => Ok(()),
                    }
                }
            });
            function
        })
    };
    let error = ended.unwrap_err();
    assert!(error.message.contains("all have fired"), "{error}");
    let most = most.load(Ordering::Relaxed);
    assert!((4000..=9000).contains(&most), "{most} were under way");
}
