//! What a study's data are: what is trained on, what is held out, what is left out and why, and what training text shares
//! with what is evaluated.

use std::fmt::Write as _;

use report::{Column, Table};

use crate::data::{Data, RoleData};
use crate::job::Shared;
use crate::{Progress, Study};

/// The data by role, and what each shares with each evaluation set.
pub(crate) fn tables(study: &Study, data: &Data) -> [Table; 2] {
    let rows: Vec<(&String, &RoleData)> = data.roles.iter().collect();
    let count = |name: &str, value: fn(&RoleData) -> u64| Column::count(name, rows.iter().map(|(_, r)| value(r)));
    let held_out = |r: &RoleData| r.left_out.held_out.values().sum::<u64>();
    let roles = Table::new("data", "What is trained on, held out and left out, in documents")
        .with(Column::text("role", rows.iter().map(|(role, _)| role.as_str())))
        .with(count("train", |r| r.train.documents).meaning("documents that are trained on"))
        .with(count("train_tokens", |r| r.train.tokens).heading("tokens").meaning("tokens that are trained on"))
        .with(count("validation", |r| r.held_out[0]).meaning("documents that are held out to choose learning rates on"))
        .with(count("test", |r| r.held_out[1]).meaning("documents that are held out to report losses on"))
        .with(
            count("evaluated", |r| r.validation.documents + r.test.documents)
                .meaning("those of both that are evaluated, and looked for in training text: all, or a sample"),
        )
        .with(
            Column::count("left_out_held_out", rows.iter().map(|(_, r)| held_out(r)))
                .heading("left out: held out")
                .meaning(
                    "documents left out because their content, white space folded, is held out of this role or another",
                ),
        )
        .with(
            count("duplicates", |r| r.left_out.duplicates)
                .heading("left out: twice")
                .meaning("documents left out that came before"),
        )
        .with(count("malformed", |r| r.read.skipped).meaning("records that could not be read"))
        .with(count("without_text", |r| r.read.blank).heading("without text").meaning("records without text"))
        .with(count("filtered", |r| r.read.filtered).meaning("records that the sources file's filters leave out"))
        .with(
            count("files_not_read", |r| r.not_read.len() as u64)
                .heading("files not read")
                .meaning("files beside the role's that are not read, or hold no document"),
        )
        .with(
            count("contaminated", |r| r.contaminated)
                .meaning(&format!("documents that share {} tokens in a row with evaluated text", study.spec().ngram)),
        )
        .with(
            Column::text(
                "decontaminated",
                rows.iter().map(|(_, r)| if r.decontaminated { "left out" } else { "kept" }),
            )
            .heading("these are"),
        );
    let pairs: Vec<(&String, &Shared)> =
        rows.iter().flat_map(|(role, r)| r.shared.iter().map(move |shared| (*role, shared))).collect();
    let of = |name: &str, value: fn(&Shared) -> u64| Column::count(name, pairs.iter().map(|(_, s)| value(s)));
    let title = format!("What training text shares with evaluated text: {} tokens in a row", study.spec().ngram);
    let shared = Table::new("contamination", &title)
        .with(Column::text("trained_on", pairs.iter().map(|(role, _)| role.as_str())))
        .with(Column::text("evaluated", pairs.iter().map(|(_, s)| s.with.as_str())))
        .with(of("judged", |s| s.judged).meaning("evaluated documents long enough to tell"))
        .with(of("shared", |s| s.any.len() as u64).meaning("those that share a sequence"))
        .with(of("half", |s| s.half.len() as u64).meaning("those of which half of all sequences are shared"))
        .with(of("training_documents", |s| s.holders).meaning("training documents that share a sequence"));
    [roles, shared]
}

/// The same for a plan, as text.
pub(crate) fn describe(study: &Study, data: &Data) -> String {
    let mut out = String::from("data, in documents:\n");
    for (role, r) in &data.roles {
        let [validation, test] = r.held_out;
        let _ = writeln!(
            out,
            "    {role:<16} {} to train on ({} tokens), {} for validation, {} for test",
            r.train.documents,
            schedule::Tokens(r.train.tokens),
            sampled(validation, r.validation.documents),
            sampled(test, r.test.documents)
        );
        let mut left: Vec<String> =
            r.left_out.held_out.iter().map(|(set, n)| format!("{n} that are held out ({set})")).collect();
        if r.left_out.duplicates > 0 {
            left.push(format!("{} duplicates", r.left_out.duplicates));
        }
        left.extend(r.read.left_out());
        if r.decontaminated {
            left.push(format!("{} that share text with what is evaluated", r.contaminated));
        }
        if !left.is_empty() {
            let _ = writeln!(out, "        left out: {}", left.join(", "));
        }
        for file in &r.not_read {
            let _ = writeln!(out, "        not read: {file}");
        }
        let shared: Vec<&Shared> = r.shared.iter().filter(|s| !s.any.is_empty() && !r.decontaminated).collect();
        if !shared.is_empty() {
            let _ = writeln!(out, "        shares {} tokens in a row with", study.spec().ngram);
            for set in shared {
                let _ = writeln!(out, "            {}", in_words(set));
            }
        }
    }
    out.push('\n');
    out
}

/// A split, and how much of it is evaluated where that is not all.
pub(crate) fn sampled(all: u64, evaluated: u64) -> String {
    if evaluated >= all { all.to_string() } else { format!("{all} (of which {evaluated} are evaluated)") }
}

fn in_words(s: &Shared) -> String {
    let half = match s.half.len() {
        0 => String::new(),
        half => format!(", of {half} half or more"),
    };
    format!("{} of {} evaluated documents of {}{half}", s.any.len(), s.judged, s.with)
}

/// The same as notes of a run: of a role, what was left out and not read.
pub(crate) fn say_what_was_left_out(role: &str, data: &RoleData, progress: &Progress) {
    for (split, documents) in &data.left_out.held_out {
        progress.note(&format!("{role}: {documents} documents left out that are held out ({split})"));
    }
    if data.left_out.duplicates > 0 {
        progress.note(&format!("{role}: {} duplicates left out", data.left_out.duplicates));
    }
    if data.decontaminated && data.contaminated > 0 {
        progress
            .note(&format!("{role}: {} documents left out that share text with what is evaluated", data.contaminated));
    }
    for what in data.read.left_out() {
        progress.note(&format!("{role}: not read: {what}"));
    }
    for file in &data.not_read {
        progress.note(&format!("{role}: not read: {file}"));
    }
}
