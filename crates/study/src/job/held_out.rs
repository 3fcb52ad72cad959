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

    /// 1. Files that are held out whole are read first: what stands in them is known before anything is chosen elsewhere.
    /// 2. Of the other files every content's hash is offered to both splits.
    /// 3. The test split takes what it is due; the validation split takes of what is left.
    fn run<AB: TrainingBackend>(&self, cx: &mut Context<'_, AB>) -> Result<Self::Output, Error> {
        let generator = self.source.generator();
        let mut known = Fingerprints::read(cx.store.root())?.until(cx.report.signal());
        let open = self.source.open(generator.as_ref(), &mut known)?;
        let role = &self.source.role;
        let of = |places: &[usize]| -> Vec<bool> {
            (0..open.inputs.len()).map(|place| places.is_empty() || places.contains(&place)).collect()
        };
        let Splits { validation, test } = &self.splits;
        let [of_validation, of_test] = self.places.each_ref().map(|places| of(places));
        let mut test = Chosen::new(test, 0, 0);
        // What the test split takes of its thousandths and numbers is not the validation split's.
        let (before, more) = match test.split.amount {
            Amount::Permille(permille) => (permille, 0),
            Amount::Documents(documents) => (0, documents),
            Amount::Nothing | Amount::Whole => (0, 0),
        };
        let mut validation = Chosen::new(validation, before, more);
        let whole = |place: usize| test.split.amount == Amount::Whole && of_test[place];
        let needed = |place: usize| {
            !test.split.is_nothing() && of_test[place] || !validation.split.is_nothing() && of_validation[place]
        };
        let stopped = || cx.report.signal().received().is_some();
        let flow = || if stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        // 1.
        let mut first = HashSet::new();
        open.each(&whole, &mut |document, _| {
            first.insert(document.hash());
            flow()
        })?;
        // 2.
        let rest: Vec<bool> = (0..open.inputs.len()).map(|place| needed(place) && !whole(place)).collect();
        test.taken.extend(&first);
        open.each(&|place| rest[place], &mut |document, place| {
            let hash = document.hash();
            if of_test[place] {
                test.offer(hash);
            }
            if of_validation[place] && !first.contains(&hash) {
                validation.offer(hash);
            }
            flow()
        })?;
        cx.report.check()?;
        // 3.
        let nothing = HashSet::new();
        let test = test.finish(&field(role, Side::Test), role, &nothing)?;
        let validation = validation.finish(&field(role, Side::Validation), role, &test)?;
        Ok(HeldOutFound {
            validation: write(cx.folder, Side::Validation, validation.into_iter().collect())?,
            test: write(cx.folder, Side::Test, test.into_iter().collect())?,
        })
    }
}

/// What a split takes of the documents that it is offered.
struct Chosen<'a> {
    split: &'a HoldOut,
    /// Thousandths that are another split's.
    before: u16,
    /// How many of the lowest are kept in mind.
    most: u64,
    taken: HashSet<u64>,
    /// Where a number is to be chosen: the lowest in an order that hashes alone decide, and the hashes.
    lowest: BTreeSet<(u64, u64)>,
}

impl<'a> Chosen<'a> {
    /// `more`: how many of the lowest may be another split's.
    fn new(split: &'a HoldOut, before: u16, more: u64) -> Self {
        let most = match split.amount {
            Amount::Documents(documents) => documents.saturating_add(more),
            _ => 0,
        };
        Self { split, before, most, taken: HashSet::new(), lowest: BTreeSet::new() }
    }

    fn offer(&mut self, hash: u64) {
        match self.split.amount {
            Amount::Nothing => {}
            Amount::Whole => drop(self.taken.insert(hash)),
            Amount::Permille(permille) => {
                if (self.before..self.before + permille).contains(&permille_of(hash)) {
                    self.taken.insert(hash);
                }
            }
            Amount::Documents(_) => {
                self.lowest.insert((xxh3_64(&hash.to_le_bytes()), hash));
                if self.lowest.len() as u64 > self.most {
                    self.lowest.pop_last();
                }
            }
        }
    }

    fn finish(self, field: &str, role: &str, others: &HashSet<u64>) -> Result<HashSet<u64>, Error> {
        let Self { split, mut taken, lowest, .. } = self;
        if let Amount::Documents(documents) = split.amount {
            let free = lowest.into_iter().map(|(_, hash)| hash).filter(|hash| !others.contains(hash));
            taken.extend(free.take(documents as usize));
            if (taken.len() as u64) < documents {
                let limit = format!("exceeds the {} different documents that {role} has for it", taken.len());
                return Err(Error::field(field, documents, limit));
            }
        }
        taken.retain(|hash| !others.contains(hash));
        if taken.is_empty() && !split.is_nothing() {
            return Err(Error::field(field, split, format!("holds out no document of {role}")));
        }
        Ok(taken)
    }
}
