//! Figures: a table for people, JSON lines for later.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::thread;

use jiff::Zoned;
use serde_json::{Map, Value, json};

use crate::BenchError;

/// One line of the table.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    case: String,
    figures: Vec<Figure>,
}

#[derive(Debug, Clone)]
struct Figure {
    /// In the JSON line, with its unit.
    key: &'static str,
    /// At the head of its column.
    head: &'static str,
    value: f64,
}

impl Row {
    /// A line without figures.
    pub(crate) fn new(case: impl Into<String>) -> Self {
        Self { case: case.into(), figures: Vec::new() }
    }

    /// With one more figure. All rows of a table have the same ones, in the same order.
    pub(crate) fn with(mut self, key: &'static str, head: &'static str, value: f64) -> Self {
        self.figures.push(Figure { key, head, value });
        self
    }
}

/// Where a run took place.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    processor: String,
    kernel: String,
    cores: usize,
    file_system: String,
    commit: String,
}

impl Machine {
    /// This machine, with the file system of `data`.
    pub(crate) fn of(data: &Path) -> Result<Self, BenchError> {
        let processors = fs::read_to_string("/proc/cpuinfo")?;
        let model = processors.lines().find(|line| line.starts_with("model name"));
        let model =
            model.and_then(|line| line.split_once(": ")).map_or("unknown", |(_, name)| name);
        Ok(Self {
            processor: model.to_owned(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            cores: thread::available_parallelism()?.get(),
            file_system: file_system_of(data)?,
            commit: commit(),
        })
    }

    fn file_name(&self) -> String {
        let lower = self.processor.to_ascii_lowercase();
        let words: Vec<_> = lower
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|word| !word.is_empty())
            .collect();
        format!("{}-{}-cores", words.join("-"), self.cores)
    }
}

/// The type of the file system that `path` is on: the longest mount point above it.
fn file_system_of(path: &Path) -> Result<String, BenchError> {
    let path = path.canonicalize()?;
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let found = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            Some((fields.next()?, fields.next()?))
        })
        .filter(|(mount, _)| path.starts_with(mount))
        .max_by_key(|(mount, _)| mount.len());
    Ok(found.map_or("unknown", |(_, kind)| kind).to_owned())
}

/// The commit that is measured, as far as git knows.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "none".into() };
    let is_clean = git(&["status", "--porcelain"]).is_some_and(|changes| changes.is_empty());
    if is_clean { commit } else { format!("{commit}-changed") }
}

/// Prints the table.
pub(crate) fn print(bench: &str, machine: &Machine, rows: &[Row]) {
    println!(
        "{bench}: {}, {} cores, Linux {}, {}, commit {}",
        machine.processor, machine.cores, machine.kernel, machine.file_system, machine.commit
    );
    let Some(first) = rows.first() else { return };
    let case_width = rows.iter().map(|row| row.case.len()).max().unwrap_or(0);
    let heads: Vec<_> = first.figures.iter().map(|figure| figure.head).collect();
    let widths: Vec<_> = heads
        .iter()
        .enumerate()
        .map(|(column, head)| {
            let cells = rows.iter().filter_map(|row| row.figures.get(column));
            cells.map(|figure| shown(figure.value).len()).max().unwrap_or(0).max(head.len())
        })
        .collect();
    print!("{:case_width$}", "");
    for (head, width) in heads.iter().zip(&widths) {
        print!("  {head:>width$}");
    }
    println!();
    for row in rows {
        print!("{:case_width$}", row.case);
        for (figure, width) in row.figures.iter().zip(&widths) {
            print!("  {:>width$}", shown(figure.value));
        }
        println!();
    }
}

/// Three digits or so, with the thousands apart.
fn shown(value: f64) -> String {
    match value.abs() {
        size if !size.is_finite() => "-".into(),
        size if size >= 1_000.0 => {
            let digits = format!("{value:.0}");
            let mut out = String::new();
            for (at, digit) in digits.chars().enumerate() {
                if at > 0 && (digits.len() - at).is_multiple_of(3) {
                    out.push(',');
                }
                out.push(digit);
            }
            out
        }
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Appends the figures to the file of this day and machine.
pub(crate) fn keep(
    runs: &Path,
    bench: &str,
    machine: &Machine,
    rows: &[Row],
) -> Result<(), BenchError> {
    fs::create_dir_all(runs)?;
    let now = Zoned::now();
    let path = runs.join(format!("{}-{}.jsonl", now.strftime("%Y-%m-%d"), machine.file_name()));
    let mut file = File::options().create(true).append(true).open(&path)?;
    for row in rows {
        let figures: Map<String, Value> =
            row.figures.iter().map(|figure| (figure.key.to_owned(), json!(figure.value))).collect();
        let line = json!({
            "time": now.timestamp().to_string(),
            "bench": bench,
            "case": row.case,
            "commit": machine.commit,
            "machine": {
                "processor": machine.processor,
                "cores": machine.cores,
                "kernel": machine.kernel,
                "file_system": machine.file_system,
            },
            "figures": figures,
        });
        writeln!(file, "{line}")?;
    }
    println!("appended to {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(shown(1_234_567.8), "1,234,568");
        assert_eq!(shown(999.4), "999");
        assert_eq!(shown(99.44), "99.4");
        assert_eq!(shown(0.123), "0.12");
        assert_eq!(shown(f64::NAN), "-");
    }
}
