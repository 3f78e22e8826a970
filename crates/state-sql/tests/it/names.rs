//! How states are named, and how to find out.

use aquifer_state::{KeyedStateStore, ValueStateDescriptor};
use aquifer_state_sql::ErrorKind;

use crate::tables::every_kind;
use crate::world::{KINDS, Worker, World};

fn twins(worker: &Worker) {
    for operator in ["1-left", "2-right"] {
        let states = KeyedStateStore::<i64>::new(worker.access.clone(), operator);
        let state = ValueStateDescriptor::<String>::new("accState");
        let state = states.value_state(&state).unwrap();
        for key in (0..5).filter(|key| worker.owns(key)) {
            states.set_current_key(&key);
            state.put(operator.to_owned()).unwrap();
        }
    }
}

#[test]
fn a_name_that_two_operators_have_wants_the_operator() {
    let world = World::new(KINDS[0], 2, twins);
    let error = world.refusal("SELECT * FROM accState");
    assert_eq!(error.kind, ErrorKind::Query);
    assert!(
        error
            .message
            .contains("\"1-left\".accState, \"2-right\".accState"),
        "{error}"
    );
    assert_eq!(
        world.json("SELECT DISTINCT value FROM \"2-right\".accState"),
        ["{\"value\":\"2-right\"}"]
    );
    assert_eq!(
        world.json(
            "SELECT count(*) AS n FROM \"1-left\".accState l JOIN \"2-right\".accState r ON l.key = r.key"
        ),
        ["{\"n\":5}"]
    );
}

#[test]
fn what_is_not_there_is_answered_with_what_is() {
    let world = World::new(KINDS[0], 1, every_kind);
    let error = world.refusal("SELECT * FROM count");
    assert_eq!(error.kind, ErrorKind::Query);
    assert!(
        error.message.contains("no state `count`")
            && error.message.contains("\"7-auctions\".counts"),
        "{error}"
    );
    let error = world.refusal("SELECT valeu FROM counts");
    assert!(
        error.message.contains("valeu") && error.message.contains("counts.value"),
        "{error}"
    );
}

#[test]
fn tables_lists_the_states() {
    let world = World::new(KINDS[1], 1, every_kind);
    let listed = world
        .json("SELECT * FROM tables WHERE state = 'prices' OR state = 'fading' ORDER BY state");
    assert_eq!(
        listed,
        [
            "{\"name\":\"\\\"7-auctions\\\".fading\",\"operator\":\"7-auctions\",\"state\":\"fading\",\"kind\":\"map\",\
             \"columns\":\"key i64, user_key u8, value bool, written_at, expires_at, key_group\",\"ttl_ms\":60000}",
            "{\"name\":\"\\\"7-auctions\\\".prices\",\"operator\":\"7-auctions\",\"state\":\"prices\",\"kind\":\"map\",\
             \"columns\":\"key i64, user_key String, value i32, key_group\",\"ttl_ms\":null}"
        ]
    );
    let shown = world.json("SHOW TABLES").join("\n");
    assert!(shown.contains("\"prices\""), "{shown}");
    let described = world.json("DESCRIBE prices").join("\n");
    assert!(described.contains("user_key"), "{described}");
}
