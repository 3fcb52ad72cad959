//! From the study's data to token stores: the jobs that lead there, step by step.

use std::collections::BTreeMap;

use corpus::ReadReport;
use data_mixer::SourceSize;
use schedule::Weight;
use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::fingerprints::Fingerprints;
use crate::job::{
    BaseState, Contaminated, Contamination, Content, CountRows, CountTokens, Examples, FindHeldOut, HeldOut,
    ImportBase, ImportItems, Imported, ImportedItems, Items, Job, Kind, LeftOut, MakeTokenizer, RoleSource, RowCounts,
    Sample, Shared, Split, SplitMade, Tokenise, Tokenised, TokenizerSource,
};
use crate::runner::Runner;
use crate::spec::{Amount, DataSpec, GENERAL, HoldOut, StatedExamples, TokenizerSpec, base_folder};
use crate::store::{Root, Store};
use crate::{Engine, Error, Progress, SetId, Study, datasheet};

/// The study's data, tokenised, divided and counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Data {
    /// The tokenizer's job.
    pub(crate) tokenizer: Address,
    /// The checkpoint that training begins at.
    #[serde(default)]
    pub(crate) base: Option<BaseState>,
    /// Items that fine-tuned models choose answers of, by set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) items: BTreeMap<String, Items>,
    /// By role.
    pub(crate) roles: BTreeMap<String, RoleData>,
    /// Rows of each fine-tuning set, in the study's order.
    rows: Vec<SetRows>,
    /// Entropy of the held-out general text's token distribution, in nats: the loss without any context.
    pub(crate) unigram_entropy: f64,
    /// The jobs that made it.
    pub(crate) jobs: Vec<Address>,
}

/// A role's text, and what is not in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RoleData {
    /// What is trained on.
    pub(crate) train: Content,
    /// What rates are chosen on.
    pub(crate) validation: Content,
    /// What is reported.
    pub(crate) test: Content,
    /// Documents of the validation and the test split, evaluated or not.
    pub(crate) held_out: [u64; 2],
    /// Documents that are neither trained on nor evaluated.
    pub(crate) left_out: LeftOut,
    /// What reading its files met.
    pub(crate) read: ReadReport,
    /// Files that were not read, or hold no document.
    pub(crate) not_read: Vec<String>,
    /// What its training text shares with what is evaluated, set by set.
    pub(crate) shared: Vec<Shared>,
    /// Training documents that share a sequence with evaluated text: left out where the study says so.
    pub(crate) contaminated: u64,
    /// Whether they are left out.
    pub(crate) decontaminated: bool,
}

impl RoleData {
    /// Its text: what is trained on, of a probe what is evaluated.
    pub(crate) fn text(&self) -> &Content {
        if self.train.documents == 0 { &self.test } else { &self.train }
    }
}

/// A fine-tuning set's rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SetRows {
    pub(crate) train: RowCounts,
    /// Nothing where rates are not chosen.
    pub(crate) validation: Option<RowCounts>,
    pub(crate) test: RowCounts,
    /// Examples of the validation and the test split, evaluated or not.
    pub(crate) held_out: [u64; 2],
}

impl Data {
    /// Stated token counts, for a plan.
    pub(crate) fn stated(study: &Study) -> Result<Self, Error> {
        let spec = study.spec();
        let DataSpec::Stated { tokens, .. } = &spec.data else {
            return Err(Error::field("data", "given", "is to be prepared, not stated"));
        };
        let role = |role: String| {
            let all = tokens.get(&role).copied().unwrap_or(0);
            // Of numbers of documents and of files it is not known what they take.
            let held_out = all / 1000 * u64::from(spec.splits_of(&role).permille());
            let evaluated = Content::stated(&role, u64::MAX);
            let data = RoleData {
                train: Content::stated(&role, all - held_out),
                validation: evaluated.clone(),
                test: evaluated,
                held_out: [0, 0],
                left_out: LeftOut::default(),
                read: ReadReport::default(),
                not_read: Vec::new(),
                shared: Vec::new(),
                contaminated: 0,
                decontaminated: false,
            };
            (role, data)
        };
        let data = Self {
            tokenizer: Address::named("stated", "tokenizer"),
            base: None,
            items: BTreeMap::new(),
            roles: spec.roles().into_iter().map(role).collect(),
            rows: study.sets().map(|set| SetRows::stated(study, set)).collect(),
            unigram_entropy: 0.0,
            jobs: Vec::new(),
        };
        data.check_rates(study)?;
        Ok(data)
    }

    /// A set's rows.
    pub(crate) fn rows(&self, set: SetId) -> &SetRows {
        &self.rows[set.place()]
    }

    /// A role's text.
    pub(crate) fn role(&self, role: &str) -> &RoleData {
        &self.roles[role]
    }

    /// Training sequences of a role.
    pub(crate) fn sequences(&self, time: usize) -> impl Fn(&str) -> u64 + '_ {
        move |role| self.roles.get(role).map_or(0, |r| r.train.sequences(time))
    }

    /// Every fine-tune trains: a curve may be 0 at each of its few steps. Its general text suffices.
    fn check_rates(&self, study: &Study) -> Result<(), Error> {
        for set in study.sets() {
            study.check_curve(set, self.rows(set).train.steps)?;
            self.check_replay(study, set)?;
        }
        Ok(())
    }

    /// General text that is added to a set's batches: some of it, and no more than there is.
    fn check_replay(&self, study: &Study, set: SetId) -> Result<(), Error> {
        let spec = study.spec();
        let (Some(replay), rows) = (spec.sft.replay, &self.rows(set).train) else { return Ok(()) };
        // Of stated sizes rows are not counted.
        if replay.share == Weight::ZERO || matches!(spec.data, DataSpec::Stated { .. }) {
            return Ok(());
        }
        let there = self.role(GENERAL).train.sequences(replay.time.unwrap_or(spec.sft.max_time));
        let most = SourceSize::new(GENERAL, there).allowed(spec.pretrain.max_epochs);
        let (name, field) = (&study[set].name, "sft.replay.share");
        if rows.replayed_rows == 0 {
            return Err(Error::field(
                field,
                replay.share,
                format!("adds no row to the batches of {name}: raise it, or leave it out"),
            ));
        }
        if rows.replayed_rows > most {
            let limit = format!(
                "takes {} rows for {name}; general text has {there}, to be drawn at most {} times (pretrain.max_epochs)",
                rows.replayed_rows, spec.pretrain.max_epochs
            );
            return Err(Error::field(field, replay.share, limit));
        }
        Ok(())
    }
}

impl SetRows {
    /// Of a set whose splits are only stated.
    fn stated(study: &Study, set: SetId) -> Self {
        let (spec, sft) = (study.spec(), &study.spec().sft);
        let used = stated_examples(study, set);
        let rows = |examples: u64| RowCounts {
            report: data_mixer::SftReport { examples, ..Default::default() },
            steps: examples.div_ceil(sft.batch as u64).saturating_mul(sft.epochs),
            padded: 0,
            replayed_rows: 0,
            replayed_tokens: 0,
        };
        let evaluated = |examples: u64| rows(examples.min(spec.eval.examples.unwrap_or(u64::MAX)));
        Self {
            train: rows(used.train),
            validation: Some(evaluated(used.validation)),
            test: evaluated(used.test),
            held_out: [used.validation, used.test],
        }
    }
}

/// What a set's splits hold, as far as it is stated: numbers that the study holds out are taken from its training split.
pub(crate) fn stated_examples(study: &Study, set: SetId) -> StatedExamples {
    let (spec, set) = (study.spec(), &study[set]);
    let stated = match &spec.data {
        DataSpec::Stated { examples, .. } => examples.get(&set.role).copied(),
        _ => None,
    };
    // Nothing stated: as many as the study asks for.
    let StatedExamples { train: all, validation: own_validation, test: own_test } =
        stated.unwrap_or(StatedExamples { train: u64::MAX, ..StatedExamples::default() });
    let splits = spec.splits_of(&set.role);
    let held_out = |split: &HoldOut, own: u64| match split.amount {
        Amount::Nothing => (0, 0),
        Amount::Whole => (own, 0),
        Amount::Documents(documents) => (documents, documents),
        Amount::Permille(permille) => {
            let part = if all == u64::MAX { 0 } else { all / 1000 * u64::from(permille) };
            (part, part)
        }
    };
    let (validation, of_validation) = held_out(&splits.validation, own_validation);
    let (test, of_test) = held_out(&splits.test, own_test);
    let left = all.saturating_sub(of_validation).saturating_sub(of_test);
    let cap = set.examples.unwrap_or(if stated.is_some() { u64::MAX } else { 0 });
    StatedExamples { train: left.min(cap), validation, test }
}

/// How far the data are.
pub(crate) enum Prepared {
    /// Tokenised, divided and counted.
    Whole(Data),
    /// These jobs come next; what they give says which follow.
    Needs(Vec<Job>),
}

/// Tokenises and counts what the store lacks. Files that did not change since an earlier run are not read.
///
/// # Errors
/// Any input that cannot be used.
pub fn prepare(study: &Study, store: &Store, engine: &mut dyn Engine, progress: &mut Progress) -> Result<Data, Error> {
    let _using = store.using()?;
    if let Some(data) = without_files(study, store, progress)? {
        return Ok(data);
    }
    let mut known = Fingerprints::read(store.root())?.until(&progress.signal);
    let mut runner = Runner::new(store, engine, progress)?;
    runner.progress.begin();
    loop {
        let prepared = next(study, store, &mut known)?;
        known.write()?;
        match prepared {
            Prepared::Whole(data) => {
                data.roles
                    .iter()
                    .for_each(|(role, data)| datasheet::say_what_was_left_out(role, data, runner.progress));
                return Ok(data);
            }
            Prepared::Needs(jobs) => {
                runner.must(&jobs)?;
            }
        }
    }
}

/// The data of an earlier run of the same study, where its files or its base are not there any more.
pub(crate) fn without_files(study: &Study, store: &Store, progress: &Progress) -> Result<Option<Data>, Error> {
    let spec = study.spec();
    let missing = match (&spec.data, &spec.base) {
        (DataSpec::Files { dir, .. }, _) if !dir.is_dir() => dir.display().to_string(),
        (_, Some(base)) if base_folder(base).is_err() => base.clone(),
        _ => return Ok(None),
    };
    let data = Root::data_of(store, spec)?;
    if data.is_some() {
        progress
            .note(&format!("{missing} is not there; what was made of it is known from an earlier run of this study"));
    }
    Ok(data)
}

/// The jobs that come next, or the data.
///
/// 1. What is held out of all roles, by content.
/// 2. The tokenizer: a BPE is trained, on nothing that is held out; a file is copied.
/// 3. The stores of all roles, those with little text first: what is wrong with them shows early.
/// 4. Each store's parts: to train on, to choose rates on, to report. What another role holds out is in none of them.
/// 5. What training text has in common with evaluated text; it is left out where the study says so.
/// 6. Counts of held-out general text, and of fine-tuning rows.
///
/// # Errors
/// Any input that cannot be used.
pub(crate) fn next(study: &Study, store: &Store, known: &mut Fingerprints) -> Result<Prepared, Error> {
    let spec = study.spec();
    let roles = spec.roles().into_iter().map(|role| RoleSource::new(&spec.data, role, known));
    let sources = roles.collect::<Result<Vec<_>, _>>()?;
    let mut jobs = Jobs { store, done: Vec::new(), missing: Vec::new() };
    let base = base(study, &mut jobs, known)?;
    let items = items(study, &mut jobs, known)?;
    // 1.
    let mut held_out = HeldOut::default();
    for source in &sources {
        let splits = spec.splits_of(&source.role);
        if splits.is_nothing() {
            continue;
        }
        let find = FindHeldOut::new(source.clone(), splits, known)?;
        if let Some(found) = jobs.result(&find)? {
            held_out.add(&find, &found);
        }
    }
    // 2. A file's tokens wait for nothing.
    let given = matches!(spec.tokenizer, TokenizerSpec::File { .. });
    if !given && !jobs.missing.is_empty() {
        look(&sources, known)?;
        return Ok(jobs.needs());
    }
    let tokenizer = tokenizer(study, &sources, held_out.clone(), known)?;
    let Some(made) = jobs.result(&tokenizer)? else {
        look(&sources, known)?;
        return Ok(jobs.needs());
    };
    if made.vocab_size > spec.model.vocab_size {
        let limit = format!("is smaller than the tokenizer's vocabulary of {}", made.vocab_size);
        return Err(Error::field("model.vocab_size", spec.model.vocab_size, limit));
    }
    // 3.
    let tokenise = |source: RoleSource| Tokenise {
        source,
        tokenizer: tokenizer.address(),
        tokenizer_fingerprint: made.fingerprint.clone(),
        special_tokens: spec.special_tokens,
    };
    let mut stores: Vec<Tokenise> = sources.into_iter().map(tokenise).collect();
    stores.sort_by_key(|job| job.source.bytes);
    let mut tokenised = Vec::new();
    for job in &stores {
        match jobs.result(job)? {
            Some(made) => tokenised.push((job, made)),
            None => {
                // Something may be new: looked at before it is begun.
                job.source.open(job.source.generator().as_ref(), known)?.look()?;
                jobs.missing.extend(job.parts().map(Job::from));
            }
        }
    }
    if !jobs.missing.is_empty() {
        return Ok(jobs.needs());
    }
    // 4.
    let mut divided = Vec::new();
    for (job, made) in &tokenised {
        let split = split(study, job, made, &held_out);
        divided.extend(jobs.result(&split)?.map(|parts| (*job, made.clone(), parts)));
    }
    if !jobs.missing.is_empty() {
        return Ok(jobs.needs());
    }
    for (job, _, parts) in &divided {
        check_parts(study, &job.source.role, parts)?;
    }
    // 5.
    let evaluated = evaluated(study, &divided);
    let mut roles = BTreeMap::new();
    for (job, made, parts) in &divided {
        let role = &job.source.role;
        let found = match spec.trains_on(role) {
            true => jobs.result(&Contamination {
                role: role.clone(),
                train: parts.train.clone(),
                evaluated: evaluated.clone(),
                ngram: spec.ngram,
                remove: spec.decontaminate.contains(role),
            })?,
            false => Some(Contaminated { shared: Vec::new(), documents: 0, left: None }),
        };
        roles.extend(found.map(|found| (role.clone(), role_data(job, made, parts, found))));
    }
    if !jobs.missing.is_empty() {
        return Ok(jobs.needs());
    }
    // 6.
    let entropy = jobs.result(&CountTokens {
        name: format!("held-out text of {GENERAL}"),
        tokens: roles[GENERAL].test.clone(),
        vocabulary: spec.model.vocab_size,
    })?;
    let mut rows = Vec::new();
    for set in study.sets() {
        rows.extend(set_rows(study, set, &roles, &mut jobs)?);
    }
    let Some(entropy) = entropy.filter(|_| jobs.missing.is_empty()).map(|counts| counts.entropy) else {
        return Ok(jobs.needs());
    };
    // Where their inputs lie now: what is made again later is made from these.
    jobs.done.iter().try_for_each(|job| store.update(job))?;
    let jobs = jobs.done.iter().map(Job::address).collect();
    let data = Data { tokenizer: tokenizer.address(), base, items, roles, rows, unigram_entropy: entropy, jobs };
    data.check_rates(study)?;
    Ok(Prepared::Whole(data))
}

/// The checkpoint that the study begins at; it is the model that the study says it is.
fn base(study: &Study, jobs: &mut Jobs<'_>, known: &mut Fingerprints) -> Result<Option<BaseState>, Error> {
    let spec = study.spec();
    let Some(base) = &spec.base else { return Ok(None) };
    let job = ImportBase::new(base, known)?;
    let Some(Imported { digest, config }) = jobs.result(&job)? else { return Ok(None) };
    if config != spec.model {
        let fields = |model: &gptneox_model::GptNeoXConfig| serde_json::to_value(model).unwrap_or_default();
        let (own, studys) = (fields(&config), fields(&spec.model));
        let differs = own.as_object().into_iter().flatten().find(|(name, value)| studys.get(name) != Some(value));
        let how =
            differs.map_or_else(String::new, |(name, value)| format!(": its {name} is {value}, not {}", studys[name]));
        return Err(Error::field("base", base, format!("is another model than the study's{how}")));
    }
    Ok(Some(BaseState { digest, made_by: job.address() }))
}

/// The items of the sets that have some.
fn items(study: &Study, jobs: &mut Jobs<'_>, known: &mut Fingerprints) -> Result<BTreeMap<String, Items>, Error> {
    let mut found = BTreeMap::new();
    for set in study.sets().map(|set| &study[set]) {
        let Some(path) = &set.items else { continue };
        let unreadable =
            |e: Error| Error::field(format!("items of {}", set.name), path.display(), format!("cannot be read: {e}"));
        let job = ImportItems::new(&set.name, path, known).map_err(unreadable)?;
        if let Some(ImportedItems { digest, items }) = jobs.result(&job)? {
            let choices = items.iter().map(|item| item.choices.len() as u64).sum();
            found.insert(set.name.clone(), Items { digest, made_by: job.address(), choices });
        }
    }
    Ok(found)
}

/// The jobs of a study's data as far as they are known.
struct Jobs<'a> {
    store: &'a Store,
    done: Vec<Job>,
    missing: Vec<Job>,
}

impl Jobs<'_> {
    /// A job's result; `None` where the store has none: then it is missing.
    fn result<K: Kind>(&mut self, job: &K) -> Result<Option<K::Output>, Error>
    where
        Job: From<K>,
    {
        let found = self.store.result::<K>(&job.address())?;
        let to = if found.is_some() { &mut self.done } else { &mut self.missing };
        to.push(job.clone().into());
        Ok(found)
    }

    /// What is missing, and what it is made of.
    fn needs(self) -> Prepared {
        Prepared::Needs(self.done.into_iter().chain(self.missing).collect())
    }
}

/// Files of another kind or layout are found before anything is made of the others.
fn look(sources: &[RoleSource], known: &mut Fingerprints) -> Result<(), Error> {
    sources.iter().try_for_each(|source| source.open(source.generator().as_ref(), known)?.look())
}

fn tokenizer(
    study: &Study,
    sources: &[RoleSource],
    held_out: HeldOut,
    known: &mut Fingerprints,
) -> Result<MakeTokenizer, Error> {
    let source = match &study.spec().tokenizer {
        TokenizerSpec::File { path } if !path.is_file() => {
            let limit =
                "is no file: name a Hugging Face tokenizer.json (tokenizer.file.path, --tokenizer), such as Pythia's";
            return Err(Error::field("tokenizer", path.display(), limit));
        }
        TokenizerSpec::File { path } => {
            TokenizerSource::File { path: path.clone(), fingerprint: known.tokenizer(path)?.fingerprint }
        }
        TokenizerSpec::Bpe { vocab_size, roles, max_bytes } => TokenizerSource::Trained {
            vocab_size: *vocab_size,
            max_bytes: *max_bytes,
            held_out,
            roles: sources.iter().filter(|s| roles.contains(&s.role)).cloned().collect(),
        },
    };
    Ok(MakeTokenizer { source })
}

fn split(study: &Study, job: &Tokenise, made: &Tokenised, held_out: &HeldOut) -> Split {
    let (spec, role) = (study.spec(), &job.source.role);
    let (eval, time) = (&spec.eval, spec.pretrain.time as u64);
    let is_set = spec.sft.sets.iter().any(|set| set.role == *role);
    // A sequence has one token more than its length; probes and paths read some of the same.
    let sequences = eval.general_sequences.max(eval.path_rows).saturating_mul(time).saturating_add(1);
    let sample = match eval.examples {
        _ if role == GENERAL => Sample::AtLeast { documents: eval.probe_documents, tokens: sequences },
        Some(documents) if is_set => Sample::AtLeast { documents, tokens: 0 },
        _ => Sample::Whole,
    };
    Split {
        role: role.clone(),
        whole: job.address(),
        documents: made.documents,
        held_out: held_out.clone(),
        deduplicate: spec.deduplicate,
        sample,
        seed: study.seed("what is evaluated", 0),
    }
}

/// What is trained on and what is evaluated is there.
fn check_parts(study: &Study, role: &str, parts: &SplitMade) -> Result<(), Error> {
    let spec = study.spec();
    let LeftOut { held_out, duplicates } = &parts.left_out;
    let held_out: u64 = held_out.values().sum();
    if spec.trains_on(role) && parts.train.documents == 0 {
        let [validation, test] = parts.held_out;
        let limit = format!(
            "gives none to train on: {validation} are its validation split, {test} its test split, {held_out} more are \
             held out of some role, {duplicates} are duplicates"
        );
        return Err(Error::field("documents of role", role, limit));
    }
    let splits = spec.splits_of(role);
    for (name, split, content) in
        [("validation", &splits.validation, &parts.validation), ("test", &splits.test, &parts.test)]
    {
        if !split.is_nothing() && content.documents == 0 {
            return Err(Error::field(format!("splits.{role}.{name}"), split, "holds no document to evaluate"));
        }
    }
    Ok(())
}

/// What is evaluated: general text, fine-tuning sets and probes. What other roles hold out is only not trained on.
fn evaluated(study: &Study, divided: &[(&Tokenise, Tokenised, SplitMade)]) -> Vec<(String, Content)> {
    let spec = study.spec();
    let evaluates = |role: &str| {
        role == GENERAL || spec.sft.sets.iter().any(|s| s.role == role) || spec.probes.iter().any(|p| p.role == role)
    };
    let of = |(job, _, parts): &(&Tokenise, Tokenised, SplitMade)| {
        let sides = [("validation", parts.validation.clone()), ("test", parts.test.clone())];
        let role = job.source.role.clone();
        sides.into_iter().filter(|(_, c)| c.documents > 0).map(move |(side, c)| (format!("{role}, {side}"), c))
    };
    let evaluated = divided.iter().filter(|(job, ..)| evaluates(&job.source.role)).flat_map(of);
    let mut evaluated: Vec<(String, Content)> = evaluated.collect();
    evaluated.sort_by(|a, b| a.0.cmp(&b.0));
    evaluated
}

fn role_data(job: &Tokenise, made: &Tokenised, parts: &SplitMade, found: Contaminated) -> RoleData {
    RoleData {
        decontaminated: found.left.is_some(),
        train: found.left.unwrap_or_else(|| parts.train.clone()),
        validation: parts.validation.clone(),
        test: parts.test.clone(),
        held_out: parts.held_out,
        left_out: parts.left_out.clone(),
        read: made.read.clone(),
        not_read: job
            .source
            .passed_over
            .iter()
            .cloned()
            .chain(made.empty.iter().map(|file| format!("{file}: holds no document")))
            .collect(),
        shared: found.shared,
        contaminated: found.documents,
    }
}

/// A set's rows; `None` while they are not counted.
fn set_rows(
    study: &Study,
    set: SetId,
    roles: &BTreeMap<String, RoleData>,
    jobs: &mut Jobs<'_>,
) -> Result<Option<SetRows>, Error> {
    let (data, set_spec) = (&roles[&study[set].role], &study[set]);
    let mut rows = |what: &str, set: Examples| {
        let name = format!("{what} of {}", set_spec.name);
        jobs.result(&CountRows { name, set })
    };
    let evaluated = |tokens: &Content| Examples {
        tokens: tokens.clone(),
        examples: u64::MAX,
        rows: study.rows(set, 0),
        replay: None,
    };
    let train = rows("training examples", study.examples(set, 0, &|role| roles[role].train.clone()))?;
    let test = rows("test examples", evaluated(&data.test))?;
    let validation = match data.validation.documents {
        0 => Some(None),
        _ => rows("validation examples", evaluated(&data.validation))?.map(Some),
    };
    Ok(match (train, validation, test) {
        (Some(train), Some(validation), Some(test)) => {
            Some(SetRows { train, validation, test, held_out: data.held_out })
        }
        _ => None,
    })
}
