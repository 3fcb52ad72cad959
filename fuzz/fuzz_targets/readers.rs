//! Any bytes in any format are documents or an error that names the file. The first byte chooses the format.
//!
//! Not Parquet: the crate that reads it panics on some damaged files, which the reader turns into errors but libFuzzer
//! ends at. A property test of `corpus` damages such files instead.
#![no_main]

use std::io::Write as _;
use std::ops::ControlFlow;

use corpus::{OnMalformed, SourceFiles};
use libfuzzer_sys::fuzz_target;

const ENDINGS: [&str; 7] = [".txt", ".jsonl", ".json", ".csv", ".tsv", ".jsonl.gz", ".json.zst"];

fuzz_target!(|data: &[u8]| {
    let Some((choice, data)) = data.split_first() else { return };
    let ending = ENDINGS[usize::from(*choice) % ENDINGS.len()];
    let mut file = tempfile::Builder::new().suffix(ending).tempfile().expect("a temporary file");
    file.write_all(data).expect("room for it");
    let read = |malformed| {
        let mut documents = 0u64;
        let report = SourceFiles { malformed, ..SourceFiles::matching(["."]) }.read(file.path(), &mut |document| {
            documents += 1;
            assert!(!document.is_blank());
            ControlFlow::Continue(())
        });
        (report, documents)
    };
    let (strict, documents) = read(OnMalformed::Fail);
    let (lenient, more) = read(OnMalformed::Skip);
    // Skipping never loses what reading strictly gives.
    assert!(more >= documents);
    match strict {
        Ok(report) => assert_eq!(Ok(report), lenient.map_err(|e| e.to_string())),
        Err(error) => assert!(error.to_string().contains(ending)),
    }
});
