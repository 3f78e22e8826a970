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

/// However a flush is divided, the same rows come out, each once, and a range tombstone is cut where its file ends.
#[test]
fn parts_are_the_whole() {
    let (_runtime, context) = context();
    let rules = rules(Merge::None);
    let keys: Vec<String> = (0..300).map(|i| format!("{i:03}")).collect();
    let rows = |from: usize, step: usize| {
        frozen(&rules, |memtable| {
            for key in keys.iter().skip(from).step_by(step) {
                let key = key.as_bytes();
                memtable.put(hash(key), 5, key, Some(key), None).unwrap();
            }
        })
    };
    let hiding = frozen(&rules, |memtable| {
        let header = key::header(5, TABLE);
        memtable.delete_prefix(header, b"1", true).unwrap();
    });
    let sources = [rows(0, 2), rows(1, 3), hiding, rows(7, 5)];
    sources.iter().for_each(|frozen| frozen.memtable.sort());
    let count = |files: &[NewFile]| -> u64 { files.iter().map(|f| f.file.entries).sum() };
    let whole = flush(&context, &sources).unwrap();
    let bound = |key: &str| Bound {
        group: 5,
        table: TABLE,
        key: key.into(),
    };
    for cuts in [
        vec!["150"],
        vec!["000"],
        vec!["1", "2"],
        vec!["010", "199", "3"],
    ] {
        let cuts: Vec<Bound> = cuts.into_iter().map(bound).collect();
        let mut files = Vec::new();
        for number in 0..=cuts.len() {
            let part = super::Part {
                from: number.checked_sub(1).map(|before| &cuts[before]),
                until: cuts.get(number),
                of: cuts.len() + 1,
            };
            files.extend(write_part(&context, &sources, &part).unwrap());
        }
        assert_eq!(count(&files), count(&whole), "{cuts:?}");
        let apart = files
            .windows(2)
            .all(|two| two[0].file.upper <= two[1].file.smallest);
        assert!(apart, "{cuts:?}");
        let ranges: u32 = files.iter().map(|file| file.file.range_tombstones).sum();
        let within = cuts
            .iter()
            .filter(|cut| (&b"1"[..]..&b"2"[..]).contains(&&cut.key[..]) && cut.key != b"1");
        assert_eq!(ranges as usize, 1 + within.count(), "{cuts:?}");
    }
}
