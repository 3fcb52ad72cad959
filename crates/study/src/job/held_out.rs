//! Which documents a role holds out, by their content: known before anything is tokenised or trained.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::Path;

use corpus::permille_of;
use fused_ops::TrainingBackend;
use serde::{Deserialize, Serialize};
use serde_json::json;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::source::RoleSource;
use super::{Context, Cost, Input, Kind};
use crate::address::{Address, digest};
use crate::fingerprints::Fingerprints;
use crate::spec::{Amount, HoldOut, Splits};
use crate::store::Store;
use crate::{Error, files};

const MAGIC: &[u8; 8] = b"MTHASHES";

/// A split of what is held out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Side {
    /// Rates are chosen on it.
    Validation,
    /// It is reported.
    Test,
}

impl Side {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }

    /// The file of hashes in the job's folder.
    fn file(self) -> String {
        format!("{}.hashes", self.name())
    }
}

/// Finds what a role holds out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct FindHeldOut {
    /// Its documents.
    pub(crate) source: RoleSource,
    /// What is to be held out of them.
    pub(crate) splits: Splits,
    /// The places of the files that the splits name: of the validation split, of the test split; none for all files.
    places: [Vec<usize>; 2],
}

impl FindHeldOut {
    /// Of a role's documents.
    ///
    /// # Errors
    /// Files that cannot be read, a pattern that names none of them.
    pub(crate) fn new(source: RoleSource, splits: Splits, known: &mut Fingerprints) -> Result<Self, Error> {
        let places = {
            let generator = source.generator();
            let open = source.open(generator.as_ref(), known)?;
            let places = |side: Side, split: &HoldOut| open.named(&field(&source.role, side), &split.files);
            [places(Side::Validation, &splits.validation)?, places(Side::Test, &splits.test)?]
        };
        Ok(Self { source, splits, places })
    }
}

/// What messages call a role's split.
fn field(role: &str, side: Side) -> String {
    format!("splits.{role}.{}", side.name())
}

/// Hashes of what is held out, in the job's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeldOutFound {
    /// To choose rates on.
    pub(crate) validation: Hashes,
    /// To be reported.
    pub(crate) test: Hashes,
}

/// A file of hashes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Hashes {
    /// How many different ones.
    pub(crate) documents: u64,
    /// A digest of them.
    pub(crate) digest: String,
}

/// Everything that a study holds out: nothing of it is trained on, in whatever role it stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct HeldOut {
    pub(crate) sets: Vec<HeldOutSet>,
}

/// A split of a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeldOutSet {
    /// The role.
    pub(crate) role: String,
    /// Which of its splits.
    pub(crate) side: Side,
    /// What is in it.
    pub(crate) hashes: Hashes,
    /// The job that found it.
    pub(crate) made_by: Address,
}

impl HeldOutSet {
    /// What messages call it.
    pub(crate) fn name(&self) -> String {
        format!("{}, {}", self.role, self.side.name())
    }
}

impl HeldOut {
    /// Adds what a role holds out.
    pub(crate) fn add(&mut self, job: &FindHeldOut, found: &HeldOutFound) {
        for (side, hashes) in [(Side::Validation, &found.validation), (Side::Test, &found.test)] {
            if hashes.documents > 0 {
                let (role, made_by) = (job.source.role.clone(), job.address());
                self.sets.push(HeldOutSet { role, side, hashes: hashes.clone(), made_by });
            }
        }
        // In whatever order a study names its roles.
        self.sets.sort_by(|a, b| (&a.role, a.side).cmp(&(&b.role, b.side)));
    }

    /// Changes whenever something that is held out does.
    pub(crate) fn digest(&self) -> String {
        digest(&self.sets.iter().map(|set| (&set.role, set.side, &set.hashes.digest)).collect::<Vec<_>>())
    }

    pub(crate) fn inputs(&self) -> Vec<Input> {
        let mut inputs: Vec<Input> = Vec::new();
        for set in &self.sets {
            if !inputs.iter().any(|input| input.address == set.made_by) {
                inputs.push(Input::files(&set.made_by));
            }
        }
        inputs
    }

    /// The hashes, with the place of the set that each is of. Of several it is a role's own, then a test split, then the
    /// first.
    ///
    /// # Errors
    /// A file that is missing or damaged.
    pub(crate) fn read(&self, store: &Store, own: &str) -> Result<HashMap<u64, usize>, Error> {
        let mut places: Vec<usize> = (0..self.sets.len()).collect();
        places.sort_by_key(|place| (self.sets[*place].role != own, self.sets[*place].side != Side::Test, *place));
        let mut all = HashMap::new();
        for place in places {
            let set = &self.sets[place];
            let path = store.folder(&set.made_by).join(set.side.file());
            for hash in read(&path)? {
                all.entry(hash).or_insert(place);
            }
        }
        Ok(all)
    }
}

fn write(folder: &Path, side: Side, mut hashes: Vec<u64>) -> Result<Hashes, Error> {
    hashes.sort_unstable();
    let mut bytes = MAGIC.to_vec();
    bytes.extend(hashes.iter().copied().flat_map(u64::to_le_bytes));
    let digest = xxh3_128(&bytes);
    bytes.extend(digest.to_le_bytes());
    files::write(&folder.join(side.file()), &bytes)?;
    Ok(Hashes { documents: hashes.len() as u64, digest: format!("{digest:032x}") })
}

fn read(path: &Path) -> Result<Vec<u64>, Error> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let whole = || {
        let (content, digest) = bytes.split_last_chunk::<16>()?;
        let (hashes, rest) = content.strip_prefix(MAGIC)?.as_chunks::<8>();
        let right = rest.is_empty() && xxh3_128(content) == u128::from_le_bytes(*digest);
        right.then(|| hashes.iter().map(|hash| u64::from_le_bytes(*hash)).collect())
    };
    whole().ok_or_else(|| Error::Parse { path: path.to_owned(), reason: "is damaged: no list of hashes".to_owned() })
}

impl Kind for FindHeldOut {
    const NAME: &'static str = "held-out";
    const VERSION: u32 = 1;
    type Output = HeldOutFound;

    fn address(&self) -> Address {
        // Files count by their places: under other names the same ones may be meant, or others by the same pattern.
        let amounts = [self.splits.validation.amount, self.splits.test.amount];
        Self::identified_by(&json!({ "documents": self.source.fingerprint, "amounts": amounts, "files": self.places }))
    }

    fn label(&self) -> String {
        format!("finding what is held out of {}", self.source.role)
    }

    fn inputs(&self) -> Vec<Input> {
        Vec::new()
    }

    fn cost(&self) -> Cost {
        Cost::of("hash", self.source.bytes as f64)
    }

    /// 1. The test split takes what it is due of its files.
    /// 2. The validation split takes of what is left: no content that the test split has counts for it.
    fn run<AB: TrainingBackend>(&self, cx: &mut Context<'_, AB>) -> Result<Self::Output, Error> {
        let generator = self.source.generator();
        let mut known = Fingerprints::read(cx.store.root())?.until(cx.report.signal());
        let open = self.source.open(generator.as_ref(), &mut known)?;
        let Splits { validation, test } = &self.splits;
        let [of_validation, of_test] = &self.places;
        let chosen = |split, side, places: &[usize], others: &Chosen<'_>| {
            let mut chosen = Chosen::new(split, others);
            if !split.is_nothing() {
                open.each(&|place| places.is_empty() || places.contains(&place), &mut |document, _| {
                    chosen.offer(document.hash());
                    if cx.report.signal().received().is_some() {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                })?;
                cx.report.check()?;
            }
            chosen.finish(&field(&self.source.role, side), &self.source.role)
        };
        let test = chosen(test, Side::Test, of_test, &Chosen::nothing())?;
        let validation = chosen(validation, Side::Validation, of_validation, &test)?;
        Ok(HeldOutFound {
            validation: write(cx.folder, Side::Validation, validation.taken.into_iter().collect())?,
            test: write(cx.folder, Side::Test, test.taken.into_iter().collect())?,
        })
    }
}

/// The split of a study that holds nothing out.
const NOTHING: &HoldOut = &HoldOut { amount: Amount::Nothing, files: Vec::new() };

/// What a split takes of the documents that it is offered.
struct Chosen<'a> {
    split: &'a HoldOut,
    /// Contents that are another split's.
    others: HashSet<u64>,
    /// Thousandths that are another split's.
    before: u16,
    taken: HashSet<u64>,
    /// Where a number is to be chosen: the lowest in an order that hashes alone decide, and the hashes.
    lowest: BTreeSet<(u64, u64)>,
    /// Whether something was offered that is another split's.
    shared: bool,
}

impl<'a> Chosen<'a> {
    fn nothing() -> Chosen<'static> {
        let (others, taken, lowest) = Default::default();
        Chosen { split: NOTHING, others, before: 0, taken, lowest, shared: false }
    }

    /// Of what is not another split's.
    fn new(split: &'a HoldOut, others: &Chosen<'_>) -> Self {
        let before = match others.split.amount {
            Amount::Permille(permille) => permille,
            _ => 0,
        };
        Self { split, before, others: others.taken.clone(), ..Chosen::nothing() }
    }

    fn offer(&mut self, hash: u64) {
        if self.others.contains(&hash) {
            self.shared = true;
            return;
        }
        match self.split.amount {
            Amount::Nothing => {}
            Amount::Whole => drop(self.taken.insert(hash)),
            Amount::Permille(permille) => {
                if (self.before..self.before + permille).contains(&permille_of(hash)) {
                    self.taken.insert(hash);
                }
            }
            Amount::Documents(documents) => {
                self.lowest.insert((xxh3_64(&hash.to_le_bytes()), hash));
                if self.lowest.len() as u64 > documents {
                    self.lowest.pop_last();
                }
            }
        }
    }

    fn finish(mut self, field: &str, role: &str) -> Result<Self, Error> {
        let beside = if self.shared { ", beside what its test split has," } else { "" };
        if let Amount::Documents(documents) = self.split.amount {
            self.taken.extend(self.lowest.iter().map(|(_, hash)| *hash));
            if (self.taken.len() as u64) < documents {
                let limit =
                    format!("exceeds the {} different documents that {role}{beside} has for it", self.taken.len());
                return Err(Error::field(field, documents, limit));
            }
        }
        if self.taken.is_empty() && !self.split.is_nothing() {
            return Err(Error::field(field, self.split, format!("holds out no document that {role}{beside} has")));
        }
        Ok(self)
    }
}
