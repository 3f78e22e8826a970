//! Watermarks and timers: each test opens with what went wrong elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use aquifer_dataflow::process::ProcessContext;
use aquifer_state::BackendKind;

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
        job.batches = 60;
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
    for backend in BACKENDS {
        let name = format!("clock-restored-{backend:?}");
        let function = || {
            let mut function = Function::new(code(|_, (key, number), context| async move {
                context.emit((key, number));
                match number {
                    0 => context
                        .register_processing_time_timer(context.current_processing_time() + 150),
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
        // Fails some 60 ms after the timers were registered.
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
        second.database = database;
        second.batches = 400;
        let (seen, ended) = second.play(function);
        ended.unwrap();
        assert_eq!(rows_of(&seen), vec![(-1, 1); 10], "{backend:?}");
    }
}
