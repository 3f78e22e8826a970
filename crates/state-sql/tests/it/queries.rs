//! What can be asked: filters, aggregations, joins; and how answers are written.

use aquifer_state_sql::output::Format;

use crate::tables::every_kind;
use crate::world::{KINDS, World};

#[test]
fn states_join_and_aggregate() {
    for &kind in KINDS {
        let world = World::new(kind, 3, every_kind);
        assert_eq!(
            world.json(
                "SELECT c.key, c.value, count(*) AS entries FROM counts c JOIN log l ON c.key = l.key \
                 GROUP BY c.key, c.value HAVING count(*) = 3 ORDER BY c.key LIMIT 2"
            ),
            [
                "{\"key\":3,\"value\":30,\"entries\":3}",
                "{\"key\":7,\"value\":70,\"entries\":3}"
            ]
        );
        assert_eq!(
            world.json("SELECT count(*) AS n FROM counts WHERE key NOT IN (SELECT key FROM log)"),
            ["{\"n\":10}"]
        );
        assert_eq!(
            world.json(
                "SELECT key, row_number() OVER (ORDER BY value DESC) AS place FROM counts ORDER BY place LIMIT 1"
            ),
            ["{\"key\":39,\"place\":1}"]
        );
    }
}

#[test]
fn answers_are_tables_json_or_csv() {
    let world = World::new(KINDS[0], 1, every_kind);
    let sql = world.sql();
    let text = |format, query| world.run(&sql, format, query).unwrap().0;
    let query = "SELECT l.key, l.index, l.value AS v, c.value AS c FROM log l JOIN counts c ON l.key = c.key \
                 WHERE l.key = 2 ORDER BY l.index";
    assert_eq!(
        text(Format::Csv, query),
        "key,index,v,c\n2,0,\"entry \"\"0\"\" of\n2\",20\n2,1,\"entry \"\"1\"\" of\n2\",20\n"
    );
    assert_eq!(
        text(Format::Table, query),
        "+-----+-------+-----------------+----+\n\
         | key | index | v               | c  |\n\
         +-----+-------+-----------------+----+\n\
         | 2   | 0     | entry \"0\" of\\n2 | 20 |\n\
         | 2   | 1     | entry \"1\" of\\n2 | 20 |\n\
         +-----+-------+-----------------+----+\n"
    );
    assert_eq!(
        text(
            Format::Json,
            "SELECT value, NULL AS nothing FROM floats WHERE key = 1"
        ),
        "{\"value\":[0.25,\"NaN\"],\"nothing\":null}\n"
    );
    assert_eq!(
        text(Format::Csv, "SELECT '' AS a, NULL AS b, X'00ff' AS c"),
        "a,b,c\n\"\",,0x00ff\n"
    );
    let none = text(Format::Table, "SELECT key FROM counts WHERE false");
    assert_eq!(none, "+-----+\n| key |\n+-----+\n+-----+\n");
}
