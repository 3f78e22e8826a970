//! `'connector' = 'nexmark'`: the field's standard stream of auction events, as the Nexmark suite's Flink DDL declares it.
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `events.num` | 0 | number of events; 0 is without end |
//! | `stop-at` | -1 | stop before this event although `events.num` is larger; negative is never |
//! | `keep-alive` | false | wait after the last event instead of finishing |
//! | `first-event.rate`, `next-event.rate` | 10000 | events per second of event time |
//! | `rate.shape`, `rate.period` | SQUARE, 600 s | how the rate moves between the two, if they differ |
//! | `rate.limited` / `max-emit-speed` | false / true | emit events when their time comes, by the clock, instead of as fast as possible |
//! | `person.proportion`, `auction.proportion`, `bid.proportion` | 1, 3, 46 | of how many events each |
//! | `person.avg-size`, `auction.avg-size`, `bid.avg-size` | 200, 500, 100 bytes | sizes that the `extra` fields fill up to |
//! | `bid.hot-ratio.auctions`, `bid.hot-ratio.bidders`, `auction.hot-ratio.sellers` | 2, 4, 4 | all but one in this many go to a hot one |
//! | `base-time` | 2015-07-15T00:00:00 | event time of the first event (ours, so that runs repeat) |
//!
//! Always: event `n` depends on the options and on `n` alone; event times never go back on a reader; any split can go on at any
//! position on any reader. A table may declare fewer columns or ROW fields than there are: what is not declared is not made.

mod columns;
mod generator;
mod options;

mod timeline;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use aquifer_dataflow::connector::{
    ConnectorContext, ConnectorFactory, Sink, Source, SourcePoll, SourceReader, TableSpec,
};
use aquifer_dataflow::{ChangeBatch, JobError};

use self::columns::Columns;
use self::generator::Generator;
use self::options::NexmarkOptions;
use crate::pace::{Pace, RETRY_MS_MAX};
use crate::strided::{StridedCursor, splits_at_start};

const NAME: &str = "nexmark";
/// Bytes of one batch, roughly: bounds the rows of a batch when the averages are large.
const BATCH_BYTES_MAX: u64 = 64 << 20;

/// Makes Nexmark sources.
pub struct NexmarkFactory;

impl ConnectorFactory for NexmarkFactory {
    fn name(&self) -> &'static str {
        NAME
    }

    fn source(&self, table: &TableSpec) -> Result<Arc<dyn Source>, JobError> {
        let options = NexmarkOptions::read(table)?;
        let columns = Columns::new(table)?;
        let events = Arc::new(Events {
            columns,
            generator: Generator::new(options),
        });
        Ok(Arc::new(NexmarkSource {
            table: table.name.clone(),
            events,
        }))
    }

    fn sink(&self, table: &TableSpec) -> Result<Arc<dyn Sink>, JobError> {
        Err(crate::not_writable(table, NAME))
    }
}

struct Events {
    columns: Columns,
    generator: Generator,
}

struct NexmarkSource {
    table: String,
    events: Arc<Events>,
}

impl NexmarkSource {
    fn options(&self) -> &NexmarkOptions {
        &self.events.generator.options
    }
}

impl Source for NexmarkSource {
    fn splits(&self, _workers: usize) -> Result<Vec<Vec<u8>>, JobError> {
        Ok(splits_at_start(self.options().end))
    }

    fn reader(
        &self,
        splits: Vec<Vec<u8>>,
        context: ConnectorContext,
    ) -> Result<Box<dyn SourceReader>, JobError> {
        let end = self.options().end.unwrap_or(i64::MAX.unsigned_abs());
        let options = self.options();
        let largest = options
            .person_bytes
            .max(options.auction_bytes)
            .max(options.bid_bytes);
        Ok(Box::new(NexmarkReader {
            cursor: StridedCursor::new(&self.table, &splits, end)?,
            events: Arc::clone(&self.events),
            batch_rows_max: (BATCH_BYTES_MAX / (largest + 256)).max(1) as usize,
            pace: options.limited.then(|| Pace::new(context.now_ms)),
            numbers: Vec::new(),
        }))
    }

    fn bounded(&self) -> bool {
        self.options().bounded()
    }
}

struct NexmarkReader {
    cursor: StridedCursor,
    events: Arc<Events>,
    batch_rows_max: usize,
    /// If rates are limited; rows are paced by their event times.
    pace: Option<Pace>,
    numbers: Vec<u64>,
}

impl SourceReader for NexmarkReader {
    fn poll(&mut self, rows_max: usize) -> Result<SourcePoll, JobError> {
        let Some(first) = self.cursor.peek() else {
            return Ok(if self.events.generator.options.keep_alive {
                SourcePoll::Pending {
                    retry_ms: RETRY_MS_MAX,
                }
            } else {
                SourcePoll::Finished
            });
        };
        let generator = &self.events.generator;
        let first_ms = generator.event_ms(first);
        let due_until_ms = self.pace.as_mut().map(|pace| pace.due_until_ms(first_ms));
        let rows_max = rows_max.clamp(1, self.batch_rows_max);
        self.numbers.clear();
        while self.numbers.len() < rows_max {
            let Some(number) = self.cursor.peek() else {
                break;
            };
            if due_until_ms.is_some_and(|due| generator.event_ms(number) > due) {
                break;
            }
            self.numbers.push(number);
            self.cursor.advance();
        }
        if self.numbers.is_empty() {
            let retry_ms = Pace::retry_ms(first_ms, due_until_ms.unwrap_or(first_ms));
            return Ok(SourcePoll::Pending { retry_ms });
        }
        let rows = self.events.columns.batch(generator, &self.numbers)?;
        Ok(SourcePoll::Batch(ChangeBatch::inserts(rows)))
    }

    fn snapshot(&mut self) -> Result<Vec<Vec<u8>>, JobError> {
        Ok(self.cursor.snapshot())
    }
}
