//! Reading a checkpoint without its program: what comes out is what the program would read.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aquifer_state::checkpoint::{CheckpointKind, CheckpointMetadata, OperatorSnapshot, Origin};
use aquifer_state::dynamic::DynamicValue;
use aquifer_state::key_group::{KeyHash, assign_to_key_group};
use aquifer_state::operator::OperatorStateStore;
use aquifer_state::reader::{StateReader, StateRow, TableKind};
use aquifer_state::serializer::{Nullable, Plain, StateKind, Tagged};
use aquifer_state::{
    AggregateFunction, AggregatingStateDescriptor, KeyedStateStore, ListStateDescriptor,
    MapStateDescriptor, ReducingStateDescriptor, StateError, StateVisibility, TtlConfig,
    ValueStateDescriptor,
};
use aquifer_store::{BlockCache, Environment, KeyGroupRange};
use aquifer_testkit::Rng;
use serde::{Deserialize, Serialize};

use crate::cases::{ask, conformance};
use crate::world::{MAX_PARALLELISM, Saved, Worker, World, checkpoint_all};

conformance!(
    every_kind_of_state_is_read,
    a_key_is_found_without_the_others,
    parts_are_the_whole,
    pieces_are_as_small_as_asked,
    lists_of_many_chunks_are_one_list,
    values_of_every_serializer_are_understood,
    expired_rows_are_shown_only_on_demand,
    expired_elements_are_passed_over,
    event_time_decides_where_it_counts,
    namespaces_are_read,
    timers_are_rows,
    tables_of_bytes_are_read_as_bytes,
    random_states_are_read_as_they_are,
    a_checkpoint_of_nothing_has_nothing,
    a_missing_file_is_an_error_that_names_it,
);

/// A reader of a checkpoint, by the clock of the world.
fn reader(world: &World, saved: &Saved, show_expired: bool) -> StateReader {
    reader_with(world, saved, vec![], show_expired)
}

fn reader_with(
    world: &World,
    saved: &Saved,
    operators: Vec<OperatorSnapshot>,
    show_expired: bool,
) -> StateReader {
    let metadata = CheckpointMetadata {
        checkpoint_id: 1,
        job_name: "job".into(),
        attempt: 1,
        created_unix_ms: 0,
        parallelism: 1,
        max_parallelism: MAX_PARALLELISM,
        plan: String::new(),
        finished: false,
        kind: CheckpointKind::Checkpoint,
        backend: world.kind.get(),
        tables: saved.tables.clone(),
        keyed: saved.keyed.clone(),
        operators,
        origin: Origin::default(),
    };
    let metadata = CheckpointMetadata::decode(&metadata.encode()).unwrap();
    let mut environment = Environment::new(
        Arc::new(world.objects.clone()),
        "reader".into(),
        world.runtime.handle().clone(),
        BlockCache::new(1 << 20),
        "reader",
    );
    environment.temporary_directories = world.rocksdb.local_directories.clone();
    let time_ms = Arc::clone(&world.time_ms);
    environment.clock = Arc::new(move || time_ms.load(Ordering::Relaxed));
    StateReader::new(metadata, environment, show_expired)
}

fn rows_of(
    reader: &StateReader,
    state: &str,
    part: KeyGroupRange,
    key: Option<&DynamicValue>,
) -> Vec<StateRow> {
    let table = reader.table(None, state).unwrap();
    let mut rows = reader.rows(table, part, key).unwrap();
    let mut all = Vec::new();
    while let Some(piece) = rows.next_piece(7).unwrap() {
        assert!((1..=7).contains(&piece.len()));
        all.extend(piece);
    }
    assert_eq!(rows.next_piece(7).unwrap(), None, "the end is the end");
    all
}

fn all(reader: &StateReader, state: &str) -> Vec<StateRow> {
    rows_of(reader, state, KeyGroupRange::ALL, None)
}

/// `key/user key/index=value` of each row, sorted.
fn shown(rows: &[StateRow]) -> Vec<String> {
    let mut shown: Vec<String> = rows
        .iter()
        .map(|row| {
            let mut text = row.key.to_string();
            for part in [&row.namespace, &row.user_key].into_iter().flatten() {
                text.push_str(&format!("/{part}"));
            }
            if let Some(index) = row.index {
                text.push_str(&format!("/{index}"));
            }
            format!("{text}={}", row.value)
        })
        .collect();
    shown.sort_unstable();
    shown
}

fn group_of<K: KeyHash>(key: &K) -> u16 {
    assign_to_key_group(key.hash_code(), MAX_PARALLELISM)
}

#[derive(Clone)]
struct Count;

impl AggregateFunction for Count {
    type In = i64;
    type Acc = (u64, i64);
    type Out = i64;

    fn create(&self) -> (u64, i64) {
        (0, 0)
    }
    fn add(&self, value: i64, acc: &mut (u64, i64)) {
        *acc = (acc.0 + 1, acc.1 + value);
    }
    fn result(&self, acc: &(u64, i64)) -> i64 {
        acc.1
    }
    fn merge(&self, a: (u64, i64), b: (u64, i64)) -> (u64, i64) {
        (a.0 + b.0, a.1 + b.1)
    }
}

fn every_kind_of_state_is_read(world: &World) {
    let worker = world.worker();
    let store = worker.store::<String>("op");
    let value = store
        .value_state(&ValueStateDescriptor::<(i64, String)>::new("value"))
        .unwrap();
    let list = store
        .list_state(&ListStateDescriptor::<u32>::new("list"))
        .unwrap();
    let map = store
        .map_state(&MapStateDescriptor::<i64, Option<f64>>::new("map"))
        .unwrap();
    let reducing = store
        .reducing_state(&ReducingStateDescriptor::<i64, _>::new(
            "reducing",
            |a: i64, b: i64| a + b,
        ))
        .unwrap();
    let aggregating = store
        .aggregating_state(&AggregatingStateDescriptor::<Count>::new(
            "aggregating",
            Count,
        ))
        .unwrap();
    for (key, n) in [("ada", 1i64), ("bob", 2), ("ü\0", 3)] {
        store.set_current_key(&key.to_owned());
        value.put((n, key.to_uppercase())).unwrap();
        for element in 0..n {
            list.add(&(element as u32 * 100)).unwrap();
        }
        map.put(&-n, &Some(0.5)).unwrap();
        map.put(&n, &None).unwrap();
        for _ in 0..2 {
            ask!(worker, reducing.add(n * 10));
            ask!(worker, aggregating.add(n * 10));
        }
    }
    let saved = worker.checkpoint(1);
    let elements = OperatorSnapshot {
        operator: "source".into(),
        elements: vec![vec![1, 2], vec![]],
        ..OperatorSnapshot::default()
    };
    let reader = reader_with(world, &saved, vec![elements], false);
    let kinds: Vec<(String, &str)> = reader
        .tables()
        .iter()
        .map(|table| (table.full_name(), table.kind.word()))
        .collect();
    let expected = [
        ("op/aggregating", "aggregating"),
        ("op/list", "list"),
        ("op/map", "map"),
        ("op/reducing", "reducing"),
        ("op/value", "value"),
        ("source/_elements", "operator-list"),
    ];
    assert_eq!(kinds, expected.map(|(name, kind)| (name.to_owned(), kind)));
    let types = |state: &str| {
        let table = reader.table(Some("op"), state).unwrap();
        (table.key.to_string(), table.value.to_string())
    };
    let of = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    assert_eq!(types("value"), of("String", "(i64, String)"));
    assert_eq!(types("aggregating"), of("String", "(u64, i64)"));
    assert_eq!(types("map"), of("String", "Option<f64>"));
    let read = |state: &str| shown(&all(&reader, state));
    assert_eq!(
        read("value"),
        [
            r#""ada"=[1,"ADA"]"#,
            r#""bob"=[2,"BOB"]"#,
            r#""ü\u0000"=[3,"Ü\u0000"]"#
        ]
    );
    assert_eq!(
        read("list"),
        [
            r#""ada"/0=0"#,
            r#""bob"/0=0"#,
            r#""bob"/1=100"#,
            r#""ü\u0000"/0=0"#,
            r#""ü\u0000"/1=100"#,
            r#""ü\u0000"/2=200"#
        ]
    );
    assert_eq!(
        read("map"),
        [
            r#""ada"/-1=0.5"#,
            r#""ada"/1=null"#,
            r#""bob"/-2=0.5"#,
            r#""bob"/2=null"#,
            r#""ü\u0000"/-3=0.5"#,
            r#""ü\u0000"/3=null"#
        ]
    );
    let summed = |value: fn(i64) -> String| {
        [("\"ada\"", 1), ("\"bob\"", 2), (r#""ü\u0000""#, 3)]
            .map(|(key, n)| format!("{key}={}", value(n)))
    };
    assert_eq!(read("reducing"), summed(|n| (n * 20).to_string()));
    assert_eq!(read("aggregating"), summed(|n| format!("[2,{}]", n * 20)));
    assert_eq!(read("_elements"), [r#"null/0="0x0102""#, r#"null/1="0x""#]);
    for row in all(&reader, "map") {
        let DynamicValue::String(key) = &row.key else {
            panic!("{row:?}")
        };
        assert_eq!(row.key_group, Some(group_of(key)));
        assert_eq!((row.written_ms, row.expires_ms), (None, None));
    }
    // Counted as they are shown.
    for (state, rows, keys) in [
        ("value", 3, 3),
        ("list", 6, 3),
        ("map", 6, 3),
        ("_elements", 2, 1),
    ] {
        let table = reader.table(None, state).unwrap();
        let counts = reader.count(table, KeyGroupRange::ALL, &mut |_| true);
        let counts = counts.unwrap();
        assert_eq!((counts.rows, counts.keys), (rows, keys), "{state}");
        if table.kind.is_keyed() {
            assert_eq!(counts.groups.values().sum::<u64>(), rows, "{state}");
        }
    }
    // What files say is near to that.
    let estimates = reader.estimates().unwrap();
    for (table, estimate) in reader.tables().iter().zip(estimates) {
        if table.kind == TableKind::Keyed(StateKind::Value) {
            let rows = estimate.map(|known| known.rows);
            assert!(rows.is_none_or(|rows| rows >= 3), "{rows:?}");
        }
    }
}

fn a_key_is_found_without_the_others(world: &World) {
    let worker = world.worker();
    let store = worker.store::<(String, u32)>("op");
    let map = store
        .map_state(&MapStateDescriptor::<u32, u32>::new("map"))
        .unwrap();
    let list = store
        .list_state(&ListStateDescriptor::<u32>::new("list"))
        .unwrap();
    for n in 0..200u32 {
        store.set_current_key(&(format!("k{}", n / 10), n % 10));
        for entry in 0..20 {
            map.put(&entry, &(n + entry)).unwrap();
        }
        list.add_all(&[n, n + 1]).unwrap();
    }
    let reader = reader(world, &worker.checkpoint(1), false);
    let table = reader.table(None, "map").unwrap();
    let key = table.key.parse_text("[\"k7\", 3]").unwrap();
    let rows = rows_of(&reader, "map", KeyGroupRange::ALL, Some(&key));
    assert_eq!(rows.len(), 20);
    for (entry, row) in (0u64..).zip(&rows) {
        assert_eq!(row.key, key);
        assert_eq!(row.user_key, Some(DynamicValue::UInt(entry)));
        assert_eq!(row.value, DynamicValue::UInt(73 + entry));
    }
    let elements = rows_of(&reader, "list", KeyGroupRange::ALL, Some(&key));
    let elements: Vec<_> = elements
        .into_iter()
        .map(|row| (row.index, row.value))
        .collect();
    let uint = DynamicValue::UInt;
    assert_eq!(elements, [(Some(0), uint(73)), (Some(1), uint(74))]);
    // In its own key group it is, in others it is not.
    let group = group_of(&("k7".to_owned(), 3u32));
    for other in 0..MAX_PARALLELISM {
        let part = KeyGroupRange {
            start: other,
            end: other,
        };
        let rows = rows_of(&reader, "map", part, Some(&key));
        assert_eq!(rows.len(), if other == group { 20 } else { 0 });
    }
    // A key that begins like others, and one that is not there.
    let absent = table.key.parse_text("[\"k\", 3]").unwrap();
    assert!(rows_of(&reader, "map", KeyGroupRange::ALL, Some(&absent)).is_empty());
    let wrong = reader.rows(table, KeyGroupRange::ALL, Some(&DynamicValue::Null));
    assert!(matches!(wrong.err(), Some(StateError::Usage(_))));
}

fn parts_are_the_whole(world: &World) {
    let workers = world.workers(3, &Saved::default());
    for worker in &workers {
        let store = worker.store::<u64>("op");
        let value = store
            .value_state(&ValueStateDescriptor::<u64>::new("v"))
            .unwrap();
        for key in (0..300u64).filter(|key| worker.owns(key)) {
            store.set_current_key(&key);
            value.put(key * 2).unwrap();
        }
    }
    let saved = checkpoint_all(&workers, 1);
    let reader = reader(world, &saved, false);
    let whole = all(&reader, "v");
    assert_eq!(whole.len(), 300);
    let groups: Vec<_> = whole.iter().map(|row| row.key_group).collect();
    assert!(groups.is_sorted(), "in the order of key groups");
    for parts_max in [1, 2, 5, 16, 1000] {
        let parts = reader.parts(parts_max);
        assert!(parts.len() <= usize::from(parts_max.min(MAX_PARALLELISM)));
        let rows: Vec<StateRow> = parts
            .iter()
            .flat_map(|part| rows_of(&reader, "v", *part, None))
            .collect();
        assert_eq!(rows, whole, "{parts:?}");
    }
    // The same after a restore with other workers, whose files are clipped.
    let restored = world.workers(2, &saved);
    for worker in &restored {
        let store = worker.store::<u64>("op");
        store
            .value_state(&ValueStateDescriptor::<u64>::new("v"))
            .unwrap();
    }
    let again = checkpoint_all(&restored, 2);
    assert_eq!(all(&self::reader(world, &again, false), "v"), whole);
}

fn pieces_are_as_small_as_asked(world: &World) {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let value = store
        .value_state(&ValueStateDescriptor::<String>::new("v"))
        .unwrap();
    // Large ones among small ones: 64 KiB each.
    for key in 0..400u32 {
        store.set_current_key(&key);
        let len = if key % 4 == 0 { 64 << 10 } else { 3 };
        value.put("x".repeat(len)).unwrap();
    }
    let reader = reader(world, &worker.checkpoint(1), false);
    let table = reader.table(None, "v").unwrap();
    let mut rows = reader.rows(table, KeyGroupRange::ALL, None).unwrap();
    let (mut seen, mut held_max) = (0, 0);
    while let Some(piece) = rows.next_piece(usize::MAX).unwrap() {
        let bytes: usize = piece.iter().map(|row| row.value.to_string().len()).sum();
        assert!(bytes <= (1 << 20) + (65 << 10), "a piece of {bytes} bytes");
        seen += piece.len();
        held_max = held_max.max(rows.held_bytes());
    }
    assert_eq!(seen, 400);
    assert!(held_max <= 8 << 20, "{held_max} of 6.5 MB were held");
}

fn lists_of_many_chunks_are_one_list(world: &World) {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let list = store
        .list_state(&ListStateDescriptor::<(u32, String)>::new("l"))
        .unwrap();
    // A chunk ends at 1 MiB.
    let filling = "y".repeat(1000);
    for n in 0..3000u32 {
        store.set_current_key(&(n % 2));
        list.add(&(n, filling.clone())).unwrap();
    }
    store.set_current_key(&7);
    list.add(&(7, String::new())).unwrap();
    let reader = reader(world, &worker.checkpoint(1), false);
    let rows = all(&reader, "l");
    assert_eq!(rows.len(), 3001);
    for key in [0u64, 1] {
        let of_key = rows.iter().filter(|row| row.key == DynamicValue::UInt(key));
        for (index, row) in (0u64..).zip(of_key) {
            assert_eq!(row.index, Some(index));
            let DynamicValue::List(parts) = &row.value else {
                panic!("{row:?}")
            };
            assert_eq!(parts[0], DynamicValue::UInt(index * 2 + key));
        }
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Account {
    owner: String,
    cents: i64,
    limit: Limit,
}

#[derive(Clone, Serialize, Deserialize)]
enum Limit {
    None,
    Daily { cents: u32 },
}

mod later {
    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    pub struct Account {
        #[serde(default)]
        pub blocked: Option<bool>,
        pub cents: i64,
        pub owner: String,
    }
}

fn values_of_every_serializer_are_understood(world: &World) {
    let account = |n: i64| Account {
        owner: format!("o{n}"),
        cents: n,
        limit: match n {
            0 => Limit::None,
            _ => Limit::Daily { cents: 9 },
        },
    };
    let worker = world.worker();
    let store = worker.store::<u8>("op");
    let positional = ValueStateDescriptor::<Account>::new("positional");
    let tagged = ListStateDescriptor::<Account, Tagged<Account>>::new("tagged");
    let plain = MapStateDescriptor::<u8, Option<i64>, Nullable<Plain<i64>>>::new("plain");
    {
        let positional = store.value_state(&positional).unwrap();
        let tagged = store.list_state(&tagged).unwrap();
        let plain = store.map_state(&plain).unwrap();
        store.set_current_key(&1);
        positional.put(account(0)).unwrap();
        tagged.add(&account(0)).unwrap();
        tagged.add(&account(-7)).unwrap();
        plain.put(&1, &None).unwrap();
        plain.put(&2, &Some(i64::MIN)).unwrap();
    }
    let saved = worker.checkpoint(1);
    let first = reader(world, &saved, false);
    assert_eq!(
        shown(&all(&first, "positional")),
        [r#"1={"owner":"o0","cents":0,"limit":"None"}"#]
    );
    assert_eq!(
        shown(&all(&first, "tagged")),
        [
            r#"1/0={"owner":"o0","cents":0,"limit":"None"}"#,
            r#"1/1={"owner":"o-7","cents":-7,"limit":{"Daily":{"cents":9}}}"#
        ]
    );
    assert_eq!(
        shown(&all(&first, "plain")),
        ["1/1=null", "1/2=-9223372036854775808"]
    );
    let table = first.table(None, "tagged").unwrap();
    assert_eq!(
        table.value.to_string(),
        "Account { owner: String, cents: i64, limit: Limit { None | Daily({ cents: u32 }) } }"
    );
    // The type changes, old elements stay, and both are read as what the type says last.
    let worker = world.restore(&saved);
    let store = worker.store::<u8>("op");
    let tagged = ListStateDescriptor::<later::Account, Tagged<later::Account>>::new("tagged");
    let tagged = store.list_state(&tagged).unwrap();
    store.set_current_key(&1);
    let new = later::Account {
        blocked: Some(true),
        cents: 5,
        owner: "new".into(),
    };
    tagged.add(&new).unwrap();
    let second = reader(world, &worker.checkpoint(2), false);
    let rows = all(&second, "tagged");
    assert_eq!(rows.len(), 3);
    for (row, (owner, cents)) in rows.iter().zip([("o0", 0), ("o-7", -7), ("new", 5)]) {
        assert_eq!(
            row.value.field("owner").unwrap().to_string(),
            format!("\"{owner}\"")
        );
        assert_eq!(row.value.field("cents"), Some(&DynamicValue::Int(cents)));
    }
    assert_eq!(
        rows[2].value.field("blocked"),
        Some(&DynamicValue::Bool(true))
    );
    assert_eq!(rows[0].value.field("blocked"), Some(&DynamicValue::Null));
}

fn ttl() -> TtlConfig {
    TtlConfig::new(Duration::from_millis(100))
        .visibility(StateVisibility::ReturnExpiredIfNotCleanedUp)
        .disable_cleanup_in_background()
}

fn expired_rows_are_shown_only_on_demand(world: &World) {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let value = store
        .value_state(&ValueStateDescriptor::<u32>::new("v").ttl(ttl()))
        .unwrap();
    for key in 0..10u32 {
        world.at(i64::from(key) * 20);
        store.set_current_key(&key);
        value.put(key).unwrap();
    }
    world.at(0);
    let saved = worker.checkpoint(1);
    world.at(200);
    // Written at 0, 20, …, 180: what was written at 100 or before has expired at 200.
    let alive = reader(world, &saved, false);
    let rows = all(&alive, "v");
    assert_eq!(shown(&rows), ["6=6", "7=7", "8=8", "9=9"]);
    for row in &rows {
        let DynamicValue::UInt(n) = row.value else {
            panic!("{row:?}")
        };
        let written = n as i64 * 20;
        assert_eq!(
            (row.written_ms, row.expires_ms),
            (Some(written), Some(written + 100))
        );
    }
    let table = alive.table(None, "v").unwrap();
    assert_eq!(table.ttl_ms, Some(100));
    let counts = alive
        .count(table, KeyGroupRange::ALL, &mut |_| true)
        .unwrap();
    assert_eq!((counts.rows, counts.keys), (4, 4));
    let all_of_it = reader(world, &saved, true);
    assert_eq!(all(&all_of_it, "v").len(), 10);
    // Nothing was written by reading.
    assert_eq!(all(&reader(world, &saved, true), "v").len(), 10);
}

fn expired_elements_are_passed_over(world: &World) {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let list = store
        .list_state(&ListStateDescriptor::<u32>::new("l").ttl(ttl()))
        .unwrap();
    let map = store
        .map_state(&MapStateDescriptor::<u32, u32>::new("m").ttl(ttl()))
        .unwrap();
    for time in [0u32, 50, 90] {
        world.at(time.into());
        store.set_current_key(&1);
        list.add(&time).unwrap();
        map.put(&time, &time).unwrap();
    }
    world.at(0);
    let saved = worker.checkpoint(1);
    world.at(150);
    let reader = reader(world, &saved, false);
    assert_eq!(shown(&all(&reader, "l")), ["1/0=90"]);
    assert_eq!(shown(&all(&reader, "m")), ["1/90=90"]);
    let element = &all(&reader, "l")[0];
    assert_eq!(
        (element.written_ms, element.expires_ms),
        (Some(90), Some(190))
    );
    let everything = self::reader(world, &saved, true);
    assert_eq!(shown(&all(&everything, "l")), ["1/0=0", "1/1=50", "1/2=90"]);
}

fn event_time_decides_where_it_counts(world: &World) {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let value = store
        .value_state(&ValueStateDescriptor::<u32>::new("v").ttl(ttl().event_time()))
        .unwrap();
    store.advance_event_time(1000).unwrap();
    store.set_current_key(&1);
    value.put(1).unwrap();
    store.advance_event_time(1050).unwrap();
    store.set_current_key(&2);
    value.put(2).unwrap();
    store.advance_event_time(1100).unwrap();
    let saved = worker.checkpoint(1);
    // Whatever the clock says.
    world.at(1 << 50);
    let rows = all(&reader(world, &saved, false), "v");
    assert_eq!(shown(&rows), ["2=2"]);
    assert_eq!(rows[0].expires_ms, Some(1150));
    assert_eq!(all(&reader(world, &saved, true), "v").len(), 2);
}

fn namespaces_are_read(world: &World) {
    let worker = world.worker();
    let store = worker.store::<String>("op");
    let sums = store
        .reducing_state(
            &ReducingStateDescriptor::<i64, _>::new("sums", |a: i64, b: i64| a + b)
                .namespace::<(i64, String)>(),
        )
        .unwrap();
    let map = store
        .map_state(&MapStateDescriptor::<u8, u8>::new("map").namespace::<u16>())
        .unwrap();
    for key in ["a", "b"] {
        store.set_current_key(&key.to_owned());
        for window in [-1i64, 5] {
            sums.set_namespace(&(window, "w".into()));
            ask!(worker, sums.add(window));
        }
        map.set_namespace(&300);
        map.put(&1, &2).unwrap();
    }
    let reader = reader(world, &worker.checkpoint(1), false);
    let table = reader.table(None, "sums").unwrap();
    assert_eq!(
        table.namespace.as_ref().unwrap().to_string(),
        "(i64, String)"
    );
    assert_eq!(
        shown(&all(&reader, "sums")),
        [
            r#""a"/[-1,"w"]=-1"#,
            r#""a"/[5,"w"]=5"#,
            r#""b"/[-1,"w"]=-1"#,
            r#""b"/[5,"w"]=5"#
        ]
    );
    assert_eq!(
        shown(&all(&reader, "map")),
        [r#""a"/300/1=2"#, r#""b"/300/1=2"#]
    );
    let counts = reader
        .count(table, KeyGroupRange::ALL, &mut |_| true)
        .unwrap();
    assert_eq!((counts.rows, counts.keys), (4, 4));
}

fn timers_are_rows(world: &World) {
    let worker = world.worker();
    let store = worker.store::<(String, u32)>("op");
    let timers = store.timer_service("t").unwrap();
    for (key, time) in [("a", 5i64), ("b", -5), ("a", 70)] {
        store.set_current_key(&(key.to_owned(), 1));
        let (group, key) = store
            .current_key()
            .with(|group, key| (group, key.to_vec()))
            .unwrap();
        timers.register(time, group, &key, b"").unwrap();
    }
    let reader = reader(world, &worker.checkpoint(1), false);
    let state = "_timer_state/event_t";
    let table = reader.table(None, state).unwrap();
    assert_eq!(table.kind, TableKind::Keyed(StateKind::Timers));
    assert_eq!(
        shown(&all(&reader, state)),
        [r#"["a",1]=5"#, r#"["a",1]=70"#, r#"["b",1]=-5"#]
    );
    let key = table.key.parse_text("[\"a\",1]").unwrap();
    let of_a = rows_of(&reader, state, KeyGroupRange::ALL, Some(&key));
    assert_eq!(shown(&of_a), [r#"["a",1]=5"#, r#"["a",1]=70"#]);
}

/// Rows that only their user understands, as SQL's are.
fn tables_of_bytes_are_read_as_bytes(world: &World) {
    let worker = world.worker();
    let description = aquifer_state::StateDescription::raw(
        "3-join",
        "left",
        aquifer_store::TableOptions::default(),
        "join-1 keys=BIGINT",
    );
    let table = worker.backend.borrow_mut().register(&description).unwrap();
    for group in [2u16, 9] {
        for n in 0..3u8 {
            let mut backend = worker.backend.borrow_mut();
            backend.put(table, group, &[n, 0], &[0xaa, n]).unwrap();
        }
    }
    let reader = reader(world, &worker.checkpoint(1), false);
    let rows = all(&reader, "left");
    assert_eq!(rows.len(), 6);
    assert_eq!(rows[0].key.to_string(), "\"0x0000\"");
    assert_eq!(rows[5].value.to_string(), "\"0xaa02\"");
    let found = reader.table(None, "left").unwrap();
    assert_eq!(found.value.to_string(), "bytes of join-1 keys=BIGINT");
    // A key is looked for everywhere, and is all of a row's key.
    let key = found.key.parse_text("0x0100").unwrap();
    let of_key = rows_of(&reader, "left", KeyGroupRange::ALL, Some(&key));
    let groups: Vec<_> = of_key.iter().map(|row| row.key_group).collect();
    assert_eq!(groups, [Some(2), Some(9)]);
    let key = found.key.parse_text("0x01").unwrap();
    assert!(rows_of(&reader, "left", KeyGroupRange::ALL, Some(&key)).is_empty());
}

/// State that is not keyed lies in the metadata, so one backend is as good as another.
#[test]
fn operator_state_is_read() {
    let world = World::hashmap(false);
    let report = |worker: u64| {
        let store = OperatorStateStore::empty("5-op");
        let split = ListStateDescriptor::<(String, u64)>::new("split");
        let union = ListStateDescriptor::<i64>::new("union");
        let rules = MapStateDescriptor::<(String, i32), Option<Limit>>::new("rules");
        let split = store.list_state(&split).unwrap();
        split.update([
            (format!("part-{worker}"), u64::MAX - worker),
            ("x".into(), 0),
        ]);
        let union = store.union_list_state(&union).unwrap();
        union.update([worker as i64]);
        let rules = store.broadcast_state(&rules).unwrap();
        rules.put(("a".into(), -1), None).unwrap();
        rules
            .put(("b".into(), 7), Some(Limit::Daily { cents: 5 }))
            .unwrap();
        let mut snapshot = store.freeze().unwrap();
        snapshot.raw = vec![bytes(&[worker as u8, 1]), bytes(&[])];
        snapshot.raw_keyed = vec![(worker as u16, bytes(&[9]))];
        snapshot
    };
    let operator = OperatorSnapshot {
        operator: "5-op".into(),
        committables: vec![vec![3]],
        states: vec![report(0), report(1)],
        ..OperatorSnapshot::default()
    };
    let reader = reader_with(&world, &Saved::default(), vec![operator], false);
    let tables: Vec<String> = reader
        .tables()
        .iter()
        .map(|table| {
            format!(
                "{} {} {} {}",
                table.state,
                table.kind.word(),
                table.key,
                table.value
            )
        })
        .collect();
    assert_eq!(
        tables,
        [
            "_committables committables () bytes of the sink's own",
            "_raw raw-operator () bytes of the operator's raw stream",
            "_raw_keyed raw-keyed () bytes of the operator's raw keyed stream",
            "rules broadcast (String, i32) Option<Limit { None | Daily({ cents: u32 }) }>",
            "split operator-list () (String, u64)",
            "union operator-union () i64",
        ]
    );
    let read = |state: &str| shown(&all(&reader, state));
    assert_eq!(
        read("rules"),
        [r#"["a",-1]=null"#, r#"["b",7]={"Daily":{"cents":5}}"#],
        "once, although every worker has it"
    );
    assert_eq!(
        read("split"),
        [
            r#"null/0=["part-0",18446744073709551615]"#,
            r#"null/1=["x",0]"#,
            r#"null/2=["part-1",18446744073709551614]"#,
            r#"null/3=["x",0]"#
        ]
    );
    assert_eq!(read("union"), ["null/0=0", "null/1=1"]);
    assert_eq!(read("_committables"), [r#"null/0="0x03""#]);
    let raw = [
        r#"null/0="0x0001""#,
        r#"null/1="0x""#,
        r#"null/2="0x0101""#,
        r#"null/3="0x""#,
    ];
    assert_eq!(read("_raw"), raw);
    let groups: Vec<_> = all(&reader, "_raw_keyed")
        .iter()
        .map(|row| row.key_group)
        .collect();
    assert_eq!(groups, [Some(0), Some(1)]);
    let table = reader.table(None, "rules").unwrap();
    let key = table.key.parse_text("[\"b\", 7]").unwrap();
    let found = rows_of(&reader, "rules", KeyGroupRange::ALL, Some(&key));
    assert_eq!(shown(&found), [r#"["b",7]={"Daily":{"cents":5}}"#]);
    let counts = reader
        .count(table, KeyGroupRange::ALL, &mut |_| true)
        .unwrap();
    assert_eq!((counts.rows, counts.keys), (2, 2));
    // It comes with the part of the first key group, once.
    let rows = reader
        .parts(4)
        .into_iter()
        .map(|part| rows_of(&reader, "split", part, None).len());
    assert_eq!(rows.collect::<Vec<_>>(), [4, 0, 0, 0]);
    let estimates = reader.estimates().unwrap();
    let rows: Vec<u64> = estimates.iter().map(|known| known.unwrap().rows).collect();
    assert_eq!(rows, [1, 4, 2, 2, 4, 2]);
}

fn bytes(bytes: &[u8]) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(bytes)
}

/// Random writes over flushes and checkpoints; the model is what was written.
fn random_states_are_read_as_they_are(world: &World) {
    use std::collections::BTreeMap;
    let mut random = Rng::new(11);
    let mut values: BTreeMap<i32, i64> = BTreeMap::new();
    let mut lists: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
    let mut maps: BTreeMap<(i32, String), i64> = BTreeMap::new();
    let mut saved = Saved::default();
    for round in 0..4u64 {
        let worker = world.restore(&saved);
        let store: KeyedStateStore<i32> = worker.store("op");
        let value = store
            .value_state(&ValueStateDescriptor::<i64>::new("v"))
            .unwrap();
        let list = store
            .list_state(&ListStateDescriptor::<i64>::new("l"))
            .unwrap();
        let map = store
            .map_state(&MapStateDescriptor::<String, i64>::new("m"))
            .unwrap();
        for _ in 0..400 {
            let key = random.below(40) as i32 - 20;
            let n = random.next_u64() as i64;
            let user_key = format!("u{}", random.below(6));
            store.set_current_key(&key);
            match random.below(9) {
                0..3 => {
                    value.put(n).unwrap();
                    values.insert(key, n);
                }
                3 => {
                    value.clear().unwrap();
                    values.remove(&key);
                }
                4..6 => {
                    list.add(&n).unwrap();
                    lists.entry(key).or_default().push(n);
                }
                6 if random.below(4) == 0 => {
                    list.clear().unwrap();
                    lists.remove(&key);
                }
                7 => {
                    map.remove(&user_key).unwrap();
                    maps.remove(&(key, user_key));
                }
                _ => {
                    map.put(&user_key, &n).unwrap();
                    maps.insert((key, user_key), n);
                }
            }
        }
        saved = worker.checkpoint(round + 1);
        let reader = reader(world, &saved, false);
        let expected = |mut rows: Vec<String>| {
            rows.sort_unstable();
            rows
        };
        let rows = values.iter().map(|(key, n)| format!("{key}={n}"));
        assert_eq!(shown(&all(&reader, "v")), expected(rows.collect()));
        let rows = lists.iter().flat_map(|(key, elements)| {
            let elements = elements.iter().enumerate();
            elements.map(move |(index, n)| format!("{key}/{index}={n}"))
        });
        assert_eq!(shown(&all(&reader, "l")), expected(rows.collect()));
        let rows = maps
            .iter()
            .map(|((key, user_key), n)| format!("{key}/\"{user_key}\"={n}"));
        assert_eq!(shown(&all(&reader, "m")), expected(rows.collect()));
    }
}

fn a_checkpoint_of_nothing_has_nothing(world: &World) {
    let reader = reader(world, &Saved::default(), false);
    assert!(reader.tables().is_empty());
    let none = reader.table(None, "counts").unwrap_err();
    assert!(none.to_string().contains("`counts`"), "{none}");
    let worker: Worker = world.worker();
    let store = worker.store::<u32>("op");
    for operator in ["op", "po"] {
        worker
            .store::<u32>(operator)
            .value_state(&ValueStateDescriptor::<u32>::new("v"))
            .unwrap();
    }
    store.set_current_key(&1);
    let reader = self::reader(world, &worker.checkpoint(1), false);
    let two = reader.table(None, "v").unwrap_err().to_string();
    assert!(two.contains("`op/v`") && two.contains("`po/v`"), "{two}");
    for (operator, state) in [(Some("op"), "v"), (None, "op/v")] {
        let table = reader.table(operator, state).unwrap();
        let mut rows = reader.rows(table, KeyGroupRange::ALL, None).unwrap();
        assert_eq!(rows.next_piece(10).unwrap(), None);
    }
    assert!(reader.table(Some("xx"), "v").is_err());
}

fn a_missing_file_is_an_error_that_names_it(world: &World) {
    let worker = world.worker();
    let store = worker.store::<u32>("op");
    let value = store
        .value_state(&ValueStateDescriptor::<u32>::new("v"))
        .unwrap();
    for key in 0..50u32 {
        store.set_current_key(&key);
        value.put(key).unwrap();
    }
    let mut saved = worker.checkpoint(1);
    let mut lost = None;
    for (_, part) in &mut saved.keyed {
        for file in &mut part.files.files {
            if aquifer_state::KeyedSnapshot::inline_name(&file.path).is_none() {
                file.path.push_str(".lost");
                lost = Some(file.path.clone());
            }
        }
    }
    // Where all is in the metadata, no file can be missing.
    let Some(lost) = lost else { return };
    let reader = reader(world, &saved, false);
    let table = reader.table(None, "v").unwrap();
    let mut rows = reader.rows(table, KeyGroupRange::ALL, None).unwrap();
    let error = rows.next_piece(10).unwrap_err();
    assert!(error.to_string().contains(&lost), "{error}");
    assert_eq!(
        rows.next_piece(10).unwrap(),
        None,
        "after an error nothing comes"
    );
}
