//! The options that table and figure examples share with `midtrain run`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser};
use fused_ops::Precision;
use study::protocol::{Protocol, Size};
use study::{Changes, CurveShape, Error, RateChoice, Study, StudySpec, preset};

/// What is said at the end of `--help`.
pub(crate) const EXIT_STATUS: &str = "Exit status: 0 done; 2 wrong usage, spec or data; 1 failed later; 130 or 143 stopped \
by a signal, with a checkpoint: the same command continues.";

/// Options of a table or figure example.
#[derive(Debug, Clone, Parser)]
#[command(about = "Reproduces a table or figure of the midtraining paper", after_help = EXIT_STATUS)]
pub(crate) struct ExampleOptions {
    /// Size of the study: smoke (minutes), mini (hours on 2 cores), paper (to be planned).
    #[arg(long, default_value = "smoke")]
    pub(crate) preset: String,
    /// Sizes of the model: s, m, l, the paper's 70m, 160m and 410m or their stand-ins, or xl, its 1b (default: the
    /// example's). What speaks of one size speaks of the first.
    #[arg(long, value_name = "SIZES", value_delimiter = ',')]
    size: Vec<Size>,
    /// A checkpoint that every arm begins at, instead of first weights: a Hugging Face folder, or hf://OWNER/NAME[@REVISION].
    /// Model and tokenizer are its own; a table of several sizes has this one.
    #[arg(long, value_name = "BASE")]
    base: Option<String>,
    /// A resolved study file, such as the spec.toml of an output directory, instead of a preset.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["preset", "size", "base", "data", "tokenizer", "sources"])]
    pub(crate) spec: Option<PathBuf>,
    /// Real files instead of the generated corpus: a folder with one folder a role.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// A Hugging Face tokenizer.json instead of a BPE trained on the data.
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Which files play which role, where the data directory has another layout or they lie on the Hugging Face hub.
    #[arg(long, value_name = "FILE")]
    sources: Option<PathBuf>,
    #[command(flatten)]
    changes: ChangeOptions,
    #[command(flatten)]
    pub(crate) run: RunOptions,
}

/// What a command line changes in a study.
#[derive(Debug, Clone, Args)]
pub(crate) struct ChangeOptions {
    /// Pretraining runs of each arm.
    #[arg(long, value_name = "N")]
    pretrain_seeds: Option<u64>,
    /// Fine-tunes of each pretrained model and set.
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// Seed of everything.
    #[arg(long, value_name = "S")]
    study_seed: Option<u64>,
    /// What matrix products are computed in: f32, or bf16 (parameters and optimiser stay f32).
    #[arg(long, value_name = "P", value_parser = precision)]
    precision: Option<Precision>,
    /// The shape of pretraining's learning rate after its warm-up: cosine, linear, or constant, which keeps apart when something
    /// is mixed in and how high the rate is then.
    #[arg(long, value_name = "SHAPE")]
    curve: Option<CurveShape>,
    /// Add arms that see the same number of sequences of a source whenever they begin, where arms mix it in from several steps on
    /// (figure4: when to begin, apart from how much is seen).
    #[arg(long)]
    iso_exposure: bool,
    /// How fine-tuning rates are chosen: sweep-base (on the control's checkpoint, the paper's Appendix C), sweep-each (on
    /// each arm's own, its Section 4), paper (its Table 7, at its sizes).
    #[arg(long, value_name = "HOW")]
    rates: Option<RateChoice>,
}

/// How a study is run; nothing of it changes a result.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunOptions {
    /// Where tables, figures and the report go (default: a folder of its own below runs).
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Where results are kept that studies share; what is there is not computed again.
    #[arg(long, value_name = "DIR", default_value = "runs/store")]
    pub(crate) store: PathBuf,
    /// What computes: flex (CPU); ndarray, vulkan, cuda in builds with these features.
    #[arg(long, default_value = "flex")]
    pub(crate) backend: String,
    /// Most seconds between checkpoints.
    #[arg(long, value_name = "S", default_value_t = 15.0, value_parser = seconds)]
    pub(crate) checkpoint_seconds: f64,
    /// How many jobs run at once, each in a process of its own with its share of the cores (default: as many as are
    /// faster than one; on GPUs as many as there are devices).
    #[arg(long, value_name = "N")]
    pub(crate) jobs: Option<NonZeroUsize>,
    /// GPUs of each job.
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) gpus_per_job: NonZeroUsize,
    /// Where jobs run: local (this machine), or slurm (job arrays on a cluster; planned and submitted there too).
    #[arg(long, value_name = "E", default_value = "local", value_parser = ["local", "slurm"])]
    pub(crate) engine: String,
    /// Lines for all scripts of --engine slurm: #SBATCH options (partition, account, time, memory, gres), then commands
    /// that prepare the environment. docs/slurm-template.sh is one with comments.
    #[arg(long, value_name = "FILE")]
    pub(crate) slurm_template: Option<PathBuf>,
    /// Say what of the study is done, runs, waits and failed, and stop.
    #[arg(long)]
    pub(crate) status: bool,
    /// Compare everything in the store that the study needs with its checksums first; what is damaged is made again.
    #[arg(long)]
    pub(crate) verify: bool,
    /// Print what the study would do and cost, and stop.
    #[arg(long)]
    pub(crate) print_plan: bool,
    /// Take the results of a bundle into the store first; pages are then made from them without training.
    #[arg(long, value_name = "FILE")]
    pub(crate) import: Option<PathBuf>,
    /// Write the results of all studies of the store, without weights, when everything is done.
    #[arg(long, value_name = "FILE")]
    pub(crate) export: Option<PathBuf>,
    /// When everything is done, free what no study needs: `list` says what, `studies` frees what none of the studies
    /// that were run on the store needs, any other word what the studies whose record (store/studies) begins with it do
    /// not need.
    #[arg(long, value_name = "WHAT")]
    pub(crate) gc: Option<String>,
    /// No progress, and no notes such as that something damaged is made again.
    #[arg(long)]
    pub(crate) quiet: bool,
    /// Plan and submit the round after this one: for jobs that this program submits.
    #[arg(long, hide = true, value_name = "ROUND")]
    pub(crate) slurm_plan: Option<u32>,
    /// Run a task of a round: for jobs that this program submits.
    #[arg(long, hide = true, value_name = "FILE")]
    pub(crate) slurm_tasks: Option<PathBuf>,
    /// Its array's tasks.
    #[arg(long, hide = true, value_name = "LIST", value_delimiter = ',')]
    pub(crate) slurm_members: Vec<usize>,
}

/// Options of a process that runs jobs for another one.
#[derive(Debug, Clone, Parser)]
pub(crate) struct WorkerOptions {
    #[arg(long)]
    pub(crate) backend: String,
    #[arg(long, value_parser = seconds)]
    pub(crate) checkpoint_seconds: f64,
}

impl ExampleOptions {
    /// The study that the options ask for.
    ///
    /// # Errors
    /// An unknown preset, a file that cannot be read or parsed, a value outside its limits.
    pub(crate) fn study(&self, protocol: &Protocol<'_>) -> Result<Study, Error> {
        let spec = match &self.spec {
            Some(path) => StudySpec::read(path)?,
            None => preset(&self.preset, &Protocol { sizes: self.sizes(protocol), ..*protocol })?,
        };
        let (data, tokenizer, sources) = (self.data.clone(), self.tokenizer.clone(), self.sources.clone());
        let base = self.base.clone();
        Changes { base, data, tokenizer, sources, ..self.changes.changes() }.apply(spec, &self.run.store)
    }

    fn sizes<'a>(&'a self, protocol: &Protocol<'a>) -> &'a [Size] {
        if self.size.is_empty() { protocol.sizes } else { &self.size }
    }

    /// The output directory.
    pub(crate) fn out(&self, example: &str) -> PathBuf {
        let kind = if self.spec.is_some() { "spec" } else { &self.preset };
        self.run.out.clone().unwrap_or_else(|| PathBuf::from(format!("runs/{example}-{kind}")))
    }
}

impl ChangeOptions {
    pub(crate) fn changes(&self) -> Changes {
        Changes {
            pretrain_seeds: self.pretrain_seeds,
            sft_seeds: self.seeds,
            study_seed: self.study_seed,
            precision: self.precision,
            curve: self.curve,
            iso_exposure: self.iso_exposure,
            rates: self.rates,
            ..Changes::default()
        }
    }
}

/// A time between checkpoints.
fn seconds(text: &str) -> Result<f64, String> {
    let value = text.parse::<f64>().map_err(|e| e.to_string())?;
    if value >= 0.0 && value.is_finite() { Ok(value) } else { Err("must be a number of seconds, 0 or more".to_owned()) }
}

/// f32 (also fp32) or bf16.
pub(crate) fn precision(name: &str) -> Result<Precision, String> {
    crate::parse_precision(name).map_err(|_| "must be f32 or bf16".to_owned())
}
