//! How close the mixes and the fine-tuning sets are (Appendix D; Figures 2 and 7).

use data_mixer::stream_key;
use metrics_proximity::{
    Advantage, Distribution, DocumentCounts, Landscape, Options, Resampling, SimilarityMatrix, sample_documents,
};

use super::{ends, number, signed};
use crate::render::heatmap::{Heatmap, Heatmaps};
use crate::render::page::{Figure, Picture};
use crate::spec::GENERAL;
use crate::{ArmSpec, DataTable, Error, Page, Prepared, StudySpec};

/// Documents of a corpus, at most (Appendix D).
const SAMPLE: u64 = 10_000;

/// Distributions by name.
type Labelled = [(String, Distribution)];

/// The mixes, the fine-tuning sets, and how close they are.
pub(crate) struct Proximity {
    landscape: Landscape,
    /// Every side at as many tokens as the smallest corpus has.
    pub(crate) budget: u64,
    mixes: Vec<(String, Distribution)>,
    sets: Vec<(String, Distribution)>,
    /// Mixtures by targets.
    pub(crate) advantages: Vec<Advantage>,
}

impl Proximity {
    /// Of a study's training text: at most 10 000 documents of each role, drawn without replacement.
    pub(crate) fn of(spec: &StudySpec, prepared: &Prepared) -> Result<Self, Error> {
        let mut roles = vec![GENERAL.to_owned()];
        let mixtures: Vec<Vec<(String, f64)>> = spec.arms.iter().map(mixture).collect();
        let sources = mixtures.iter().flatten().map(|(role, _)| role.clone());
        for role in sources.chain(spec.sft.sets.iter().map(|s| s.role.clone())) {
            if !roles.contains(&role) {
                roles.push(role);
            }
        }
        let place = |role: &str| roles.iter().position(|r| r == role).unwrap_or_default();
        let count = |role: &String| {
            let store = &prepared.roles[role].train;
            let seed = stream_key(spec.study_seed, "documents for proximity", place(role) as u64);
            let documents = sample_documents(store.document_count(), SAMPLE, seed);
            Ok((role.clone(), DocumentCounts::of_store(spec.model.vocab_size, store, &documents)?))
        };
        let corpora = roles.iter().map(count).collect::<Result<Vec<_>, Error>>()?;
        let named = spec.arms.iter().zip(&mixtures).map(|(arm, parts)| {
            (arm.name.clone(), parts.iter().map(|(role, weight)| (place(role), *weight)).collect())
        });
        let landscape = Landscape {
            mixtures: named.collect(),
            general: 0,
            targets: spec.sft.sets.iter().map(|s| place(&s.role)).collect(),
            corpora,
        };
        let all = landscape.distributions()?;
        let budget = all.iter().map(Distribution::tokens).min().unwrap_or(0);
        let sets = spec.sft.sets.iter().map(|s| (s.name.clone(), all[place(&s.role)].clone())).collect();
        let resampling =
            Resampling { seed: stream_key(spec.study_seed, "bootstrap of proximity", 0), ..Resampling::default() };
        let advantages = landscape.advantages(&Options::controlled(budget as f64), &resampling)?;
        Ok(Self { mixes: landscape.mixed(&all)?, sets, budget, advantages, landscape })
    }

    /// PA of an arm towards a set.
    pub(crate) fn advantage(&self, arm: usize, set: usize) -> &Advantage {
        &self.advantages[arm * self.sets.len() + set]
    }

    /// The two named variants: their names, what they are, and what is compared.
    fn variants(&self) -> [(&'static str, String, Options); 2] {
        let controlled = format!("every side at {} tokens", self.budget);
        [
            ("controlled", controlled, Options::controlled(self.budget as f64)),
            ("paper", "vocabularies as observed".to_owned(), Options::paper()),
        ]
    }

    fn corpora_table(&self) -> Result<DataTable, Error> {
        let mut table = DataTable::new("corpora", "What was counted", &["role", "documents", "tokens", "types"]);
        for ((role, documents), all) in self.landscape.corpora.iter().zip(self.landscape.distributions()?) {
            table.rows.push(vec![
                role.clone(),
                documents.len().to_string(),
                all.tokens().to_string(),
                all.types().to_string(),
            ]);
        }
        Ok(table)
    }

    fn advantage_table(&self) -> Result<DataTable, Error> {
        let title = format!(
            "Proximity advantage PA(M→T) = prox(M, T) − prox(C4, T) (Eq. 6), every side at {} tokens; 95 % intervals over \
             documents",
            self.budget
        );
        let header = ["dataset", "mix", "PA", "low", "high", "noise_floor", "PA_paper", "KL_reduction", "closest"];
        let mut table = DataTable::new("proximity_advantage", &title, &header);
        let paper = self
            .landscape
            .advantages(&Options::paper(), &Resampling { resamples: 0, splits: 0, ..Resampling::default() })?;
        for (set, (name, _)) in self.sets.iter().enumerate() {
            let value = |arm: usize| self.advantage(arm, set).value;
            let best = (0..self.mixes.len()).max_by(|a, b| value(*a).total_cmp(&value(*b)));
            for (arm, (mix, _)) in self.mixes.iter().enumerate() {
                let a = self.advantage(arm, set);
                let [low, high] = ends(a.interval, 4);
                table.rows.push(vec![
                    name.clone(),
                    mix.clone(),
                    signed(a.value, 4),
                    low,
                    high,
                    number(a.noise_floor.unwrap_or(f64::NAN), 4),
                    signed(paper[arm * self.sets.len() + set].value, 4),
                    signed(a.kl_reduction, 3),
                    if best == Some(arm) { "yes" } else { "" }.to_owned(),
                ]);
            }
            if let Some(best) = best {
                table.notes.push(format!("closest to {name}: {}", self.mixes[best].0));
            }
        }
        table.notes.push(
            "noise_floor: what |PA| reaches in 95 % of random halvings of the general text, where nothing is mixed in. \
             PA_paper: vocabularies as observed. KL_reduction: KL(T‖C4) − KL(T‖M) in nats (Xie et al. 2023), with 1 % of the \
             uniform distribution mixed in."
                .to_owned(),
        );
        Ok(table)
    }

    /// The matrix under both variants, as a figure and a table of all similarities.
    fn page(
        &self,
        name: &str,
        title: &str,
        (rows, columns): (&Labelled, &Labelled),
        (row_axis, column_axis): (&str, &str),
    ) -> Result<Page, Error> {
        let header =
            ["variant", "row", "column", "combined", "cosine", "jaccard", "js_similarity", "overlap", "shared_mass"];
        let mut data = DataTable::new(name, title, &header);
        let mut panels = Vec::new();
        let mut warnings = Vec::new();
        for (variant, what, options) in self.variants() {
            let matrix = SimilarityMatrix::of(rows, columns, &options)?;
            for (row, cells) in matrix.rows.iter().zip(&matrix.cells) {
                for (column, s) in matrix.columns.iter().zip(cells) {
                    let values = [s.combined, s.cosine, s.jaccard, s.js(options.js), s.overlap, s.shared_mass];
                    let labels = [variant.to_owned(), row.clone(), column.clone()];
                    data.rows.push(labels.into_iter().chain(values.map(|v| number(v, 6))).collect());
                }
            }
            if let Some((row, column, warning)) = matrix.warnings.first() {
                warnings.push(format!(
                    "{variant} variant, {} cells: {} and {}: {warning}",
                    matrix.warnings.len(),
                    matrix.rows[*row],
                    matrix.columns[*column]
                ));
            }
            panels.push(Heatmap {
                title: format!("{variant}: {what}"),
                row_axis: row_axis.to_owned(),
                column_axis: column_axis.to_owned(),
                values: matrix.values(|s| s.combined),
                rows: matrix.rows,
                columns: matrix.columns,
            });
        }
        let values = panels.iter().flat_map(|p| p.values.iter().flatten()).copied();
        let low = values.fold(1.0, f64::min);
        let picture = Heatmaps {
            title: title.to_owned(),
            subtitle:
                "combined = 0.4 · cosine + 0.3 · Jaccard + 0.3 · (1 − JSD in bits) of token distributions; mixes with \
                       their share of C4"
                    .to_owned(),
            panels,
            across: 2,
            scale: ((low * 20.0).floor() / 20.0, 1.0),
            measure: "similarity".to_owned(),
        };
        let figure = Figure { name: name.to_owned(), data: data.clone(), picture: Picture::Heatmaps(picture) };
        Ok(Page {
            title: title.to_owned(),
            tables: vec![
                self.matrix_table(name, title, rows, columns)?,
                self.advantage_table()?,
                self.corpora_table()?,
            ],
            figures: vec![figure],
            notes: warnings,
            files: Vec::new(),
        })
    }

    /// The controlled variant's combined score, as a matrix to read.
    fn matrix_table(&self, name: &str, title: &str, rows: &Labelled, columns: &Labelled) -> Result<DataTable, Error> {
        let labels: Vec<&str> = std::iter::once("").chain(columns.iter().map(|(label, _)| label.as_str())).collect();
        let mut table = DataTable::new(name, &format!("{title}; every side at {} tokens", self.budget), &labels);
        let matrix = SimilarityMatrix::of(rows, columns, &self.variants()[0].2)?;
        for (label, values) in matrix.rows.iter().zip(matrix.values(|s| s.combined)) {
            table.rows.push(std::iter::once(label.clone()).chain(values.iter().map(|v| number(*v, 3))).collect());
        }
        Ok(table)
    }
}

/// What an arm's batches consist of once its mix is at full weight: roles and shares.
fn mixture(arm: &ArmSpec) -> Vec<(String, f64)> {
    let Some(phase) = arm.phases.last() else { return vec![(GENERAL.to_owned(), 1.0)] };
    let weight = phase.weight.peak().as_f64();
    let side = |shares: &Option<schedule::Shares>, whole: f64| {
        let shares = shares.iter().flat_map(|s| s.iter());
        shares.map(|(role, share)| (role.to_owned(), whole * share.as_f64())).collect::<Vec<_>>()
    };
    let mut general = side(&phase.general, 1.0 - weight);
    if general.is_empty() {
        general.push((GENERAL.to_owned(), 1.0 - weight));
    }
    general.extend(side(&phase.specialised, weight));
    general
}

/// Figure 2: similarity of the mixes with the fine-tuning sets, and each mix's proximity advantage.
///
/// # Errors
/// Stores that cannot be read, an empty one.
pub fn figure2(spec: &StudySpec, prepared: &Prepared) -> Result<Page, Error> {
    let p = Proximity::of(spec, prepared)?;
    let title = "Figure 2: similarity of pretraining and midtraining mixes with fine-tuning sets";
    p.page("figure2", title, (&p.mixes, &p.sets), ("mix", "fine-tuning set"))
}

/// Figure 7: similarity of all mixes and fine-tuning sets with each other.
///
/// # Errors
/// As [`figure2`].
pub fn figure7(spec: &StudySpec, prepared: &Prepared) -> Result<Page, Error> {
    let p = Proximity::of(spec, prepared)?;
    let all: Vec<_> = p.mixes.iter().chain(&p.sets).cloned().collect();
    let title = "Figure 7: similarity of pretraining mixes, midtraining mixes and fine-tuning sets";
    p.page("figure7", title, (&all, &all), ("data set", "data set"))
}
