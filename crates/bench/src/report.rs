//! What is printed: rates, ratios, and whether each aim is met.
use std::fmt::Write as _;

use crate::work::Outcome;

/// One workload, with the rounds of each engine.
pub struct Row {
    pub name: String,
    engines: Vec<(&'static str, Vec<Outcome>)>,
}

/// "At least so many times a peer", for one workload.
struct Aim {
    workload: &'static str,
    peer: &'static str,
    least: f64,
}

const fn aim(workload: &'static str, peer: &'static str, least: f64) -> Aim {
    Aim {
        workload,
        peer,
        least,
    }
}

const AIMS: [Aim; 15] = [
    aim("put", "rocksdb", 3.0),
    aim("put", "cobble", 1.5),
    aim("put", "slatedb", 8.0),
    aim("get", "rocksdb", 2.0),
    aim("get", "cobble", 3.0),
    aim("get", "slatedb", 9.0),
    aim("absent", "rocksdb", 2.0),
    aim("absent", "cobble", 3.0),
    aim("absent", "slatedb", 9.0),
    aim("rmw-uniform", "rocksdb", 3.0),
    aim("rmw-zipf", "rocksdb", 3.0),
    aim("multi-get", "rocksdb", 2.0),
    aim("multi-get-10%", "rocksdb", 2.0),
    aim("scan", "rocksdb", 1.0),
    aim("append", "rocksdb", 1.0),
];

/// Ours.
const OURS: &str = "aquifer";

impl Row {
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            engines: Vec::new(),
        }
    }

    pub fn add(&mut self, engine: &'static str, outcome: Outcome) {
        match self.engines.iter_mut().find(|(name, _)| *name == engine) {
            Some((_, rounds)) => rounds.push(outcome),
            None => self.engines.push((engine, vec![outcome])),
        }
    }

    fn median(&self, rounds: &[Outcome]) -> f64 {
        median(rounds, Outcome::rate)
    }

    /// The rate of an engine; of RocksDB, that of its better configuration.
    fn rate(&self, engine: &str, of: fn(&Outcome) -> f64) -> Option<f64> {
        let matching = self.engines.iter();
        let matching = matching.filter(|(name, _)| name.split('/').next() == Some(engine));
        matching
            .map(|(_, rounds)| median(rounds, of))
            .reduce(f64::max)
    }

    /// How many times as fast as a peer we are.
    fn ratio(&self, peer: &str, of: fn(&Outcome) -> f64) -> Option<f64> {
        Some(self.rate(OURS, of)? / self.rate(peer, of)?)
    }

    /// In one line, for the terminal.
    pub fn line(&self) -> String {
        let mut out = format!("{:14}", self.name);
        for (engine, rounds) in &self.engines {
            let total = total(rounds);
            let _ = write!(
                out,
                "  {engine} {} ({} cpu ns, p50 {} p99 {} p999 {})",
                human(self.median(rounds)),
                total.cpu_nanos() as u64,
                micros(total.latency.quantile(0.5)),
                micros(total.latency.quantile(0.99)),
                micros(total.latency.quantile(0.999)),
            );
        }
        out
    }

    fn aims(&self) -> String {
        let mut out = Vec::new();
        for aim in AIMS.iter().filter(|aim| aim.workload == self.name) {
            let Some(ratio) = self.ratio(aim.peer, Outcome::rate) else {
                continue;
            };
            let verdict = if ratio >= aim.least {
                "met"
            } else {
                "**missed**"
            };
            let mut text = format!("{ratio:.2} × {} (aim {}): {verdict}", aim.peer, aim.least);
            if self.name == "put"
                && let Some(drained) = self.ratio(aim.peer, Outcome::rate_drained)
            {
                let _ = write!(text, ", {drained:.2} × with the background done");
            }
            out.push(text);
        }
        out.join("; ")
    }
}

fn median(rounds: &[Outcome], of: fn(&Outcome) -> f64) -> f64 {
    let mut rates: Vec<f64> = rounds.iter().map(of).collect();
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or(0.0)
}

fn total(rounds: &[Outcome]) -> Outcome {
    let mut total = Outcome::default();
    rounds.iter().for_each(|round| total.merge(round));
    total
}

/// A Markdown table of rates, one column per engine, and one of aims; then one of latencies and processor time.
pub fn markdown(rows: &[Row]) -> String {
    let mut engines: Vec<&str> = Vec::new();
    for (engine, _) in rows.iter().flat_map(|row| &row.engines) {
        if !engines.contains(engine) {
            engines.push(engine);
        }
    }
    let mut out = String::new();
    let head = |title: &str, last: &str, out: &mut String| {
        let _ = writeln!(out, "| {title} | {} | {last} |", engines.join(" | "));
        let _ = writeln!(out, "|---|{}---|", "---|".repeat(engines.len()));
    };
    head("operations per second", "aims", &mut out);
    for row in rows {
        let _ = write!(out, "| {} |", row.name);
        for engine in &engines {
            let rounds = row.engines.iter().find(|(name, _)| name == engine);
            match rounds {
                Some((_, rounds)) if row.name == "put" => {
                    let rate = human(row.median(rounds));
                    let drained = human(median(rounds, Outcome::rate_drained));
                    let _ = write!(out, " {rate} ({drained} with the background done) |");
                }
                Some((_, rounds)) => {
                    let _ = write!(out, " {} |", human(row.median(rounds)));
                }
                None => out.push_str(" – |"),
            }
        }
        let _ = writeln!(out, " {} |", row.aims());
    }
    out.push('\n');
    head(
        "p50 / p99 / p99.9 of a call in µs; CPU ns per operation, background included",
        "",
        &mut out,
    );
    for row in rows {
        let _ = write!(out, "| {} |", row.name);
        for engine in &engines {
            match row.engines.iter().find(|(name, _)| name == engine) {
                Some((_, rounds)) => {
                    let all = total(rounds);
                    let [p50, p99, p999] =
                        [0.5, 0.99, 0.999].map(|q| micros(all.latency.quantile(q)));
                    let _ = write!(out, " {p50} / {p99} / {p999}; {} |", all.cpu_nanos() as u64);
                }
                None => out.push_str(" – |"),
            }
        }
        out.push_str(" |\n");
    }
    out
}

/// A count with a unit.
pub fn human(number: f64) -> String {
    match number {
        n if n >= 1e6 => format!("{:.2} M", n / 1e6),
        n if n >= 1e3 => format!("{:.0} k", n / 1e3),
        n => format!("{n:.0}"),
    }
}

/// Microseconds with three digits.
pub fn micros(nanos: u64) -> String {
    match nanos as f64 / 1e3 {
        m if m >= 100.0 => format!("{m:.0}"),
        m if m >= 10.0 => format!("{m:.1}"),
        m => format!("{m:.2}"),
    }
}
