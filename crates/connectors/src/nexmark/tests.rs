//! Proportions, determinism across readers and restarts, order of event times, rate limiting and refusals.

use std::sync::atomic::{AtomicI64, Ordering};

use aquifer_dataflow::JobErrorKind;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    DataType, Field, Fields, Int32Type, Int64Type, TimeUnit, TimestampMillisecondType,
};

use super::*;
use crate::testing::{context_with_clock, next_batch, printed, readers, runtime, table};

fn row(fields: &[(&str, DataType)]) -> DataType {
    DataType::Struct(
        fields
            .iter()
            .map(|(name, ty)| Field::new(*name, ty.clone(), true))
            .collect(),
    )
}

/// The columns as the suite's DDL declares them.
fn columns() -> Vec<Field> {
    let long = || DataType::Int64;
    let text = || DataType::Utf8;
    let time = || DataType::Timestamp(TimeUnit::Millisecond, None);
    let person = row(&[
        ("id", long()),
        ("name", text()),
        ("emailAddress", text()),
        ("creditCard", text()),
        ("city", text()),
        ("state", text()),
        ("dateTime", time()),
        ("extra", text()),
    ]);
    let auction = row(&[
        ("id", long()),
        ("itemName", text()),
        ("description", text()),
        ("initialBid", long()),
        ("reserve", long()),
        ("dateTime", time()),
        ("expires", time()),
        ("seller", long()),
        ("category", long()),
        ("extra", text()),
    ]);
    let bid = row(&[
        ("auction", long()),
        ("bidder", long()),
        ("price", long()),
        ("channel", text()),
        ("url", text()),
        ("dateTime", time()),
        ("extra", text()),
    ]);
    vec![
        Field::new("event_type", DataType::Int32, true),
        Field::new("person", person, true),
        Field::new("auction", auction, true),
        Field::new("bid", bid, true),
    ]
}

fn source(options: &[(&str, &str)]) -> Arc<dyn Source> {
    NexmarkFactory
        .source(&table("events", columns(), options))
        .unwrap()
}

/// All rows at `workers` readers, in order of event number as far as lines tell: sorted.
fn all_rows(source: &dyn Source, workers: usize) -> Vec<String> {
    let runtime = runtime();
    let mut rows = Vec::new();
    for mut reader in readers(source, source.splits(workers).unwrap(), workers, &runtime) {
        while let Some(batch) = next_batch(reader.as_mut(), 333) {
            rows.extend(printed(&batch));
        }
    }
    rows.sort_unstable();
    rows
}

fn event_times(batch: &ChangeBatch) -> Vec<i64> {
    let kinds = batch.rows.column(0).as_primitive::<Int32Type>();
    (0..batch.rows.num_rows())
        .map(|i| {
            let entity = batch.rows.column(1 + kinds.value(i) as usize).as_struct();
            let times = entity.column_by_name("dateTime").unwrap();
            times.as_primitive::<TimestampMillisecondType>().value(i)
        })
        .collect()
}

#[test]
fn people_auctions_and_bids_are_1_to_3_to_46() {
    let source = source(&[("events.num", "10000")]);
    assert!(source.bounded());
    let runtime = runtime();
    let mut reader = readers(source.as_ref(), source.splits(1).unwrap(), 1, &runtime).remove(0);
    let mut counts = [0_usize; 3];
    let mut hot_auction_bids = 0;
    let mut hot_channels = 0;
    let mut newest_auction = 0;
    while let Some(batch) = next_batch(reader.as_mut(), 1_000) {
        let kinds = batch.rows.column(0).as_primitive::<Int32Type>();
        let auctions = batch.rows.column(2).as_struct();
        let bids = batch.rows.column(3).as_struct();
        let auction_ids = auctions.column(0).as_primitive::<Int64Type>();
        let bid_auctions = bids.column(0).as_primitive::<Int64Type>();
        let bidders = bids.column(1).as_primitive::<Int64Type>();
        let channels = bids.column(3).as_string::<i32>();
        for i in 0..batch.rows.num_rows() {
            counts[kinds.value(i) as usize] += 1;
            for (kind, column) in batch.rows.columns()[1..].iter().enumerate() {
                let is_kind = kinds.value(i) == kind as i32;
                assert_eq!(column.is_valid(i), is_kind);
                let parts = column.as_struct().columns();
                assert!(parts.iter().all(|part| part.is_valid(i) == is_kind));
            }
            match kinds.value(i) {
                1 => newest_auction = auction_ids.value(i),
                2 => {
                    let auction = bid_auctions.value(i);
                    assert!((1_000..=newest_auction.max(1_000) + 10).contains(&auction));
                    assert!(bidders.value(i) >= 1_000);
                    hot_auction_bids += usize::from(auction % 100 == 0);
                    hot_channels += usize::from(!channels.value(i).starts_with("channel-"));
                }
                _ => {}
            }
        }
    }
    assert_eq!(counts, [200, 600, 9_200]);
    // One bid in two goes to a hot auction, and about one in 110 of the others meets one by chance.
    assert!(
        (4_400..4_900).contains(&hot_auction_bids),
        "{hot_auction_bids}"
    );
    assert!((4_350..4_850).contains(&hot_channels), "{hot_channels}");
}

#[test]
fn the_first_events_are_what_they_have_always_been() {
    // A change here changes every result that was ever computed from this source.
    let source = source(&[("events.num", "5")]);
    let runtime = runtime();
    let mut reader = readers(source.as_ref(), source.splits(1).unwrap(), 1, &runtime).remove(0);
    let lines = printed(&next_batch(reader.as_mut(), 10).unwrap());
    let shortened: Vec<&str> = lines
        .iter()
        .map(|line| line.get(..60).unwrap_or(line))
        .collect();
    assert_eq!(shortened, FIRST_EVENTS);
    assert!(matches!(reader.poll(10).unwrap(), SourcePoll::Finished));
}

const FIRST_EVENTS: [&str; 5] = [
    "+I[0, +I[1000, Julie Smith, fry@gjll.com, 7879 2846 5847 105",
    "+I[1, null, +I[1000, d noapvn, bm mtaggnvywhgszhr fijgtiggzo",
    "+I[1, null, +I[1001, eg mhnryyeeevqt, vmlyruqzxxztrxbidlaoog",
    "+I[1, null, +I[1002, gykzstcgkg, qcfubbpexh, 21516, 34558275",
    "+I[2, null, null, +I[1000, 1001, 669, Google, https://www.ne",
];

#[test]
fn rows_do_not_depend_on_the_number_of_readers() {
    let source = source(&[("events.num", "3000")]);
    let one = all_rows(source.as_ref(), 1);
    assert_eq!(one.len(), 3_000);
    for workers in [2, 3, 7, 40] {
        assert_eq!(all_rows(source.as_ref(), workers), one, "{workers} readers");
    }
}

#[test]
fn a_restart_at_any_moment_with_any_parallelism_loses_and_repeats_nothing() {
    let source = source(&[("events.num", "4000")]);
    let uninterrupted = all_rows(source.as_ref(), 1);
    let runtime = runtime();
    let mut random = 12_345_u64;
    let mut below = |n: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 33) % n
    };
    for _ in 0..10 {
        let mut rows = Vec::new();
        let mut splits = source.splits(1).unwrap();
        for _ in 0..6 {
            let workers = 1 + below(3) as usize;
            let mut snapshot = Vec::new();
            for mut reader in readers(source.as_ref(), splits, workers, &runtime) {
                for _ in 0..below(6) {
                    let rows_max = 1 + below(200) as usize;
                    let Some(batch) = next_batch(reader.as_mut(), rows_max) else {
                        break;
                    };
                    assert!(batch.rows.num_rows() <= rows_max);
                    rows.extend(printed(&batch));
                }
                snapshot.extend(reader.snapshot().unwrap());
            }
            splits = snapshot;
            assert_eq!(splits.len(), 32);
        }
        for mut reader in readers(source.as_ref(), splits, 2, &runtime) {
            while let Some(batch) = next_batch(reader.as_mut(), 500) {
                rows.extend(printed(&batch));
            }
        }
        rows.sort_unstable();
        assert_eq!(rows, uninterrupted);
    }
}

#[test]
fn event_times_are_in_order_on_every_reader() {
    let source = source(&[
        ("events.num", "20000"),
        ("first-event.rate", "777"),
        ("next-event.rate", "13"),
        ("rate.period", "4 s"),
    ]);
    let runtime = runtime();
    for mut reader in readers(source.as_ref(), source.splits(3).unwrap(), 3, &runtime) {
        let mut times = Vec::new();
        while let Some(batch) = next_batch(reader.as_mut(), 700) {
            times.extend(event_times(&batch));
        }
        assert!(times.len() > 6_000 && times.is_sorted());
    }
}

#[test]
fn the_base_time_is_beams_unless_given() {
    let runtime = runtime();
    for (options, first) in [
        (&[][..], 1_436_918_400_000),
        (
            &[("base-time", "2020-01-01T00:00:00")][..],
            1_577_836_800_000,
        ),
        (&[("base-time", "5000")][..], 5_000),
    ] {
        let source = source(options);
        assert!(!source.bounded());
        let mut reader = readers(source.as_ref(), source.splits(1).unwrap(), 1, &runtime).remove(0);
        assert_eq!(
            event_times(&next_batch(reader.as_mut(), 1).unwrap()),
            [first]
        );
    }
}

#[test]
fn a_table_with_fewer_columns_gets_the_same_values() {
    let whole = NexmarkFactory
        .source(&table("t", columns(), &[("events.num", "500")]))
        .unwrap();
    let fewer = row(&[("price", DataType::Int64), ("auction", DataType::Int64)]);
    let narrow = NexmarkFactory
        .source(&table(
            "t",
            vec![Field::new("bid", fewer, true)],
            &[("events.num", "500")],
        ))
        .unwrap();
    let runtime = runtime();
    let batch = |source: &dyn Source| {
        let mut reader = readers(source, source.splits(1).unwrap(), 1, &runtime).remove(0);
        next_batch(reader.as_mut(), 500).unwrap().rows
    };
    let whole = batch(whole.as_ref());
    let narrow = batch(narrow.as_ref());
    let whole_bids = whole.column(3).as_struct();
    let narrow_bids = narrow.column(0).as_struct();
    for name in ["price", "auction"] {
        assert_eq!(
            whole_bids.column_by_name(name),
            narrow_bids.column_by_name(name)
        );
    }
}

#[test]
fn a_limited_source_waits_for_the_clock() {
    let source = source(&[
        ("events.num", "1000"),
        ("rate.limited", "true"),
        ("first-event.rate", "100"),
        ("next-event.rate", "100"),
    ]);
    let runtime = runtime();
    let clock = Arc::new(AtomicI64::new(7_000_000));
    let context = context_with_clock(&runtime, 0, 1, Arc::clone(&clock));
    let mut reader = source.reader(source.splits(1).unwrap(), context).unwrap();
    let mut rows = 0;
    for elapsed_ms in [0, 5, 10, 500, 1_000] {
        clock.store(7_000_000 + elapsed_ms, Ordering::Relaxed);
        while let SourcePoll::Batch(batch) = reader.poll(50).unwrap() {
            rows += batch.rows.num_rows();
        }
        assert_eq!(rows as i64, elapsed_ms / 10 + 1, "after {elapsed_ms} ms");
        match reader.poll(50).unwrap() {
            SourcePoll::Pending { retry_ms } => assert!((1..=10).contains(&retry_ms)),
            _ => panic!("events came before their time"),
        }
    }
}

#[test]
fn a_source_kept_alive_waits_after_its_last_event() {
    let source = source(&[
        ("events.num", "900"),
        ("stop-at", "7"),
        ("keep-alive", "true"),
    ]);
    assert!(!source.bounded());
    let runtime = runtime();
    let mut reader = readers(source.as_ref(), source.splits(1).unwrap(), 1, &runtime).remove(0);
    assert_eq!(next_batch(reader.as_mut(), 100).unwrap().rows.num_rows(), 7);
    assert!(matches!(
        reader.poll(100).unwrap(),
        SourcePoll::Pending { .. }
    ));
}

#[test]
fn wrong_tables_are_refused_with_the_reason() {
    let refused = |columns: Vec<Field>, options: &[(&str, &str)]| {
        let error = NexmarkFactory
            .source(&table("t", columns, options))
            .err()
            .unwrap();
        assert_eq!(error.kind, JobErrorKind::Usage);
        error.message
    };
    assert_eq!(
        refused(columns(), &[("event.num", "3")]),
        "table 't': connector 'nexmark' has no option 'event.num'; the nearest one is 'events.num'"
    );
    assert_eq!(
        refused(columns(), &[("events.num", "many")]),
        "table 't': option 'events.num' must be a whole number of at least 0, found 'many'"
    );
    assert!(refused(columns(), &[("first-event.rate", "0")]).contains("from 1 to 2147483647"));
    assert!(refused(columns(), &[("bid.avg-size", "3 gb")]).contains("at most 1048576 bytes"));
    assert!(
        refused(
            columns(),
            &[
                ("person.proportion", "0"),
                ("auction.proportion", "0"),
                ("bid.proportion", "0")
            ]
        )
        .contains("must be more than 0")
    );
    let bid = |fields| vec![Field::new("bid", row(fields), true)];
    assert_eq!(
        refused(bid(&[("prices", DataType::Int64)]), &[]),
        "table 't': connector 'nexmark' makes no field 'bid.prices'; the nearest one is 'bid.price'"
    );
    assert_eq!(
        refused(bid(&[("price", DataType::Int32)]), &[]),
        "table 't': column 'bid.price' must be BIGINT, found INT"
    );
    assert!(refused(vec![Field::new("bids", DataType::Int32, true)], &[]).contains("found 'bids'"));
    let empty = Field::new("bid", DataType::Struct(Fields::empty()), false);
    assert!(refused(vec![empty], &[]).contains("must be nullable"));
    assert!(NexmarkFactory.sink(&table("t", columns(), &[])).is_err());
}

#[test]
fn every_proportion_may_be_zero_but_not_all() {
    for (person, auction, bid) in [
        ("0", "0", "1"),
        ("1", "0", "0"),
        ("0", "1", "0"),
        ("5", "0", "2"),
    ] {
        let source = source(&[
            ("events.num", "300"),
            ("person.proportion", person),
            ("auction.proportion", auction),
            ("bid.proportion", bid),
        ]);
        assert_eq!(all_rows(source.as_ref(), 2).len(), 300);
    }
}
