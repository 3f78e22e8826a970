//! The pitfalls of timely that the runners exist for, each with a test.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aquifer_dataflow::JobError;
use aquifer_dataflow::connector::{ConnectorContext, Sink, SinkWriter, Source, SourceReader};
use aquifer_dataflow::job::{Build, JobObserver};
use aquifer_state::BackendKind;
use parking_lot::Mutex;

use crate::fixtures::{
    Database, DatabaseSink, Numbers, Slow, counting, expected_counts, options, run,
};

/// Timely queues without bound: a source must stop when the sinks are behind.
#[test]
fn a_fast_source_waits_for_a_slow_operator() {
    let source = Numbers {
        splits: 2,
        rows_per_split: 20_000,
        ..Numbers::default()
    };
    let database = Database::new();
    let options = options("throttle", 2, BackendKind::Hashmap);
    let (seen, widest) = (Arc::default(), Arc::new(AtomicU64::new(0)));
    let build: Build = {
        let (database, widest) = (Arc::clone(&database), Arc::clone(&widest));
        let counters = Arc::clone(&options.counters);
        Arc::new(move |env| {
            let slow = Slow {
                each: Duration::from_millis(1),
                counters: Arc::clone(&counters),
                seen: Arc::clone(&seen),
                widest: Arc::clone(&widest),
            };
            env.source("source", Arc::new(source.clone()))?
                .exchange("by key", crate::fixtures::ByKey(64))
                .stateless("slow", slow)
                .sink("sink", Arc::new(DatabaseSink(Arc::clone(&database))))
        })
    };
    run(options, build).unwrap();
    assert_eq!(database.committed().len(), 40_000);
    // Two sources, a window of 16 batches of 100 rows each, and the batch in hand.
    let widest = widest.load(Ordering::Relaxed);
    assert!(widest > 0, "the operator looked while the job ran");
    assert!(widest <= 2 * 17 * 100, "{widest} rows were under way");
}

/// A source that has nothing to say must not hold back the others' ticks, barriers or the checkpoints.
#[test]
fn an_idle_source_stalls_nobody() {
    struct StopAfter(Mutex<u32>, Arc<Database>);
    impl JobObserver for StopAfter {
        fn checkpoint(&self, _id: u64, _duration_ms: u64, _state_bytes: u64) {
            let mut seen = self.0.lock();
            *seen += 1;
            // Ends the job, which its idle split would keep running for ever.
            if *seen > 5 && self.1.committed().len() == 3000 {
                self.1.fail_after.store(0, Ordering::Relaxed);
            }
        }
    }
    // Three splits deliver, the fourth is idle for ever; at two workers each has an active one.
    let source = Numbers {
        idle_from: 3,
        pause_ms: 1,
        ..Numbers::default()
    };
    // More than any machine needs until the job is ended.
    let heartbeat = Numbers {
        splits: 1,
        rows_per_split: 1 << 40,
        pause_ms: 1,
        ..Numbers::default()
    };
    let database = Database::new();
    let beats = Database::new();
    let build: Build = {
        let (database, beats) = (Arc::clone(&database), Arc::clone(&beats));
        Arc::new(move |env| {
            env.source("idle", Arc::new(source.clone()))?
                .sink("sink", Arc::new(DatabaseSink(Arc::clone(&database))))?;
            env.source("heart", Arc::new(heartbeat.clone()))?
                .sink("beats", Arc::new(DatabaseSink(Arc::clone(&beats))))
        })
    };
    let mut options = options("idle", 2, BackendKind::Hashmap);
    options.observer = Arc::new(StopAfter(Mutex::new(0), Arc::clone(&database)));
    beats.fail_after.store(i64::MAX, Ordering::Relaxed);
    let stop = Arc::clone(&database);
    let beats_of_stop = Arc::clone(&beats);
    let watcher = std::thread::spawn(move || {
        while stop.fail_after.load(Ordering::Relaxed) != 0 {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        beats_of_stop.fail_after.store(0, Ordering::Relaxed);
    });
    let error = run(options, build).unwrap_err();
    watcher.join().unwrap();
    assert!(error.message.contains("database is full"), "{error}");
    assert_eq!(
        database.committed().len(),
        3000,
        "the active splits were read and committed to their end"
    );
}

/// In one process timely's other workers would wait for ever for one that has panicked.
#[test]
fn a_panic_on_one_worker_ends_the_job_and_the_next_attempt_runs_in_the_same_process() {
    let source = Numbers::default();
    let database = Database::new();
    database.panic_after.store(1500, Ordering::Relaxed);
    let mut options = options("panic", 3, BackendKind::Forst);
    let error = run(options.clone(), counting(source.clone(), &database)).unwrap_err();
    assert!(error.message.contains("panicked"), "{error}");
    database.panic_after.store(i64::MAX, Ordering::Relaxed);
    options.resume = true;
    run(options, counting(source.clone(), &database)).unwrap();
    assert_eq!(database.committed(), expected_counts(&source));
}

/// `for_each_stamp` sorts containers unstably and so reorders those of one time; `for_each`, which every runner uses, must not.
#[test]
fn for_each_keeps_the_order_of_many_queued_containers() {
    use timely::container::CapacityContainerBuilder;
    use timely::dataflow::InputHandle;
    use timely::dataflow::channels::pact::Pipeline;
    use timely::dataflow::operators::Input;
    use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

    const TIMES: u64 = 3;
    const CONTAINERS: u64 = 200;
    let seen = timely::execute_directly(|worker| {
        let mut input = InputHandle::<u64, CapacityContainerBuilder<Vec<u64>>>::new();
        let seen = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        worker.dataflow(|scope| {
            let stream = scope.input_from(&mut input);
            let mut builder = OperatorBuilder::new("in order".to_owned(), stream.scope());
            let mut handle = builder.new_input(stream, Pipeline);
            let seen = std::rc::Rc::clone(&seen);
            builder
                .build(move |_| move |_| handle.for_each(|_, data| seen.borrow_mut().append(data)));
        });
        // All of them are queued before the operator runs once.
        for n in 0..CONTAINERS {
            input.send(n);
            input.flush();
            if n % (CONTAINERS / TIMES) == 0 {
                input.advance_to(n + 1);
            }
        }
        drop(input);
        while worker.has_dataflows() {
            worker.step();
        }
        seen.take()
    });
    assert_eq!(seen, (0..CONTAINERS).collect::<Vec<_>>());
}

/// Timely panics when an operator's builder is dropped before it is built: what cannot be opened must be an error all the same.
#[test]
fn a_connector_that_cannot_be_opened_is_an_error_and_not_a_panic() {
    struct Broken;
    impl Source for Broken {
        fn splits(&self, _workers: usize) -> Result<Vec<Vec<u8>>, JobError> {
            Err(JobError::failed("there is no such file"))
        }
        fn reader(
            &self,
            _: Vec<Vec<u8>>,
            _: ConnectorContext,
        ) -> Result<Box<dyn SourceReader>, JobError> {
            Err(JobError::failed("there is no such file"))
        }
        fn bounded(&self) -> bool {
            true
        }
    }
    impl Sink for Broken {
        fn writer(&self, _: ConnectorContext) -> Result<Box<dyn SinkWriter>, JobError> {
            Err(JobError::failed("there is no such directory"))
        }
        fn commit(&self, _: Vec<Vec<u8>>, _: &ConnectorContext) -> Result<(), JobError> {
            Ok(())
        }
        fn accepts_updates(&self) -> bool {
            true
        }
    }
    let database = Database::new();
    let from_broken: Build = {
        let database = Arc::clone(&database);
        Arc::new(move |env| {
            let sink = Arc::new(DatabaseSink(Arc::clone(&database)));
            env.source("source", Arc::new(Broken))?.sink("sink", sink)
        })
    };
    let error = run(options("broken-source", 2, BackendKind::Forst), from_broken).unwrap_err();
    assert_eq!(error.message, "there is no such file");
    let to_broken: Build = Arc::new(move |env| {
        env.source("source", Arc::new(Numbers::default()))?
            .sink("sink", Arc::new(Broken))
    });
    let error = run(options("broken-sink", 2, BackendKind::Forst), to_broken).unwrap_err();
    assert_eq!(error.message, "there is no such directory");
}
