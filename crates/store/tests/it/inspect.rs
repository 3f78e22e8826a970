//! Looking into single files: what they hold, and that every damage is found and named.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aquifer_store::inspect::{Damage, Inspector, Tally};
use aquifer_store::{BlockCache, Environment, FileRef, StoreOptions, TableId, TableOptions};
use aquifer_testkit::Rng;
use bytes::Bytes;

use crate::harness::{POINTS, SORTED, World, small};

const LISTS: TableId = TableId(7);

/// A file with rows of every kind: values, tombstones, operands, rows with times, long values, range tombstones.
fn written() -> (World, FileRef) {
    let world = World::new(1 << 20);
    let options = StoreOptions {
        value_aside_bytes: 500,
        ..small()
    };
    let mut writer = world.open(options, vec![]);
    let lists = TableOptions {
        merge: aquifer_store::Merge::Append,
        ..TableOptions::default()
    };
    writer.store.create_table(LISTS, lists).unwrap();
    // Below it lies another file, or what only hides would be left out.
    for group in 0..3 {
        for i in 0..300u32 {
            for table in [POINTS, SORTED, LISTS] {
                writer.put(table, group, &i.to_be_bytes(), b"old");
            }
        }
    }
    writer.store.freeze(LISTS).unwrap();
    writer.checkpoint();
    writer.store.delete_prefix(SORTED, 1, b"gone").unwrap();
    for i in 0..300u32 {
        let group = (i % 3) as u16;
        writer.put(
            SORTED,
            group,
            &i.to_be_bytes(),
            format!("value {i}").as_bytes(),
        );
        if i % 7 == 0 {
            writer.delete(POINTS, group, &i.to_be_bytes());
        }
        if i % 50 == 0 {
            let long = i.to_be_bytes().repeat(300);
            writer.put(POINTS, group, &[1, (i / 50) as u8], &long);
        }
        writer
            .store
            .merge_at(
                LISTS,
                group,
                &(i % 10).to_be_bytes(),
                b"operand",
                1_000 + i64::from(i),
            )
            .unwrap();
    }
    writer.store.freeze(LISTS).unwrap();
    let checkpoint = writer.checkpoint();
    let mut files = checkpoint.files.into_iter();
    let newest = files.find(|file| file.range_tombstones > 0);
    (world, newest.expect("the file with the range"))
}

fn inspector(world: &World) -> Inspector {
    Inspector::new(Environment::new(
        Arc::new(world.objects.clone()),
        "job/shared".into(),
        world.runtime.handle().clone(),
        BlockCache::new(1 << 20),
        "inspection",
    ))
}

fn verify(world: &World, file: &FileRef) -> Vec<Damage> {
    let read = AtomicU64::new(0);
    let advance = |bytes| {
        read.fetch_add(bytes, Ordering::Relaxed);
    };
    let inspector = inspector(world);
    let damages = world.runtime.block_on(inspector.verify(file, &advance));
    let damages = damages.unwrap();
    if damages.is_empty() {
        assert_eq!(
            read.into_inner(),
            file.size_bytes,
            "everything was read once"
        );
    }
    damages
}

#[test]
fn a_summary_counts_what_was_written() {
    let (world, file) = written();
    let inspector = inspector(&world);
    let summary = world.runtime.block_on(inspector.summary(&file)).unwrap();
    let rows = |tally: &Tally| (tally.rows, tally.tombstones, tally.operands);
    assert_eq!(rows(&summary.tables[&SORTED]), (300, 0, 0));
    assert_eq!(rows(&summary.tables[&POINTS]), (43 + 6, 43, 0));
    assert_eq!(rows(&summary.tables[&LISTS]), (30, 0, 30));
    assert_eq!(
        summary.groups.keys().copied().collect::<Vec<_>>(),
        [0, 1, 2]
    );
    let all: u64 = summary.groups.values().map(|tally| tally.rows).sum();
    assert_eq!(all, file.entries);
    assert!(
        summary.tables[&POINTS].value_bytes > 6 * 1_000,
        "also of values that lie aside"
    );
}

#[test]
fn a_whole_file_is_whole() {
    let (world, file) = written();
    assert!(file.range_tombstones > 0 && file.times_ms.is_some() && file.tombstones > 0);
    assert_eq!(verify(&world, &file), []);
}

#[test]
fn every_flipped_bit_is_found_where_it_is() {
    let (world, file) = written();
    let good = world.read(&file.path).to_vec();
    let mut random = Rng::new(3);
    for flip in 0..600 {
        let at = random.below(good.len() as u64) as usize;
        let mut bad = good.clone();
        bad[at] ^= 1 << random.below(8);
        world.overwrite(&file.path, bad);
        let damages = verify(&world, &file);
        assert!(!damages.is_empty(), "flip {flip} of byte {at}");
        let first = damages[0].offset.expect("a place");
        assert!(
            first <= at as u64,
            "flip {flip} of byte {at} was placed at {first}"
        );
        assert!(damages.iter().all(|damage| damage.path == file.path));
    }
}

#[test]
fn two_damages_are_told_of_and_cuts_and_holes_too() {
    let (world, file) = written();
    let good = world.read(&file.path).to_vec();
    let mut bad = good.clone();
    let filter_start =
        file.size_bytes - u64::from(file.end_bytes + file.index_bytes + file.filter_bytes);
    bad[5] ^= 1;
    bad[filter_start as usize + 9] ^= 1;
    world.overwrite(&file.path, bad);
    let damages = verify(&world, &file);
    assert!(damages.len() >= 2, "{damages:?}");
    for length in [0, 1, good.len() / 2, good.len() - 1] {
        world.overwrite(&file.path, good[..length].to_vec());
        assert!(!verify(&world, &file).is_empty(), "cut to {length}");
    }
    world.overwrite(&file.path, good);
    let elsewhere = FileRef {
        path: "job/shared/none.sst".into(),
        ..file
    };
    let damages = verify(&world, &elsewhere);
    assert!(damages[0].what.contains("no such"), "{damages:?}");
}

/// Damage of the checkpoint's entry, with a file that is whole.
#[test]
fn a_wrong_entry_is_found() {
    let (world, file) = written();
    let wrong: [fn(&mut FileRef); 9] = [
        |file| file.entries += 1,
        |file| file.tombstones -= 1,
        |file| file.untimed += 1,
        |file| file.times_ms = None,
        |file| file.range_tombstones = 0,
        |file| file.checksum ^= 1,
        |file| file.smallest = Bytes::from_static(b"\0\0\0\0"),
        |file| file.upper = Bytes::copy_from_slice(&[&file.smallest[..], b"\0"].concat()),
        |file| file.index_bytes += 1,
    ];
    for (number, spoil) in wrong.into_iter().enumerate() {
        let mut file = file.clone();
        spoil(&mut file);
        assert!(!verify(&world, &file).is_empty(), "{number}");
    }
}
