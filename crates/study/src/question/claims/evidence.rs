//! What claims are judged by: losses by mix and set, proximity advantages, changes of representations, at each size; of a study,
//! or of the paper's printed tables.

use std::collections::BTreeMap;

use forgetting_eval::Summary;

use crate::Error;
use crate::question::printed::Printed;

/// One of both losses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Which {
    /// On the fine-tuning set.
    Sft,
    /// On general text, after fine-tuning.
    C4,
}

/// What a contrast has one value each of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replicates {
    /// Seeds; a contrast of several sizes is their mean, seed by seed.
    Seeds {
        /// Whether they are pretraining seeds: only then verdicts speak of mixes.
        pretraining: bool,
    },
    /// Sizes, of one value each.
    Sizes,
}

/// Values by mix and set, one a replicate.
pub(super) type ByCell = BTreeMap<(String, String), Vec<f64>>;

/// What is known of one size.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct AtSize {
    /// The model.
    pub(super) model: String,
    /// The control's name.
    pub(super) control: String,
    /// The treated mixes of the tables, in their order.
    pub(super) mixes: Vec<String>,
    /// The sets, in their order.
    pub(super) sets: Vec<String>,
    /// The losses.
    pub(super) losses: BTreeMap<Which, ByCell>,
    /// Proximity advantage by mix and set.
    pub(super) advantages: BTreeMap<(String, String), f64>,
    /// By how much CKA of the last layer with itself before fine-tuning is higher with midtraining, one a replicate, by probe.
    pub(super) shifts: BTreeMap<String, Vec<f64>>,
    /// The lowest and the highest weight at the earliest and at the latest start.
    pub(super) corners: Option<[String; 4]>,
}

/// Why something cannot be computed.
pub(super) type Lacks = String;

impl AtSize {
    /// A loss of a mix on a set, one a replicate.
    pub(super) fn loss(&self, which: Which, mix: &str, set: &str) -> Result<&[f64], Lacks> {
        let cells = self.losses.get(&which);
        let found = cells.and_then(|cells| cells.get(&(mix.to_owned(), set.to_owned())));
        found.map(Vec::as_slice).ok_or_else(|| format!("{} has no result of {mix} on {set}", self.model))
    }

    /// What a mix gains over another one, as a share of the control's mean loss, one a replicate.
    pub(super) fn gain_over(&self, which: Which, mix: &str, other: &str, set: &str) -> Result<Vec<f64>, Lacks> {
        let control = Summary::of(self.loss(which, &self.control, set)?).mean;
        let (mix, other) = (self.loss(which, mix, set)?, self.loss(which, other, set)?);
        if mix.len() != other.len() {
            return Err(format!("{}: {} and {} values on {set}", self.model, mix.len(), other.len()));
        }
        Ok(mix.iter().zip(other).map(|(mix, other)| (other - mix) / control).collect())
    }

    /// What a mix gains over the control.
    pub(super) fn gain(&self, which: Which, mix: &str, set: &str) -> Result<Vec<f64>, Lacks> {
        self.gain_over(which, mix, &self.control, set)
    }
}

/// What is known of all sizes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Evidence {
    /// From the smallest on.
    pub(super) sizes: Vec<AtSize>,
    /// What values are of.
    pub(super) replicates: Replicates,
    /// Whether each mix has sources of its own, so that mixes can be exchanged.
    pub(super) exchangeable: bool,
    /// Seed of permutations.
    pub(super) seed: u64,
}

impl Evidence {
    /// What one value each is of.
    pub(super) fn unit(&self) -> &'static str {
        match self.replicates {
            Replicates::Seeds { pretraining: true } => "pretraining seeds",
            Replicates::Seeds { pretraining: false } => "fine-tuning seeds of one checkpoint",
            Replicates::Sizes => "sizes, one run each",
        }
    }

    /// A contrast of the first so many sizes: the mean over them, seed by seed, or one value a size.
    pub(super) fn over_sizes(
        &self,
        sizes: usize,
        contrast: impl Fn(&AtSize) -> Result<Vec<f64>, Lacks>,
    ) -> Result<Vec<f64>, Lacks> {
        let each = self.sizes.iter().take(sizes).map(contrast).collect::<Result<Vec<_>, _>>()?;
        match self.replicates {
            Replicates::Sizes => Ok(each.concat()),
            Replicates::Seeds { .. } => mean_of(&each),
        }
    }

    /// The paper's printed tables: 70m, 160m and 410m of Table 8, 1b of Table 2, and Table 3's continued pretraining.
    pub(super) fn printed() -> Result<Self, Error> {
        let mut sizes: Vec<AtSize> = Vec::new();
        for (table, control) in [(8, "C4"), (2, "C4"), (3, "Pretrain-only")] {
            let printed = Printed::table(table)?;
            for row in printed.rows() {
                let cell = |column: &str| row.get(column).cloned().unwrap_or_default();
                let (model, set, mix) = (cell("model"), cell("dataset"), cell("mix"));
                let losses = [printed.number(row, "sft_loss")?, printed.number(row, "c4_loss")?];
                let at = match sizes.iter_mut().position(|size| size.model == model) {
                    Some(at) => &mut sizes[at],
                    None => {
                        sizes.push(AtSize { model, control: "C4".to_owned(), ..AtSize::default() });
                        sizes.last_mut().expect("one was just added")
                    }
                };
                at.add(&mix, control, &set, losses);
            }
        }
        Ok(Self { sizes, replicates: Replicates::Sizes, exchangeable: true, seed: 0 })
    }
}

impl AtSize {
    /// A printed row. Mixes of Table 3 that are in Table 8, too, are the same models; continued pretraining is no mix of the tables.
    fn add(&mut self, mix: &str, control: &str, set: &str, [sft, c4]: [f64; 2]) {
        if mix == control && mix != self.control {
            return;
        }
        if !self.sets.iter().any(|known| known == set) {
            self.sets.push(set.to_owned());
        }
        let is_mix = mix != self.control && control == self.control;
        if is_mix && !self.mixes.iter().any(|known| known == mix) {
            self.mixes.push(mix.to_owned());
        }
        for (which, loss) in [(Which::Sft, sft), (Which::C4, c4)] {
            self.losses.entry(which).or_default().insert((mix.to_owned(), set.to_owned()), vec![loss]);
        }
    }
}

/// The mean of several lists, place by place.
pub(super) fn mean_of(lists: &[Vec<f64>]) -> Result<Vec<f64>, Lacks> {
    let first = lists.first().ok_or("nothing to compare")?;
    if lists.iter().any(|list| list.len() != first.len()) {
        return Err("some lack a seed that others have".to_owned());
    }
    let at = |i: usize| lists.iter().map(|list| list[i]).sum::<f64>() / lists.len() as f64;
    Ok((0..first.len()).map(at).collect())
}
