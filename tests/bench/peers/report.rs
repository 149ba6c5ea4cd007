//! What was measured, as JSON, and as Markdown that is made of it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::bed::Bed;
use crate::cases::{ALL, Case};
use crate::plot::Plot;

/// A table: rows that are compared, and columns of figures.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Table {
    pub title: String,
    /// What a row is.
    pub rows_are: String,
    pub columns: Vec<Column>,
    pub rows: Vec<Row>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plots: Vec<Plot>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    /// Whether it says how a row compares with the first.
    pub compared: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub name: String,
    /// The figures of all runs, by column.
    pub cells: Vec<Vec<Option<f64>>>,
}

impl Table {
    /// A table whose rows are compared with the first.
    pub fn compared(title: &str, rows_are: &str, columns: &[&str]) -> Self {
        Self::new(title, rows_are, columns, true)
    }

    /// A table of figures.
    pub fn plain(title: &str, rows_are: &str, columns: &[&str]) -> Self {
        Self::new(title, rows_are, columns, false)
    }

    fn new(title: &str, rows_are: &str, columns: &[&str], compared: bool) -> Self {
        let columns = columns.iter().map(|name| Column { name: (*name).to_owned(), compared }).collect();
        Self { title: title.to_owned(), rows_are: rows_are.to_owned(), columns, rows: Vec::new(), plots: Vec::new() }
    }

    /// The figures of one run.
    pub fn add(&mut self, name: &str, figures: &[f64]) {
        let shown: Vec<String> = figures.iter().map(|figure| number(*figure)).collect();
        eprintln!("   {name}: {}", shown.join(" | "));
        let row = match self.rows.iter_mut().position(|row| row.name == name) {
            Some(at) => &mut self.rows[at],
            None => {
                self.rows.push(Row { name: name.to_owned(), cells: vec![Vec::new(); self.columns.len()] });
                self.rows.last_mut().unwrap()
            }
        };
        for (cell, figure) in row.cells.iter_mut().zip(figures) {
            cell.push(figure.is_finite().then_some(*figure));
        }
    }

    /// The median of a cell.
    pub fn median(&self, row: usize, column: usize) -> f64 {
        let mut runs: Vec<f64> = self.rows[row].cells[column].iter().flatten().copied().collect();
        runs.sort_by(f64::total_cmp);
        match runs.len() {
            0 => f64::NAN,
            len if len % 2 == 1 => runs[len / 2],
            len => f64::midpoint(runs[len / 2 - 1], runs[len / 2]),
        }
    }

    pub fn markdown(&self) -> String {
        let mut text = format!("**{}**\n\n| {} |", self.title, self.rows_are);
        for column in &self.columns {
            let _ = write!(text, " {} |", column.name);
        }
        text.push_str("\n| --- |");
        text.push_str(&" ---: |".repeat(self.columns.len()));
        text.push('\n');
        for (at, row) in self.rows.iter().enumerate() {
            let _ = write!(text, "| {} |", row.name);
            for (number_of, column) in self.columns.iter().enumerate() {
                let (ours, figure) = (self.median(0, number_of), self.median(at, number_of));
                let ratio = figure / ours;
                if at > 0 && column.compared && ratio.is_finite() {
                    let _ = write!(text, " {} ({ratio:.2}×) |", number(figure));
                } else {
                    let _ = write!(text, " {} |", number(figure));
                }
            }
            text.push('\n');
        }
        text
    }
}

/// Three significant digits.
pub fn number(figure: f64) -> String {
    match figure.abs() {
        _ if !figure.is_finite() => "–".to_owned(),
        0.0 => "0".to_owned(),
        ..0.01 => format!("{figure:.4}"),
        ..1.0 => format!("{figure:.3}"),
        ..10.0 => format!("{figure:.2}"),
        ..100.0 => format!("{figure:.1}"),
        ..10_000.0 => format!("{figure:.0}"),
        ..10_000_000.0 => format!("{:.1}k", figure / 1e3),
        _ => format!("{:.1}M", figure / 1e6),
    }
}

/// All that has been measured, over several runs of this program.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Book {
    #[serde(skip)]
    folder: PathBuf,
    chapters: Vec<Chapter>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Chapter {
    case: String,
    quick: bool,
    runs: usize,
    machine: String,
    tables: Vec<Table>,
}

const BEGIN: &str = "<!-- What follows is written by tests/bench/run. -->\n";

impl Book {
    pub fn open(folder: &Path) -> Self {
        let before = fs::read_to_string(folder.join("benchmarks.json"));
        let book: Self = before.map_or_else(|_| Self::default(), |text| serde_json::from_str(&text).unwrap());
        Self { folder: folder.to_owned(), ..book }
    }

    /// Takes in what a case has measured, and writes everything anew.
    pub fn write(&mut self, case: &Case, tables: Vec<Table>, bed: &Bed) {
        self.chapters.retain(|chapter| chapter.case != case.name);
        self.chapters.push(Chapter {
            case: case.name.to_owned(),
            quick: bed.quick,
            runs: bed.runs,
            machine: machine(),
            tables,
        });
        self.chapters.sort_by_key(|chapter| ALL.iter().position(|case| case.name == chapter.case));
        let json = serde_json::to_string_pretty(self).unwrap();
        fs::write(self.folder.join("benchmarks.json"), json + "\n").unwrap();
        let path = self.folder.join("benchmarks.md");
        let before = fs::read_to_string(&path).unwrap_or_default();
        let introduction = before.split(BEGIN).next().unwrap_or_default();
        fs::write(path, format!("{introduction}{BEGIN}{}", self.markdown())).unwrap();
    }

    fn markdown(&self) -> String {
        let mut text = String::new();
        for chapter in &self.chapters {
            let Some(case) = ALL.iter().find(|case| case.name == chapter.case) else { continue };
            let _ = write!(text, "\n## {}\n\n{}\n\n", case.title, case.about);
            let quick = if chapter.quick { " --quick" } else { "" };
            let _ = write!(
                text,
                "`tests/bench/run {}{quick} --runs {}` on {}\n\n",
                case.name, chapter.runs, chapter.machine
            );
            for table in &chapter.tables {
                text.push_str(&table.markdown());
                for plot in &table.plots {
                    let name = plot.write(&self.folder);
                    let _ = write!(text, "\n![{}]({name})\n", plot.title);
                }
                text.push('\n');
            }
        }
        text.truncate(text.trim_end().len());
        text + "\n"
    }
}

/// What it was measured on.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let line = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text
            .lines()
            .find(|line| line.starts_with(name))?
            .split_once([':', '='])?
            .1
            .trim()
            .trim_matches('"')
            .to_owned();
        Some(line)
    };
    let model = line("/proc/cpuinfo", "model name").unwrap_or_else(|| "an unnamed processor".to_owned());
    let system = line("/etc/os-release", "PRETTY_NAME").unwrap_or_else(|| "an unnamed system".to_owned());
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().nth(1).unwrap_or("?").to_owned();
    format!("{cores} cores of {model}, {system}; load average at the end {load}")
}
