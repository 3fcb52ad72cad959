//! The options that all table and figure examples share.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Parser;
use fused_ops::Precision;

use crate::fingerprints::Fingerprints;
use crate::progress::say;
use crate::spec::{DataSpec, GENERAL, Protocol, Size, Sources, StudySpec, TokenizerSpec, preset};
use crate::{Error, Study};

/// Options of an example.
#[derive(Debug, Clone, Parser)]
#[command(
    about = "Reproduces a table or figure of the midtraining paper",
    after_help = "Exit status: 0 done; 2 wrong \
usage, spec or data; 1 failed later; 130 or 143 stopped by a signal, with a checkpoint: the same command continues."
)]
pub struct Args {
    /// Size of the study: smoke (minutes), mini (hours on 2 cores), paper (to be planned).
    #[arg(long, default_value = "smoke")]
    pub preset: String,
    /// Size of the model: s, m or l, the paper's 70m, 160m and 410m or their stand-ins (default: the example's).
    #[arg(long, value_enum)]
    pub size: Option<Size>,
    /// A resolved study file, such as the spec.toml of an output directory, instead of a preset.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["preset", "size", "data", "tokenizer", "sources"])]
    pub spec: Option<PathBuf>,
    /// Where tables, figures and the report go (default: runs/EXAMPLE-PRESET).
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Where results are kept that studies share; what is there is not computed again.
    #[arg(long, value_name = "DIR", default_value = "runs/store")]
    pub store: PathBuf,
    /// Pretraining runs of each arm.
    #[arg(long, value_name = "N")]
    pub pretrain_seeds: Option<u64>,
    /// Fine-tunes of each pretrained model and set.
    #[arg(long, value_name = "N")]
    pub seeds: Option<u64>,
    /// Seed of everything.
    #[arg(long, value_name = "S")]
    pub study_seed: Option<u64>,
    /// Real files instead of the generated corpus: a folder with one folder a role.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// A Hugging Face tokenizer.json instead of a BPE trained on the data.
    #[arg(long, value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
    /// Which files play which role, where the data directory has another layout or they lie on the Hugging Face hub.
    #[arg(long, value_name = "FILE")]
    pub sources: Option<PathBuf>,
    /// What computes: flex (CPU); ndarray, vulkan, cuda in builds with these features.
    #[arg(long, default_value = "flex")]
    pub backend: String,
    /// What matrix products are computed in: f32, or bf16 (parameters and optimiser stay f32).
    #[arg(long, value_name = "P", value_parser = ["f32", "bf16"])]
    pub precision: Option<String>,
    /// Most seconds between checkpoints; it changes no result.
    #[arg(long, value_name = "S", default_value_t = 15.0)]
    pub checkpoint_seconds: f64,
    /// How many jobs run at once, each in a process of its own with its share of the cores (default: as many as are
    /// faster than one; on GPUs as many as there are devices). It changes no result.
    #[arg(long, value_name = "N")]
    pub jobs: Option<NonZeroUsize>,
    /// GPUs of each job.
    #[arg(long, value_name = "N", default_value = "1")]
    pub gpus_per_job: NonZeroUsize,
    /// Where jobs run: local (this machine), or slurm (job arrays on a cluster; planned and submitted there too).
    #[arg(long, value_name = "E", default_value = "local", value_parser = ["local", "slurm"])]
    pub engine: String,
    /// Lines for all scripts of --engine slurm: #SBATCH options (partition, account, time, memory, gres), then commands
    /// that prepare the environment. docs/slurm-template.sh is one with comments.
    #[arg(long, value_name = "FILE")]
    pub slurm_template: Option<PathBuf>,
    /// Say what of the study is done, runs, waits and failed, and stop.
    #[arg(long)]
    pub status: bool,
    /// Compare everything in the store that the study needs with its checksums first; what is damaged is made again.
    #[arg(long)]
    pub verify: bool,
    /// Print what the study would do and cost, and stop.
    #[arg(long)]
    pub print_plan: bool,
    /// Take the results of a bundle into the store first; pages are then made from them without training.
    #[arg(long, value_name = "FILE")]
    pub import: Option<PathBuf>,
    /// Write the results of all studies of the store, without weights, when everything is done.
    #[arg(long, value_name = "FILE")]
    pub export: Option<PathBuf>,
    /// When everything is done, free what no study needs: `list` says what, `studies` frees what none of the studies
    /// that were run on the store needs, any other word what the studies whose record (store/studies) begins with it do
    /// not need.
    #[arg(long, value_name = "WHAT")]
    pub gc: Option<String>,
    /// No progress, and no notes such as that something damaged is made again.
    #[arg(long)]
    pub quiet: bool,
    /// Run jobs that are given on standard input: for processes that this program starts.
    #[arg(long, hide = true)]
    pub run_job: bool,
    /// Plan and submit the round after this one: for jobs that this program submits.
    #[arg(long, hide = true, value_name = "ROUND")]
    pub slurm_plan: Option<u32>,
    /// Run a task of a round: for jobs that this program submits.
    #[arg(long, hide = true, value_name = "FILE")]
    pub slurm_tasks: Option<PathBuf>,
    /// Its array's tasks.
    #[arg(long, hide = true, value_name = "LIST", value_delimiter = ',')]
    pub slurm_members: Vec<usize>,
}

impl Args {
    /// The study that the options ask for.
    ///
    /// # Errors
    /// An unknown preset, a file that cannot be read or parsed, a value outside its limits.
    pub fn study(&self, protocol: &Protocol<'_>) -> Result<Study, Error> {
        let mut spec = match &self.spec {
            Some(path) => StudySpec::read(path)?,
            None => preset(&self.preset, &Protocol { size: self.size.unwrap_or(protocol.size), ..*protocol })?,
        };
        spec.pretrain_seeds = self.pretrain_seeds.unwrap_or(spec.pretrain_seeds);
        spec.sft_seeds = self.seeds.unwrap_or(spec.sft_seeds);
        spec.study_seed = self.study_seed.unwrap_or(spec.study_seed);
        match self.precision.as_deref() {
            Some("bf16") => spec.pretrain.precision = Precision::Bf16,
            Some(_) => spec.pretrain.precision = Precision::F32,
            None => {}
        }
        if let Some(path) = &self.tokenizer {
            // A model's vocabulary is padded, as Pythia's 50 277 tokens to 50 304.
            let tokenizer = Fingerprints::read(&self.store)?.tokenizer(path)?;
            spec.model.vocab_size = tokenizer.vocab_size.next_multiple_of(128);
            spec.tokenizer = TokenizerSpec::File { path: path.clone() };
        }
        if self.data.is_some() || self.sources.is_some() {
            // Sources alone are relative to where the command runs.
            let dir = &self.data.clone().unwrap_or_else(|| PathBuf::from("."));
            if !dir.is_dir() {
                return Err(Error::field("--data", dir.display(), "is no directory"));
            }
            let sources = match &self.sources {
                Some(path) => Sources::from_file(path)?,
                None => Sources::folders(&spec.roles(), dir),
            };
            if !sources.0.contains_key(GENERAL) {
                return Err(Error::field("--sources", GENERAL, "is a role it must name"));
            }
            spec.data = DataSpec::Files { dir: dir.clone(), sources, part_bytes: None };
        }
        Study::new(spec)
    }

    /// The output directory.
    pub fn out(&self, example: &str) -> PathBuf {
        let kind = if self.spec.is_some() { "spec" } else { &self.preset };
        self.out.clone().unwrap_or_else(|| PathBuf::from(format!("runs/{example}-{kind}")))
    }
}

/// Prints an error; its exit status.
pub fn exit_code(error: &Error) -> std::process::ExitCode {
    say(&format!("error: {error}"));
    std::process::ExitCode::from(error.exit_status())
}
