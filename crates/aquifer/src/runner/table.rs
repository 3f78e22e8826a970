//! Answers of `SHOW` and `DESCRIBE` as a small table, drawn the way database prompts draw them.

/// Draws columns and rows, without a line end; a row that is too short is filled up with nothing.
pub fn draw(columns: &[String], rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = (0..columns.len())
        .map(|column| {
            rows.iter()
                .map(Vec::as_slice)
                .chain([columns])
                .map(|row| width(cell(row, column)))
                .max()
                .unwrap_or(0)
        })
        .collect();
    let rule = widths.iter().fold("+".to_owned(), |rule, width| {
        rule + &"-".repeat(width + 2) + "+"
    });
    let line = |row: &[String]| {
        widths
            .iter()
            .enumerate()
            .fold("|".to_owned(), |line, (column, wanted)| {
                let text = cell(row, column);
                let padding = wanted.saturating_sub(width(text));
                format!("{line} {text}{} |", " ".repeat(padding))
            })
    };
    let mut lines = vec![rule.clone(), line(columns), rule.clone()];
    lines.extend(rows.iter().map(|row| line(row)));
    lines.push(rule);
    lines.join("\n")
}

fn cell(row: &[String], column: usize) -> &str {
    row.get(column).map_or("", String::as_str)
}

fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::draw;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let text = |items: &[&str]| {
            items
                .iter()
                .map(|item| (*item).to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            draw(
                &text(&["name", "type"]),
                &[text(&["a", "BIGINT"]), text(&["auction"])]
            ),
            "+---------+--------+\n\
             | name    | type   |\n\
             +---------+--------+\n\
             | a       | BIGINT |\n\
             | auction |        |\n\
             +---------+--------+"
        );
    }
}
