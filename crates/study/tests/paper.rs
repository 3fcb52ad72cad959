//! The preset `paper` is the paper's: its Tables 4 to 7, copied to data/paper.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;

use study::protocol::{ARMS, Arm, C4, Protocol, RATES, SFT, Size, Start};
use study::schedule::Convention;
use study::trainer::DecayGroup;
use study::{LrChoice, Plan, RateChoice, Study, StudySpec, Table1, Table2, preset};

/// A table's rows by their first column, each by the names of the others.
fn table(number: u32) -> BTreeMap<String, BTreeMap<String, String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("data/paper/table{number}.csv"));
    let mut reader = csv::Reader::from_path(path).unwrap();
    let names = reader.headers().unwrap().clone();
    let row = |row: csv::StringRecord| {
        let cells = names.iter().zip(&row).skip(1).map(|(name, cell)| (name.to_owned(), cell.to_owned()));
        (row[0].to_owned(), cells.collect())
    };
    reader.records().map(|record| row(record.unwrap())).collect()
}

fn spec(size: Size) -> StudySpec {
    preset("paper", &Protocol { sizes: &[size], arms: ARMS, sft: SFT, ..Protocol::PAPER }).unwrap()
}

fn plan(spec: StudySpec) -> String {
    let study = Study::new(spec).unwrap();
    Plan::stated(&Table2, &study).unwrap().describe(&study)
}

/// Table 4: batches, micro-batches, curve, optimiser, precision and ranks of every size.
#[test]
fn pretraining_is_table_4() {
    let table = table(4);
    for size in Size::ALL {
        let cell = |row: &str| table[row][size.name()].as_str();
        let number = |row: &str| cell(row).parse::<f64>().unwrap();
        let spec = spec(size);
        let p = &spec.pretrain;
        assert_eq!(spec.model, gptneox_model::GptNeoXConfig::pythia(size.name()).unwrap());
        assert_eq!(
            (p.batch as f64, p.lr_peak, p.lr_min),
            (number("Global batch size"), number("Max LR"), number("Min LR"))
        );
        assert_eq!((p.micro_tokens / p.time) as f64, number("Micro batch size"));
        assert_eq!((cell("LR schedule"), p.warmup), ("Cosine w/ 10% warmup", p.steps / 10));
        let Convention::Litgpt { accumulation } = p.convention else { panic!("{:?}", p.convention) };
        assert_eq!(p.batch as f64, accumulation as f64 * number("Micro batch size") * number("Num ranks"));
        let o = &p.optimizer;
        assert_eq!((cell("Optimizer"), cell("Betas")), ("AdamW", format!("({}, {})", o.beta1, o.beta2).as_str()));
        assert_eq!((o.weight_decay, &o.decay), (number("Weight decay"), &DecayGroup::All));
        assert_eq!(cell("Precision"), format!("{:?}", p.precision).to_uppercase());
        // 128 B tokens, about 61 000 steps (Section 3).
        assert_eq!((p.steps, p.time, p.max_epochs), (61_000, 2048, 1.0));

        let text = plan(spec);
        for words in [
            "61000 steps x 1024 sequences x 2048 tokens = 127926272000 tokens an arm".to_owned(),
            format!("micro-batches of {} sequences", cell("Micro batch size")),
            format!("accumulation {accumulation} on {} ranks", cell("Num ranks")),
            "AdamW (0.9, 0.95), weight decay 0.1, clip 1; rates 3e-4 to 1e-6, warm-up 6100 steps; bf16".to_owned(),
            "4 epochs of batches of 64".to_owned(),
        ] {
            assert!(text.contains(&words), "{words}: {text}");
        }
    }
}

/// Table 5: examples and masks. Where a set's own splits leave fewer, the plan says so.
#[test]
fn fine_tuning_is_table_5() {
    let table = table(5);
    for size in Size::ALL {
        let spec = spec(size);
        assert_eq!(spec.sft.sets.len(), table.len());
        for set in &spec.sft.sets {
            let row = &table[&set.name];
            assert_eq!(set.examples.unwrap().to_string(), row["train_samples"]);
            assert_eq!(set.mask_prompt, row["prompt_masked"] == "Yes");
        }
        assert_eq!((spec.sft.epochs, spec.sft.batch, spec.sft_seeds), (4, 64, 5));
        let text = plan(spec);
        let line = |name: &str| text.lines().find(|line| line.trim_start().starts_with(name)).unwrap().to_owned();
        assert!(
            line("Pycode").contains(" 5000 examples, 316 steps") && !line("Pycode").contains("cannot be had"),
            "{text}"
        );
        assert!(
            line("GSM8K").contains(" 6973 examples") && line("GSM8K").contains("7500 cannot be had beside its splits")
        );
        assert!(
            line("LIMA").contains(" 880 examples") && line("LIMA").contains("1000 cannot be had beside its splits")
        );
        assert!(
            line("SciQ").contains(" 11679 examples") && line("SciQ").contains("13679 cannot be had beside its splits")
        );
    }
}

/// Tables 6 and 7: the grid, and what the paper chose of it.
#[test]
fn rates_are_tables_6_and_7() {
    let grid = table(6);
    let rates: Vec<f64> = (0..grid.len()).map(|i| grid[&i.to_string()]["peak_lr"].parse().unwrap()).collect();
    assert_eq!(rates, RATES);
    let chosen = table(7);
    for size in Size::ALL {
        let own = spec(size);
        assert_eq!(own.sft.lr, LrChoice::SweepBase { grid: RATES.to_vec(), extend: 0 });
        let text = plan(own.clone());
        for rate in RATES {
            assert!(text.contains(&format!("{rate:e}")), "{text}");
        }
        let dir = tempfile::tempdir().unwrap();
        let changed = |how| study::Changes { rates: Some(how), ..Default::default() }.apply(own.clone(), dir.path());
        let fixed = changed(RateChoice::Paper).unwrap();
        for set in SFT {
            let rate: f64 = chosen[set.name][size.name()].parse().unwrap();
            assert!(RATES.contains(&rate));
            assert_eq!((set.rates[size as usize], fixed.spec().sft.lr.grid(set.name)), (rate, &[rate][..]));
            assert!(text.contains(&format!("{} {rate:e}", set.name)), "{text}");
        }
        let each = changed(RateChoice::SweepEach).unwrap();
        assert_eq!(each.spec().sft.lr, LrChoice::SweepEach { grid: RATES.to_vec(), extend: 0 });
    }
    let smoke = preset("smoke", &Protocol { arms: ARMS, sft: SFT, ..Protocol::PAPER }).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let refused = study::Changes { rates: Some(RateChoice::Paper), ..Default::default() }.apply(smoke, dir.path());
    assert!(refused.unwrap_err().to_string().contains("--rates = paper is for the paper's sizes"));
}

/// Every arm of the paper can be had but continued mathematics, whose repetition can be stated.
#[test]
fn the_papers_arms_fit() {
    const CONTINUED: Arm<'_> = Arm::mixed_from("Ctd. (Math)", "math", 100, Start::Tokens(105_000_000_000));
    let arms: Vec<Arm<'_>> = ARMS.iter().copied().chain([CONTINUED]).collect();
    for size in Size::ALL {
        let mut spec = preset("paper", &Protocol { sizes: &[size], arms: &arms, sft: SFT, ..Protocol::PAPER }).unwrap();
        // Tokens stay tokens.
        assert!(toml::to_string(&spec).unwrap().contains("105000000000 tokens"));
        let fits = |spec: &StudySpec| {
            let study = Study::new(spec.clone()).unwrap();
            let plan = Plan::stated(&Table1, &study).unwrap();
            let refused = plan.arms.iter().filter_map(|arm| arm.preflight.as_ref().err().cloned()).collect::<Vec<_>>();
            (refused, plan.describe(&study))
        };
        let (refused, _) = fits(&spec);
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert!(
            refused[0].contains("source math: the plan needs 22.93B tokens") && refused[0].contains("a start at step")
        );
        spec.arms[6].max_epochs.insert("math".to_owned(), 2.0);
        let (refused, text) = fits(&spec);
        assert!(refused.is_empty() && text.contains("22.93B reserved = 1.9"), "{text}");
    }
}

/// The stand-ins have three sizes: the fourth is the paper's alone.
#[test]
fn the_largest_size_is_the_papers_alone() {
    for name in ["smoke", "mini"] {
        let error =
            preset(name, &Protocol { sizes: &[Size::Xl], arms: &[C4], sft: SFT, ..Protocol::PAPER }).unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains(&format!("size = xl is the paper's 1b: the preset {name} has s, m and l")),
            "{message}"
        );
    }
}

/// A study of several sizes is, at each of them, the study of that size.
#[test]
fn each_size_is_what_it_is_alone() {
    let protocol = Protocol { arms: ARMS, sft: SFT, ..Protocol::PAPER };
    for (name, sizes) in [("smoke", &Size::ALL[..3]), ("mini", &Size::ALL[..3]), ("paper", &Size::ALL[..])] {
        let study = Study::new(preset(name, &Protocol { sizes, ..protocol }).unwrap()).unwrap();
        assert_eq!(study.sizes().count(), sizes.len());
        for (id, size) in study.sizes().zip(sizes) {
            let alone = preset(name, &Protocol { sizes: &[*size], ..protocol }).unwrap();
            let (mut own, mut alone) = (study[id].spec().clone(), alone);
            // What the first size is asked about, a file says once.
            own.sizes.clear();
            alone.sizes.clear();
            assert_eq!(own, alone, "{name}, {}", size.name());
        }
    }
}
