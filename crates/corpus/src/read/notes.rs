//! What was left out within records, and how often.

use std::collections::BTreeMap;

/// What was left out of records, and how often.
#[derive(Debug, Default)]
pub(super) struct Notes {
    times: BTreeMap<String, u64>,
    /// Fields of records that are not read.
    unread: BTreeMap<String, u64>,
}

/// Counts one more.
fn count(map: &mut BTreeMap<String, u64>, what: &str) {
    match map.get_mut(what) {
        Some(times) => *times += 1,
        None => drop(map.insert(what.to_owned(), 1)),
    }
}

impl Notes {
    pub(super) fn add(&mut self, what: &str) {
        count(&mut self.times, what);
    }

    /// A field of a record that is not read.
    pub(super) fn unread(&mut self, field: &str) {
        count(&mut self.unread, field);
    }

    /// Each of them, and its times.
    pub(super) fn all(self) -> BTreeMap<String, u64> {
        let unread =
            self.unread.into_iter().map(|(field, times)| (format!("records whose field {field:?} is not read"), times));
        self.times.into_iter().chain(unread).collect()
    }
}
