//! What lies beside keyed state: broadcast maps have keys, lists have places, raw keyed streams key groups.

use aquifer_state::checkpoint::OperatorSnapshot;
use aquifer_state::dynamic::DynamicValue;
use aquifer_state::operator::OperatorStateStore;
use aquifer_state::serializer::{Plain, Postcard};
use aquifer_state::{ListStateDescriptor, MapStateDescriptor};
use aquifer_store::KeyGroupRange;

use crate::world::{KINDS, World};

fn operator() -> OperatorSnapshot {
    let store = OperatorStateStore::empty("4-rules");
    let rules = MapStateDescriptor::<String, u32>::new("rules");
    let rules = store.broadcast_state(&rules).unwrap();
    rules.put("big".to_owned(), 1000).unwrap();
    rules.put("small".to_owned(), 10).unwrap();
    // Keys whose bytes do not lie in their order.
    let (keys, values) = (Postcard::<(i32, bool)>::default(), Plain::<i64>::default());
    let limits = store.broadcast_state_with("limits", keys, values).unwrap();
    limits.put((-7, true), 70).unwrap();
    limits.put((8, false), 80).unwrap();
    let offsets = ListStateDescriptor::<u64>::new("offsets");
    let offsets = store.list_state(&offsets).unwrap();
    offsets.update([5, 6]);
    OperatorSnapshot::of_state("4-rules", store.freeze().unwrap()).unwrap()
}

#[test]
fn broadcast_maps_have_keys() {
    let world = World::new(KINDS[0], 1, |_| {}).with_operator(operator());
    assert_eq!(
        world.json("SELECT * FROM rules ORDER BY key"),
        [
            "{\"key\":\"big\",\"value\":1000}",
            "{\"key\":\"small\",\"value\":10}"
        ]
    );
    assert_eq!(
        world.json("SELECT value FROM rules WHERE key = 'small'"),
        ["{\"value\":10}"]
    );
    assert_eq!(
        world.json("SELECT key.f0 AS a, value FROM limits WHERE key.f0 = -7 AND key.f1"),
        ["{\"a\":-7,\"value\":70}"]
    );
    assert_eq!(
        world.json("SELECT * FROM offsets"),
        ["{\"index\":0,\"value\":5}", "{\"index\":1,\"value\":6}"]
    );
}

/// A key that was typed in was refused where keys are not in order.
#[test]
fn entries_of_broadcast_maps_are_found_by_key() {
    let world = World::new(KINDS[0], 1, |_| {}).with_operator(operator());
    let reader = world.reader();
    for (state, typed, value) in [
        ("limits", "[8, false]", DynamicValue::Int(80)),
        ("rules", "big", DynamicValue::UInt(1000)),
    ] {
        let table = reader.table(None, state).unwrap();
        let key = table.key.parse_text(typed).unwrap();
        let mut rows = reader.rows(table, KeyGroupRange::ALL, Some(&key)).unwrap();
        let found = rows.next_piece(10).unwrap().unwrap();
        assert_eq!(found.len(), 1, "{state}");
        assert_eq!(found[0].value, value);
    }
}
