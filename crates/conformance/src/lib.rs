//! Compares this project's numbers with fixtures that other software made.
//!
//! A fixture directory holds one folder a family (`models`, `generate`, `train`, `tokenizer`, `cka`, `proximity`,
//! `stats`, `bound`, `megatron`,
//! `proximity_rarefied`, `stats2`, `cloze`, `average`). Each file is one [`Line`]: the largest error met, as a multiple of the tolerance stated for it.

mod bound;
mod cka;
mod cloze;
mod fixture;
mod megatron;
mod models;
mod proximity;
mod rarefied;
mod stats;
mod stats2;
mod tokenizer;
mod train;

use std::path::Path;

use fused_ops::{Precision, TrainingBackend};

use midtrain::{Backend, OnBackend};

/// The families of fixtures.
pub const FAMILIES: [&str; 13] = [
    "models",
    "generate",
    "train",
    "tokenizer",
    "cka",
    "proximity",
    "proximity_rarefied",
    "stats",
    "stats2",
    "bound",
    "megatron",
    "cloze",
    "average",
];

/// How one file fared.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// `family/file`.
    pub name: String,
    /// The verdict.
    pub verdict: Verdict,
}

/// The verdict.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Compared: the largest error in units of its tolerance (at most 1 passes), and what was compared.
    Compared {
        /// Largest error over tolerance.
        worst: f64,
        /// That error.
        error: f64,
        /// Its tolerance.
        tolerance: f64,
        /// Where it was met.
        place: String,
    },
    /// Could not be compared, and should have been.
    Failed(String),
    /// Not yet covered by this project.
    Unsupported(String),
}

impl Line {
    /// The same under wider tolerances.
    fn scaled(self, factor: f64) -> Self {
        let verdict = match self.verdict {
            Verdict::Compared { worst, error, tolerance, place } => {
                Verdict::Compared { worst: worst / factor, error, tolerance: tolerance * factor, place }
            }
            other => other,
        };
        Self { verdict, ..self }
    }

    /// Whether it counts as a failure.
    pub fn failed(&self) -> bool {
        match &self.verdict {
            Verdict::Compared { worst, .. } => worst.is_nan() || *worst > 1.0,
            Verdict::Failed(_) => true,
            Verdict::Unsupported(_) => false,
        }
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = match (&self.verdict, self.failed()) {
            (Verdict::Unsupported(_), _) => "unsupported",
            (_, true) => "FAIL",
            (_, false) => "ok",
        };
        write!(f, "{word:<11} {:<40} ", self.name)?;
        match &self.verdict {
            Verdict::Compared { error, tolerance, place, .. } => write!(f, "{error:.2e}  {tolerance:.0e}  {place}"),
            Verdict::Failed(reason) | Verdict::Unsupported(reason) => f.write_str(reason),
        }
    }
}

/// Collects comparisons of one file.
#[derive(Debug)]
struct Check {
    worst: f64,
    error: f64,
    tolerance: f64,
    place: String,
    compared: bool,
}

impl Check {
    fn new() -> Self {
        Self { worst: 0.0, error: 0.0, tolerance: 0.0, place: String::new(), compared: false }
    }

    fn near(&mut self, found: f64, expected: f64, tolerance: f64, place: &str) {
        let equal = found == expected || (found.is_nan() && expected.is_nan());
        let error = if equal { 0.0 } else { (found - expected).abs() };
        let worst = if equal { 0.0 } else { error / tolerance };
        if !self.compared || worst > self.worst || (worst.is_nan() && !self.worst.is_nan()) {
            (self.worst, self.error, self.tolerance, self.place) = (worst, error, tolerance, place.to_owned());
        }
        self.compared = true;
    }

    fn all_near(&mut self, found: &[f32], expected: &[f32], tolerance: f64, place: &str) -> Result<(), String> {
        if found.len() != expected.len() {
            return Err(format!("{place}: {} values, expected {}", found.len(), expected.len()));
        }
        for (a, b) in found.iter().zip(expected) {
            self.near(f64::from(*a), f64::from(*b), tolerance, place);
        }
        Ok(())
    }

    fn exact(&mut self, equal: bool, place: &str) -> Result<(), String> {
        self.near(0.0, 0.0, 1.0, place);
        if equal { Ok(()) } else { Err(format!("{place} differs")) }
    }

    fn verdict(self) -> Verdict {
        if !self.compared {
            return Verdict::Failed("holds nothing to compare".to_owned());
        }
        Verdict::Compared { worst: self.worst, error: self.error, tolerance: self.tolerance, place: self.place }
    }
}

/// A file's line from what its comparison returned.
fn line(name: impl Into<String>, result: Result<Check, String>) -> Line {
    let verdict = match result {
        Ok(check) => check.verdict(),
        Err(reason) => Verdict::Failed(reason),
    };
    Line { name: name.into(), verdict }
}

fn unsupported(name: &str, reason: &str) -> Line {
    Line { name: name.to_owned(), verdict: Verdict::Unsupported(reason.to_owned()) }
}

/// What is compared, and how.
#[derive(Debug, Clone)]
pub struct Options<'a> {
    /// One family of [`FAMILIES`]; none: all that are found.
    pub family: Option<&'a str>,
    /// What computes.
    pub backend: Backend,
    /// The tokenizer file of the tokenizer family.
    pub tokenizer: Option<&'a Path>,
    /// What matrix products are computed in. In bf16 only models are compared, with f32's logits and losses.
    pub precision: Precision,
    /// Factor on the tolerances of models, training and representations: above 1 for processors whose f32 products are of lower
    /// precision (TF32).
    pub tolerance: f64,
}

/// Compares everything found in a directory, or one family of it.
///
/// # Errors
/// A directory without fixtures, an unknown family, a backend that this build does not have.
pub fn run(dir: &Path, options: &Options<'_>) -> Result<Vec<Line>, String> {
    let Options { family, backend, tokenizer, precision, tolerance } = *options;
    if let Some(family) = family.filter(|f| !FAMILIES.contains(f)) {
        return Err(format!("family = {family} is unknown; families: {}", FAMILIES.join(", ")));
    }
    if !(tolerance.is_finite() && tolerance >= 1.0) {
        return Err(format!("tolerance = {tolerance} must be at least 1"));
    }
    let mut lines = Vec::new();
    for name in FAMILIES.into_iter().filter(|name| family.is_none_or(|f| f == *name)) {
        let folder = dir.join(name);
        if !folder.is_dir() || (precision == Precision::Bf16 && name != "models") {
            continue;
        }
        let on = |task| backend.on(OnFolder { dir, task }).map_err(|e| e.to_string());
        let scaled = |lines: Vec<Line>| lines.into_iter().map(|line| line.scaled(tolerance)).collect::<Vec<_>>();
        lines.extend(match name {
            "models" if precision == Precision::Bf16 => on(Task::LowPrecisionModels)?,
            "models" => scaled(on(Task::Models)?),
            "generate" => on(Task::Generate)?,
            "train" => [train::schedules(&folder), scaled(on(Task::Train)?)].concat(),
            "tokenizer" => tokenizer::lines(dir, tokenizer),
            "cka" => scaled(on(Task::Cka)?),
            "proximity" => proximity::lines(&folder),
            "proximity_rarefied" => rarefied::lines(&folder),
            "stats" => stats::lines(&folder),
            "stats2" => stats2::lines(&folder),
            "megatron" => megatron::lines(&folder),
            "cloze" => on(Task::Cloze)?,
            "average" => vec![unsupported("average", "averages of checkpoints are not there yet")],
            _ => bound::lines(&folder),
        });
    }
    if lines.is_empty() {
        return Err(format!("no fixtures in {} (folders: {})", dir.display(), FAMILIES.join(", ")));
    }
    Ok(lines)
}

/// What runs on a backend.
enum Task {
    Models,
    LowPrecisionModels,
    Generate,
    Train,
    Cka,
    Cloze,
}

struct OnFolder<'a> {
    dir: &'a Path,
    task: Task,
}

impl OnBackend for OnFolder<'_> {
    type Output = Vec<Line>;

    fn run<AB: TrainingBackend>(self) -> Vec<Line> {
        match self.task {
            Task::Models => models::lines::<AB>(&self.dir.join("models")),
            Task::LowPrecisionModels => models::low_precision_lines::<AB>(&self.dir.join("models")),
            Task::Generate => models::generated::<AB>(self.dir),
            Task::Train => train::trajectories::<AB>(self.dir),
            Task::Cloze => cloze::lines::<AB>(&self.dir.join("cloze")),
            Task::Cka => cka::lines::<AB::InnerBackend>(self.dir),
        }
    }
}
