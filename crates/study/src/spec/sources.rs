//! Which files play which role.

use std::collections::BTreeMap;
use std::path::Path;

use corpus::{Escapes, SourceFiles, Template};
use serde::{Deserialize, Serialize};

use super::{HoldOut, StatedExamples};
use crate::Error;

/// Role to files. The TOML of `--sources`:
///
/// ```toml
/// [general]
/// held_out = ["general/c4-validation*"]   # held out whole
/// [[general.sets]]
/// files = ["general/*.jsonl.zst"]
///
/// ["sft/gsm8k"]
/// validation = 500                        # examples of the other files, by their content
/// test = ["gsm8k/test.jsonl"]
/// [["sft/gsm8k".sets]]
/// files = ["gsm8k/*.jsonl"]
/// template = { prompt = "{question}\n", text = "{answer}" }
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sources(pub BTreeMap<String, RoleFiles>);

/// The files of a role.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleFiles {
    /// What is held out to choose rates on; as in the study's `splits` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<HoldOut>,
    /// What is held out to be reported; as in the study's `splits` where absent.
    #[serde(default, alias = "held_out", skip_serializing_if = "Option::is_none")]
    pub test: Option<HoldOut>,
    /// Sets of files that are read alike.
    pub sets: Vec<SourceFiles>,
    /// Tokens that a paper or a data set's card states: what a plan counts on before anything is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stated_tokens: Option<u64>,
    /// Fine-tuning examples that a paper states.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stated_examples: Option<u64>,
    /// Examples of the set's own splits, as its card states them: what a plan counts on before anything is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stated_splits: Option<StatedExamples>,
    /// What is uncertain about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Sources {
    /// Each role's files in the folder of its name, in layouts that are recognised by their fields. What `test` holds out
    /// of general text comes from the `c4` files where there are any; FLAN's tables are read as FLAN writes them: question, answer
    /// and rationale, with line breaks as `\n`.
    pub fn folders(roles: &[String], test: &HoldOut, dir: &Path) -> Self {
        let role = |role: &String| {
            let c4 = std::fs::read_dir(dir.join(role))
                .into_iter()
                .flatten()
                .flatten()
                .any(|e| e.file_name().to_string_lossy().starts_with("c4"));
            let of_c4 = || HoldOut { files: vec![format!("{role}/c4*")], ..test.clone() };
            let test = (role == super::GENERAL && c4).then(of_c4);
            let sets = if role == "flan" { flan(role, dir) } else { vec![SourceFiles::folder(role)] };
            (role.clone(), RoleFiles { test, sets, ..RoleFiles::default() })
        };
        Self(roles.iter().map(role).collect())
    }

    /// The paper's own data: names on the Hugging Face hub, fields, filters, stated counts, and what is uncertain.
    ///
    /// # Errors
    /// None that a release can have: the file is part of it and tested.
    pub fn paper() -> Result<Self, Error> {
        let parse = |e: toml::de::Error| Error::Parse { path: "paper.toml".into(), reason: e.to_string() };
        toml::from_str(include_str!("../../data/paper.toml")).map_err(parse)
    }

    /// From a TOML file.
    ///
    /// # Errors
    /// A file that cannot be read or parsed.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let text =
            std::fs::read_to_string(path).map_err(|e| Error::Parse { path: path.to_owned(), reason: e.to_string() })?;
        toml::from_str(&text).map_err(|e| Error::Parse { path: path.to_owned(), reason: e.to_string() })
    }
}

/// FLAN's chain-of-thought tables have three columns and no header; its other files are as any.
fn flan(role: &str, dir: &Path) -> Vec<SourceFiles> {
    let folder = SourceFiles::folder(role);
    let Ok(found) = folder.paths(dir) else { return vec![folder] };
    let name = |path: &Path| path.strip_prefix(dir).unwrap_or(path).to_string_lossy().into_owned();
    let (tables, others): (Vec<String>, Vec<String>) =
        found.iter().map(|path| name(path)).partition(|name| name.to_lowercase().contains(".tsv"));
    let Ok(template) = Template::parse("{0}\n", "{2}\nThe answer is {1}.") else { return vec![folder] };
    if tables.is_empty() {
        return vec![folder];
    }
    let tables = SourceFiles { escapes: Escapes::Backslash, template: Some(template), ..SourceFiles::matching(tables) };
    let others = Some(others).filter(|others| !others.is_empty()).map(SourceFiles::matching);
    [tables].into_iter().chain(others).collect()
}
