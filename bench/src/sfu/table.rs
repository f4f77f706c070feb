//! What was measured, as tables for people and as JSON for machines, with the goals beside.

use std::{fs, path::Path};

use anyhow::Result;
use serde::Serialize;

use super::{cases::Joins, floors::Floor, run::Measured};
use crate::report::{Goal, Row};

/// Everything that was measured.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tables {
    /// How the benchmark was run.
    pub command: String,
    /// What it ran on.
    pub machine: String,
    /// Forwarding.
    pub media: Vec<Measured>,
    /// Joining.
    pub joins: Vec<Joins>,
    /// Floors.
    pub floors: Vec<Floor>,
    /// What could not be measured, and why.
    pub absent: Vec<String>,
    /// Goals.
    pub goals: Vec<Row>,
}

const OURS: &str = "callplane";

impl Tables {
    /// Sets the goals beside what was reached, where it was measured.
    pub fn judge(&mut self) {
        let ours: Vec<_> = self.media.iter().filter(|m| m.peer == OURS).collect();
        let case = |part: &str| ours.iter().find(|m| m.case.contains(part));
        let mut goals = Vec::new();
        let mut add = |name: &str, unit, goal: Goal, value: f64| {
            goals.push(Row { name: name.to_owned(), unit, goal, value, met: goal.is_met(value) });
        };
        if let Some(equal) = case("equal") {
            add("CPU per forwarded packet of 1200 B, 1→50", "µs", Goal::AtMost(1.5), equal.micros_per_packet);
            let others = self.media.iter().filter(|m| m.case == equal.case && m.peer != OURS);
            let best = others.map(|m| m.micros_per_packet).fold(f64::INFINITY, f64::min);
            if best.is_finite() {
                add("share of the best peer's", "", Goal::AtMost(1.0 / 3.0), equal.micros_per_packet / best);
            }
        }
        if let Some(camera) = case("camera 1.5 Mbit/s") {
            add("latency, camera 1→50, p50", "ms", Goal::AtMost(2.0), camera.latency_p50);
            add("latency, camera 1→50, p99", "ms", Goal::AtMost(10.0), camera.latency_p99);
        }
        for broadcast in ours.iter().filter(|m| m.case.starts_with("1→50")) {
            let name = format!("memory per subscriber, {}", broadcast.case);
            add(&name, "KB", Goal::AtMost(128.0), broadcast.kilobytes_per_subscriber);
        }
        if let Some(rooms) = case("10 rooms of 50, all publish") {
            add("10 rooms of 50: loss", "%", Goal::AtMost(0.1), rooms.loss_percent);
            let both = rooms.cores + rooms.generator_cores;
            add("10 rooms of 50: cores of server and generator", "", Goal::AtMost(2.0), both);
        }
        for joins in self.joins.iter().filter(|j| j.peer == OURS) {
            if joins.case.starts_with("handshake") {
                add("CPU per handshake", "ms", Goal::AtMost(0.5), joins.millis_per_join);
            } else {
                add("memory per subscriber, storm", "KB", Goal::AtMost(128.0), joins.kilobytes_per_join);
            }
        }
        self.goals = goals;
    }

    /// As Markdown, which terminals show well enough.
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        if !self.media.is_empty() {
            lines.push(
                "| case | server | subscribers | packets/s | cores | µs per packet | KB per subscriber | p50 ms | p99 ms | loss % | \
                 packets per train | generator's cores | load |"
                    .to_owned(),
            );
            lines.push("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|".to_owned());
        }
        for m in &self.media {
            lines.push(format!(
                "| {} | {} | {} | {:.0} | {:.2} | **{:.2}** | {:.0} | {:.2} | {:.1} | {:.3} | {:.1} | {:.2} | {:.1} |",
                m.case,
                m.peer,
                m.subscribers,
                m.packets_per_second,
                m.cores,
                m.micros_per_packet,
                m.kilobytes_per_subscriber,
                m.latency_p50,
                m.latency_p99,
                m.loss_percent,
                m.packets_per_train,
                m.generator_cores,
                m.load_average
            ));
        }
        if !self.joins.is_empty() {
            lines.push("\n| joining | server | CPU ms each | KB each | seconds | load |".to_owned());
            lines.push("|---|---|--:|--:|--:|--:|".to_owned());
        }
        for j in &self.joins {
            let (case, peer, millis, seconds) = (j.case, &j.peer, j.millis_per_join, j.seconds);
            let (kilobytes, load) = (j.kilobytes_per_join, j.load_average);
            lines.push(format!("| {case} | {peer} | {millis:.2} | {kilobytes:.0} | {seconds:.1} | {load:.1} |"));
        }
        if !self.floors.is_empty() {
            lines.push("\n| floor, 1200 B | µs per packet |\n|---|--:|".to_owned());
        }
        lines.extend(self.floors.iter().map(|f| format!("| {} | {:.2} |", f.name, f.micros_per_packet)));
        lines.extend(self.absent.iter().map(|why| format!("\nnot measured: {why}")));
        if !self.goals.is_empty() {
            let goals = self.goals.clone();
            let report = crate::report::Report { rows: goals, ..Default::default() };
            lines.push(format!("\n{}", report.table()));
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sfu::meter::Totals;

    fn measured(case: &str, peer: &str, kilobytes: f64) -> Measured {
        Measured {
            case: case.to_owned(),
            peer: peer.to_owned(),
            subscribers: 50,
            packets_per_second: 1.0,
            megabits_per_second: 1.0,
            cores: 0.5,
            generator_cores: 0.5,
            micros_per_packet: 1.0,
            kilobytes_per_subscriber: kilobytes,
            latency_p50: 1.0,
            latency_p99: 1.0,
            loss_percent: 0.0,
            packets_per_train: 1.0,
            load_average: 0.0,
            counted: Totals::default(),
        }
    }

    #[test]
    fn memory_is_judged_wherever_one_sends_to_fifty_and_rooms_only_where_all_publish() {
        let mut tables = Tables {
            media: vec![
                measured("1→50, camera 1.5 Mbit/s", "callplane", 160.0),
                measured("1→50, equal packets of 1200 B", "callplane", 70.0),
                measured("1→50, equal packets of 1200 B", "mediasoup", 190.0),
                measured("10 rooms of 50, 9 cameras + 3 voices, all forwarded", "callplane", 300.0),
            ],
            ..Tables::default()
        };
        tables.judge();
        let memory = tables.goals.iter().filter(|row| row.name.starts_with("memory"));
        let memory: Vec<_> = memory.map(|row| (row.name.as_str(), row.value, row.met)).collect();
        let name = "memory per subscriber, 1→50";
        assert_eq!(memory[0], (format!("{name}, camera 1.5 Mbit/s").as_str(), 160.0, Some(false)));
        assert_eq!(memory[1], (format!("{name}, equal packets of 1200 B").as_str(), 70.0, Some(true)));
        assert_eq!(memory.len(), 2);
        assert!(!tables.goals.iter().any(|row| row.name.contains("rooms")));
        tables.media.push(measured("10 rooms of 50, all publish: last-N 9, loudest 3, 3 layers", "callplane", 300.0));
        tables.judge();
        assert!(tables.goals.iter().any(|row| row.name == "10 rooms of 50: loss"));
    }
}
