//! Time to live. Each body runs for the kinds that `Kind` knows; clocks stand still until a test sets them.
use std::time::Duration;

use aquifer_state::serializer::Postcard;
use aquifer_state::{
    AggregateFunction, AggregatingState, AggregatingStateDescriptor, BackendKind,
    FoldingStateDescriptor, KeyedStateStore, ListState, ListStateDescriptor, MapState,
    MapStateDescriptor, ReducingState, ReducingStateDescriptor, StateError, StateVisibility,
    TtlConfig, UpdateType, ValueState, ValueStateDescriptor,
};
use futures_util::StreamExt;

use crate::cases::{Case, all, ask, conformance};
use crate::world::{Saved, Worker, World};

conformance!(
    what_was_never_written_or_was_cleared_is_not_there,
    written_state_expires_exactly,
    expired_state_is_shown_once_where_allowed,
    looking_for_emptiness_uses_up_nothing,
    reading_keeps_state_alive,
    reading_too_late_shows_state_once_where_allowed,
    disabled_never_stamps,
    the_longest_ttl_never_ends,
    keys_expire_each_at_their_time,
    a_restore_brings_back_the_times_of_the_snapshot,
    another_ttl_holds_from_the_restore_on,
    switching_on_counts_from_the_restore,
    switching_off_makes_what_is_there_permanent,
    on_off_on,
    on_off_on_in_event_time,
    a_state_that_is_opened_late_in_event_time,
    a_ttl_that_is_switched_on_late_in_event_time,
    elements_expire_each_at_their_time,
    entries_expire_each_at_their_time,
    every_way_of_reading_a_map_keeps_alive_what_it_returns,
    adding_with_a_ttl_reduces,
    expired_parts_are_not_merged,
    expired_elements_are_not_merged,
    emptiness_is_right_with_a_ttl,
    iterations_over_expired_entries_have_nothing,
    a_default_is_not_used_with_a_ttl,
    event_time_is_the_watermark,
    what_was_written_before_the_first_watermark_counts_from_it,
    an_event_far_ahead_ends_no_other_element,
    moved_elements_live_as_long_as_before,
    a_ttl_may_count_in_another_time,
    a_ttl_that_is_back_counts_in_every_chunk,
    time_that_goes_back_expires_nothing_early,
    enumeration_passes_over_what_has_expired,
    what_has_expired_leaves_the_state,
    what_has_expired_stays_where_nobody_cleans_up,
);

fn ttl() -> TtlConfig {
    TtlConfig::new(Duration::from_millis(100))
}

/// A state of one kind, seen as one number.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Value,
    List,
    Map,
    Reducing,
    Aggregating,
}

const KINDS: [Kind; 5] = [
    Kind::Value,
    Kind::List,
    Kind::Map,
    Kind::Reducing,
    Kind::Aggregating,
];

/// The newest input is what is kept.
struct Newest;

impl AggregateFunction for Newest {
    type In = u32;
    type Acc = u32;
    type Out = u32;
    fn create(&self) -> u32 {
        0
    }
    fn add(&self, value: u32, acc: &mut u32) {
        *acc = value;
    }
    fn result(&self, acc: &u32) -> u32 {
        *acc
    }
    fn merge(&self, _: u32, b: u32) -> u32 {
        b
    }
}

enum Handle {
    Value(ValueState<u32>),
    List(ListState<u32>),
    Map(MapState<u8, u32>),
    Reducing(ReducingState<u32, fn(u32, u32) -> u32>),
    Aggregating(AggregatingState<Newest>),
}

struct Kept<'a> {
    world: &'a World,
    worker: Worker,
    store: KeyedStateStore<u32>,
    handle: Handle,
    kind: Kind,
}

/// Opens the state `s` of a kind with a TTL or none, with key 1 as the current one.
fn open<'a>(world: &'a World, kind: Kind, saved: &Saved, ttl: Option<&TtlConfig>) -> Kept<'a> {
    let worker = world.restore(saved);
    let store = worker.store::<u32>("op");
    open_in(world, worker, store, kind, ttl)
}

/// The same in a worker that is at work.
fn open_in<'a>(
    world: &'a World,
    worker: Worker,
    store: KeyedStateStore<u32>,
    kind: Kind,
    ttl: Option<&TtlConfig>,
) -> Kept<'a> {
    macro_rules! with_ttl {
        ($descriptor:expr) => {
            match ttl {
                None => $descriptor,
                Some(ttl) => $descriptor.ttl(ttl.clone()),
            }
        };
    }
    let newest: fn(u32, u32) -> u32 = |_, new| new;
    let handle = match kind {
        Kind::Value => Handle::Value(
            store
                .value_state(&with_ttl!(ValueStateDescriptor::new("s")))
                .unwrap(),
        ),
        Kind::List => Handle::List(
            store
                .list_state(&with_ttl!(ListStateDescriptor::new("s")))
                .unwrap(),
        ),
        Kind::Map => Handle::Map(
            store
                .map_state(&with_ttl!(MapStateDescriptor::new("s")))
                .unwrap(),
        ),
        Kind::Reducing => Handle::Reducing(
            store
                .reducing_state(&with_ttl!(ReducingStateDescriptor::new("s", newest)))
                .unwrap(),
        ),
        Kind::Aggregating => Handle::Aggregating(
            store
                .aggregating_state(&with_ttl!(AggregatingStateDescriptor::new("s", Newest)))
                .unwrap(),
        ),
    };
    store.set_current_key(&1);
    Kept {
        world,
        worker,
        store,
        handle,
        kind,
    }
}

impl<'a> Kept<'a> {
    fn new(world: &'a World, kind: Kind, ttl: &TtlConfig) -> Self {
        open(world, kind, &Saved::default(), Some(ttl))
    }

    /// A snapshot, and a new worker with the same TTL.
    fn restored(self, ttl: &TtlConfig) -> Self {
        let saved = self.worker.checkpoint(1);
        open(self.world, self.kind, &saved, Some(ttl))
    }

    fn write(&self, n: u32) {
        let worker = &self.worker;
        match &self.handle {
            Handle::Value(value) => value.put(n).unwrap(),
            Handle::List(list) => list.update(&[n]).unwrap(),
            Handle::Map(map) => map.put(&7, &n).unwrap(),
            Handle::Reducing(sum) => ask!(worker, sum.add(n)),
            Handle::Aggregating(newest) => ask!(worker, newest.add(n)),
        }
    }

    fn read(&self) -> Option<u32> {
        let worker = &self.worker;
        match &self.handle {
            Handle::Value(value) => ask!(worker, value.get()),
            Handle::List(list) => {
                let elements = all!(worker, list.get());
                assert!(elements.len() <= 1);
                elements.first().copied()
            }
            Handle::Map(map) => ask!(worker, map.get(&7)),
            Handle::Reducing(sum) => ask!(worker, sum.get()),
            Handle::Aggregating(newest) => ask!(worker, newest.get()),
        }
    }

    fn clear(&self) {
        match &self.handle {
            Handle::Value(value) => value.clear().unwrap(),
            Handle::List(list) => list.clear().unwrap(),
            Handle::Map(map) => map.clear().unwrap(),
            Handle::Reducing(sum) => sum.clear().unwrap(),
            Handle::Aggregating(newest) => newest.clear().unwrap(),
        }
    }

    fn at(&self, now_ms: i64) -> &Self {
        self.world.at(now_ms);
        self
    }

    /// What the backend still has, whatever reads say of it. (`forst` hides what has expired by itself, unless it is to be shown.)
    fn stored(&self) -> usize {
        self.worker.rows("s").len()
    }

    fn says(&self) -> String {
        format!("{:?}, {}", self.kind, self.world.name())
    }
}

fn what_was_never_written_or_was_cleared_is_not_there(world: &World) {
    for kind in KINDS {
        let state = Kept::new(world, kind, &ttl());
        assert_eq!(state.at(0).read(), None);
        assert_eq!(state.stored(), 0);
        state.write(1);
        state.at(10).clear();
        assert_eq!(state.read(), None);
        let state = state.restored(&ttl());
        assert_eq!(state.read(), None, "{}", state.says());
    }
}

fn written_state_expires_exactly(world: &World) {
    for kind in KINDS {
        let state = Kept::new(world, kind, &ttl());
        state.at(0).write(1);
        let state = state.restored(&ttl());
        assert_eq!(state.at(20).read(), Some(1), "{}", state.says());
        state.write(2);
        let state = state.restored(&ttl());
        assert_eq!(state.at(119).read(), Some(2), "{}", state.says());
        assert_eq!(state.at(120).read(), None, "{}", state.says());
        assert_eq!(state.stored(), 0, "{}", state.says());
        state.at(170).write(3);
        let state = state.restored(&ttl());
        assert_eq!(state.at(220).read(), Some(3));
        assert_eq!(state.at(270).read(), None);
        assert_eq!(state.stored(), 0);
    }
}

fn shown() -> TtlConfig {
    ttl()
        .visibility(StateVisibility::ReturnExpiredIfNotCleanedUp)
        .disable_cleanup_in_background()
}

fn expired_state_is_shown_once_where_allowed(world: &World) {
    for kind in KINDS {
        let state = Kept::new(world, kind, &shown());
        state.at(0).write(1);
        let state = state.restored(&shown());
        assert_eq!(state.at(120).read(), Some(1), "{}", state.says());
        assert_eq!(state.stored(), 0, "{}", state.says());
        assert_eq!(state.read(), None, "{}", state.says());
    }
}

/// `is_empty` said that something was there and removed it; an iteration of a map removed entries that were never handed out.
fn looking_for_emptiness_uses_up_nothing(world: &World) {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let map = MapStateDescriptor::<u32, u32>::new("m").ttl(shown());
    let map = store.map_state(&map).unwrap();
    let list = ListStateDescriptor::<u32>::new("l")
        .ttl(shown())
        .chunk_bytes_max(256);
    let list = store.list_state(&list).unwrap();
    let elements: Vec<u32> = (0..200).collect();
    store.set_current_key(&1);
    world.at(0);
    for element in &elements {
        map.put(element, element).unwrap();
        list.add(element).unwrap();
    }
    world.at(100);
    for _ in 0..2 {
        assert!(!ask!(worker, map.is_empty()), "{}", world.name());
        assert!(!ask!(worker, list.is_empty()), "{}", world.name());
    }
    assert_eq!(all!(worker, list.get()), elements, "{}", world.name());
    assert!(ask!(worker, list.is_empty()), "{}", world.name());
    let first = if worker.is_v2() {
        let mut keys = map.keys();
        worker.run(keys.next()).unwrap().unwrap()
    } else {
        map.sync().keys().next().unwrap().unwrap()
    };
    assert_eq!(first, 0);
    // What is written while an iteration comes near is not what it had loaded.
    if worker.is_v2() {
        let mut entries = map.entries();
        assert_eq!(worker.run(entries.next()).unwrap().unwrap(), (1, 1));
        map.put(&100, &7).unwrap();
        assert_eq!(worker.collect(entries).len(), 198);
    } else {
        let mut entries = map.sync().entries();
        assert_eq!(entries.next().unwrap().unwrap(), (1, 1));
        map.put(&100, &7).unwrap();
        assert_eq!(entries.count(), 198);
    }
    assert_eq!(all!(worker, map.entries()), [(100, 7)], "{}", world.name());
}

fn reading_keeps_state_alive(world: &World) {
    let ttl = ttl().update(UpdateType::OnReadAndWrite);
    for kind in KINDS {
        for (last, expected) in [(219, Some(1)), (220, None)] {
            let state = Kept::new(world, kind, &ttl);
            state.at(0).write(1);
            let state = state.restored(&ttl);
            assert_eq!(state.at(50).read(), Some(1), "{}", state.says());
            let state = state.restored(&ttl);
            assert_eq!(state.at(120).read(), Some(1), "{}", state.says());
            let state = state.restored(&ttl);
            assert_eq!(state.at(last).read(), expected, "{}", state.says());
            assert_eq!(state.stored(), usize::from(expected.is_some()));
        }
    }
}

fn reading_too_late_shows_state_once_where_allowed(world: &World) {
    let ttl = shown().update(UpdateType::OnReadAndWrite);
    for kind in KINDS {
        let state = Kept::new(world, kind, &ttl);
        state.at(0).write(1);
        assert_eq!(state.at(50).read(), Some(1));
        let state = state.restored(&ttl);
        // It expired at 150; this is the last time, and does not keep it alive.
        assert_eq!(state.at(170).read(), Some(1), "{}", state.says());
        assert_eq!(state.read(), None, "{}", state.says());
    }
}

fn disabled_never_stamps(world: &World) {
    let off = ttl().update(UpdateType::Disabled);
    for kind in KINDS {
        let state = Kept::new(world, kind, &off);
        state.at(0).write(1);
        let state = state.restored(&off);
        assert_eq!(state.at(1_000_000).read(), Some(1), "{}", state.says());
    }
}

fn the_longest_ttl_never_ends(world: &World) {
    for longest in [Duration::MAX, Duration::from_millis(i64::MAX as u64)] {
        let longest = TtlConfig::new(longest);
        for kind in KINDS {
            let state = Kept::new(world, kind, &longest);
            state.at(10).write(1);
            let state = state.restored(&longest);
            for now in [50, i64::MAX - 1, i64::MAX] {
                assert_eq!(state.at(now).read(), Some(1), "at {now}, {}", state.says());
            }
        }
    }
}

fn keys_expire_each_at_their_time(world: &World) {
    for kind in KINDS {
        let state = Kept::new(world, kind, &ttl());
        let write = |state: &Kept<'_>, key: u32, n: u32| {
            state.store.set_current_key(&key);
            state.write(n);
        };
        let read = |state: &Kept<'_>| {
            [1, 2].map(|key| {
                state.store.set_current_key(&key);
                state.read()
            })
        };
        write(state.at(0), 2, 1);
        let state = state.restored(&ttl());
        write(state.at(50), 1, 1);
        write(&state, 2, 2);
        let state = state.restored(&ttl());
        assert_eq!(read(state.at(120)), [Some(1), Some(2)]);
        write(state.at(140), 2, 3);
        let state = state.restored(&ttl());
        assert_eq!(read(state.at(230)), [None, Some(3)], "{}", state.says());
        assert_eq!(read(state.at(300)), [None, None]);
    }
}

fn a_restore_brings_back_the_times_of_the_snapshot(world: &World) {
    for kind in KINDS {
        let state = Kept::new(world, kind, &ttl());
        let write = |key: u32, n: u32| {
            state.store.set_current_key(&key);
            state.write(n);
        };
        state.at(0);
        write(1, 1);
        state.at(50);
        write(1, 2);
        state.at(100);
        write(2, 1);
        let saved = state.worker.checkpoint(1);
        state.at(140);
        write(1, 3);
        write(2, 2);
        let state = open(world, kind, &saved, Some(&ttl()));
        state.at(180);
        assert_eq!(state.read(), None, "{}", state.says());
        state.store.set_current_key(&2);
        assert_eq!(state.read(), Some(1), "{}", state.says());
    }
}

fn another_ttl_holds_from_the_restore_on(world: &World) {
    let of = |ms| TtlConfig::new(Duration::from_millis(ms));
    for kind in KINDS {
        let state = Kept::new(world, kind, &ttl());
        state.at(0).write(1);
        let saved = state.worker.checkpoint(1);
        state.at(60);
        let shorter = open(world, kind, &saved, Some(&of(50)));
        assert_eq!(shorter.read(), None, "{}", shorter.says());
        let longer = open(world, kind, &saved, Some(&of(1000)));
        assert_eq!(longer.read(), Some(1));
        assert_eq!(longer.at(999).read(), Some(1), "{}", longer.says());
        assert_eq!(longer.at(1000).read(), None);
    }
}

fn switching_on_counts_from_the_restore(world: &World) {
    for kind in KINDS {
        for show in [false, true] {
            let ttl = if show { shown() } else { ttl() };
            let state = open(world, kind, &Saved::default(), None);
            state.at(0).write(1);
            let saved = state.worker.checkpoint(1);
            state.at(500);
            let state = open(world, kind, &saved, Some(&ttl));
            state.store.set_current_key(&2);
            state.write(2);
            state.store.set_current_key(&1);
            assert_eq!(state.at(599).read(), Some(1), "{}", state.says());
            // The moment of switching on is in the checkpoint.
            state.at(550);
            let state = state.restored(&ttl);
            assert_eq!(state.at(600).read(), show.then_some(1), "{}", state.says());
            assert_eq!(state.read(), None, "{}", state.says());
        }
    }
}

fn switching_off_makes_what_is_there_permanent(world: &World) {
    for kind in KINDS {
        let state = Kept::new(world, kind, &ttl());
        state.at(0).write(1);
        let saved = state.worker.checkpoint(1);
        state.at(50);
        let state = open(world, kind, &saved, None);
        assert_eq!(state.at(10_000).read(), Some(1), "{}", state.says());
        state.clear();
        assert_eq!(state.read(), None);
        state.write(2);
        assert_eq!(state.at(20_000).read(), Some(2));
    }
}

/// Times from before the pause do not count: they would all have expired.
fn on_off_on(world: &World) {
    for kind in KINDS {
        let state = Kept::new(world, kind, &ttl());
        state.at(0).write(1);
        let saved = state.worker.checkpoint(1);
        state.at(50);
        let state = open(world, kind, &saved, None);
        let saved = state.worker.checkpoint(2);
        state.at(500);
        let state = open(world, kind, &saved, Some(&ttl()));
        assert_eq!(state.read(), Some(1), "{}", state.says());
        state.at(550);
        let state = state.restored(&ttl());
        assert_eq!(state.at(599).read(), Some(1), "{}", state.says());
        assert_eq!(state.at(600).read(), None, "{}", state.says());
    }
}

/// The first watermark after the pause is when all of it counts as written: also what had a time before.
fn on_off_on_in_event_time(world: &World) {
    let by_event = ttl().event_time();
    for kind in KINDS {
        let state = Kept::new(world, kind, &by_event);
        let watermark = |state: &Kept<'_>, now_ms| state.store.advance_event_time(now_ms).unwrap();
        watermark(&state, 0);
        state.write(1);
        let saved = state.worker.checkpoint(1);
        let state = open(world, kind, &saved, None);
        let saved = state.worker.checkpoint(2);
        let state = open(world, kind, &saved, Some(&by_event));
        watermark(&state, 500);
        assert_eq!(state.read(), Some(1), "{}", state.says());
        watermark(&state, 599);
        assert_eq!(state.read(), Some(1), "{}", state.says());
        watermark(&state, 600);
        assert_eq!(state.read(), None, "{}", state.says());
    }
}

/// Of a state that was opened when watermarks had come already, nobody knew the event time. After a restore its rows came back: they counted from
/// the first watermark of the new run.
fn a_state_that_is_opened_late_in_event_time(world: &World) {
    let by_event = ttl().event_time();
    for kind in KINDS {
        let worker = world.worker();
        let store = worker.store::<u32>("op");
        store.value_state(&first_state()).unwrap();
        store.advance_event_time(1000).unwrap();
        let state = open_in(world, worker, store, kind, Some(&by_event));
        state.write(1);
        let state = state.restored(&by_event);
        state.store.advance_event_time(1050).unwrap();
        assert_eq!(state.read(), Some(1), "{}", state.says());
        let state = state.restored(&by_event);
        state.store.advance_event_time(1099).unwrap();
        assert_eq!(state.read(), Some(1), "{}", state.says());
        state.store.advance_event_time(1100).unwrap();
        assert_eq!(state.read(), None, "{}", state.says());
    }
}

/// The same with rows from before: they count from the watermark at which the TTL begins, not from an earlier one of this run.
fn a_ttl_that_is_switched_on_late_in_event_time(world: &World) {
    let by_event = ttl().event_time();
    for kind in KINDS {
        let state = Kept::new(world, kind, &by_event);
        state.store.advance_event_time(0).unwrap();
        state.write(1);
        let saved = state.worker.checkpoint(1);
        let saved = open(world, kind, &saved, None).worker.checkpoint(2);
        let worker = world.restore(&saved);
        let store = worker.store::<u32>("op");
        store.value_state(&first_state()).unwrap();
        store.advance_event_time(500).unwrap();
        store.advance_event_time(1000).unwrap();
        let state = open_in(world, worker, store, kind, Some(&by_event));
        assert_eq!(state.read(), Some(1), "{}", state.says());
        state.store.advance_event_time(1099).unwrap();
        assert_eq!(state.read(), Some(1), "{}", state.says());
        let state = state.restored(&by_event);
        assert_eq!(state.read(), Some(1), "{}", state.says());
        state.store.advance_event_time(1100).unwrap();
        assert_eq!(state.read(), None, "{}", state.says());
    }
}

/// A state whose TTL counts in event time from the beginning.
fn first_state() -> ValueStateDescriptor<u32> {
    ValueStateDescriptor::new("first").ttl(ttl().event_time())
}

fn elements_expire_each_at_their_time(world: &World) {
    let open = |worker: &Worker| {
        let store = worker.store::<u32>("op");
        let descriptor = ListStateDescriptor::<u32>::new("s").ttl(ttl());
        let list = store.list_state(&descriptor).unwrap();
        store.set_current_key(&1);
        list
    };
    let worker = world.worker();
    let list = open(&worker);
    for now in [0, 30, 60] {
        world.at(now);
        list.add(&(now as u32)).unwrap();
    }
    world.at(61);
    let worker = world.restore(&worker.checkpoint(1));
    let list = open(&worker);
    let cases: [(i64, &[u32]); 5] = [
        (99, &[0, 30, 60]),
        (100, &[30, 60]),
        (130, &[60]),
        (159, &[60]),
        (160, &[]),
    ];
    for (now, expected) in cases {
        world.at(now);
        assert_eq!(
            all!(worker, list.get()),
            expected,
            "at {now}, {}",
            world.name()
        );
        assert_eq!(ask!(worker, list.is_empty()), expected.is_empty());
    }
    assert_eq!(worker.rows("s").len(), 0);
}

fn entries_expire_each_at_their_time(world: &World) {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let map = store
        .map_state(&MapStateDescriptor::<u32, Option<u32>>::new("s").ttl(ttl()))
        .unwrap();
    store.set_current_key(&1);
    for now in [0, 30, 60] {
        world.at(now);
        map.put(&(now as u32), &None).unwrap();
    }
    let cases: [(i64, &[u32]); 4] = [
        (99, &[0, 30, 60]),
        (100, &[30, 60]),
        (130, &[60]),
        (160, &[]),
    ];
    for (now, expected) in cases {
        world.at(now);
        assert_eq!(
            all!(worker, map.keys()),
            expected,
            "at {now}, {}",
            world.name()
        );
        assert_eq!(ask!(worker, map.is_empty()), expected.is_empty());
        for key in [0, 30, 60] {
            let there = expected.contains(&key);
            assert_eq!(ask!(worker, map.contains(&key)), there);
            assert_eq!(ask!(worker, map.get(&key)), there.then_some(None));
        }
    }
    assert_eq!(worker.rows("s").len(), 0);
}

fn every_way_of_reading_a_map_keeps_alive_what_it_returns(world: &World) {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let ttl = ttl().update(UpdateType::OnReadAndWrite);
    let map = store
        .map_state(&MapStateDescriptor::<u8, u32>::new("s").ttl(ttl))
        .unwrap();
    for way in 0..5 {
        store.set_current_key(&way);
        world.at(0);
        map.put(&1, &1).unwrap();
        map.put(&2, &2).unwrap();
        world.at(90);
        match way {
            0 => assert_eq!(ask!(worker, map.get(&1)), Some(1)),
            1 => assert!(ask!(worker, map.contains(&1))),
            2 => assert_eq!(all!(worker, map.entries()).len(), 2),
            3 => assert_eq!(all!(worker, map.keys()).len(), 2),
            _ => assert_eq!(all!(worker, map.values()).len(), 2),
        }
        world.at(150);
        let left: &[u8] = if way < 2 { &[1] } else { &[1, 2] };
        assert_eq!(
            all!(worker, map.keys()),
            left,
            "way {way}, {}",
            world.name()
        );
    }
}

/// Flink's `ReducingState` with a TTL overwrites what it should reduce.
fn adding_with_a_ttl_reduces(world: &World) {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let sum = store
        .reducing_state(
            &ReducingStateDescriptor::<u32, _>::new("sum", |a: u32, b: u32| a + b).ttl(ttl()),
        )
        .unwrap();
    let text = store
        .folding_state(
            &FoldingStateDescriptor::<u32, String, _>::new(
                "text",
                String::new,
                |acc: &mut String, n: u32| acc.push_str(&n.to_string()),
            )
            .ttl(ttl()),
        )
        .unwrap();
    store.set_current_key(&1);
    world.at(0);
    for (n, expected, folded) in [(1, 1, "1"), (2, 3, "12"), (3, 6, "123")] {
        ask!(worker, sum.add(n));
        ask!(worker, text.add(n));
        assert_eq!(ask!(worker, sum.get()), Some(expected));
        assert_eq!(ask!(worker, text.get()).as_deref(), Some(folded));
    }
    // What has expired does not count for what comes.
    world.at(100);
    ask!(worker, sum.add(4));
    ask!(worker, text.add(4));
    assert_eq!(ask!(worker, sum.get()), Some(4), "{}", world.name());
    assert_eq!(ask!(worker, text.get()).as_deref(), Some("4"));
}

fn expired_parts_are_not_merged(world: &World) {
    type Sum = ReducingState<u32, fn(u32, u32) -> u32, Postcard<u32>, u8>;
    let add: fn(u32, u32) -> u32 = |a, b| a + b;
    for (merge_at, expected) in [(230, 1100), (210, 1110)] {
        let worker = world.worker();
        let store = worker.store::<u32>("op");
        let descriptor = ReducingStateDescriptor::new("sum", add)
            .namespace::<u8>()
            .ttl(ttl());
        let sum: Sum = store.reducing_state(&descriptor).unwrap();
        store.set_current_key(&1);
        let add = |now: i64, namespace: u8, n: u32| {
            world.at(now);
            sum.set_namespace(&namespace);
            ask!(worker, sum.add(n));
        };
        // Expired when it is merged, alive or not, alive.
        add(0, 1, 1);
        add(120, 2, 10);
        add(150, 3, 100);
        add(150, 4, 1000);
        world.at(merge_at);
        ask!(worker, sum.merge_namespaces(&4, &[1, 2, 3]));
        sum.set_namespace(&4);
        assert_eq!(ask!(worker, sum.get()), Some(expected), "{}", world.name());
        // A merged sum carries the time of the merge.
        world.at(merge_at + 99);
        assert_eq!(ask!(worker, sum.get()), Some(expected));
        world.at(merge_at + 100);
        assert_eq!(ask!(worker, sum.get()), None);
    }
}

fn expired_elements_are_not_merged(world: &World) {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let descriptor = ListStateDescriptor::<u32>::new("l")
        .namespace::<u8>()
        .ttl(ttl());
    let list = store.list_state(&descriptor).unwrap();
    store.set_current_key(&1);
    let add = |now: i64, namespace: u8, n: u32| {
        world.at(now);
        list.set_namespace(&namespace);
        list.add(&n).unwrap();
    };
    for namespace in 1..=3 {
        add(0, namespace, u32::from(namespace));
    }
    add(120, 1, 11);
    add(120, 2, 12);
    add(150, 3, 13);
    world.at(210);
    ask!(worker, list.merge_namespaces(&3, &[1, 2]));
    list.set_namespace(&3);
    assert_eq!(all!(worker, list.get()), [13, 11, 12], "{}", world.name());
    // Each element keeps its time.
    world.at(220);
    assert_eq!(all!(worker, list.get()), [13], "{}", world.name());
    world.at(250);
    assert!(all!(worker, list.get()).is_empty());
}

/// Flink's says the opposite, or counts what has expired.
fn emptiness_is_right_with_a_ttl(world: &World) {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let map = store
        .map_state(&MapStateDescriptor::<u32, u8>::new("m").ttl(ttl()))
        .unwrap();
    store.set_current_key(&1);
    world.at(0);
    assert!(ask!(worker, map.is_empty()));
    for key in 0..300 {
        map.put(&key, &1).unwrap();
    }
    assert!(!ask!(worker, map.is_empty()));
    world.at(100);
    assert!(ask!(worker, map.is_empty()), "{}", world.name());
    map.put(&299, &1).unwrap();
    assert!(!ask!(worker, map.is_empty()), "{}", world.name());
}

fn iterations_over_expired_entries_have_nothing(world: &World) {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let map = store
        .map_state(&MapStateDescriptor::<u32, u32>::new("m").ttl(ttl()))
        .unwrap();
    let list = store
        .list_state(
            &ListStateDescriptor::<u32>::new("l")
                .ttl(ttl())
                .chunk_bytes_max(256),
        )
        .unwrap();
    store.set_current_key(&1);
    world.at(0);
    for key in 0..300 {
        map.put(&key, &1).unwrap();
        list.add(&key).unwrap();
    }
    world.at(50);
    map.put(&290, &7).unwrap();
    list.add(&290).unwrap();
    world.at(100);
    assert_eq!(all!(worker, map.entries()), [(290, 7)], "{}", world.name());
    assert_eq!(all!(worker, list.get()), [290], "{}", world.name());
    world.at(150);
    assert!(all!(worker, map.entries()).is_empty());
    assert!(all!(worker, list.get()).is_empty());
}

fn a_default_is_not_used_with_a_ttl(world: &World) {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let descriptor = ValueStateDescriptor::<u32>::new("v")
        .default_value(|| 42)
        .ttl(ttl());
    let value = store.value_state(&descriptor).unwrap();
    store.set_current_key(&1);
    world.at(0);
    assert_eq!(ask!(worker, value.get()), None);
    value.put(1).unwrap();
    world.at(100);
    assert_eq!(ask!(worker, value.get()), None);
}

fn event_time_is_the_watermark(world: &World) {
    let ttl = ttl().event_time();
    for kind in KINDS {
        world.at(1_000_000_000_000);
        let state = Kept::new(world, kind, &ttl);
        state.store.set_current_key(&2);
        // Before the first watermark nothing expires; it counts as written then.
        state.write(9);
        assert_eq!(state.read(), Some(9));
        state.store.set_current_key(&1);
        let watermark = |state: &Kept<'_>, now_ms| state.store.advance_event_time(now_ms).unwrap();
        watermark(&state, 0);
        state.write(1);
        watermark(&state, 99);
        assert_eq!(state.read(), Some(1), "{}", state.says());
        state.store.set_current_key(&2);
        assert_eq!(state.read(), Some(9), "{}", state.says());
        state.store.set_current_key(&1);
        watermark(&state, 100);
        assert_eq!(state.read(), None, "{}", state.says());
        state.write(2);
        // A watermark that goes back is none.
        watermark(&state, 50);
        let state = state.restored(&ttl);
        world.at(2_000_000_000_000);
        assert_eq!(state.read(), Some(2), "{}", state.says());
        watermark(&state, 199);
        assert_eq!(state.read(), Some(2), "{}", state.says());
        watermark(&state, 200);
        assert_eq!(state.read(), None, "{}", state.says());
        // What a record says of its time counts if it is later.
        state.store.set_record_time(Some(260));
        state.write(3);
        state.store.set_record_time(None);
        watermark(&state, 359);
        assert_eq!(state.read(), Some(3), "{}", state.says());
        watermark(&state, 360);
        assert_eq!(state.read(), None, "{}", state.says());
    }
}

/// Also after restores, each of which begins with a later watermark.
fn what_was_written_before_the_first_watermark_counts_from_it(world: &World) {
    let ttl = ttl().event_time();
    for kind in KINDS {
        let state = Kept::new(world, kind, &ttl);
        state.store.set_current_key(&1);
        state.write(9);
        // The checkpoint knows of no watermark.
        let state = state.restored(&ttl);
        state.store.set_current_key(&1);
        assert_eq!(state.read(), Some(9), "{}", state.says());
        state.store.advance_event_time(1000).unwrap();
        state.store.advance_event_time(1040).unwrap();
        let state = state.restored(&ttl);
        state.store.set_current_key(&1);
        state.store.advance_event_time(1099).unwrap();
        assert_eq!(state.read(), Some(9), "{}", state.says());
        state.store.advance_event_time(1100).unwrap();
        assert_eq!(state.read(), None, "{}", state.says());
    }
}

/// In a replay the times of records may lie far ahead of the watermark. One that did ended the elements of its list that were older by a TTL,
/// although they had not expired; the same for what was already in a file.
fn an_event_far_ahead_ends_no_other_element(world: &World) {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let list = ListStateDescriptor::<u32>::new("l").ttl(ttl().event_time());
    let list = store.list_state(&list).unwrap();
    let add = |key: u32, element: u32, time_ms| {
        store.set_current_key(&key);
        store.set_record_time(Some(time_ms));
        list.add(&element).unwrap();
        store.set_record_time(None);
    };
    let elements = |key: u32| {
        store.set_current_key(&key);
        all!(worker, list.get())
    };
    store.advance_event_time(0).unwrap();
    // The table begins another chunk here, and with it only this key.
    add(1, 0, 1000);
    add(2, 1, 0);
    add(3, 1, 0);
    worker.checkpoint(1);
    add(2, 2, 1000);
    add(2, 3, 5);
    add(4, 1, 0);
    add(4, 2, 1000);
    assert_eq!(elements(2), [1, 2, 3], "{}", world.name());
    assert_eq!(elements(4), [1, 2], "{}", world.name());
    worker.checkpoint(2);
    assert_eq!(elements(4), [1, 2], "{}", world.name());
    store.advance_event_time(99).unwrap();
    assert_eq!(elements(2), [1, 2, 3], "{}", world.name());
    store.advance_event_time(100).unwrap();
    assert_eq!(elements(2), [2, 3], "{}", world.name());
    assert_eq!(elements(4), [2], "{}", world.name());
    assert!(elements(3).is_empty(), "{}", world.name());
    store.advance_event_time(1100).unwrap();
    assert!(elements(2).is_empty() && elements(1).is_empty());
}

/// The row of moved elements was as old as the record that moved them, and took those that were later with it when it expired.
fn moved_elements_live_as_long_as_before(world: &World) {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let list = ListStateDescriptor::<u32>::new("l").namespace::<u8>();
    let list = store.list_state(&list.ttl(ttl().event_time())).unwrap();
    store.advance_event_time(0).unwrap();
    store.set_current_key(&1);
    list.set_namespace(&1);
    store.set_record_time(Some(1000));
    list.add(&7).unwrap();
    store.set_record_time(Some(10));
    list.add(&8).unwrap();
    ask!(worker, list.merge_namespaces(&2, &[1]));
    store.set_record_time(None);
    assert!(all!(worker, list.get()).is_empty());
    list.set_namespace(&2);
    assert_eq!(all!(worker, list.get()), [7, 8], "{}", world.name());
    worker.checkpoint(1);
    for watermark in [200, 1099] {
        store.advance_event_time(watermark).unwrap();
        assert_eq!(all!(worker, list.get()), [7], "{}", world.name());
    }
    store.advance_event_time(1100).unwrap();
    assert!(all!(worker, list.get()).is_empty());
}

/// Times of one kind mean nothing in the other: what is there counts from the restore, as if the TTL had been switched on.
fn a_ttl_may_count_in_another_time(world: &World) {
    const CLOCK_MS: i64 = 1_700_000_000_000;
    let (by_clock, by_event) = (ttl(), ttl().event_time());
    for kind in KINDS {
        world.at(CLOCK_MS);
        let state = Kept::new(world, kind, &by_event);
        state.store.advance_event_time(5000).unwrap();
        state.write(1);
        let state = state.restored(&by_clock).restored(&by_clock);
        assert_eq!(state.read(), Some(1), "{}", state.says());
        world.at(CLOCK_MS + 99);
        assert_eq!(state.read(), Some(1), "{}", state.says());
        // And back, to a watermark that has gone on meanwhile.
        let state = state.restored(&by_event).restored(&by_event);
        world.at(CLOCK_MS + 1000);
        assert_eq!(state.read(), Some(1), "{}", state.says());
        state.store.advance_event_time(9000).unwrap();
        let state = state.restored(&by_event);
        state.store.advance_event_time(9099).unwrap();
        assert_eq!(state.read(), Some(1), "{}", state.says());
        state.store.advance_event_time(9100).unwrap();
        assert_eq!(state.read(), None, "{}", state.says());
        state.write(2);
        let state = state.restored(&by_clock);
        world.at(CLOCK_MS + 1099);
        assert_eq!(state.read(), Some(2), "{}", state.says());
        world.at(CLOCK_MS + 1100);
        assert_eq!(state.read(), None, "{}", state.says());
    }
}

/// What a chunk was known to be as old as before the TTL was off does not count when it is on again.
fn a_ttl_that_is_back_counts_in_every_chunk(world: &World) {
    let all_elements: Vec<u32> = (0..300).collect();
    let mut saved = Saved::default();
    let plain = || ListStateDescriptor::<u32>::new("l").chunk_bytes_max(256);
    let (plain, with_ttl) = (plain(), plain().ttl(ttl()));
    for (id, (now_ms, descriptor, elements)) in [
        (0, &with_ttl, 0..200),
        (60, &plain, 200..300),
        (300, &with_ttl, 0..0),
    ]
    .into_iter()
    .enumerate()
    {
        world.at(now_ms);
        let worker = world.restore(&saved);
        let store = worker.store::<u32>("op");
        let list = store.list_state(descriptor).unwrap();
        store.set_current_key(&1);
        for element in elements {
            list.add(&element).unwrap();
        }
        if id == 2 {
            for now_ms in [300, 399] {
                world.at(now_ms);
                assert_eq!(all!(worker, list.get()), all_elements, "{}", world.name());
            }
            world.at(400);
            assert!(all!(worker, list.get()).is_empty(), "{}", world.name());
        }
        saved = worker.checkpoint(id as u64 + 1);
    }
}

/// A clock that is set back does not shorten lives.
fn time_that_goes_back_expires_nothing_early(world: &World) {
    for kind in KINDS {
        let state = Kept::new(world, kind, &ttl());
        state.at(100).write(1);
        assert_eq!(state.at(20).read(), Some(1), "{}", state.says());
        state.write(2);
        assert_eq!(state.at(199).read(), Some(2), "{}", state.says());
        assert_eq!(state.at(200).read(), None, "{}", state.says());
    }
}

fn enumeration_passes_over_what_has_expired(world: &World) {
    for kind in KINDS {
        let state = Kept::new(world, kind, &ttl().disable_cleanup_in_background());
        for key in 0..100 {
            state.at(if key < 40 { 0 } else { 50 });
            state.store.set_current_key(&key);
            state.write(key);
        }
        state.at(100);
        let (worker, store) = (&state.worker, &state.store);
        let mut keys = match &state.handle {
            Handle::Value(state) => all!(worker, store.keys(state, &())),
            Handle::List(state) => all!(worker, store.keys(state, &())),
            Handle::Map(state) => all!(worker, store.keys(state, &())),
            Handle::Reducing(state) => all!(worker, store.keys(state, &())),
            Handle::Aggregating(state) => all!(worker, store.keys(state, &())),
        };
        keys.sort_unstable();
        assert!(keys.into_iter().eq(40..100), "{}", state.says());
    }
}

/// On the heap because every access looks at a few entries, on `forst` because compactions drop them: Flink's asynchronous states are
/// never compacted away.
fn what_has_expired_leaves_the_state(world: &World) {
    for kind in KINDS {
        let state = Kept::new(world, kind, &ttl());
        let mut largest = 0;
        for round in 0..20 {
            state.at(i64::from(round) * 1000);
            for key in 0..300 {
                state.store.set_current_key(&(round * 1000 + key));
                state.write(key);
            }
            state.worker.checkpoint(u64::from(round) + 1);
            let bytes = state.worker.backend.borrow().stats().state_bytes;
            if round < 3 {
                largest = largest.max(bytes);
            } else if world.kind.get() == BackendKind::Hashmap {
                assert!(
                    bytes <= largest * 2,
                    "{bytes} after round {round}, {}",
                    state.says()
                );
            }
        }
        state.store.set_current_key(&5);
        assert_eq!(state.read(), None);
        let bytes = || state.worker.backend.borrow().stats().state_bytes;
        // Compactions run beside this and may have fallen behind; a tree in which nothing changes is looked at once a minute.
        let mut minutes = 0u32;
        while bytes() > largest * 3 && minutes < 200 {
            minutes += 1;
            state.at(20_000 + i64::from(minutes) * 61_000);
            state.worker.settled(u64::from(minutes) * 1_000);
        }
        let bytes = bytes();
        assert!(
            bytes <= largest * 3,
            "{bytes} bytes, at first {largest}, {}",
            state.says()
        );
    }
}

/// Neither compactions nor accesses remove what has expired if the state says so: when the clock goes back, it is all there. (Not so lists,
/// which do not look for chunks any more of which everything has expired once.)
fn what_has_expired_stays_where_nobody_cleans_up(world: &World) {
    for kind in [Kind::Value, Kind::Map, Kind::Reducing] {
        let state = Kept::new(world, kind, &ttl().disable_cleanup_in_background());
        let keys = |round: u32| round * 1000..round * 1000 + 30;
        for round in 0..10 {
            state.at(i64::from(round) * 1000);
            for key in keys(round) {
                state.store.set_current_key(&key);
                state.write(key);
            }
            // As many files as compactions wait for.
            state.worker.checkpoint(u64::from(round) + 1);
        }
        state.worker.settled(100);
        for round in 0..10 {
            state.at(i64::from(round) * 1000 + 99);
            for key in keys(round) {
                state.store.set_current_key(&key);
                assert_eq!(state.read(), Some(key), "{}", state.says());
            }
        }
    }
}

#[test]
fn configurations_that_mean_nothing_are_refused() {
    let world = World::hashmap(true);
    let store = world.worker().store::<u32>("op");
    for wrong in [
        TtlConfig::new(Duration::ZERO),
        ttl().cleanup_incrementally(0, false),
    ] {
        let descriptor = ValueStateDescriptor::<u32>::new("v").ttl(wrong);
        match store.value_state(&descriptor).map(drop) {
            Err(StateError::Usage(text)) => assert!(text.contains("positive"), "{text}"),
            other => panic!("{:?}", other.err()),
        }
    }
}

/// The heap is cleaned while it is used, with no read of what has expired.
#[test]
fn the_whole_heap_is_cleaned_in_the_end() {
    let world = World::hashmap(true);
    for every_record in [true, false] {
        let worker = world.worker();
        let store = worker.store::<u32>("op");
        let ttl = ttl().cleanup_incrementally(5, every_record);
        let value = store
            .value_state(&ValueStateDescriptor::<u32>::new("s").ttl(ttl))
            .unwrap();
        world.at(0);
        for key in 0..600 {
            store.set_current_key(&key);
            value.put(key).unwrap();
        }
        world.at(120);
        for _ in 0..600 {
            store.set_current_key(&10_000);
        }
        let left = worker.rows("s").len();
        assert_eq!(left, if every_record { 0 } else { 600 });
        for _ in 0..240 {
            worker.run(value.get()).unwrap();
        }
        assert_eq!(worker.rows("s").len(), 0);
    }
}

/// Flink's `testIncrementalCleanup`: with a snapshot under way, after a restore, and with keys that are cleared meanwhile.
#[test]
fn the_heap_is_cleaned_while_it_is_used() {
    for (case, kind) in [Case::HASHMAP_FILES_ASYNC, Case::HASHMAP_MEMORY_SYNC]
        .into_iter()
        .flat_map(|case| KINDS.map(|kind| (case, kind)))
    {
        let world = World::of(case, true);
        let ttl = ttl().cleanup_incrementally(5, true);
        let state = Kept::new(&world, kind, &ttl);
        let write = |state: &Kept<'_>, keys: std::ops::Range<u32>| {
            for key in keys {
                state.store.set_current_key(&key);
                state.write(1);
            }
        };
        write(state.at(0), 0..600);
        write(state.at(50), 0..100);
        state.worker.begin(1);
        write(&state, 100..200);
        // Nothing is touched but other keys.
        write(state.at(120), 600..1200);
        assert_eq!(state.stored(), 200 + 600, "{}", state.says());
        let saved = state.worker.finish(1);
        while state.worker.backend.borrow_mut().poll().unwrap().is_some() {}
        assert_eq!(state.stored(), 200 + 600, "{}", state.says());

        state.at(50);
        let state = open(&world, kind, &saved, Some(&ttl));
        assert_eq!(state.stored(), 600, "{}", state.says());
        state.at(120);
        for key in 50..125 {
            state.store.set_current_key(&key);
            state.clear();
        }
        write(&state, 600..1200);
        // What was refreshed behind the barrier is not in the snapshot.
        assert_eq!(state.stored(), 50 + 600, "{}", state.says());
        write(state.at(170), 1200..1800);
        assert_eq!(state.stored(), 600 + 600, "{}", state.says());
    }
}

/// A full snapshot that is told to leaves out what has expired, and the live state stays as it is.
#[test]
fn a_full_snapshot_leaves_out_what_has_expired() {
    for world in [
        World::hashmap(true),
        #[cfg(feature = "rocksdb")]
        World::of(Case::ROCKSDB_FULL, true),
    ] {
        for kind in KINDS {
            for full in [false, true] {
                let ttl = ttl().disable_cleanup_in_background();
                let ttl = if full {
                    ttl.cleanup_full_snapshot()
                } else {
                    ttl
                };
                let state = Kept::new(&world, kind, &ttl);
                state.at(0).write(1);
                state.store.set_current_key(&2);
                state.at(50).write(2);
                state.at(120);
                let saved = state.worker.checkpoint(1);
                // The clock goes back, so that only what was left out is missing.
                state.at(60);
                assert_eq!(state.stored(), 2);
                let state = open(&world, kind, &saved, Some(&ttl));
                assert_eq!(state.read(), (!full).then_some(1), "{}", state.says());
                state.store.set_current_key(&2);
                assert_eq!(state.read(), Some(2));
            }
        }
    }
}

/// The same by event time, which is a table's own.
#[test]
fn a_full_snapshot_leaves_out_what_has_expired_by_event_time() {
    let worlds = vec![
        World::hashmap(true),
        #[cfg(feature = "rocksdb")]
        World::of(Case::ROCKSDB_FULL, true),
    ];
    for world in worlds {
        let ttl = ttl().event_time().disable_cleanup_in_background();
        let ttl = ttl.cleanup_full_snapshot();
        let state = Kept::new(&world, Kind::Value, &ttl);
        let rows = |id| -> u64 {
            let saved = state.worker.checkpoint(id);
            let files = saved.keyed.iter().flat_map(|(_, part)| &part.files.files);
            files.map(|file| file.entries).sum()
        };
        state.store.advance_event_time(0).unwrap();
        state.write(1);
        state.store.advance_event_time(99).unwrap();
        assert_eq!(rows(1), 1);
        state.store.advance_event_time(100).unwrap();
        assert_eq!(rows(2), 0);
    }
}
