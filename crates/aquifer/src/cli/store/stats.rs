//! `aquifer store stats`: what a checkpoint holds.

use std::collections::BTreeMap;

use aquifer::runner::RunError;
use aquifer_store::inspect::{FileSummary, Inspector, Tally};
use aquifer_store::{FileRef, TableId};
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::columns::Columns;
use super::{Opened, failed};
use crate::cli::progress::{bytes, grouped};
use crate::cli::screen::Screen;

/// Files looked into at the same time.
const FILES_TOGETHER: usize = 32;

/// Prints the figures on standard output.
pub fn run(opened: &Opened, groups: bool, screen: &Screen) -> Result<(), RunError> {
    let files = opened.files();
    let inspector = Inspector::new(opened.environment());
    let looking = stream::iter(files.values().filter_map(|refs| refs.first()))
        .map(|file| async {
            Ok::<_, aquifer_store::Error>((*file, inspector.summary(file).await?))
        })
        .buffer_unordered(FILES_TOGETHER)
        .try_collect::<Vec<_>>();
    let summaries = opened.runtime.block_on(looking);
    let summaries = summaries.map_err(|error| failed(error.to_string()))?;
    let mut totals = Totals::default();
    for (file, summary) in &summaries {
        let named = files.get(file.path.as_str()).map(Vec::as_slice);
        totals.add(named.unwrap_or_default(), summary);
    }
    screen.answer(&heading(opened, summaries.len(), &totals));
    screen.answer(&format!("\n{}", levels(&totals)));
    screen.answer(&format!("\n{}", states(opened, &totals)));
    screen.answer(&format!("\n{}", key_groups(opened, &totals, groups)));
    Ok(())
}

#[derive(Default)]
struct Level {
    files: u64,
    bytes: u64,
    rows: u64,
    tombstones: u64,
    ranges: u64,
    waste: u64,
}

/// Figures of all files.
#[derive(Default)]
struct Totals {
    bytes: u64,
    levels: BTreeMap<u8, Level>,
    tables: BTreeMap<TableId, Tally>,
    groups: BTreeMap<u16, Tally>,
}

impl Totals {
    /// A file, and all the ways in which the checkpoint names it.
    fn add(&mut self, named: &[&FileRef], summary: &FileSummary) {
        let Some(file) = named.first() else { return };
        let counts = |group: u16| named.iter().any(|file| file.clip.contains(group));
        let wasted: u64 = summary
            .groups
            .iter()
            .filter(|(group, _)| !counts(**group))
            .map(|(_, tally)| tally.rows)
            .sum();
        self.bytes += file.size_bytes;
        let level = self.levels.entry(file.level).or_default();
        level.files += 1;
        level.bytes += file.size_bytes;
        level.rows += file.entries;
        level.tombstones += file.tombstones;
        level.ranges += u64::from(file.range_tombstones);
        level.waste += wasted;
        for (table, tally) in &summary.tables {
            *self.tables.entry(*table).or_default() += *tally;
        }
        for (group, tally) in &summary.groups {
            *self.groups.entry(*group).or_default() += *tally;
        }
    }

    fn rows(&self) -> Tally {
        self.groups.values().fold(Tally::default(), |mut all, one| {
            all += *one;
            all
        })
    }
}

fn heading(opened: &Opened, files: usize, totals: &Totals) -> String {
    let metadata = &opened.metadata;
    let all = totals.rows();
    let finished = if metadata.finished { ", finished" } else { "" };
    let claimed = match &metadata.origin.claimed[..] {
        [] => String::new(),
        claimed => format!("\nclaimed from {}", claimed.join(", ")),
    };
    format!(
        "checkpoint {} of job '{}'{finished}: {}\nattempt {}, {} workers, {} key groups, {} states, {} operators{claimed}\n\
         {} files, {}; {} rows, of which {} are tombstones; {} of keys and {} of values before compression",
        metadata.checkpoint_id,
        metadata.job_name,
        opened.directory(),
        metadata.attempt,
        metadata.parallelism,
        metadata.max_parallelism,
        metadata.tables.len(),
        metadata.operators.len(),
        files,
        bytes(totals.bytes),
        grouped(all.rows),
        grouped(all.tombstones),
        bytes(all.key_bytes),
        bytes(all.value_bytes),
    )
}

fn levels(totals: &Totals) -> Columns {
    let heading = [
        "level",
        "files",
        "size",
        "rows",
        "tombstones",
        "range tombstones",
        "rows outside of the clips",
    ];
    let mut columns = Columns::new(1, &heading);
    for (level, figures) in &totals.levels {
        columns.add(vec![
            level.to_string(),
            grouped(figures.files),
            bytes(figures.bytes),
            grouped(figures.rows),
            grouped(figures.tombstones),
            grouped(figures.ranges),
            grouped(figures.waste),
        ]);
    }
    columns
}

fn cells(tally: &Tally) -> Vec<String> {
    vec![
        grouped(tally.rows),
        grouped(tally.tombstones),
        grouped(tally.operands),
        bytes(tally.key_bytes),
        bytes(tally.value_bytes),
    ]
}

fn states(opened: &Opened, totals: &Totals) -> Columns {
    let heading = [
        "state",
        "table",
        "rows",
        "tombstones",
        "operands",
        "keys",
        "values",
    ];
    let mut columns = Columns::new(1, &heading);
    let mut named: BTreeMap<TableId, String> = BTreeMap::new();
    for (description, table) in &opened.metadata.tables {
        named.insert(
            *table,
            format!("{}/{}", description.operator, description.state),
        );
    }
    for table in totals.tables.keys() {
        named
            .entry(*table)
            .or_insert_with(|| "(unknown)".to_owned());
    }
    for (table, name) in named {
        let tally = totals.tables.get(&table).copied().unwrap_or_default();
        let mut line = vec![name, table.0.to_string()];
        line.extend(cells(&tally));
        columns.add(line);
    }
    columns
}

fn key_groups(opened: &Opened, totals: &Totals, each: bool) -> String {
    if each {
        let heading = [
            "key group",
            "rows",
            "tombstones",
            "operands",
            "keys",
            "values",
        ];
        let mut columns = Columns::new(1, &heading);
        for (group, tally) in &totals.groups {
            let mut line = vec![group.to_string()];
            line.extend(cells(tally));
            columns.add(line);
        }
        return columns.to_string();
    }
    let fullest = totals.groups.iter().max_by_key(|(_, tally)| tally.rows);
    let Some((group, tally)) = fullest else {
        return "no rows in any key group".to_owned();
    };
    let mean = totals.rows().rows / u64::from(opened.metadata.max_parallelism.max(1));
    format!(
        "{} of {} key groups have rows; the fullest is {group} with {} rows, the mean is {} (--groups lists them)",
        totals.groups.len(),
        opened.metadata.max_parallelism,
        grouped(tally.rows),
        grouped(mean),
    )
}
