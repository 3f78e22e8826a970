//! The figures of all backends, and the ratios that the aims are about.
use std::fmt::Write as _;

use super::{Api, Backend};
use crate::report::human;

/// Backend, way of calling, and calls per second of one turn.
type Figure = (Backend, Api, f64);

/// Figures by row, in the order in which rows came.
pub struct Table {
    kinds: Vec<Backend>,
    rows: Vec<(&'static str, Vec<Figure>)>,
}

impl Table {
    pub fn new(kinds: &[Backend]) -> Self {
        Self {
            kinds: kinds.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds the calls per second of one turn.
    pub fn add(&mut self, row: &'static str, kind: Backend, api: Api, calls_per_second: f64) {
        let figure = (kind, api, calls_per_second);
        match self.rows.iter_mut().find(|(name, _)| *name == row) {
            Some((_, figures)) => figures.push(figure),
            None => self.rows.push((row, vec![figure])),
        }
    }

    /// The median of a backend's turns.
    fn rate(&self, row: &str, kind: Backend, api: Api) -> Option<f64> {
        let (_, figures) = self.rows.iter().find(|(name, _)| *name == row)?;
        let mut rates: Vec<f64> = figures
            .iter()
            .filter(|(k, a, _)| (*k, *a) == (kind, api))
            .map(|(_, _, rate)| *rate)
            .collect();
        rates.sort_unstable_by(f64::total_cmp);
        rates.get(rates.len() / 2).copied()
    }

    /// `a` divided by `b`, with the aim if it is missed.
    fn ratio(&self, row: &str, a: (Backend, Api), b: (Backend, Api), least: f64) -> String {
        let rates = self.rate(row, a.0, a.1).zip(self.rate(row, b.0, b.1));
        match rates {
            None => "–".to_owned(),
            Some((a, b)) if a / b < least => format!("**{:.2}**", a / b),
            Some((a, b)) => format!("{:.2}", a / b),
        }
    }

    /// A row for whoever waits.
    pub fn line(&self, row: &str) -> String {
        let mut line = row.to_owned();
        for &kind in &self.kinds {
            for api in [Api::V1, Api::V2] {
                let rate = self.rate(row, kind, api).map_or("–".to_owned(), human);
                let _ = write!(line, ", {} {api:?} {rate}", kind.name());
            }
        }
        line
    }

    /// All of it. Ratios below their aims are bold.
    pub fn markdown(&self) -> String {
        use Backend::{Forst, Hashmap, Rocksdb};
        let mut out = String::from("| calls per second |");
        for kind in &self.kinds {
            let _ = write!(out, " {0} V1 | {0} V2 |", kind.name());
        }
        for kind in &self.kinds {
            let _ = write!(out, " {} V2 ÷ V1 (≥ 0.8) |", kind.name());
        }
        let columns = 4 + 3 * self.kinds.len();
        let _ = writeln!(
            out,
            " forst ÷ rocksdb (≥ 1) | hashmap ÷ rocksdb (> 1) | forst ÷ hashmap (≥ 0.5) |\n{}|",
            "|---".repeat(columns)
        );
        for (row, _) in &self.rows {
            let _ = write!(out, "| {row} |");
            for &kind in &self.kinds {
                for api in [Api::V1, Api::V2] {
                    let rate = self.rate(row, kind, api).map_or("–".to_owned(), human);
                    let _ = write!(out, " {rate} |");
                }
            }
            for &kind in &self.kinds {
                let _ = write!(
                    out,
                    " {} |",
                    self.ratio(row, (kind, Api::V2), (kind, Api::V1), 0.8)
                );
            }
            for (a, b, least) in [
                (Forst, Rocksdb, 1.0),
                (Hashmap, Rocksdb, 1.0),
                (Forst, Hashmap, 0.5),
            ] {
                let each = [Api::V1, Api::V2].map(|api| self.ratio(row, (a, api), (b, api), least));
                let _ = write!(out, " {} |", each.join(" / "));
            }
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_medians_and_bold_below_their_aims() {
        let mut table = Table::new(&[Backend::Hashmap, Backend::Forst]);
        for rate in [9.0, 100.0, 1000.0] {
            table.add("value get", Backend::Hashmap, Api::V1, rate);
            table.add("value get", Backend::Hashmap, Api::V2, rate * 0.9);
            table.add("value get", Backend::Forst, Api::V1, rate * 0.4);
            table.add("value get", Backend::Forst, Api::V2, rate * 0.2);
        }
        let markdown = table.markdown();
        let row = markdown.lines().nth(2).unwrap();
        assert_eq!(
            row,
            "| value get | 100 | 90 | 40 | 20 | 0.90 | **0.50** | – / – | – / – | **0.40** / **0.22** |"
        );
        let columns = |line: &str| line.matches('|').count();
        assert!(markdown.lines().all(|line| columns(line) == columns(row)));
    }
}
