//! Any bytes are a ledger or an error; a ledger that is read can be asked, and is opened again or refused without being lost.
#![no_main]

use std::io::Write as _;
use std::ops::Range;

use data_mixer::{Batch, BatchSource, Error, Ledger, LedgerFile, LedgerHead, LedgerSpan};
use libfuzzer_sys::fuzz_target;
use schedule::Step;

/// Batches whose content is their step.
struct Steps;

impl BatchSource for Steps {
    fn steps(&self) -> u64 {
        1 << 20
    }

    fn rows(&self, _: u64) -> usize {
        1
    }

    fn batch_rows(&self, step: u64, _: Range<usize>) -> Result<Batch, Error> {
        Batch::new(1, vec![step as i32], vec![0], vec![0])
    }

    fn source_names(&self) -> Vec<String> {
        vec!["a".to_owned(), "b".to_owned()]
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((step, data)) = data.split_first() else { return };
    // Half the inputs begin as ledgers do, so that lines are reached.
    let head: &[u8] = if step & 1 == 1 { b"midtrain ledger 2\n[\"a\",\"b\"]\n" } else { b"" };
    let step = u64::from(step >> 1) % 20;
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(&[head, data].concat()).expect("room for it");
    if let Ok(ledger) = Ledger::read(file.path()) {
        let steps = ledger.steps();
        let _ = ledger.covers(Step(step));
        let _ = ledger.digest(Step(step));
        let _ = ledger.seen_by(Step(step));
        let _ = ledger.diff(&ledger);
        let _ = ledger.clone().then(&ledger);
        assert!(steps.start <= steps.end);
    }
    let before = std::fs::read(file.path()).expect("the file just written");
    let planned = Ledger::of(&Steps, 0..step).expect("batches of one number");
    let heads = (0..step).map(|k| planned.digest(Step(k)).expect("a step that was recorded"));
    let span = LedgerSpan {
        begins: (0, LedgerHead::default()),
        goes_on: (step, heads.fold(LedgerHead::default(), LedgerHead::append)),
    };
    match LedgerFile::open(file.path(), span, &Steps) {
        // Whatever was there: what was seen by this step, and nothing else.
        Ok(opened) => {
            let digests = |ledger: &Ledger| (0..step).map(|k| ledger.digest(Step(k))).collect::<Vec<_>>();
            assert_eq!(digests(opened.ledger()), digests(&planned));
        }
        Err(_) => assert_eq!(std::fs::read(file.path()).expect("it is still there"), before),
    }
});
