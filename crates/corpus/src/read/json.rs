//! JSON: an object a line, an array of them, or one after the other; one at a time in memory.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{BufRead, Read};
use std::ops::ControlFlow;
use std::rc::Rc;

use serde::de::{Deserializer as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::ReadError;
use super::record::Value;
use super::records::{Flow, MAX_DOCUMENT, Records};
use super::stream::{damage, for_each_line};

/// The longest record, written out: letters may be escaped.
const LIMIT: usize = 2 * MAX_DOCUMENT;

pub(super) fn read_lines(reader: Box<dyn BufRead>, records: &mut Records<'_>) -> Flow {
    for_each_line(reader, records, |records, number, line| {
        // Files that were joined may have a mark in the middle, where it can be nothing else.
        let line = line.trim_start_matches('\u{feff}').trim();
        if line.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        match Value::parse(line) {
            Ok(record) => records.record(number, &record),
            Err(reason) if reason.contains("EOF while parsing") => {
                let hint = "an object over several lines? format = \"json\" reads those";
                records.malformed(number, format!("{reason} ({hint})"))
            }
            Err(reason) => records.malformed(number, reason),
        }
    })
}

/// An array's elements, or values one after the other. Where the JSON itself is broken nothing after it can be read:
/// that is an error whatever the policy.
pub(super) fn read_values(mut reader: Box<dyn BufRead>, records: &mut Records<'_>) -> Flow {
    let path = records.path();
    let is_array = loop {
        let buffer = reader.fill_buf().map_err(|e| damage(path, 1, e))?;
        if buffer.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        let blank = buffer.iter().take_while(|b| b.is_ascii_whitespace()).count();
        if let Some(first) = buffer.get(blank) {
            break *first == b'[';
        }
        reader.consume(blank);
    };
    let broken = |e: serde_json::Error| match e.io_error_kind() {
        Some(std::io::ErrorKind::FileTooLarge) => {
            let reason = format!("a record of more than {LIMIT} bytes");
            ReadError::Line { path: path.to_owned(), line: e.line() as u64, reason }
        }
        Some(kind) => damage(path, e.line() as u64, std::io::Error::new(kind, e.to_string())),
        None => {
            let (path, line) = (path.to_owned(), e.line() as u64);
            ReadError::Line { path, line, reason: format!("malformed JSON: {e}") }
        }
    };
    let left = Rc::new(Cell::new(LIMIT));
    let mut deserializer = serde_json::Deserializer::from_reader(Bounded { reader, left: left.clone() });
    if !is_array {
        for (number, value) in (1..).zip(deserializer.into_iter::<Box<RawValue>>()) {
            left.set(LIMIT);
            let flow = element(number, &value.map_err(broken)?, records)?;
            if flow.is_break() {
                return Ok(flow);
            }
        }
        return Ok(ControlFlow::Continue(()));
    }
    // Serde's errors cannot carry ours, nor a stop that was asked for: these leave beside it.
    let outcome = RefCell::new(Ok(ControlFlow::Continue(())));
    let parsed = deserializer.deserialize_seq(Elements { records, outcome: &outcome, left: &left });
    let outcome = outcome.into_inner();
    match (outcome, parsed) {
        (Err(error), _) => Err(error),
        (Ok(ControlFlow::Break(())), _) => Ok(ControlFlow::Break(())),
        (Ok(flow), Ok(())) => deserializer.end().map(|()| flow).map_err(broken),
        (Ok(_), Err(e)) => Err(broken(e)),
    }
}

fn element(number: u64, raw: &RawValue, records: &mut Records<'_>) -> Flow {
    match Value::of_json(raw) {
        Ok(record) => records.record(number, &record),
        Err(reason) => records.malformed(number, reason),
    }
}

struct Elements<'a, 'b> {
    records: &'a mut Records<'b>,
    outcome: &'a RefCell<Flow>,
    left: &'a Cell<usize>,
}

impl<'de> Visitor<'de> for Elements<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut number = 0;
        while let Some(value) = seq.next_element::<Box<RawValue>>()? {
            number += 1;
            self.left.set(LIMIT);
            let flow = element(number, &value, self.records);
            if !matches!(flow, Ok(ControlFlow::Continue(()))) {
                *self.outcome.borrow_mut() = flow;
                return Err(serde::de::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}

/// Gives so many bytes until it is said to begin again.
struct Bounded {
    reader: Box<dyn BufRead>,
    left: Rc<Cell<usize>>,
}

impl Read for Bounded {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let n = self.reader.read(out)?;
        match self.left.get().checked_sub(n) {
            Some(left) => self.left.set(left),
            None => return Err(std::io::Error::from(std::io::ErrorKind::FileTooLarge)),
        }
        Ok(n)
    }
}
