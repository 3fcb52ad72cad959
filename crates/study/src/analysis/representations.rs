//! How representations move: CKA between the states of a study (Section 7; Figures 6 and 9 to 13).

use data_mixer::stream_key;
use metrics_cka::{Cell, Matrix, Treatment};
use serde::Serialize;

use super::{Question, number, place};
use crate::engine::FINAL;
use crate::render::heatmap::{Heatmap, Heatmaps};
use crate::render::page::{Figure, Picture};
use crate::spec::GENERAL;
use crate::{Analysis, DataTable, Error, Page, ProbeJob, ProbeResult, StudySpec, Weights};

/// Groups of documents for the jackknife.
const GROUPS: usize = 10;
/// Most bytes of all sums: not part of a result's address, since it changes no more than the passes.
const MEMORY: u64 = 4 << 30;
/// A dimension of a hundred times the median variance is massive.
const MASSIVE: f64 = 100.0;

/// What determines the result.
#[derive(Serialize)]
struct Key<'a> {
    kind: &'static str,
    engine: &'a str,
    states: [&'a str; 4],
    store: String,
    documents: &'a [u64],
    longest: usize,
    groups: usize,
    treatments: &'a [Treatment],
    precision: fused_ops::Precision,
}

/// Which of the four states: base, midtrained, base fine-tuned, midtrained fine-tuned.
const PAIRS: [(usize, usize); 6] = [(0, 2), (1, 3), (2, 3), (0, 1), (0, 3), (1, 2)];

/// CKA between all layers of four states — the control, an arm, and both fine-tuned on a set — on a probe. Of several seeds
/// the first are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Representations<'a> {
    /// The figure's number.
    pub figure: u32,
    /// The midtrained arm.
    pub arm: &'a str,
    /// The set that both are fine-tuned on.
    pub set: &'a str,
    /// The probe.
    pub probe: &'a str,
}

impl Representations<'_> {
    /// Places of the arm, the set and the probe.
    fn places(&self, spec: &StudySpec) -> Result<[usize; 3], Error> {
        Ok([
            place("arm", self.arm, spec.arms.iter().map(|a| &a.name))?,
            place("set", self.set, spec.sft.sets.iter().map(|s| &s.name))?,
            place("probe", self.probe, spec.probes.iter().map(|p| &p.name))?,
        ])
    }
}

impl Question for Representations<'_> {
    fn check(&self, spec: &StudySpec) -> Result<(), Error> {
        self.places(spec).map(|_| ())
    }

    fn answer(&self, analysis: &mut Analysis<'_, '_>) -> Result<Page, Error> {
        let Self { figure, arm, set, probe } = self;
        let spec = analysis.execution.spec;
        let [at_arm, at_set, at_probe] = self.places(spec)?;
        let control = &spec.arms[spec.control().unwrap_or(0)].name;
        let result = analysis.probed(at_arm, at_set, &spec.probes[at_probe].role)?;
        let titles = Titles {
            figure: format!("figure{figure}"),
            title: format!("Figure {figure} ({}): CKA between model states, probed with {probe}", spec.model_name),
            short: ["base".into(), "midtrained".into(), format!("base + {set}"), format!("midtrained + {set}")],
            note: format!(
                "base: {control}; midtrained: {arm}; + {set}: fine-tuned on it. {} documents, {} tokens of {probe}; 95 % \
                 intervals by leaving out one of {GROUPS} groups of documents at a time; pretraining seed 0, fine-tuning \
                 seed 0.",
                result.documents, result.tokens
            ),
        };
        page(&result, titles)
    }
}

impl Analysis<'_, '_> {
    fn probed(&mut self, arm: usize, set: usize, role: &str) -> Result<ProbeResult, Error> {
        let execution = self.execution;
        let spec = execution.spec;
        let control = spec.control().unwrap_or(0);
        let keys = |arm: usize| {
            let first = self.results.measurements.iter().find(|m| m.arm == arm && m.set == set);
            first.map(|m| (m.pretrain_key.as_str(), m.finetune_key.as_str())).unwrap_or_default()
        };
        let ((base, base_tuned), (mid, mid_tuned)) = (keys(control), keys(arm));
        let stores = &execution.prepared.roles[role];
        // Nothing is trained on another role than the arms' and the sets'.
        let store = if role == GENERAL { &stores.held_out } else { &stores.train };
        let longest = spec.pretrain.time.min(spec.model.max_positions);
        let seed = stream_key(spec.study_seed, "documents of a probe", 0);
        let documents = metrics_proximity::sample_documents(store.document_count(), spec.eval.probe_documents, seed);
        let groups = GROUPS.min(documents.len().max(1));
        let treatments = [Treatment::Raw, Treatment::Standardised, Treatment::WithoutMassive { ratio: MASSIVE }];
        let inputs = Key {
            kind: "probe 1",
            engine: execution.engine.name(),
            states: [base, mid, base_tuned, mid_tuned],
            store: store.fingerprint(),
            documents: &documents,
            longest,
            groups,
            treatments: &treatments,
            precision: spec.pretrain.precision,
        };
        let tokens = |document: &u64| {
            let mut tokens = store.document(*document)?;
            tokens.truncate(longest);
            Ok(tokens.into_iter().map(|id| id as i32).collect())
        };
        let pretrained = |key: &str| Weights::Checkpoint(execution.store.join("pretrain").join(key).join(FINAL));
        let tuned = |key: &str| Weights::Pretrained(execution.store.join("finetune").join(key).join("model"));
        let job = ProbeJob {
            label: format!("representations on {role}"),
            states: vec![
                ("base".to_owned(), pretrained(base)),
                ("midtrained".to_owned(), pretrained(mid)),
                ("base fine-tuned".to_owned(), tuned(base_tuned)),
                ("midtrained fine-tuned".to_owned(), tuned(mid_tuned)),
            ],
            documents: documents.iter().map(tokens).collect::<Result<Vec<Vec<i32>>, Error>>()?,
            groups,
            treatments: treatments.to_vec(),
            memory: MEMORY,
            micro_tokens: spec.pretrain.micro_tokens,
            precision: spec.pretrain.precision,
        };
        self.stored("probe", &inputs, |progress| execution.engine.probe(&job, progress))
    }
}

struct Titles {
    figure: String,
    title: String,
    short: [String; 4],
    note: String,
}

/// The comparison of two states under a treatment.
fn matrix(result: &ProbeResult, pair: (usize, usize), treatment: usize) -> Option<&Matrix> {
    let of = result.comparisons.iter().find(|c| (c.left, c.right) == pair)?;
    Some(&of.report.results.get(treatment)?.matrix)
}

fn page(result: &ProbeResult, titles: Titles) -> Result<Page, Error> {
    let treatments: Vec<Treatment> =
        result.comparisons.first().map_or_else(Vec::new, |c| c.report.results.iter().map(|r| r.treatment).collect());
    let mut figures = Vec::new();
    for (index, treatment) in treatments.iter().enumerate() {
        let (ending, what) = match treatment {
            Treatment::Raw => ("", "raw features"),
            Treatment::Standardised => ("-standardised", "standardised features"),
            _ => ("-without-massive", "without dimensions of more than 100 x the median variance"),
        };
        let panel = |(left, right): &(usize, usize)| {
            let m = matrix(result, (*left, *right), index)?;
            Some(Heatmap {
                title: format!("{} × {}", titles.short[*left], titles.short[*right]),
                row_axis: format!("layers of {}", titles.short[*left]),
                column_axis: format!("layers of {}", titles.short[*right]),
                rows: m.rows.clone(),
                columns: m.columns.clone(),
                values: m.debiased.iter().map(|row| row.iter().map(|c| c.value).collect()).collect(),
            })
        };
        let picture = Heatmaps {
            title: titles.title.clone(),
            subtitle: format!("debiased linear CKA, {what}; {} tokens", result.tokens),
            panels: PAIRS.iter().filter_map(panel).collect(),
            across: 3,
            scale: (0.0, 1.0),
            measure: "CKA".to_owned(),
        };
        let name = format!("{}{ending}", titles.figure);
        let data = cells(&name, result, &titles, index);
        figures.push(Figure { name, data, picture: Picture::Heatmaps(picture) });
    }
    Ok(Page {
        title: titles.title.clone(),
        tables: vec![shifts(result, &titles, &treatments)],
        figures,
        notes: vec![titles.note],
        files: Vec::new(),
    })
}

/// Every cell of every pair.
fn cells(name: &str, result: &ProbeResult, titles: &Titles, treatment: usize) -> DataTable {
    let header = ["left", "right", "left_layer", "right_layer", "debiased", "low", "high", "biased", "reason"];
    let mut table = DataTable::new(name, &titles.title, &header);
    for (left, right) in PAIRS {
        let Some(m) = matrix(result, (left, right), treatment) else { continue };
        for (i, row) in m.rows.iter().enumerate() {
            for (j, column) in m.columns.iter().enumerate() {
                let (d, b) = (&m.debiased[i][j], &m.biased[i][j]);
                let [low, high] = plain_ends(d);
                table.rows.push(vec![
                    titles.short[left].clone(),
                    titles.short[right].clone(),
                    row.clone(),
                    column.clone(),
                    number(d.value, 6),
                    low,
                    high,
                    number(b.value, 6),
                    d.reason.map_or_else(String::new, |r| r.to_string()),
                ]);
            }
        }
    }
    table
}

fn plain_ends(cell: &Cell) -> [String; 2] {
    let end = |pick: fn((f64, f64)) -> f64| number(cell.interval.map_or(f64::NAN, pick), 4);
    [end(|i| i.0), end(|i| i.1)]
}

/// Finding 5: how similar each layer stays to itself in fine-tuning, with and without midtraining.
fn shifts(result: &ProbeResult, titles: &Titles, treatments: &[Treatment]) -> DataTable {
    let title = format!("{}: each layer before and after fine-tuning (1: it did not move)", titles.title);
    let header = ["features", "layer", "base", "low", "high", "midtrained", "low", "high", "left_out"];
    let mut table = DataTable::new(&format!("{}_shift", titles.figure), &title, &header);
    for (index, treatment) in treatments.iter().enumerate() {
        let (Some(base), Some(mid)) = (matrix(result, (0, 2), index), matrix(result, (1, 3), index)) else { continue };
        let treated = result.comparisons.iter().find(|c| (c.left, c.right) == (0, 2));
        for (i, layer) in base.rows.iter().enumerate() {
            let (b, m) = (&base.debiased[i][i], &mid.debiased[i][i]);
            let left_out = treated.map_or(0, |c| c.report.results[index].left_out_left[i]);
            let mut row = vec![treatment.to_string(), layer.clone(), number(b.value, 4)];
            row.extend(plain_ends(b));
            row.push(number(m.value, 4));
            row.extend(plain_ends(m));
            row.push(left_out.to_string());
            table.rows.push(row);
        }
    }
    table.notes.push("left_out: dimensions of the base model's layer that the treatment leaves out.".to_owned());
    table
}
