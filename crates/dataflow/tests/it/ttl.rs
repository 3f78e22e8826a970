//! States with a TTL in operators: which clock counts, and when it goes on.

use std::time::Duration;

use aquifer_state::TtlConfig;

use crate::fixtures::{BACKENDS, options};
use crate::script::{Function, Job, Step, code, elsewhere, rows_of};

/// Writes the time of a record under its key and says what was there before; a negative time only reads. A timer says what is there.
fn lives(ttl_ms: u64) -> Function {
    let mut function = Function::new(code(|states, (key, time), context| async move {
        let before = states.lived.get().await?.unwrap_or(-1);
        elsewhere().await?;
        context.emit((key, before));
        if time >= 0 {
            states.lived.put(time)?;
            context.register_event_time_timer(1000)?;
        }
        Ok(())
    }));
    function.event_timer = code(|states, _, context| async move {
        elsewhere().await?;
        context.emit((1000, states.lived.get().await?.unwrap_or(-1)));
        Ok(())
    });
    function.ttl = Some(TtlConfig::new(Duration::from_millis(ttl_ms)).event_time());
    function
}

/// Flink counts in the clock only.
#[test]
fn event_time_is_the_watermark_and_the_time_of_the_record() {
    for backend in BACKENDS {
        let steps = vec![
            // Written before there is a watermark: counts from the first.
            Step::Records(vec![(1, 10)]),
            Step::Watermark(50),
            // Written at its own time, which is later than the watermark.
            Step::Records(vec![(2, 70)]),
            Step::Watermark(149),
            Step::Records(vec![(1, -1)]),
            Step::Watermark(150),
            Step::Records(vec![(1, -1), (2, -1)]),
            Step::Watermark(169),
            Step::Records(vec![(2, -1)]),
            Step::Watermark(170),
            Step::Records(vec![(2, -1), (3, 171)]),
        ];
        let job = Job::new(options(&format!("ttl-{backend:?}"), 1, backend), steps);
        let (seen, ended) = job.play(|| lives(100));
        ended.unwrap();
        let mut rows = rows_of(&seen);
        // The end of the input is not the end of time: what was live is live for the timers that it fires.
        let mut timers = rows.split_off(8);
        timers.sort_unstable();
        assert_eq!(timers, [(1000, -1), (1000, -1), (1000, 171)]);
        rows[3..5].sort_unstable();
        rows[6..8].sort_unstable();
        assert_eq!(
            rows,
            [
                (1, -1),
                (2, -1),
                (1, 10),
                (1, -1),
                (2, 70),
                (2, 70),
                (2, -1),
                (3, -1)
            ],
            "{backend:?}"
        );
    }
}
