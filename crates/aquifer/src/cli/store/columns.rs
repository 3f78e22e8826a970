//! Figures in columns: the first ones to the left, numbers to the right.

/// Lines of cells under a heading. The first `texts` columns are text.
pub struct Columns {
    texts: usize,
    lines: Vec<Vec<String>>,
}

impl Columns {
    /// An empty table.
    pub fn new(texts: usize, heading: &[&str]) -> Self {
        Self {
            texts,
            lines: vec![heading.iter().map(|&cell| cell.to_owned()).collect()],
        }
    }

    /// Adds a line.
    pub fn add(&mut self, cells: Vec<String>) {
        self.lines.push(cells);
    }

    fn draw(&self) -> String {
        let columns = self.lines.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let lines = self.lines.iter().map(|line| {
            let cells = line.iter().zip(&widths).enumerate();
            let cells = cells.map(|(column, (cell, &width))| match column < self.texts {
                true => format!("{cell:<width$}"),
                false => format!("{cell:>width$}"),
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

impl std::fmt::Display for Columns {
    /// Without a line feed at the end.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.draw())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stand_left_and_numbers_right() {
        let mut columns = Columns::new(1, &["state", "rows"]);
        columns.add(vec!["größte".into(), "7".into()]);
        columns.add(vec!["b".into(), "12345".into()]);
        assert_eq!(
            columns.to_string(),
            "state    rows\ngrößte      7\nb       12345"
        );
    }
}
