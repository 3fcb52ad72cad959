//! Two programs run in turn, so that both meet the same machine: ratios of what they print.

use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use crate::Error;
use crate::peer::median;

/// Two programs whose last line of output is a JSON object, and how often they take turns.
#[derive(Debug, Clone)]
pub struct Versus {
    /// This project's command.
    pub ours: Vec<String>,
    /// The other one.
    pub theirs: Vec<String>,
    /// Turns of each.
    pub rounds: usize,
    /// The options that set the number of timed steps in both, for whole processes: a process of many steps less one
    /// of one step.
    pub cross_check: bool,
}

/// One turn of one program.
#[derive(Debug, Clone)]
pub struct Turn {
    /// Which round, from 0.
    pub round: usize,
    /// Whether it was this project's.
    pub ours: bool,
    /// What it printed.
    pub line: Value,
    /// Seconds of the whole process.
    pub wall: f64,
    /// Seconds of the whole process when it times one step instead.
    pub wall_one: Option<f64>,
    /// The machine's load before it (one minute), where the system tells.
    pub load: Option<f64>,
}

impl Turn {
    fn number(&self, field: &str) -> f64 {
        self.line[field].as_f64().unwrap_or(f64::NAN)
    }

    /// Seconds of a step from the wall time of whole processes.
    fn wall_step(&self) -> f64 {
        match (self.wall_one, self.line["steps"].as_f64()) {
            (Some(one), Some(steps)) if steps > 1.0 => (self.wall - one) / (steps - 1.0),
            _ => f64::NAN,
        }
    }
}

/// The turns of both sides.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// Every turn.
    pub turns: Vec<Turn>,
}

impl Comparison {
    /// The median over rounds of theirs / ours, and its least and greatest.
    pub fn ratio(&self, value: impl Fn(&Turn) -> f64) -> [f64; 3] {
        let of = |ours: bool| self.turns.iter().filter(move |t| t.ours == ours).map(&value);
        let ratios: Vec<f64> = of(false).zip(of(true)).map(|(theirs, ours)| theirs / ours).collect();
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        [median(&ratios), least, ratios.iter().copied().fold(0.0, f64::max)]
    }

    /// A table of the medians and ratios.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let mut row = |name: &str, value: &dyn Fn(&Turn) -> f64| {
            let [ours, theirs] = [true, false]
                .map(|side| median(&self.turns.iter().filter(|t| t.ours == side).map(value).collect::<Vec<_>>()));
            let [ratio, least, greatest] = self.ratio(value);
            if ratio.is_finite() {
                out += &format!("{name:<28} {ours:>10.4} {theirs:>10.4}   {ratio:.3} ({least:.3} - {greatest:.3})\n");
            }
        };
        row("step, s", &|t| t.number("median_step_s"));
        row("fastest step, s", &|t| t.number("min_step_s"));
        row("step from whole processes, s", &Turn::wall_step);
        row("seconds", &|t| t.number("seconds"));
        row("counting, s", &|t| t.number("count_seconds"));
        row("comparing, s", &|t| t.number("metrics_seconds"));
        row("peak memory, MiB", &|t| t.number("peak_memory_mib"));
        format!("{:<28} {:>10} {:>10}   theirs / ours (least - greatest)\n{out}", "median", "ours", "theirs")
    }
}

impl Versus {
    /// Takes the turns, theirs first in odd rounds; `each` sees every one.
    ///
    /// # Errors
    /// A program that cannot be run, fails, or prints no JSON line.
    pub fn run(&self, each: &mut dyn FnMut(&Turn)) -> Result<Comparison, Error> {
        let mut turns = Vec::new();
        for round in 0..self.rounds {
            for ours in if round % 2 == 0 { [true, false] } else { [false, true] } {
                let command = if ours { &self.ours } else { &self.theirs };
                let load = load();
                let (line, wall) = run(command)?;
                let wall_one = match self.cross_check {
                    true => Some(run(&with_steps(command, "1"))?.1),
                    false => None,
                };
                let turn = Turn { round, ours, line, wall, wall_one, load };
                each(&turn);
                turns.push(turn);
            }
        }
        turns.sort_by_key(|t| t.round);
        Ok(Comparison { turns })
    }
}

/// The command with another value of `--steps`.
fn with_steps(command: &[String], steps: &str) -> Vec<String> {
    let mut command = command.to_vec();
    match command.iter().position(|word| word == "--steps") {
        Some(at) if at + 1 < command.len() => command[at + 1] = steps.to_owned(),
        _ => command.extend(["--steps".to_owned(), steps.to_owned()]),
    }
    command
}

fn run(command: &[String]) -> Result<(Value, f64), Error> {
    let failed = |reason: String| Error::Peer { command: command.join(" "), reason };
    let [program, args @ ..] = command else { return Err(failed("no program".to_owned())) };
    let started = Instant::now();
    let output = Command::new(program).args(args).output().map_err(|e| failed(e.to_string()))?;
    let wall = started.elapsed().as_secs_f64();
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(failed(text.lines().last().unwrap_or("failed").to_owned()));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().unwrap_or_default();
    let value = serde_json::from_str(line).map_err(|e| failed(format!("its last line is no JSON: {e}")))?;
    Ok((value, wall))
}

fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let versus = Versus {
            ours: shell("echo note; echo '{\"median_step_s\": 0.5, \"peak_memory_mib\": 10}'"),
            theirs: shell("echo '{\"median_step_s\": 1.0, \"peak_memory_mib\": 5}'"),
            rounds: 3,
            cross_check: false,
        };
        let mut seen = Vec::new();
        let comparison = versus.run(&mut |t| seen.push((t.round, t.ours))).unwrap();
        assert_eq!(seen, [(0, true), (0, false), (1, false), (1, true), (2, true), (2, false)]);
        assert_eq!(comparison.ratio(|t| t.number("median_step_s")), [2.0, 2.0, 2.0]);
        assert!(comparison.text().contains("0.500 (0.500 - 0.500)"), "{}", comparison.text());
        let broken = Versus { theirs: shell("echo no >&2; exit 3"), ..versus };
        assert!(broken.run(&mut |_| {}).unwrap_err().to_string().ends_with(": no"));
    }
}
