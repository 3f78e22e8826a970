//! Damaged files: an error or the right answer, never a wrong one and never a panic.
use aquifer_store::{ErrorKind, StoreOptions};
use aquifer_testkit::Rng;

use crate::harness::{ALL, SORTED, Worker, World, small};

const ROWS: u32 = 400;

fn written() -> (World, aquifer_store::Checkpoint) {
    let mut world = World::new(1 << 20);
    let mut writer = world.open(small(), vec![]);
    for i in 0..ROWS {
        writer.put(SORTED, 0, &i.to_be_bytes(), format!("value {i}").as_bytes());
    }
    let checkpoint = writer.checkpoint();
    drop(writer);
    world.forget_cache();
    (world, checkpoint)
}

/// Reads some rows every way there is; counts the errors and insists on right answers.
fn probe(worker: &Worker, world: &World, random: &mut Rng) -> u32 {
    let mut errors = 0;
    for _ in 0..3 {
        let i = random.below(u64::from(ROWS)) as u32;
        match worker.try_get(SORTED, 0, &i.to_be_bytes()) {
            Ok(value) => assert_eq!(value, Some(format!("value {i}").into_bytes())),
            Err(error) => {
                assert_eq!(error.kind, ErrorKind::Corrupt, "{error}");
                assert!(error.message.contains("job/shared/"), "{error}");
                errors += 1;
            }
        }
    }
    let lookup = worker.store.scan(SORTED, 0, b"", b"", None, 1_000).unwrap();
    let rows = match lookup {
        aquifer_store::ScanLookup::Rows(rows) => Ok(rows),
        aquifer_store::ScanLookup::Cold(scan) => {
            world.runtime.block_on(worker.store.fetch_scan(scan))
        }
    };
    match rows {
        Ok(rows) => assert_eq!(rows.rows.len(), ROWS as usize),
        Err(error) => {
            assert_eq!(error.kind, ErrorKind::Corrupt, "{error}");
            errors += 1;
        }
    }
    errors
}

#[test]
fn flipped_bits_are_noticed() {
    let (mut world, checkpoint) = written();
    let path = checkpoint.files[0].path.clone();
    let good = world.read(&path).to_vec();
    let mut random = Rng::new(11);
    let mut noticed = 0;
    let flips = 2_000;
    for flip in 0..flips {
        let mut bad = good.clone();
        // The tail is small beside the data; hit it as often.
        let file = &checkpoint.files[0];
        let tail = u64::from(file.filter_bytes + file.index_bytes + file.end_bytes);
        let at = if flip % 2 == 0 {
            good.len() as u64 - 1 - random.below(tail)
        } else {
            random.below(good.len() as u64)
        };
        bad[at as usize] ^= 1 << random.below(8);
        world.overwrite(&path, bad);
        world.forget_cache();
        let worker = world.open(small(), vec![(checkpoint.clone(), ALL)]);
        noticed += u32::from(probe(&worker, &world, &mut random) > 0);
    }
    assert_eq!(
        noticed, flips,
        "a scan reads every byte, so every flip is noticed"
    );
}

#[test]
fn cut_and_exchanged_files_are_noticed() {
    let (mut world, checkpoint) = written();
    let path = checkpoint.files[0].path.clone();
    let good = world.read(&path).to_vec();
    let mut other = world.open(
        StoreOptions {
            block_bytes: 300,
            ..small()
        },
        vec![],
    );
    for i in 0..ROWS {
        other.put(SORTED, 0, &i.to_be_bytes(), format!("other {i}").as_bytes());
    }
    let other = world.read(&other.checkpoint().files[0].path).to_vec();
    let mut random = Rng::new(12);
    for bad in [
        good[..good.len() - 1].to_vec(),
        good[..100].to_vec(),
        Vec::new(),
        other,
    ] {
        world.overwrite(&path, bad);
        world.forget_cache();
        let worker = world.open(small(), vec![(checkpoint.clone(), ALL)]);
        for _ in 0..2 {
            let i = random.below(u64::from(ROWS)) as u32;
            let error = worker.try_get(SORTED, 0, &i.to_be_bytes()).unwrap_err();
            assert!(
                matches!(error.kind, ErrorKind::Corrupt | ErrorKind::Retry),
                "{error}"
            );
        }
    }
}

#[test]
fn a_missing_file_is_called_missing() {
    use object_store::ObjectStoreExt;
    let (world, checkpoint) = written();
    let path = object_store::path::Path::from(checkpoint.files[0].path.as_str());
    world.runtime.block_on(world.bucket.delete(&path)).unwrap();
    let worker = world.open(small(), vec![(checkpoint, ALL)]);
    let error = worker.try_get(SORTED, 0, &0u32.to_be_bytes()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Missing);
    assert!(error.message.contains(path.as_ref()), "{error}");
}

#[test]
fn a_hostile_file_list_is_refused_or_harmless() {
    let (world, checkpoint) = written();
    let mut bytes = Vec::new();
    checkpoint.encode(&mut bytes);
    let mut random = Rng::new(13);
    let mut opened = 0;
    for _ in 0..3_000 {
        let mut bad = bytes.clone();
        for _ in 0..=random.below(3) {
            let at = random.below(bad.len() as u64) as usize;
            bad[at] ^= 1 << random.below(8);
        }
        let Ok(list) = aquifer_store::Checkpoint::decode(&bad) else {
            continue;
        };
        let env = aquifer_store::Environment::new(
            world.bucket.clone(),
            "job/shared".into(),
            world.runtime.handle().clone(),
            world.cache.clone(),
            "hostile",
        );
        opened += u32::from(aquifer_store::Store::open(env, small(), vec![(list, ALL)]).is_ok());
    }
    assert!(
        opened > 0,
        "some flips only change a number, and opening reads nothing"
    );
}
