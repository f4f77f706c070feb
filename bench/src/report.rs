//! Goals beside what was reached, as a table for people and as JSON for machines.

use std::{fs, path::Path, time::Duration};

use anyhow::Result;
use serde::Serialize;

/// What is asked of a value.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Goal {
    /// It may be at most this.
    AtMost(f64),
    /// It must be at least this.
    AtLeast(f64),
    /// It is told for its own sake.
    None,
}

impl Goal {
    /// Whether `value` reaches it; `None` where there is nothing to reach.
    pub fn is_met(self, value: f64) -> Option<bool> {
        match self {
            Self::AtMost(most) => Some(value <= most),
            Self::AtLeast(least) => Some(value >= least),
            Self::None => None,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtMost(most) => format!("≤ {most}"),
            Self::AtLeast(least) => format!("≥ {least}"),
            Self::None => String::new(),
        }
    }
}

/// One line of the report.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// What was measured.
    pub name: String,
    /// Unit of the value.
    pub unit: &'static str,
    /// What is asked of it.
    pub goal: Goal,
    /// What was reached.
    pub value: f64,
    /// Whether that is enough.
    pub met: Option<bool>,
}

/// Everything that was measured.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// How the benchmark was run.
    pub command: String,
    /// What it ran on.
    pub machine: String,
    /// Lines, in the order of measurement.
    pub rows: Vec<Row>,
}

impl Report {
    /// Adds a line.
    pub fn add(&mut self, name: impl Into<String>, unit: &'static str, goal: Goal, value: f64) {
        self.rows.push(Row { name: name.into(), unit, goal, value, met: goal.is_met(value) });
    }

    /// Whether all goals were reached.
    pub fn all_met(&self) -> bool {
        self.rows.iter().all(|row| row.met != Some(false))
    }

    /// As a table in Markdown, which terminals show well enough.
    pub fn table(&self) -> String {
        let mut lines = vec!["| measured | goal | reached | |".to_owned(), "|---|--:|--:|---|".to_owned()];
        lines.extend(self.rows.iter().map(|row| {
            let digits = if row.value.abs() < 10.0 { 2 } else { 0 };
            let verdict = match row.met {
                Some(true) => "met",
                Some(false) => "**missed**",
                None => "",
            };
            format!("| {} | {} | {:.digits$} {} | {verdict} |", row.name, row.goal.text(), row.value, row.unit)
        }));
        lines.join("\n")
    }

    /// Writes it as JSON.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        Ok(fs::write(path, serde_json::to_string_pretty(self)?)?)
    }
}

/// The processor and the number of its cores, as Linux tells.
pub fn machine() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find(|l| l.starts_with("model name")).and_then(|l| l.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} cores, {}", model.unwrap_or("unknown processor"))
}

/// The value below which `share` of `sorted` lie, in milliseconds; 0 when there are none.
pub fn percentile_ms(sorted: &[Duration], share: f64) -> f64 {
    // Nearest rank.
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).map_or(0.0, |d| d.as_secs_f64() * 1000.0)
}

/// The middle one of `values`, the lower one of two; 0 when there are none.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let sorted: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!([0.5, 0.99, 1.0].map(|share| percentile_ms(&sorted, share)), [50.0, 99.0, 100.0]);
        assert_eq!(percentile_ms(&sorted[..1], 0.99), 1.0);
        assert_eq!(percentile_ms(&[], 0.5), 0.0);
    }

    #[test]
    fn a_median_is_a_value_that_was_measured() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0]), 1.0);
        assert_eq!(median(Vec::new()), 0.0);
    }

    #[test]
    fn a_missed_goal_is_said_to_be_missed() {
        let mut report = Report::default();
        report.add("writes per room", "", Goal::AtMost(2.0), 1.0);
        assert!(report.all_met());
        report.add("ratio", "", Goal::AtLeast(0.9), 0.89);
        assert!(!report.all_met());
        assert!(report.table().contains("| ratio | ≥ 0.9 | 0.89  | **missed** |"), "{}", report.table());
    }
}
