//! Tokenizers: ids and decoded texts.

use std::path::{Path, PathBuf};

use corpus::{SpecialTokens, Tokenizer};

use crate::fixture::{json, list};
use crate::{Check, Line, line, unsupported};

const NAME: &str = "tokenizer/encode.json";

pub(super) fn lines(dir: &Path, given: Option<&Path>) -> Vec<Line> {
    let places = [dir.join("tokenizer/20B_tokenizer.json"), dir.join("../data/tokenizer/20B_tokenizer.json")];
    let found: Option<PathBuf> = given.map(Path::to_owned).or_else(|| places.into_iter().find(|p| p.exists()));
    match found {
        Some(path) => vec![line(NAME, check(dir, &path))],
        None => vec![unsupported(NAME, "its tokenizer file is not at hand: give it with --tokenizer")],
    }
}

fn check(dir: &Path, path: &Path) -> Result<Check, String> {
    let mut check = Check::new();
    let tokenizer = Tokenizer::from_file(path).map_err(|e| e.to_string())?;
    // As the fixtures' maker reads them.
    let tokenizer = tokenizer.with_special_tokens(SpecialTokens::Control);
    let expected = json(&dir.join(NAME))?;
    for case in list(&expected, "cases")? {
        let text = case["text"].as_str().unwrap_or_default();
        let ids: Vec<u32> = list(case, "ids")?.iter().filter_map(|v| v.as_u64().map(|v| v as u32)).collect();
        let found = tokenizer.encode(text).map_err(|e| e.to_string())?;
        check.exact(found == ids, &format!("ids of {text:?}"))?;
        for (field, skip) in [("decoded", false), ("decoded_skipping_special", true)] {
            let decoded = tokenizer.decode(&ids, skip).map_err(|e| e.to_string())?;
            check.exact(Some(decoded.as_str()) == case[field].as_str(), &format!("{field} of {text:?}"))?;
        }
    }
    Ok(check)
}
