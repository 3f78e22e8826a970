//! S1: reads equal the model, whether memory answers them or the object store, at once or later.
use std::collections::BTreeSet;

use aquifer_store::{ColdRead, ErrorKind, Lookup, ScanLookup};
use aquifer_testkit::Rng;

use super::super::model::{Sight, compare};
use super::apply::place;
use super::process::{Planned, id};
use super::{Simulation, Stop, fail};

impl Simulation<'_> {
    /// What a read may end with besides its answer.
    fn tolerate(&self, what: &str, error: &aquifer_store::Error) -> Result<(), Stop> {
        let kinds = [ErrorKind::Retry, ErrorKind::Corrupt, ErrorKind::Usage];
        if self.faults_are_possible() && kinds.contains(&error.kind) {
            return Ok(());
        }
        fail("S1", format!("{what} failed: {error} ({:?})", error.kind))
    }

    pub(super) fn get(&mut self, table: u8, group: u16, key: &[u8]) -> Result<(), Stop> {
        let process = self.process();
        let expected = process.expected(table, group, key);
        let worker = process.worker(group);
        let what = format!(
            "get of table {table} group {group} key {}",
            key.escape_ascii()
        );
        let found = match worker.store.get(id(table), group, key) {
            Ok(Lookup::Found(value)) => Ok(Some(value.to_vec())),
            Ok(Lookup::Absent) => Ok(None),
            Ok(Lookup::Cold(read)) => {
                let fetch = worker.store.fetch(vec![read]);
                let values = process.executor.wait(fetch);
                values.map(|mut values| values.pop().flatten().map(|value| value.to_vec()))
            }
            Err(error) => Err(error),
        };
        match found {
            Ok(found) => Ok(expected.check(&what, found.as_deref())?),
            Err(error) => self.tolerate(&what, &error),
        }
    }

    pub(super) fn multi_get(
        &mut self,
        table: u8,
        seed: u32,
        count: u16,
        later: bool,
    ) -> Result<(), Stop> {
        let mut random = Rng::new(u64::from(seed));
        let keys: Vec<(u16, Vec<u8>)> = (0..count).map(|_| place(&mut random)).collect();
        let mut failed = None;
        let mut plans = Vec::new();
        let process = self.process();
        for at in 0..process.workers.len() {
            let worker = &process.workers[at];
            let asked: Vec<(u16, &[u8])> = keys
                .iter()
                .filter(|(group, _)| worker.range.contains(*group))
                .map(|(group, key)| (*group, key.as_slice()))
                .collect();
            let mut answers: Vec<Option<Option<Vec<u8>>>> = vec![None; asked.len()];
            let mut cold = Vec::new();
            let mut twice = false;
            let mut seen = BTreeSet::new();
            let result = worker.store.multi_get(id(table), &asked, &mut |i, lookup| {
                twice |= !seen.insert(i);
                match lookup {
                    Lookup::Found(value) => answers[i] = Some(Some(value.to_vec())),
                    Lookup::Absent => answers[i] = Some(None),
                    Lookup::Cold(read) => cold.push((i, read)),
                }
            });
            if let Err(error) = result {
                failed = Some(error);
                break;
            }
            if twice || seen.len() != asked.len() {
                return fail(
                    "S1",
                    format!("multi_get answered {} of {} keys", seen.len(), asked.len()),
                );
            }
            let what = |i: usize| {
                let (group, key) = asked[i];
                format!(
                    "multi_get of table {table} group {group} key {}",
                    key.escape_ascii()
                )
            };
            let expected = |i: usize| process.expected(table, asked[i].0, asked[i].1);
            if later {
                let planned = cold.drain(..).map(|(i, read)| Planned {
                    worker: at,
                    read,
                    expected: expected(i),
                    what: what(i),
                });
                plans.extend(planned);
            } else {
                let (places, reads): (Vec<usize>, Vec<ColdRead>) = cold.into_iter().unzip();
                match process.executor.wait(worker.store.fetch(reads)) {
                    Ok(values) => {
                        for (i, value) in places.into_iter().zip(values) {
                            answers[i] = Some(value.map(|value| value.to_vec()));
                        }
                    }
                    Err(error) => failed = Some(error),
                }
            }
            for (i, answer) in answers.iter().enumerate() {
                if let Some(found) = answer {
                    expected(i).check(&what(i), found.as_deref())?;
                }
            }
        }
        process.planned.extend(plans);
        match failed {
            None => Ok(()),
            Some(error) => self.tolerate("multi_get", &error),
        }
    }

    pub(super) fn finish_reads(&mut self) -> Result<(), Stop> {
        let process = self.process();
        let mut planned = std::mem::take(&mut process.planned);
        let mut failed = None;
        for at in 0..process.workers.len() {
            let ours = planned.extract_if(.., |planned| planned.worker == at);
            let (reads, expected): (Vec<ColdRead>, Vec<_>) = ours
                .map(|planned| (planned.read, (planned.what, planned.expected)))
                .unzip();
            match process
                .executor
                .wait(process.workers[at].store.fetch(reads))
            {
                Ok(values) => {
                    for ((what, expected), found) in expected.into_iter().zip(values) {
                        let expected = expected.later(process.clock.now());
                        expected.check(&format!("late {what}"), found.as_deref())?;
                    }
                }
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            None => Ok(()),
            Some(error) => self.tolerate("a late read", &error),
        }
    }

    pub(super) fn scan(
        &mut self,
        table: u8,
        group: u16,
        prefix: &[u8],
        from: &[u8],
        until: Option<&[u8]>,
        rows_max: usize,
    ) -> Result<(), Stop> {
        let process = self.process();
        let now = process.clock.now();
        let expected = process.live.scan(table, group, prefix, from, until, now);
        let worker = process.worker(group);
        let what = format!(
            "scan of table {table} group {group} prefix {} from {} until {:?} limit {rows_max}",
            prefix.escape_ascii(),
            from.escape_ascii(),
            until.map(|until| until.escape_ascii().to_string())
        );
        match worker.store.holds_any(id(table), group, prefix) {
            Ok(None) => {}
            Ok(Some(holds)) => {
                let under = process.live.scan(table, group, prefix, b"", None, now);
                let surely = under.iter().any(|(_, _, sight)| *sight == Sight::There);
                if (holds && under.is_empty()) || (!holds && surely) {
                    let said = format!("{what}: that there is a row is said to be {holds}");
                    return fail("S1", said);
                }
            }
            Err(error) => self.tolerate(&what, &error)?,
        }
        let process = self.process();
        let worker = process.worker(group);
        let found = match worker
            .store
            .scan(id(table), group, prefix, from, until, rows_max)
        {
            Ok(ScanLookup::Rows(rows)) => Ok(rows),
            Ok(ScanLookup::Cold(scan)) => process.executor.wait(worker.store.fetch_scan(scan)),
            Err(error) => Err(error),
        };
        match found {
            Ok(found) => {
                let rows: Vec<(&[u8], &[u8])> =
                    found.rows.iter().map(|(k, v)| (&k[..], &v[..])).collect();
                if let Err(why) = compare(&rows, &expected, rows_max, found.done) {
                    return fail("S1", format!("{what}: {why}"));
                }
                Ok(())
            }
            Err(error) => self.tolerate(&what, &error),
        }
    }
}
