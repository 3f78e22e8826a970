//! Functions over keys: order, bounds, sync points, work for other keys, errors, and nothing in flight at a barrier.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aquifer_dataflow::JobError;
use aquifer_dataflow::process::{ElementOrder, EpochMode, ExecutionMode};
use aquifer_state::BackendKind;

use crate::fixtures::{BACKENDS, options};
use crate::script::{Function, Job, Pair, Seen, Step, code, elsewhere, rows_of, watermarks_of};

/// The example of Flink's documentation: the average of every two values of a key.
#[test]
fn word_count_windows() {
    for backend in BACKENDS {
        let records = vec![(1, 3), (1, 5), (1, 7), (1, 4), (1, 2)];
        let job = Job::new(
            options(&format!("average-{backend:?}"), 1, backend),
            vec![Step::Records(records)],
        );
        let (seen, ended) = job.play(|| {
            Function::new(code(|states, (key, value), context| async move {
                let count = states.value.get().await?.unwrap_or(0) + 1;
                let sum = states.map.get(&0).await?.unwrap_or(0) + value;
                elsewhere().await?;
                if count < 2 {
                    states.value.put(count)?;
                    return Ok(states.map.put(&0, &sum)?);
                }
                context.emit((key, sum / count));
                states.value.clear()?;
                Ok(states.map.remove(&0)?)
            }))
        });
        ended.unwrap();
        assert_eq!(rows_of(&seen), [(1, 4), (1, 5)]);
    }
}

/// A barrier comes at any moment, and sources do not repeat what was before it: had a record been in flight in a snapshot, it would be missing
/// after the restore.
#[test]
fn nothing_is_in_flight_in_a_snapshot() {
    for backend in BACKENDS {
        let records: Vec<Pair> = (0..40).map(|n| (n % 7, n)).collect();
        let steps = vec![Step::Records(records); 30];
        let name = format!("drain-{backend:?}");
        let count = || {
            Function::new(code(|states, (key, _), context| async move {
                let count = states.value.get().await?.unwrap_or(0) + 1;
                elsewhere().await?;
                states.value.put(count)?;
                context.emit((key, count));
                Ok(())
            }))
        };
        let mut first = Job::new(options(&name, 1, backend), steps.clone());
        first.fail_after = 700;
        let database = Arc::clone(&first.database);
        let (_, ended) = first.play(count);
        assert!(ended.unwrap_err().message.contains("database is full"));
        // The steps of the second run are those that the source has not been asked for yet: it goes on where the checkpoint was.
        let mut second = Job::new(options(&name, 1, backend), vec![]);
        second.options.resume = true;
        second.batches = 30;
        second.database = database;
        second.steps = vec![Step::Records((0..7).map(|key| (key, 0)).collect())];
        let (seen, ended) = second.play(count);
        ended.unwrap();
        let rows = rows_of(&seen);
        assert_eq!(rows.len(), 7);
        // 40 records a batch: the batches in the checkpoint are whole, in every key.
        let counted: i64 = rows.iter().map(|(_, count)| count - 1).sum();
        assert_eq!(counted % 40, 0, "{backend:?}: {rows:?}");
        assert!(counted > 0, "no checkpoint was complete before the failure");
    }
}

/// FLINK-37017, FLINK-37089: whoever fills the buffer may wait for a timer, which must not wait for room.
#[test]
fn timers_overdraft_a_full_buffer() {
    for bound in [1, 2, 3] {
        let mut options = options(&format!("overdraft-{bound}"), 1, BackendKind::Forst);
        options.async_in_flight_max = bound;
        let records = (0..50).map(|key| (key, 10)).collect();
        let job = Job::new(options, vec![Step::Records(records), Step::Watermark(100)]);
        let (seen, ended) = job.play(|| {
            let mut function = Function::new(code(|_, (_, time), context| async move {
                elsewhere().await?;
                context.register_event_time_timer(time)
            }));
            function.event_timer = code(|states, (_, time), context| async move {
                let seen = states.value.get().await?.unwrap_or(0);
                states.value.put(seen + 1)?;
                elsewhere().await?;
                if seen < 3 {
                    // Due at once: it fires in the same round.
                    context.register_event_time_timer(time + 1)?;
                }
                context.emit((seen, time));
                Ok(())
            });
            function
        });
        ended.unwrap();
        assert_eq!(rows_of(&seen).len(), 50 * 4, "bound {bound}");
        let passed = seen
            .iter()
            .position(|seen| *seen == Seen::Watermark(100))
            .unwrap();
        assert_eq!(rows_of(&seen[..passed]).len(), 50 * 4);
    }
}

/// Flink's asyncProcessWithKey: after the record itself, before later records of its key, whatever the bound.
#[test]
fn work_for_another_key_waits_its_turn() {
    for bound in [1, 2, 6000] {
        let mut options = options(&format!("derived-{bound}"), 1, BackendKind::Hashmap);
        options.async_in_flight_max = bound;
        let job = Job::new(
            options,
            vec![Step::Records(vec![(5, 0), (5, 1)]), Step::Watermark(7)],
        );
        let (seen, ended) = job.play(|| {
            Function::new(code(|states, (key, number), context| async move {
                for piece in 0..6001 {
                    for to in [5, 6] {
                        let (states, context) = (Rc::clone(&states), context.clone());
                        context.clone().run_with_key(&to, async move {
                            // What it does is done for its own key.
                            let count = states.value.get().await?.unwrap_or(0) + 1;
                            states.value.put(count)?;
                            if piece % 1000 == 0 {
                                elsewhere().await?;
                                context.emit((to, count));
                            }
                            Ok(())
                        })?;
                    }
                }
                elsewhere().await?;
                let count = states.value.get().await?.unwrap_or(0);
                context.emit((key * 100 + number, count));
                Ok(())
            }))
        });
        ended.unwrap();
        let of = |key: i64| -> Vec<i64> {
            rows_of(&seen)
                .iter()
                .filter(|row| row.0 == key)
                .map(|row| row.1)
                .collect()
        };
        let expected: Vec<i64> = (0..2)
            .flat_map(|round| (0..7).map(move |n| round * 6001 + n * 1000 + 1))
            .collect();
        assert_eq!(of(6), expected, "bound {bound}");
        assert_eq!(of(5), expected);
        // The first record has seen nothing of it, the second all that the first has started for its key.
        assert_eq!((of(500), of(501)), (vec![0], vec![6001]));
        assert_eq!(seen.last(), Some(&Seen::Watermark(i64::MAX)));
        assert_eq!(watermarks_of(&seen), [7, i64::MAX]);
    }
}

#[test]
fn work_for_keys_of_other_types_or_workers_is_refused() {
    let wrong_type = Job::new(
        options("derived-type", 1, BackendKind::Hashmap),
        vec![Step::Records(vec![(1, 1)])],
    );
    let (_, ended) = wrong_type.play(|| {
        Function::new(code(|_, _, context| async move {
            context.run_with_key(&"text".to_owned(), async { Ok(()) })
        }))
    });
    let message = ended.unwrap_err().message;
    assert!(message.contains("i64"), "{message}");
    assert!(
        message.starts_with("operator `function` failed on a record of key group"),
        "{message}"
    );
}

/// FIRST_REQUEST_ORDER: what does not touch state does not wait for the key.
#[test]
fn code_before_a_sync_point_runs_out_of_order() {
    let began = Arc::new(AtomicUsize::new(0));
    // Opens when the code of all records has begun.
    let (gate, opened) = tokio::sync::watch::channel(false);
    let gate = Arc::new(gate);
    let job = Job::new(
        options("first-request", 1, BackendKind::Forst),
        vec![Step::Records((0..20).map(|n| (n % 2, n)).collect())],
    );
    let (seen, ended) = {
        let began = Arc::clone(&began);
        job.play(move || {
            let (began, gate, opened) = (Arc::clone(&began), Arc::clone(&gate), opened.clone());
            let mut function = Function::new(code(move |states, (key, number), context| {
                let (began, gate) = (Arc::clone(&began), Arc::clone(&gate));
                let mut opened = opened.clone();
                async move {
                    if began.fetch_add(1, Ordering::Relaxed) + 1 == 20 {
                        gate.send_replace(true);
                    }
                    let all = opened.wait_for(|open| *open).await.map(|_| ());
                    all.map_err(|error| JobError::failed(error.to_string()))?;
                    context.sync_point().await;
                    if number < 2 {
                        // Nobody has waited for a key before its code began.
                        assert_eq!(began.load(Ordering::Relaxed), 20);
                    }
                    let count = states.value.get().await?.unwrap_or(0) + 1;
                    elsewhere().await?;
                    context.sync_point().await;
                    states.value.put(count)?;
                    context.emit((key, count));
                    Ok(())
                }
            }));
            function.mode.order = ElementOrder::FirstRequest;
            function
        })
    };
    ended.unwrap();
    let mut rows = rows_of(&seen);
    rows.sort_unstable();
    let expected: Vec<Pair> = (0..2)
        .flat_map(|key| (1..=10).map(move |count| (key, count)))
        .collect();
    assert_eq!(rows, expected);
}

#[test]
fn state_before_the_sync_point_is_an_error() {
    let job = Job::new(
        options("no-sync-point", 1, BackendKind::Hashmap),
        vec![Step::Records(vec![(1, 1)])],
    );
    let (_, ended) = job.play(|| {
        let mut function =
            Function::new(code(|states, _, _| async move { Ok(states.value.put(1)?) }));
        function.mode.order = ElementOrder::FirstRequest;
        function
    });
    let message = ended.unwrap_err().message;
    assert!(message.contains("before its sync point"), "{message}");
}

#[test]
fn records_may_run_ahead_of_a_watermark() {
    for epochs in [EpochMode::Serial, EpochMode::Parallel] {
        let mut job = Job::new(
            options(&format!("epochs-{epochs:?}"), 1, BackendKind::Forst),
            vec![
                Step::Records(vec![(1, 1)]),
                Step::Watermark(10),
                Step::Records(vec![(2, 20)]),
                Step::Watermark(30),
            ],
        );
        // A barrier would wait for the first record, and the second for the barrier.
        job.options.checkpoint_interval_ms = None;
        let ahead = Arc::new(AtomicUsize::new(0));
        let rounds_max = match epochs {
            EpochMode::Serial => 100,
            EpochMode::Parallel => 1_000_000,
        };
        let (seen, ended) = job.play(move || {
            let ahead = Arc::clone(&ahead);
            let mut function = Function::new(code(move |_, (key, time), context| {
                let ahead = Arc::clone(&ahead);
                async move {
                    // Both see the watermark that came before them.
                    assert_eq!(
                        context.current_watermark(),
                        if time == 1 { i64::MIN } else { 10 }
                    );
                    match key {
                        // Waits for a record that is behind the watermark: serially it would wait for ever, so it gives up.
                        1 => {
                            let mut rounds = 0;
                            while ahead.load(Ordering::Relaxed) == 0 && rounds < rounds_max {
                                elsewhere().await?;
                                rounds += 1;
                            }
                        }
                        _ => {
                            ahead.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    context.emit((key, time));
                    Ok(())
                }
            }));
            function.mode = ExecutionMode {
                epochs,
                ..ExecutionMode::default()
            };
            function
        });
        ended.unwrap();
        let (one, two) = (Seen::Row((1, 1)), Seen::Row((2, 20)));
        let (ten, thirty, end) = (
            Seen::Watermark(10),
            Seen::Watermark(30),
            Seen::Watermark(i64::MAX),
        );
        match epochs {
            EpochMode::Serial => assert_eq!(seen, [one, ten, two, thirty, end]),
            EpochMode::Parallel => assert_eq!(seen, [two, one, ten, thirty, end]),
        }
    }
}

#[test]
fn an_error_of_user_code_names_operator_and_key_group() {
    let job = Job::new(
        options("user-error", 1, BackendKind::Hashmap),
        vec![Step::Records((0..10).map(|n| (n, n)).collect())],
    );
    let (_, ended) = job.play(|| {
        Function::new(code(|_, (_, number), _| async move {
            elsewhere().await?;
            match number {
                3 => Err(JobError::failed("the price is negative")),
                _ => Ok(()),
            }
        }))
    });
    let group = aquifer_state::key_group::assign_to_key_group(
        aquifer_state::key_group::KeyHash::hash_code(&3i64),
        64,
    );
    assert_eq!(
        ended.unwrap_err().message,
        format!(
            "operator `function` failed on a record of key group {group}: the price is negative"
        )
    );
}

#[test]
fn a_panic_of_user_code_names_operator_and_key_group() {
    let job = Job::new(
        options("user-panic", 1, BackendKind::Forst),
        vec![Step::Records(vec![(4, 4)]), Step::Watermark(10)],
    );
    let (_, ended) = job.play(|| {
        let mut function = Function::new(code(|_, (_, time), context| async move {
            context.register_event_time_timer(time)
        }));
        function.event_timer = code(|_, _, _| async move { panic!("planted panic") });
        function
    });
    let message = ended.unwrap_err().message;
    assert!(
        message.starts_with("operator `function` panicked on an event-time timer of key group"),
        "{message}"
    );
}

/// Before a job fails, and after: what is shown of a job that has ended is that nothing is under way.
#[test]
fn the_gauges_come_back_to_zero() {
    for fails in [false, true] {
        let options = options(&format!("gauges-{fails}"), 1, BackendKind::Forst);
        let counters = Arc::clone(&options.counters);
        let records = (0..40).map(|n| (n % 3, n)).collect();
        let job = Job::new(options, vec![Step::Records(records)]);
        let most = Arc::new(AtomicUsize::new(0));
        let (_, ended) = {
            let (counters, most) = (Arc::clone(&counters), Arc::clone(&most));
            job.play(move || {
                let (counters, most) = (Arc::clone(&counters), Arc::clone(&most));
                Function::new(code(move |_, (_, number), _| {
                    let (counters, most) = (Arc::clone(&counters), Arc::clone(&most));
                    async move {
                        elsewhere().await?;
                        let waiting = counters.async_state.blocking_buffer.load(Ordering::Relaxed);
                        most.fetch_max(waiting as usize, Ordering::Relaxed);
                        match fails && number == 20 {
                            true => Err(JobError::failed("planted")),
                            false => Ok(()),
                        }
                    }
                }))
            })
        };
        assert_eq!(ended.is_err(), fails);
        let gauges = &counters.async_state;
        for gauge in [
            &gauges.in_flight,
            &gauges.active_buffer,
            &gauges.blocking_buffer,
            &gauges.blocked_keys,
        ] {
            assert_eq!(gauge.load(Ordering::Relaxed), 0, "{gauges:?}");
        }
        assert!(
            most.load(Ordering::Relaxed) >= 30,
            "37 of 40 records had waited for their key"
        );
    }
}
