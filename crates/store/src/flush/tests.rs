//! Frozen memtables in, rows of one file out.
use super::*;
use crate::fold::Folds;
use crate::row::List;
use crate::sst::block::BlockCursor;
use crate::sst::part::Part;
use crate::{BlockCache, Environment, Merge, StoreOptions, TableOptions};

const TABLE: TableId = TableId(1);

fn context() -> (tokio::runtime::Runtime, Arc<Context>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap();
    let env = Environment::new(
        Arc::new(object_store::memory::InMemory::new()),
        "d".into(),
        runtime.handle().clone(),
        BlockCache::new(1 << 20),
        "p",
    );
    let context = Context::new(env, StoreOptions::default());
    (runtime, context)
}

fn rules(merge: Merge) -> Arc<Rules> {
    let options = TableOptions {
        merge,
        ..Default::default()
    };
    Rules::new(&options, &Folds::default()).into()
}

fn frozen(rules: &Arc<Rules>, fill: impl FnOnce(&mut Memtable)) -> Frozen {
    let mut memtable = Memtable::new(false);
    fill(&mut memtable);
    Frozen {
        table: TABLE,
        rules: rules.clone(),
        memtable: Arc::new(memtable),
    }
}

fn hash(user: &[u8]) -> u64 {
    key::hash_parts(key::header(5, TABLE), user)
}

type Flushed = Vec<(Vec<u8>, RowKind, Vec<u8>)>;

/// The rows of the one block that a flush writes.
fn flushed(sources: &[Frozen]) -> Flushed {
    let (_runtime, context) = context();
    let mut files = flush(&context, sources).unwrap();
    let file = files.remove(0).warm(&context);
    assert!(files.is_empty());
    let Some(Part::Block(block)) = context.env.block_cache.data(file.id(), 0) else {
        panic!("the block is warm");
    };
    let mut cursor = BlockCursor::default();
    let mut rows = Vec::new();
    while cursor.advance(&block) {
        let row = cursor.row(&block).unwrap();
        rows.push((cursor.key()[4..].to_vec(), row.kind, row.value.to_vec()));
    }
    assert_eq!(file.entries, rows.len() as u64);
    rows
}

#[test]
fn of_one_key_the_newest_row_counts_and_tombstones_stay() {
    let rules = rules(Merge::None);
    let memtable = |rows: &[(&[u8], Option<&[u8]>)]| {
        frozen(&rules, |memtable| {
            for &(user, value) in rows {
                memtable.put(hash(user), 5, user, value, None).unwrap();
            }
        })
    };
    let old = memtable(&[(b"a", Some(b"1")), (b"b", Some(b"1")), (b"c", None)]);
    let new = memtable(&[(b"a", None), (b"b", Some(b"2"))]);
    let expected = [
        (b"a".to_vec(), RowKind::Tombstone, vec![]),
        (b"b".to_vec(), RowKind::Value, b"2".to_vec()),
        (b"c".to_vec(), RowKind::Tombstone, vec![]),
    ];
    assert_eq!(flushed(&[old, new]), expected);
}

#[test]
fn operands_fold_into_what_they_meet() {
    let rules = rules(Merge::Append);
    let merge = |memtable: &mut Memtable, user: &[u8], operand: &[u8]| {
        memtable
            .merge(hash(user), 5, user, operand, None, &rules, true)
            .unwrap();
    };
    let oldest = frozen(&rules, |memtable| {
        memtable.put(hash(b"a"), 5, b"a", Some(b"1"), None).unwrap();
        memtable.put(hash(b"b"), 5, b"b", None, None).unwrap();
        merge(memtable, b"c", b"1");
    });
    let old = frozen(&rules, |memtable| {
        for user in [b"a", b"b", b"c"] {
            merge(memtable, user, b"2");
        }
    });
    let new = frozen(&rules, |memtable| {
        for user in [b"a", b"b", b"c", b"d"] {
            merge(memtable, user, b"3");
        }
    });
    let rows = flushed(&[oldest, old, new]);
    let kinds: Vec<_> = rows.iter().map(|(_, kind, _)| *kind).collect();
    use RowKind::{Operands, Value};
    assert_eq!(kinds, [Value, Value, Operands, Operands]);
    assert_eq!((&rows[0].2[..], &rows[1].2[..]), (&b"123"[..], &b"23"[..]));
    for (row, expected) in [(&rows[2], &b"123"[..]), (&rows[3], b"3")] {
        let said = RowRef::new(row.1, None, &row.2).open().unwrap();
        let Content::Operands(operands) = said.content else {
            panic!("these are operands")
        };
        assert!(operands.list.eq(List::One(expected)));
    }
}

#[test]
fn a_deleted_prefix_hides_rows_of_older_memtables_and_operands_start_anew() {
    let rules = rules(Merge::Append);
    let old = frozen(&rules, |memtable| {
        for user in [b"a1", b"a2", b"b1"] {
            memtable
                .put(hash(user), 5, user, Some(b"old"), None)
                .unwrap();
        }
    });
    let new = frozen(&rules, |memtable| {
        memtable
            .put(hash(b"a3"), 5, b"a3", Some(b"x"), None)
            .unwrap();
        let header = key::header(5, TABLE);
        memtable.delete_prefix(header, b"a", true).unwrap();
        memtable
            .merge(hash(b"a2"), 5, b"a2", b"new", None, &rules, false)
            .unwrap();
    });
    let expected = [
        (b"a2".to_vec(), RowKind::Value, b"new".to_vec()),
        (b"b1".to_vec(), RowKind::Value, b"old".to_vec()),
    ];
    assert_eq!(flushed(&[old, new]), expected);
}
