//! Rows as an aligned table, drawn the way database prompts draw them.
//!
//! The first rows decide how wide columns are. A later cell that is wider pushes the rest of its row to the right.

use arrow::array::RecordBatch;

use super::json::{cell, escaped};

/// Rows that are looked at before the first is written.
const SAMPLE_ROWS: usize = 500;
/// Bytes of cells that are looked at.
const SAMPLE_BYTES: usize = 1 << 20;
/// No column is made wider by the sample.
const WIDTH_MAX: usize = 80;

/// The table so far.
pub(super) struct Table {
    names: Vec<String>,
    sample: Vec<Vec<String>>,
    sample_bytes: usize,
    /// Once the sample is written.
    widths: Option<Vec<usize>>,
}

impl Table {
    pub(super) fn new(names: &[String]) -> Self {
        let shown = |name: &String| {
            let mut out = String::new();
            escaped(name, false, &mut out);
            out
        };
        Self {
            names: names.iter().map(shown).collect(),
            sample: Vec::new(),
            sample_bytes: 0,
            widths: None,
        }
    }

    /// Takes a row; appends it, and those that were waiting, when it is known how wide columns are.
    pub(super) fn row(&mut self, batch: &RecordBatch, row: usize, out: &mut String) {
        let cells: Vec<String> = batch
            .columns()
            .iter()
            .map(|column| {
                let mut shown = String::new();
                escaped(
                    cell(&**column, row).as_deref().unwrap_or("NULL"),
                    false,
                    &mut shown,
                );
                shown
            })
            .collect();
        if let Some(widths) = &self.widths {
            line(&cells, widths, out);
            return;
        }
        self.sample_bytes += cells.iter().map(String::len).sum::<usize>();
        self.sample.push(cells);
        if self.sample.len() >= SAMPLE_ROWS || self.sample_bytes >= SAMPLE_BYTES {
            self.begin(out);
        }
    }

    /// Whether rows have been written.
    #[cfg(test)]
    pub(super) fn is_begun(&self) -> bool {
        self.widths.is_some()
    }

    /// Appends what is left, and the last rule.
    pub(super) fn finish(&mut self, out: &mut String) {
        self.begin(out);
        rule(self.widths.as_deref().unwrap_or_default(), out);
    }

    fn begin(&mut self, out: &mut String) {
        if self.widths.is_some() {
            return;
        }
        let width_of = |column: usize| {
            let rows = self.sample.iter().chain([&self.names]);
            let cells = rows.filter_map(|row| row.get(column));
            let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
            widest.min(WIDTH_MAX)
        };
        let widths: Vec<usize> = (0..self.names.len()).map(width_of).collect();
        rule(&widths, out);
        line(&self.names, &widths, out);
        rule(&widths, out);
        for row in self.sample.drain(..) {
            line(&row, &widths, out);
        }
        self.widths = Some(widths);
    }
}

fn rule(widths: &[usize], out: &mut String) {
    out.push('+');
    for width in widths {
        out.extend(std::iter::repeat_n('-', width + 2));
        out.push('+');
    }
    out.push('\n');
}

fn line(cells: &[String], widths: &[usize], out: &mut String) {
    out.push('|');
    for (cell, width) in cells.iter().zip(widths) {
        out.push(' ');
        out.push_str(cell);
        let padding = width.saturating_sub(cell.chars().count());
        out.extend(std::iter::repeat_n(' ', padding));
        out.push_str(" |");
    }
    out.push('\n');
}
