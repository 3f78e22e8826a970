//! Chunks and their times.
use super::*;

const LISTS: TableId = TableId(3);

fn part(list_chunk: u64, list_bytes: u64, event_time_ms: Option<i64>) -> KeyedSnapshot {
    KeyedSnapshot {
        tables: vec![TableMoment {
            list_chunk,
            list_bytes,
            event_time_ms,
            ..TableMoment::new(LISTS)
        }],
        ..KeyedSnapshot::default()
    }
}

#[test]
fn chunks_move_on_when_asked_and_when_full() {
    let mut moments = Moments::default();
    let first = ListChunk {
        number: 0,
        oldest: 0,
    };
    assert_eq!(moments.list_chunk(LISTS, false), first);
    assert_eq!(moments.list_chunk(LISTS, true).number, 1);
    moments.merged(LISTS, (LIST_CHUNK_BYTES_MAX - 1) as usize);
    assert_eq!(moments.list_chunk(LISTS, false).number, 1);
    moments.merged(LISTS, 1);
    assert_eq!(moments.list_chunk(LISTS, false).number, 2);
    assert_eq!(moments.list_chunk(LISTS, false).number, 2);
    assert!(moments.take() == part(2, 0, None).tables);
}

#[test]
fn a_snapshot_has_the_moment_of_the_barrier() {
    let mut moments = Moments::default();
    moments.advance(LISTS, 5);
    moments.freeze(LISTS);
    moments.advance(LISTS, 9);
    moments.advance(LISTS, 8);
    moments.freeze(LISTS);
    assert_eq!(moments.take(), part(0, 0, Some(5)).tables);
    assert_eq!(moments.take(), part(0, 0, Some(9)).tables);
    assert_eq!(moments.event_time(LISTS), Some(9));
}

#[test]
fn of_several_parts_the_newest_chunk_and_the_oldest_time_count() {
    let parts = [part(2, 70, Some(100)), part(3, 10, Some(90))];
    let mut moments = Moments::restored(&parts);
    assert_eq!(moments.take(), part(3, 10, Some(90)).tables);
    let parts = [part(2, 70, Some(100)), KeyedSnapshot::default()];
    let mut moments = Moments::restored(&parts);
    assert_eq!(moments.take(), part(2, 70, None).tables);
}

fn rolled(moments: &mut Moments, latest_ms: Option<i64>) -> u64 {
    let chunk = moments.list_chunk(LISTS, false).number;
    moments.list_times(LISTS, ListTimes::Written { chunk, latest_ms });
    moments.list_chunk(LISTS, true).number
}

fn oldest(moments: &mut Moments, now_ms: i64) -> u64 {
    let ttl_ms = 100;
    moments.list_times(LISTS, ListTimes::Now { now_ms, ttl_ms });
    moments.list_chunk(LISTS, false).oldest
}

#[test]
fn chunks_in_which_all_has_expired_do_not_count() {
    let mut moments = Moments::default();
    for time in 0..5 {
        rolled(&mut moments, Some(time * 10));
    }
    assert_eq!(oldest(&mut moments, 99), 0);
    assert_eq!(oldest(&mut moments, 100), 1);
    assert_eq!(oldest(&mut moments, 125), 3);
    // An element of chunk 3 was read, and lives on: so do those after it.
    let latest_ms = Some(125);
    let read = ListTimes::Written {
        chunk: 3,
        latest_ms,
    };
    moments.list_times(LISTS, read);
    assert_eq!(oldest(&mut moments, 224), 3);
    assert_eq!(oldest(&mut moments, 225), 5);
    // The present chunk always counts.
    assert_eq!(oldest(&mut moments, 1000), 5);
}

#[test]
fn the_latest_time_never_expires_and_elements_without_one_count_from_now() {
    let mut moments = Moments::default();
    rolled(&mut moments, None);
    assert_eq!(oldest(&mut moments, 500), 0);
    assert_eq!(oldest(&mut moments, 599), 0);
    assert_eq!(oldest(&mut moments, 600), 1);
    rolled(&mut moments, Some(i64::MAX - 5));
    assert_eq!(oldest(&mut moments, i64::MAX), 1);
}

#[test]
fn times_of_chunks_go_on_after_a_restore() {
    let snapshot = |moments: &mut Moments| KeyedSnapshot {
        tables: moments.take(),
        ..KeyedSnapshot::default()
    };
    let mut moments = Moments::default();
    for time in 0..5 {
        rolled(&mut moments, Some(time * 10));
    }
    assert_eq!(oldest(&mut moments, 110), 2);
    let one = snapshot(&mut moments);
    let mut again = Moments::restored([&one]);
    assert_eq!(snapshot(&mut again).tables, one.tables);
    assert_eq!(oldest(&mut again, 119), 2);
    assert_eq!(oldest(&mut again, 120), 3);
    // With a part that has come less far, chunks count as long as they do for either; what that one appended to is closed as well.
    let mut other = Moments::default();
    rolled(&mut other, Some(70));
    rolled(&mut other, Some(80));
    let other = snapshot(&mut other);
    let mut both = Moments::restored([&one, &other]);
    assert_eq!(both.list_chunk(LISTS, false).number, 5);
    assert_eq!(oldest(&mut both, 169), 0);
    assert_eq!(oldest(&mut both, 170), 1);
    assert_eq!(oldest(&mut both, 179), 1);
    // Chunk 2 of the other may have elements that came after 80, but none after its last.
    assert_eq!(oldest(&mut both, 270), 5);
    // A part that says nothing has chunk 0.
    let mut both = Moments::restored([&one, &KeyedSnapshot::default()]);
    assert_eq!(both.list_chunk(LISTS, false).oldest, 0);
}

#[test]
fn what_nobody_tells_of_counts_as_written_when_it_is_looked_at() {
    let mut moments = Moments::default();
    for _ in 0..200 {
        moments.list_chunk(LISTS, true);
    }
    let tables = moments.take();
    assert_eq!(
        (tables[0].list_chunk, tables[0].list_closed.len()),
        (200, 0)
    );
    let snapshot = KeyedSnapshot {
        tables,
        ..KeyedSnapshot::default()
    };
    // The TTL was switched on.
    let mut moments = Moments::restored([&snapshot]);
    assert_eq!(oldest(&mut moments, 1000), 0);
    assert_eq!(oldest(&mut moments, 1099), 0);
    assert_eq!(oldest(&mut moments, 1100), 200);
}

/// Each moment looked through all tables of all parts: with so many it took minutes.
#[test]
fn many_tables_of_many_parts_are_restored_in_one_pass() {
    let part = |number: u64| KeyedSnapshot {
        tables: (0..=u16::MAX)
            .filter(|table| number > 0 || *table > 0)
            .map(|table| TableMoment {
                list_chunk: number + 5,
                list_oldest: number + 1,
                event_time_ms: Some(100 - number as i64),
                ..TableMoment::new(TableId(table))
            })
            .collect(),
        ..KeyedSnapshot::default()
    };
    let parts: Vec<KeyedSnapshot> = (0..4).map(part).collect();
    let all = Moments::restored(&parts).take();
    assert_eq!(all.len(), 1 << 16);
    let of = |moment: &TableMoment| (moment.list_chunk, moment.list_oldest, moment.event_time_ms);
    // The first part says nothing of the first table.
    assert_eq!(of(&all[0]), (8, 0, None));
    assert!(all[1..].iter().all(|moment| of(moment) == (8, 1, Some(97))));
}
