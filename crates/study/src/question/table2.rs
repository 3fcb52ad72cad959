//! Table 2: does midtraining help fine-tuning on the domain it resembles, and what does it cost in general loss?

use forgetting_eval::{PerLength, Summary, forgetting, relative_improvement};
use report::{BarPanel, Bars, Column, Estimate, Figure, Format, Page, Table};

use super::Question;
use super::comparison::{self, ALONE, Difference, Unit, comparison, detectable, is_significant, unit};
use super::losses::{self, Losses, Measurement};
use crate::graph::Graph;
use crate::{ArmId, Error, SetId, Study};

/// The losses of every arm on every set, as differences to the control.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Table2;

impl Question for Table2 {
    fn name(&self) -> &str {
        "table2"
    }

    fn needs(&self, graph: &mut Graph<'_>) -> Result<(), Error> {
        losses::needs(graph, losses::EVERY)
    }

    fn answer(&self, name: &str, graph: &mut Graph<'_>) -> Result<Page, Error> {
        let losses = Losses::of(graph, losses::EVERY)?;
        let study = graph.study();
        let rows = rows(study, &losses)?;
        let compared = comparison::rows(study, &losses)?;
        let control = study[study.control()].name();
        let mut page = Page::new(&format!("{} ({})", super::heading(name), study.spec().model_name));
        page.asked =
            "Does midtraining lower the loss after fine-tuning on a domain that it resembles, and what happens \
                      to the loss on general text?"
                .to_owned();
        page.found = found(study, &rows, &compared, control);
        let spec = study.spec();
        let title = format!(
            "Losses after fine-tuning, nats per token ({}; study seed {}, {} pretraining × {} fine-tuning seeds)",
            spec.model_name, spec.study_seed, spec.pretrain_seeds, spec.sft_seeds
        );
        page.tables = vec![table(name, &title, &rows, control), comparison(study, &compared), before(study, &losses)];
        page.figures = vec![figure(name, study, &rows, control)];
        page.found.extend(losses.failures());
        page.notes
            .push(format!("Fine-tuning rates: {}. The losses are those of test splits.", crate::recipe::rates(study)));
        page.notes.extend(detectable(study, &compared));
        page.notes.extend(worse_than_no_context(study, &losses, &rows));
        page.notes.extend(losses.at_the_edge());
        if let Some(base) = &study.spec().base {
            page.notes
                .push(format!("Every arm begins at {base}; what that has seen of the evaluated text is not known."));
        }
        page.details = losses.details();
        Ok(page)
    }
}

/// What predicts general text worse than a model that ignores context: it diverged, or forgot nearly everything.
pub(super) fn worse_than_no_context(study: &Study, losses: &Losses, rows: &[Row<'_>]) -> Option<String> {
    let worse = |r: &&Row<'_>| r.c4.as_ref().is_some_and(|l| l.values.mean > losses.unigram_entropy);
    let named = rows.iter().filter(worse).map(|r| format!("{} on {}", study[r.arm].name(), study[r.set].name));
    let named: Vec<String> = named.collect();
    (!named.is_empty()).then(|| {
        format!(
            "After fine-tuning, {} of {} pairs of a mix and a set predict general text worse than a model that ignores context ({:.3}; means \
             over seeds): they diverged, or forgot nearly all of it: {}.",
            named.len(),
            rows.iter().filter(|r| r.c4.is_some()).count(),
            losses.unigram_entropy,
            named.join("; ")
        )
    })
}

/// An arm on a set.
pub(super) struct Row<'a> {
    study: &'a Study,
    arm: ArmId,
    set: SetId,
    /// `None` where a fine-tune has no result.
    sft: Option<Loss>,
    c4: Option<Loss>,
    c4_before: Option<f64>,
    /// The general loss after fine-tuning in bits per byte, where bytes are known.
    c4_bits_per_byte: Option<f64>,
    lr: Option<f64>,
    /// The share of the set's items that are answered rightly: by the summed likelihood, and by that per character.
    accuracy: Option<Summary>,
    accuracy_per_character: Option<f64>,
    gold_bits_per_byte: Option<f64>,
}

/// One loss: its mean over seeds, and its difference to the control's.
#[derive(Clone)]
struct Loss {
    values: Summary,
    /// `None` where the control has no result.
    delta: Option<Difference>,
    /// Relative improvement over the control.
    improvement: Option<f64>,
    /// Standard error over held-out documents, mean over seeds: what the held-out set's size alone leaves open.
    document_se: Option<f64>,
    /// The lowest of its set, or not distinguishable from it.
    best: bool,
    /// Its difference to the control is 0 by definition.
    is_control: bool,
}

impl Loss {
    fn interval(&self) -> Option<(f64, f64)> {
        self.delta.as_ref()?.interval()
    }
}

/// What is shown of a fine-tuned model, where it is known.
type Maybe = fn(&Measurement) -> Option<f64>;

const SFT: losses::Loss = losses::Loss::Sft;
const C4: losses::Loss = losses::Loss::C4;

pub(super) fn rows<'a>(study: &'a Study, losses: &Losses) -> Result<Vec<Row<'a>>, Error> {
    let mut rows = Vec::new();
    for set in study.sets() {
        let first = rows.len();
        for arm in study.arms() {
            rows.push(row(study, losses, arm, set)?);
        }
        mark_best(study, losses, &mut rows[first..], SFT, |row| &mut row.sft)?;
        mark_best(study, losses, &mut rows[first..], C4, |row| &mut row.c4)?;
    }
    Ok(rows)
}

fn row<'a>(study: &'a Study, losses: &Losses, arm: ArmId, set: SetId) -> Result<Row<'a>, Error> {
    let complete = losses.values(arm, set, |m| SFT.of(m)).is_some();
    let mean = |value: Maybe| {
        let values = losses.values(arm, set, |m| value(m).unwrap_or(f64::NAN))?;
        Some(Summary::of(&values).mean).filter(|mean| !mean.is_nan())
    };
    let loss = |of: losses::Loss, error: Maybe| {
        let Some(values) = losses.values(arm, set, |m| of.of(m)) else { return Ok(None) };
        let summary = Summary::of(&values);
        let delta = Difference::of(study, losses, (arm, study.control()), set, of)?;
        let control = losses.values(study.control(), set, |m| of.of(m));
        let improvement = control.as_ref().map(|base| relative_improvement(Summary::of(base).mean, summary.mean));
        Ok::<_, Error>(Some(Loss {
            values: summary,
            delta,
            improvement,
            document_se: mean(error),
            best: false,
            is_control: arm == study.control(),
        }))
    };
    Ok(Row {
        study,
        arm,
        set,
        sft: loss(SFT, |m| m.sft.standard_error())?,
        c4: loss(C4, |m| m.c4.standard_error())?,
        c4_before: losses.before_mean(study[arm].name()),
        c4_bits_per_byte: mean(|m| m.c4.total().bits_per_byte()),
        lr: losses.of_cell(arm, set).next().map(|m| m.lr).filter(|_| complete),
        accuracy: losses.summary(arm, set, |m| m.accuracy(PerLength::Sum)),
        accuracy_per_character: losses.summary(arm, set, |m| m.accuracy(PerLength::Characters)).map(|s| s.mean),
        gold_bits_per_byte: losses.summary(arm, set, Measurement::gold_bits_per_byte).map(|s| s.mean),
    })
}

/// Marks the lowest mean of a set, and what is not distinguishable from it.
///
/// 1. A mix is distinguishable from the lowest where their difference has p < 5 %, adjusted by Bonferroni for all pairs of mixes of
///    the set: which mix is the lowest was not known beforehand.
/// 2. What is lower than a marked mix is marked too.
fn mark_best(
    study: &Study,
    losses: &Losses,
    rows: &mut [Row<'_>],
    of: losses::Loss,
    loss: for<'r, 's> fn(&'r mut Row<'s>) -> &'r mut Option<Loss>,
) -> Result<(), Error> {
    let mean = |(i, row): (usize, &mut Row<'_>)| Some((i, loss(row).as_ref()?.values.mean));
    let mut means: Vec<(usize, f64)> = rows.iter_mut().enumerate().filter_map(mean).collect();
    means.sort_by(|a, b| a.1.total_cmp(&b.1));
    let Some(&(lowest, _)) = means.first() else { return Ok(()) };
    let best = rows[lowest].arm;
    let pairs = (means.len() * (means.len() - 1) / 2).max(1) as f64;
    let mut last = 0;
    for (place, (i, _)) in means.iter().enumerate() {
        let difference = Difference::of(study, losses, (rows[*i].arm, best), rows[*i].set, of)?;
        let told_apart = difference.and_then(|d| d.p()).is_some_and(|p| is_significant(p * pairs));
        if !told_apart {
            last = place;
        }
    }
    for (i, _) in &means[..=last] {
        if let Some(loss) = loss(&mut rows[*i]) {
            loss.best = true;
        }
    }
    Ok(())
}

/// What came out, in sentences.
pub(super) fn found(study: &Study, rows: &[Row<'_>], compared: &[comparison::Row], control: &str) -> Vec<String> {
    let treated: Vec<(&Row<'_>, &Loss, &Difference)> = rows
        .iter()
        .filter(|r| r.arm != study.control())
        .filter_map(|r| r.sft.as_ref().and_then(|l| Some((r, l, l.delta.as_ref()?))))
        .collect();
    let lowest = treated.iter().min_by(|a, b| a.2.seeds.mean.total_cmp(&b.2.seeds.mean));
    let Some((row, loss, delta)) = lowest else {
        return vec![format!("There is no mix with a result to compare with {control}."), unit(study)];
    };
    let delta = delta.seeds.mean;
    let largest = if delta < 0.0 { "The largest gain" } else { "No mix lowers the loss on a set; the smallest rise" };
    let mut lines = vec![format!(
        "{largest}: {} on {}, {delta:+.3} nats per token against {control}{}.",
        study[row.arm].name(),
        study[row.set].name,
        loss.interval().map_or_else(
            || " (no interval)".to_owned(),
            |(low, high)| format!(
                " (95 % interval {low:+.3} to {high:+.3}, that of one comparison; this is the largest of {})",
                treated.len()
            )
        )
    )];
    let these = if Unit::of(study) == Unit::Pretraining { "" } else { " of these checkpoints" };
    let with_p: Vec<&comparison::Row> =
        compared.iter().filter(|r| r.loss == losses::Loss::Sft && r.p_adjusted.is_some()).collect();
    if !with_p.is_empty() {
        let told = |lower: bool| {
            let found = with_p.iter().filter(|r| r.p_adjusted.is_some_and(is_significant));
            found.filter(|r| (r.mean() < 0.0) == lower).count()
        };
        let (lower, higher) = (told(true), told(false));
        lines[0] += &format!(
            " In {}{these} with {control}, the loss on the set is lower in {lower} and higher in {higher} at 5 % (p adjusted by Holm over \
             the mixes of each set, not over sets); {} undecided.",
            if with_p.len() == 1 { "1 comparison".to_owned() } else { format!("{} comparisons", with_p.len()) },
            with_p.len() - lower - higher
        );
    }
    lines.push(unit(study));
    lines
}

/// One of the losses of a row.
type Of = for<'r, 's> fn(&'r Row<'s>) -> &'r Option<Loss>;
/// A number of a loss.
type Get = fn(&Loss) -> Option<f64>;
const MEAN: Get = |l| Some(l.values.mean);
const DELTA: Get = |l| Some(l.delta.as_ref()?.seeds.mean);

pub(super) fn table(name: &str, title: &str, rows: &[Row<'_>], control: &str) -> Table {
    let of_one = rows.iter().all(|r| r.study.spec().model_name == rows[0].study.spec().model_name);
    let unit = rows.first().map_or("", |r| Unit::of(r.study).name());
    let model = Column::text("model", rows.iter().map(|r| r.study.spec().model_name.as_str()));
    let sft = |value: Get| rows.iter().map(move |r| r.sft.as_ref().and_then(value));
    let c4 = |value: Get| rows.iter().map(move |r| r.c4.as_ref().and_then(value));
    let marks = |loss: Of| rows.iter().map(move |r| loss(r).as_ref().is_some_and(|l| l.best));
    let intervals = |loss: Of| {
        rows.iter().map(move |r| loss(r).as_ref().filter(|_| r.arm != r.study.control()).and_then(Loss::interval))
    };
    let document_intervals = |loss: Of| {
        let treated = move |r: &&Row<'_>| r.arm != r.study.control();
        rows.iter()
            .map(move |r| Some(r).filter(treated).and_then(|r| loss(r).as_ref()?.delta.as_ref()?.document_interval()))
    };
    let forgotten = rows.iter().map(|r| Some(forgetting(r.c4_before?, r.c4.as_ref()?.values.mean)));
    let (loss, change) = (Format::Fixed(3), Format::Signed(3));
    let table = Table::new(name, title)
        .with(if of_one { model.file_only() } else { model })
        .with(Column::text("dataset", rows.iter().map(|r| r.study[r.set].name.as_str())).heading("set"))
        .with(Column::text("mix", rows.iter().map(|r| r.study[r.arm].name())))
        .with(Column::text("mix_weight", rows.iter().map(|r| r.study[r.arm].weight(r.study.spec().pretrain.batch).to_string())).file_only())
        .with(
            Column::number("sft_loss", loss, sft(MEAN))
                .heading("SFT")
                .absent("failed")
                .marked(marks(|r| &r.sft))
                .meaning("held-out loss on the set after fine-tuning on it"),
        )
        .with(Column::number("sft_delta", change, sft(DELTA)).heading("Δ"))
        .with(Column::interval("sft_delta_ci", change, intervals(|r| &r.sft)).heading("95 % interval"))
        .with(
            Column::number("c4_loss", loss, c4(MEAN))
                .heading("C4")
                .absent("failed")
                .marked(marks(|r| &r.c4))
                .meaning("held-out loss on general text after fine-tuning"),
        )
        .with(Column::number("c4_delta", change, c4(DELTA)).heading("Δ C4"))
        .with(Column::interval("c4_delta_ci", change, intervals(|r| &r.c4)).heading("95 % interval, C4").documents_only())
        .with(
            Column::number("forgetting", change, forgotten)
                .documents_only()
                .meaning("how much the general loss rose in fine-tuning (Eq. 9)"),
        )
        .with(
            Column::count("seeds", rows.iter().map(|r| r.sft.as_ref().map(|l| l.values.n as u64))).file_only(),
        )
        .with(Column::text("unit", rows.iter().map(|r| said(r, unit))).file_only())
        .with(Column::text("family", rows.iter().map(|r| said(r, ALONE))).file_only())
        .with(
            Column::interval("sft_delta_document_ci", change, document_intervals(|r| &r.sft))
                .heading("Δ over documents")
                .documents_only()
                .meaning("95 % interval of Δ on the same held-out documents, mean over seeds"),
        )
        .with(Column::interval("c4_delta_document_ci", change, document_intervals(|r| &r.c4)).file_only())
        .with(Column::number("sft_sd", loss, sft(|l| l.values.sd)).heading("sd").documents_only())
        .with(Column::number("sft_delta_sd", loss, sft(|l| l.delta.as_ref()?.seeds.sd)).file_only())
        .with(Column::number("c4_sd", loss, c4(|l| l.values.sd)).heading("sd, C4").documents_only())
        .with(Column::number("c4_delta_sd", loss, c4(|l| l.delta.as_ref()?.seeds.sd)).file_only())
        .with(Column::number("c4_before", loss, rows.iter().map(|r| r.c4_before)).file_only())
        .with(Column::number("sft_improvement", change, sft(|l| l.improvement)).file_only())
        .with(Column::number("c4_improvement", change, c4(|l| l.improvement)).file_only())
        .with(Column::number("sft_lr", Format::Scientific(1), rows.iter().map(|r| r.lr)).heading("rate").documents_only())
        .with(Column::number("sft_document_se", loss, sft(|l| l.document_se)).file_only())
        .with(Column::number("c4_document_se", loss, c4(|l| l.document_se)).file_only())
        .with(Column::number("c4_bits_per_byte", loss, rows.iter().map(|r| r.c4_bits_per_byte)).file_only())
        .grouped()
        .note(format!(
            "Δ: difference to {control}, paired by seed; its 95 % interval is over {}. * or bold: the lowest of its set, and all that is not \
             distinguishable from it at 5 % (p of the difference, adjusted by Bonferroni for all pairs of mixes of the set; what is lower than \
             a marked mix is marked too, and so is what has no p).",
            unit
        ));
    if rows.iter().all(|r| r.accuracy.is_none()) { table } else { with_accuracy(table, rows) }
}

/// The same with what models choose of the items of their set.
fn with_accuracy(table: Table, rows: &[Row<'_>]) -> Table {
    let share = Format::Fixed(3);
    table
        .with(
            Column::number("accuracy", share, rows.iter().map(|r| r.accuracy.as_ref().map(|a| a.mean)))
                .heading("acc")
                .meaning(
                    "share of the set's multiple-choice items whose right answer is the most likely, mean over seeds",
                ),
        )
        .with(
            Column::number("accuracy_sd", share, rows.iter().map(|r| r.accuracy.as_ref().and_then(|a| a.sd)))
                .file_only(),
        )
        .with(
            Column::number("accuracy_norm", share, rows.iter().map(|r| r.accuracy_per_character))
                .heading("acc_norm")
                .documents_only()
                .meaning("the same with likelihoods per character"),
        )
        .with(
            Column::number("gold_bits_per_byte", share, rows.iter().map(|r| r.gold_bits_per_byte))
                .heading("bits per byte")
                .documents_only()
                .meaning("bits per byte of the right answers"),
        )
        .note("Items of a set are evaluated as they are given: they are not compared with the training text.")
}

/// Of a row that has an interval.
fn said<'w>(row: &Row<'_>, what: &'w str) -> &'w str {
    let interval =
        row.sft.as_ref().and_then(Loss::interval).filter(|_| row.sft.as_ref().is_some_and(|l| !l.is_control));
    interval.map_or("", |_| what)
}

/// The general loss before fine-tuning.
fn before(study: &Study, losses: &Losses) -> Table {
    let base = study.spec().base.as_ref().map(|_| ("(the base)", losses.c4_of_base));
    let arms = study.arms().map(|arm| study[arm].name()).map(|arm| (arm, losses.before_mean(arm)));
    let rows: Vec<(&str, Option<f64>)> = base.into_iter().chain(arms).collect();
    let entropy = losses.unigram_entropy;
    Table::new("before", "Held-out loss on general text before fine-tuning, nats per token")
        .with(Column::text("mix", rows.iter().map(|(name, _)| *name)))
        .with(
            Column::number("c4_before", Format::Fixed(3), rows.iter().map(|(_, loss)| *loss))
                .heading("C4")
                .absent("failed"),
        )
        .with(Column::number("unigram_entropy", Format::Fixed(3), rows.iter().map(|_| entropy)).file_only())
        .note(format!("A model that ignores context would have {entropy:.3}, the unigram entropy."))
}

fn figure(name: &str, study: &Study, rows: &[Row<'_>], control: &str) -> Figure {
    let treated: Vec<&Row<'_>> = rows.iter().filter(|r| r.arm != study.control()).collect();
    let delta = |loss: &Option<Loss>| {
        let loss = loss.as_ref()?;
        Some(Estimate { value: loss.delta.as_ref()?.seeds.mean, interval: loss.interval() })
    };
    let panel = |set: SetId| BarPanel {
        title: study[set].name.clone(),
        groups: treated
            .iter()
            .filter(|r| r.set == set)
            .map(|r| (study[r.arm].name().to_owned(), vec![delta(&r.sft), delta(&r.c4)]))
            .collect(),
    };
    let picture = Bars {
        axis: "nats per token".to_owned(),
        series: vec!["loss on the fine-tuning set".to_owned(), "loss on held-out general text".to_owned()],
        panels: study.sets().map(panel).collect(),
    };
    let values = |loss: Of| treated.iter().map(move |r| delta(loss(r)));
    let change = Format::Signed(3);
    let title = format!("Change of the loss against {control} ({}); lower is better", study.spec().model_name);
    let data = Table::new(name, &title)
        .with(Column::text("dataset", treated.iter().map(|r| study[r.set].name.as_str())))
        .with(Column::text("mix", treated.iter().map(|r| study[r.arm].name())))
        .with(Column::number("sft_delta", change, values(|r| &r.sft).map(|e| e.map(|e| e.value))))
        .with(Column::interval("sft_delta_ci", change, values(|r| &r.sft).map(|e| e?.interval)))
        .with(Column::number("c4_delta", change, values(|r| &r.c4).map(|e| e.map(|e| e.value))))
        .with(Column::interval("c4_delta_ci", change, values(|r| &r.c4).map(|e| e?.interval)))
        .with(Column::text("unit", treated.iter().map(|_| Unit::of(study).name())))
        .with(Column::text("family", treated.iter().map(|_| ALONE)));
    Figure::new(data, picture)
        .subtitle([format!("Lines: 95 % intervals of paired differences, over {}.", Unit::of(study).name())])
}
