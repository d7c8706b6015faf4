//! Tables for a terminal: columns as wide as what stands in them, the last one as long as it is.

pub struct Table {
    heads: Vec<String>,
    rows: Vec<Row>,
}

struct Row {
    cells: Vec<String>,
    /// Lines under the row.
    notes: Vec<String>,
}

impl Table {
    pub fn new<Head: ToString>(heads: &[Head]) -> Table {
        Table { heads: heads.iter().map(ToString::to_string).collect(), rows: Vec::new() }
    }

    pub fn row(&mut self, cells: Vec<String>, notes: Vec<String>) {
        let cells = cells.into_iter().map(|cell| if cell.is_empty() { "-".to_owned() } else { plain(&cell) });
        let notes = notes.iter().map(|note| plain(note));
        self.rows.push(Row { cells: cells.collect(), notes: notes.collect() });
    }

    /// The table, or `empty` if it has no rows.
    pub fn print(&self, empty: &str) {
        if self.rows.is_empty() {
            println!("{empty}");
            return;
        }
        print!("{}", self.text());
    }

    fn text(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row.cells[column].chars().count());
            cells.chain([self.heads[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.heads.len()).map(width).collect();
        let line = |cells: &[&str]| {
            let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
        };
        let mut text = line(&self.heads.iter().map(String::as_str).collect::<Vec<_>>());
        for row in &self.rows {
            text += &line(&row.cells.iter().map(String::as_str).collect::<Vec<_>>());
            for note in &row.notes {
                text += &format!("    {note}\n");
            }
        }
        text
    }
}

/// What a machine calls itself must not be able to steer this terminal.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `3 min`, as the page says it.
pub fn span(secs: u64) -> String {
    match secs {
        0..60 => format!("{secs} s"),
        60..3600 => format!("{} min", secs / 60),
        3600..86_400 => format!("{} h {} min", secs / 3600, secs / 60 % 60),
        _ => format!("{} d {} h", secs / 86_400, secs / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_nothing_steers_the_terminal() {
        let mut table = Table::new(&["NAME", "PHASE"]);
        table.row(vec!["host-1".into(), "ready".into()], vec![]);
        table.row(vec!["ü\x1b[2J".into(), String::new()], vec!["waits: a disk".into()]);
        assert_eq!(table.text(), "NAME    PHASE\nhost-1  ready\nü [2J   -\n    waits: a disk\n");
        assert_eq!(span(59), "59 s");
        assert_eq!(span(3700), "1 h 1 min");
    }
}
