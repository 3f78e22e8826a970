//! Values with parts: structs, enums, maps and wide numbers are columns.

use std::collections::BTreeMap;

use aquifer_state::serializer::Postcard;
use aquifer_state::{KeyedStateStore, ValueStateDescriptor};
use serde::{Deserialize, Serialize};

use crate::world::{KINDS, Worker, World};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Bid {
    price: u64,
    channel: Option<String>,
    tags: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Shape {
    Point,
    Circle(f32),
    Box { width: i16, height: i16 },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Colour {
    Red,
    Green,
}

fn typed(worker: &Worker) {
    let states = KeyedStateStore::<String>::new(worker.access.clone(), "op");
    let bids = states
        .value_state(&ValueStateDescriptor::<Bid>::new("bids"))
        .unwrap();
    let shapes = states
        .value_state(&ValueStateDescriptor::<Shape>::new("shapes"))
        .unwrap();
    let colours = states
        .value_state(&ValueStateDescriptor::<Colour>::new("colours"))
        .unwrap();
    let wide = states
        .value_state(&ValueStateDescriptor::<(i128, u128), Postcard<(i128, u128)>>::new("wide"))
        .unwrap();
    let maps = states
        .value_state(&ValueStateDescriptor::<BTreeMap<String, Option<i8>>>::new(
            "maps",
        ))
        .unwrap();
    for i in 0..6u64 {
        let key = format!("k{i}");
        if !worker.owns(&key) {
            continue;
        }
        states.set_current_key(&key);
        bids.put(Bid {
            price: 100 * i,
            channel: (i % 2 == 0).then(|| format!("c{}", i / 2)),
            tags: (0..i % 3).map(|tag| format!("t{tag}")).collect(),
        })
        .unwrap();
        shapes
            .put(match i % 3 {
                0 => Shape::Point,
                1 => Shape::Circle(i as f32 / 2.0),
                _ => Shape::Box {
                    width: i as i16,
                    height: -1,
                },
            })
            .unwrap();
        colours
            .put(match i % 2 {
                0 => Colour::Red,
                _ => Colour::Green,
            })
            .unwrap();
        wide.put((i128::MIN + i128::from(i), u128::MAX - u128::from(i)))
            .unwrap();
        let entries = (0..i % 3).map(|at| (format!("e{at}"), (at == 0).then_some(-1)));
        maps.put(entries.collect()).unwrap();
    }
}

#[test]
fn fields_of_structs_are_reached_by_name() {
    for &kind in KINDS {
        let world = World::new(kind, 2, typed);
        assert_eq!(
            world.json("SELECT key, value.price FROM bids WHERE value.price >= 400 ORDER BY key"),
            [
                "{\"key\":\"k4\",\"bids.value[price]\":400}",
                "{\"key\":\"k5\",\"bids.value[price]\":500}"
            ]
        );
        assert_eq!(
            world.json(
                "SELECT b.value.channel AS c, sum(b.value.price) AS s FROM bids b GROUP BY b.value.channel ORDER BY c"
            ),
            [
                "{\"c\":\"c0\",\"s\":0}",
                "{\"c\":\"c1\",\"s\":200}",
                "{\"c\":\"c2\",\"s\":400}",
                "{\"c\":null,\"s\":900}"
            ]
        );
        assert_eq!(
            world.json("SELECT value FROM bids WHERE key = 'k5'"),
            ["{\"value\":{\"price\":500,\"channel\":null,\"tags\":[\"t0\",\"t1\"]}}"]
        );
        assert_eq!(
            world.json("SELECT value.tags[2] AS tag FROM bids WHERE key = 'k5'"),
            ["{\"tag\":\"t1\"}"]
        );
    }
}

#[test]
fn enums_maps_and_wide_numbers_have_columns() {
    let world = World::new(KINDS[1], 1, typed);
    assert_eq!(
        world.json("SELECT value FROM shapes WHERE key IN ('k0', 'k1', 'k2') ORDER BY key"),
        [
            "{\"value\":{\"variant\":\"Point\",\"Circle\":null,\"Box\":null}}",
            "{\"value\":{\"variant\":\"Circle\",\"Circle\":0.5,\"Box\":null}}",
            "{\"value\":{\"variant\":\"Box\",\"Circle\":null,\"Box\":{\"width\":2,\"height\":-1}}}"
        ]
    );
    assert_eq!(
        world.json("SELECT sum(value.\"Box\".width) AS w FROM shapes"),
        ["{\"w\":7}"]
    );
    assert_eq!(
        world.json("SELECT count(*) AS n FROM colours WHERE value = 'Green'"),
        ["{\"n\":3}"]
    );
    assert_eq!(
        world.json("SELECT value FROM wide WHERE key = 'k1'"),
        [format!(
            "{{\"value\":{{\"f0\":{},\"f1\":{}}}}}",
            i128::MIN + 1,
            u128::MAX - 1
        )]
    );
    assert_eq!(
        world.json("SELECT value FROM maps WHERE key = 'k2' OR key = 'k0' ORDER BY key"),
        ["{\"value\":{}}", "{\"value\":{\"e0\":-1,\"e1\":null}}"]
    );
}
