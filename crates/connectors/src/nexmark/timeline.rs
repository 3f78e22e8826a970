//! Event times: when event `n` happens, from the rates.
//!
//! With one rate, event `n` happens `n / rate` seconds after the base time. With two, the rate changes in steps: a square wave
//! has two per period, a sine wave ten. Times never go back, and only integers are used, so they are exact for every `n`.

/// How the rate moves between the first and the next rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RateShape {
    /// Half a period at each rate.
    Square,
    /// Ten steps along a cosine.
    Sine,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    events_per_second: u64,
    events: u64,
}

/// Event times of a whole stream.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    base_ms: i64,
    steps: Vec<Step>,
    step_ms: u64,
    /// Events of one period of all steps.
    period_events: u64,
}

impl Timeline {
    /// `first_rate` and `next_rate` are events per second, at least 1.
    pub(super) fn new(
        base_ms: i64,
        first_rate: u64,
        next_rate: u64,
        shape: RateShape,
        period_s: u64,
    ) -> Self {
        let rates: Vec<u64> = if first_rate == next_rate {
            vec![first_rate]
        } else {
            match shape {
                RateShape::Square => vec![first_rate, next_rate],
                RateShape::Sine => {
                    let middle = (first_rate + next_rate) as f64 / 2.0;
                    let amplitude = (first_rate as f64 - next_rate as f64) / 2.0;
                    (0..10)
                        .map(|i| std::f64::consts::TAU * f64::from(i) / 10.0)
                        .map(|angle| (middle + amplitude * angle.cos()).round().max(1.0) as u64)
                        .collect()
                }
            }
        };
        let step_s = period_s.div_ceil(rates.len() as u64);
        let steps: Vec<Step> = rates
            .into_iter()
            .map(|rate| Step {
                events_per_second: rate,
                events: rate.saturating_mul(step_s),
            })
            .collect();
        let period_events = steps
            .iter()
            .fold(0, |sum: u64, step| sum.saturating_add(step.events));
        Self {
            base_ms,
            steps,
            step_ms: step_s.saturating_mul(1_000),
            period_events,
        }
    }

    /// Event time of event `n`, in milliseconds since 1970.
    pub(super) fn event_ms(&self, n: u64) -> i64 {
        let after_base = match self.steps.as_slice() {
            [only] => ms_of(n, only.events_per_second),
            steps => {
                let mut left = n % self.period_events.max(1);
                let periods = n / self.period_events.max(1);
                let mut step_start =
                    periods.saturating_mul(self.step_ms.saturating_mul(steps.len() as u64));
                let mut within = 0;
                for step in steps {
                    if left < step.events {
                        within = ms_of(left, step.events_per_second);
                        break;
                    }
                    left -= step.events;
                    step_start = step_start.saturating_add(self.step_ms);
                }
                step_start.saturating_add(within)
            }
        };
        self.base_ms.saturating_add_unsigned(after_base)
    }
}

/// Milliseconds until event `n` at `rate` events per second.
fn ms_of(n: u64, rate: u64) -> u64 {
    (n / rate)
        .saturating_mul(1_000)
        .saturating_add(n % rate * 1_000 / rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_rate_spaces_events_evenly() {
        let timeline = Timeline::new(1_000, 10_000, 10_000, RateShape::Square, 600);
        assert_eq!(timeline.event_ms(0), 1_000);
        assert_eq!(timeline.event_ms(9), 1_000);
        assert_eq!(timeline.event_ms(10), 1_001);
        assert_eq!(timeline.event_ms(10_000), 2_000);
        assert_eq!(
            timeline.event_ms(u64::MAX),
            1_000 + i64::try_from(u64::MAX / 10).unwrap()
        );
    }

    #[test]
    fn a_square_wave_alternates() {
        let timeline = Timeline::new(0, 100, 10, RateShape::Square, 20);
        // Ten seconds of 100 per second, then ten seconds of 10 per second.
        assert_eq!(timeline.event_ms(999), 9_990);
        assert_eq!(timeline.event_ms(1_000), 10_000);
        assert_eq!(timeline.event_ms(1_001), 10_100);
        assert_eq!(timeline.event_ms(1_099), 19_900);
        assert_eq!(timeline.event_ms(1_100), 20_000);
    }

    #[test]
    fn times_never_go_back() {
        for shape in [RateShape::Square, RateShape::Sine] {
            let timeline = Timeline::new(0, 977, 13, shape, 30);
            let times: Vec<i64> = (0..100_000).map(|n| timeline.event_ms(n)).collect();
            assert!(times.is_sorted());
        }
    }
}
