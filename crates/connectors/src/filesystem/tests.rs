//! Round trips, ranges, restarts, malformed input, and every crash window of a commit.

use std::path::Path as LocalPath;

use aquifer_dataflow::connector::{ConnectorContext, SourcePoll};
use aquifer_dataflow::{ChangeBatch, JobErrorKind, RowKind};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field};
use tempfile::TempDir;

use super::*;
use crate::testing::{context, next_batch, printed, readers, runtime, table};

fn columns() -> Vec<Field> {
    vec![
        Field::new("id", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
    ]
}

fn spec(directory: &LocalPath, format: &str, more: &[(&str, &str)]) -> TableSpec {
    let mut options = vec![("path", directory.to_str().unwrap()), ("format", format)];
    options.extend_from_slice(more);
    table("files", columns(), &options)
}

fn source_of(spec: &TableSpec) -> Arc<dyn Source> {
    FilesystemFactory::default().source(spec).unwrap()
}

fn sink_of(spec: &TableSpec) -> Arc<dyn Sink> {
    FilesystemFactory::default().sink(spec).unwrap()
}

fn rows(ids: std::ops::Range<i64>) -> ChangeBatch {
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(
        ids.clone().map(|id| format!("n{id}")),
    ));
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(ids));
    ChangeBatch::inserts(
        RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("name", names, true)])
            .unwrap(),
    )
}

fn expected(ids: std::ops::Range<i64>) -> Vec<String> {
    let mut lines: Vec<String> = ids.map(|id| format!("+I[{id}, n{id}]")).collect();
    lines.sort_unstable();
    lines
}

/// All visible rows, sorted.
fn read_all(spec: &TableSpec, workers: usize) -> Vec<String> {
    let runtime = runtime();
    let source = source_of(spec);
    let mut lines = Vec::new();
    for mut reader in readers(
        source.as_ref(),
        source.splits(workers).unwrap(),
        workers,
        &runtime,
    ) {
        while let Some(batch) = next_batch(reader.as_mut(), 500) {
            lines.extend(printed(&batch));
        }
    }
    lines.sort_unstable();
    lines
}

/// The error that reading ends with.
fn read_error(spec: &TableSpec) -> String {
    let runtime = runtime();
    let source = source_of(spec);
    let mut reader = readers(source.as_ref(), source.splits(1).unwrap(), 1, &runtime).remove(0);
    for _ in 0..60_000 {
        match reader.poll(500) {
            Ok(SourcePoll::Finished) => panic!("nothing was wrong"),
            Ok(_) => std::thread::park_timeout(std::time::Duration::from_millis(1)),
            Err(error) => {
                assert_eq!(error.kind, JobErrorKind::Failed);
                return error.message;
            }
        }
    }
    panic!("the reader never got any data");
}

/// Names of all files, hidden ones too, ordered.
fn files(directory: &LocalPath) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            names.extend(
                files(&entry.path())
                    .into_iter()
                    .map(|below| format!("{name}/{below}")),
            );
        } else {
            names.push(name);
        }
    }
    names.sort_unstable();
    names
}

fn attempt(runtime: &tokio::runtime::Runtime, attempt: u64, worker: usize) -> ConnectorContext {
    ConnectorContext {
        attempt,
        ..context(runtime, worker, 2)
    }
}

#[test]
fn what_is_committed_is_read_back() {
    let runtime = runtime();
    for format in ["csv", "json"] {
        let directory = TempDir::new().unwrap();
        let spec = spec(directory.path(), format, &[("sink.parallelism", "2")]);
        let sink = sink_of(&spec);
        assert!(!sink.accepts_updates());
        let mut committables = Vec::new();
        for worker in 0..2_i64 {
            let context = attempt(&runtime, 1, worker as usize);
            let mut writer = sink.writer(context.clone()).unwrap();
            writer
                .write(&rows(worker * 100..worker * 100 + 50))
                .unwrap();
            committables.extend(writer.prepare_commit(1).unwrap());
            writer
                .write(&rows(worker * 100 + 50..worker * 100 + 100))
                .unwrap();
            committables.extend(writer.prepare_commit(2).unwrap());
            assert_eq!(writer.prepare_commit(3).unwrap(), Vec::<Vec<u8>>::new());
        }
        assert_eq!(
            read_all(&spec, 1),
            Vec::<String>::new(),
            "nothing is visible before the commit"
        );
        sink.commit(committables, &attempt(&runtime, 1, 0)).unwrap();
        assert_eq!(read_all(&spec, 2), expected(0..200));
        assert_eq!(
            files(directory.path()),
            [
                format!("part-run.sink-1-0-0.{format}"),
                format!("part-run.sink-1-0-1.{format}"),
                format!("part-run.sink-1-1-0.{format}"),
                format!("part-run.sink-1-1-1.{format}"),
            ]
        );
    }
}

#[test]
fn a_commit_may_be_interrupted_anywhere_and_repeated() {
    let runtime = runtime();
    let context = attempt(&runtime, 1, 0);
    let directory = TempDir::new().unwrap();
    let spec = spec(directory.path(), "csv", &[]);
    let sink = sink_of(&spec);
    let mut writer = sink.writer(context.clone()).unwrap();
    writer.write(&rows(0..10)).unwrap();
    let committables = writer.prepare_commit(1).unwrap();
    let hidden = directory.path().join(".part-run.sink-1-0-0.csv");
    let visible = directory.path().join("part-run.sink-1-0-0.csv");
    assert!(hidden.exists() && !visible.exists());

    // The copy was made, the hidden file is still there: what a store without renaming leaves after a crash.
    std::fs::copy(&hidden, &visible).unwrap();
    for _ in 0..3 {
        sink.commit(committables.clone(), &context).unwrap();
        assert!(!hidden.exists());
        assert_eq!(read_all(&spec, 1), expected(0..10));
    }
    // Not committed at all.
    std::fs::rename(&visible, &hidden).unwrap();
    sink.commit(committables.clone(), &context).unwrap();
    assert_eq!(read_all(&spec, 1), expected(0..10));
    // Removed by somebody.
    std::fs::remove_file(&visible).unwrap();
    let error = sink.commit(committables, &context).unwrap_err();
    assert!(error.message.contains("its rows are lost"), "{error}");
}

#[test]
fn recovery_removes_what_this_sink_left_and_nothing_else() {
    let runtime = runtime();
    let directory = TempDir::new().unwrap();
    let spec = spec(directory.path(), "json", &[]);
    let sink = sink_of(&spec);
    let prepared = |context: ConnectorContext| {
        let mut writer = sink.writer(context).unwrap();
        writer.write(&rows(0..5)).unwrap();
        writer.prepare_commit(1).unwrap()
    };
    let committed = prepared(attempt(&runtime, 1, 0));
    prepared(attempt(&runtime, 1, 1));
    let other_run = ConnectorContext {
        run_id: "run-2".into(),
        ..attempt(&runtime, 1, 0)
    };
    prepared(other_run);
    let other_sink = ConnectorContext {
        operator: "sink2".into(),
        ..attempt(&runtime, 1, 0)
    };
    prepared(other_sink);
    // As a process that was killed in the middle of a large part leaves it.
    std::fs::write(directory.path().join(".part-run.sink-1-1-1.json#1"), "{").unwrap();
    std::fs::write(directory.path().join(".mine"), "").unwrap();

    let second = attempt(&runtime, 2, 0);
    sink.commit(committed, &second).unwrap();
    sink.recover(&second).unwrap();
    assert_eq!(
        files(directory.path()),
        [
            ".mine",
            ".part-run-2.sink-1-0-0.json",
            ".part-run.sink2-1-0-0.json",
            "part-run.sink-1-0-0.json",
        ]
    );
    assert_eq!(read_all(&spec, 1), expected(0..5));
}

#[test]
fn large_parts_are_streamed_and_rolled() {
    let runtime = runtime();
    let directory = TempDir::new().unwrap();
    let spec = spec(
        directory.path(),
        "csv",
        &[("sink.rolling-policy.file-size", "20 mb")],
    );
    let sink = sink_of(&spec);
    let mut writer = sink.writer(attempt(&runtime, 1, 0)).unwrap();
    let long = "x".repeat(100_000);
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100));
    let names: ArrayRef = Arc::new(StringArray::from_iter_values((0..100).map(|_| &long)));
    let batch = ChangeBatch::inserts(
        RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("name", names, true)])
            .unwrap(),
    );
    for _ in 0..5 {
        writer.write(&batch).unwrap();
    }
    let committables = writer.prepare_commit(1).unwrap();
    assert_eq!(committables.len(), 3);
    sink.commit(committables, &attempt(&runtime, 1, 0)).unwrap();
    let sizes: Vec<u64> = files(directory.path())
        .iter()
        .map(|name| {
            std::fs::metadata(directory.path().join(name))
                .unwrap()
                .len()
        })
        .collect();
    assert!(sizes[0] >= 20 << 20 && sizes[0] < 21 << 20, "{sizes:?}");
    assert_eq!(read_all(&spec, 1).len(), 500);
}

#[test]
fn partitions_become_directories_and_columns_again() {
    let runtime = runtime();
    let directory = TempDir::new().unwrap();
    let mut spec = spec(directory.path(), "csv", &[]);
    spec.partitioned_by = vec!["name".to_owned()];
    let sink = sink_of(&spec);
    let names = [Some("a/b=c"), None, Some(".."), Some("a/b=c"), Some("x y")];
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..5));
    let names: ArrayRef = Arc::new(StringArray::from(names.to_vec()));
    let batch = ChangeBatch::inserts(
        RecordBatch::try_from_iter_with_nullable([("id", ids, true), ("name", names, true)])
            .unwrap(),
    );
    let context = attempt(&runtime, 1, 0);
    let mut writer = sink.writer(context.clone()).unwrap();
    writer.write(&batch).unwrap();
    let committables = writer.prepare_commit(1).unwrap();
    sink.commit(committables, &context).unwrap();
    let found = files(directory.path());
    assert_eq!(found.len(), 4);
    assert!(
        found
            .iter()
            .any(|name| name.starts_with("name=a%2Fb%3Dc/part-")),
        "{found:?}"
    );
    assert!(
        found
            .iter()
            .any(|name| name.starts_with("name=__DEFAULT_PARTITION__/"))
    );
    assert_eq!(
        read_all(&spec, 1),
        [
            "+I[0, a/b=c]",
            "+I[1, null]",
            "+I[2, ..]",
            "+I[3, a/b=c]",
            "+I[4, x y]"
        ]
    );
    sink.recover(&attempt(&runtime, 2, 0)).unwrap();
    assert_eq!(files(directory.path()), found);
}

#[test]
fn many_partitions_do_not_keep_many_parts_open() {
    let runtime = runtime();
    let directory = TempDir::new().unwrap();
    let mut spec = spec(directory.path(), "csv", &[]);
    spec.partitioned_by = vec!["name".to_owned()];
    let sink = sink_of(&spec);
    let context = attempt(&runtime, 1, 0);
    let mut writer = sink.writer(context.clone()).unwrap();
    writer.write(&rows(0..100)).unwrap();
    writer.write(&rows(0..100)).unwrap();
    let committables = writer.prepare_commit(1).unwrap();
    assert!(committables.len() > 100, "{}", committables.len());
    sink.commit(committables, &context).unwrap();
    assert_eq!(read_all(&spec, 3).len(), 200);
}

#[test]
fn json_files_are_read_in_ranges_and_resumed_anywhere() {
    let directory = TempDir::new().unwrap();
    let mut text = String::new();
    let mut lines = Vec::new();
    for id in 0..60_000 {
        let name = format!("{}{}", "é".repeat(id % 400), id);
        text.push_str(&format!("{{\"id\":{id},\"name\":\"{name}\"}}\n"));
        lines.push(format!("+I[{id}, {name}]"));
    }
    text.pop();
    lines.sort_unstable();
    std::fs::write(directory.path().join("a.json"), &text).unwrap();
    std::fs::create_dir(directory.path().join("below")).unwrap();
    for skipped in ["_SUCCESS", ".hidden.json", "below/_tmp"] {
        std::fs::write(directory.path().join(skipped), "no JSON").unwrap();
    }
    std::fs::write(directory.path().join("below/empty.json"), "").unwrap();
    let spec = spec(directory.path(), "json", &[]);
    let source = source_of(&spec);
    assert!(source.bounded());
    let splits = source.splits(1).unwrap();
    assert_eq!(splits.len(), text.len().div_ceil(16 << 20));
    assert!(splits.len() > 1);
    assert_eq!(read_all(&spec, 2), lines);

    let runtime = runtime();
    let mut read = Vec::new();
    let mut splits = splits;
    for round in 0..8_usize {
        let mut snapshot = Vec::new();
        for mut reader in readers(source.as_ref(), splits, 1 + round % 3, &runtime) {
            for _ in 0..round {
                let Some(batch) = next_batch(reader.as_mut(), 1 + 97 * round) else {
                    break;
                };
                read.extend(printed(&batch));
            }
            snapshot.extend(reader.snapshot().unwrap());
        }
        splits = snapshot;
    }
    for mut reader in readers(source.as_ref(), splits, 2, &runtime) {
        while let Some(batch) = next_batch(reader.as_mut(), 5_000) {
            read.extend(printed(&batch));
        }
    }
    read.sort_unstable();
    assert!(
        read == lines,
        "{} rows instead of {}",
        read.len(),
        lines.len()
    );
}

#[test]
fn csv_with_quoted_line_ends_is_resumed_after_any_row() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("one.csv");
    std::fs::write(&file, "1,\"a\nb\"\r\n\n2,\"c\"\"\n\"\n3,d").unwrap();
    // The path may be a file, and may be a URI.
    let mut spec = spec(&file, "csv", &[]);
    spec.options
        .insert("path".to_owned(), format!("file://{}", file.display()));
    let source = source_of(&spec);
    let runtime = runtime();
    let mut splits = source.splits(1).unwrap();
    let mut read = Vec::new();
    loop {
        let mut reader = source.reader(splits, context(&runtime, 0, 1)).unwrap();
        let Some(batch) = next_batch(reader.as_mut(), 1) else {
            break;
        };
        assert_eq!(batch.rows.num_rows(), 1);
        let mut line = String::new();
        crate::print::format_change_batch(&batch, &mut line);
        read.push(line);
        splits = reader.snapshot().unwrap();
    }
    assert_eq!(read, ["+I[1, a\nb]\n", "+I[2, c\"\n]\n", "+I[3, d]\n"]);
}

#[test]
fn malformed_files_are_told_with_their_place() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("bad.csv");
    let spec = spec(directory.path(), "csv", &[]);
    std::fs::write(&file, "1,\"a\nb\"\n2,c\nxé,d\n").unwrap();
    assert_eq!(
        read_error(&spec),
        "table 'files': file 'bad.csv', line 4, column 1: column 'id' must be BIGINT, found 'xé'"
    );
    std::fs::write(&file, "1,\"é\nb\"c\n").unwrap();
    assert_eq!(
        read_error(&spec),
        "table 'files': file 'bad.csv', line 2, column 3: after a closing quote there must be ',', found 'c'"
    );
    std::fs::write(&file, "1,a\n2,\"b\n").unwrap();
    assert!(read_error(&spec).contains("line 2, column 3: a field that begins with \""));
    std::fs::remove_file(&file).unwrap();
    let json = TempDir::new().unwrap();
    std::fs::write(json.path().join("x.json"), "{\"id\":1}\n{\"id\":tru}\n").unwrap();
    let spec = super::tests::spec(json.path(), "json", &[]);
    assert_eq!(
        read_error(&spec),
        "table 'files': file 'x.json', line 2, column 7: the JSON must have a value here, found 't'"
    );
}

#[test]
fn a_file_that_shrank_is_an_error() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("a.csv");
    std::fs::write(&file, "1,a\n2,b\n").unwrap();
    let spec = spec(directory.path(), "csv", &[]);
    let source = source_of(&spec);
    let splits = source.splits(1).unwrap();
    std::fs::write(&file, "1,a\n").unwrap();
    let runtime = runtime();
    let mut reader = readers(source.as_ref(), splits, 1, &runtime).remove(0);
    let error = loop {
        match reader.poll(10) {
            Ok(SourcePoll::Pending { .. }) => {
                std::thread::park_timeout(std::time::Duration::from_millis(1))
            }
            Ok(_) => panic!("it was read"),
            Err(error) => break error,
        }
    };
    assert!(
        error.message.contains("shorter now") || error.message.contains("range"),
        "{error}"
    );
}

#[test]
fn wrong_tables_are_refused_with_the_reason() {
    let directory = TempDir::new().unwrap();
    let factory = FilesystemFactory::default();
    let refused = |spec: &TableSpec| {
        let error = factory.source(spec).err().unwrap();
        assert_eq!(error.kind, JobErrorKind::Usage);
        error.message
    };
    assert_eq!(
        refused(&spec(
            directory.path(),
            "csv",
            &[("csv.field-delimeter", "|")]
        )),
        "table 'files': connector 'filesystem' has no option 'csv.field-delimeter'; the nearest one is 'csv.field-delimiter'"
    );
    assert!(
        refused(&spec(directory.path(), "parquet", &[]))
            .contains("one of csv, json, found 'parquet'")
    );
    assert!(
        refused(&table("files", columns(), &[("format", "csv")]))
            .contains("needs the option 'path'")
    );
    assert!(
        refused(&spec(
            directory.path(),
            "csv",
            &[("source.monitor-interval", "1 s")]
        ))
        .contains("when the job starts")
    );
    let mut partitioned = spec(directory.path(), "csv", &[]);
    partitioned.partitioned_by = vec!["nam".to_owned()];
    assert!(refused(&partitioned).contains("found 'nam'"));
    partitioned.partitioned_by = vec!["id".to_owned(), "name".to_owned()];
    assert!(refused(&partitioned).contains("at least one column"));
    let missing = source_of(&spec(&directory.path().join("nowhere"), "csv", &[]));
    let error = missing.splits(1).unwrap_err();
    assert_eq!(error.kind, JobErrorKind::Usage);
    assert!(
        !directory.path().join("nowhere").exists(),
        "reading must not make directories"
    );
}

#[test]
fn updates_and_hostile_committables_are_refused() {
    let runtime = runtime();
    let directory = TempDir::new().unwrap();
    let sink = sink_of(&spec(directory.path(), "csv", &[]));
    let context = attempt(&runtime, 1, 0);
    let mut writer = sink.writer(context.clone()).unwrap();
    let update = ChangeBatch::new(rows(0..1).rows, vec![RowKind::Delete]);
    assert!(
        writer
            .write(&update)
            .unwrap_err()
            .message
            .contains("new rows only")
    );
    for hostile in [
        &b""[..],
        b"\x01",
        b"\x02part",
        b"\x01\xFF",
        b"\x01../../etc/passwd",
        b"\x01a//b",
    ] {
        assert!(
            sink.commit(vec![hostile.to_vec()], &context).is_err(),
            "{hostile:?}"
        );
    }
}

/// An object store has no renaming and no directories: a commit copies and deletes.
#[test]
fn object_stores_work_as_directories_do() {
    let runtime = runtime();
    let mut spec = spec(LocalPath::new("memory://connector-tests/a/b"), "json", &[]);
    spec.partitioned_by = vec!["name".to_owned()];
    let sink = sink_of(&spec);
    let context = attempt(&runtime, 1, 0);
    let mut writer = sink.writer(context.clone()).unwrap();
    writer.write(&rows(0..3)).unwrap();
    let committables = writer.prepare_commit(1).unwrap();
    writer.write(&rows(3..9)).unwrap();
    writer.prepare_commit(2).unwrap();
    assert_eq!(read_all(&spec, 1), Vec::<String>::new());

    // The second checkpoint was never complete.
    let next = attempt(&runtime, 2, 0);
    sink.commit(committables.clone(), &next).unwrap();
    sink.recover(&next).unwrap();
    sink.commit(committables, &next).unwrap();
    assert_eq!(read_all(&spec, 2), expected(0..3));
    let (opened, _) = Location::new("memory://connector-tests".to_owned(), BTreeMap::new())
        .open_existing()
        .unwrap();
    let names: Vec<String> = runtime
        .block_on(opened.list())
        .unwrap()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(
        names,
        [
            "a/b/name=n0/part-run.sink-1-0-0.json",
            "a/b/name=n1/part-run.sink-1-0-1.json",
            "a/b/name=n2/part-run.sink-1-0-2.json",
        ]
    );

    // A path may name one object.
    let mut one = super::tests::spec(
        LocalPath::new("memory://connector-tests/a/b/name=n1/part-run.sink-1-0-1.json"),
        "json",
        &[],
    );
    one.schema = Arc::new(arrow::datatypes::Schema::new(vec![columns().remove(0)]));
    assert_eq!(read_all(&one, 1), ["+I[1]"]);
}
