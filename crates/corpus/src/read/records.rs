//! From records to documents: filters, template, policy, and what was not read.

use std::ops::ControlFlow;
use std::path::Path;

use super::layout::{self, Recognised};
use super::notes::Notes;
use super::record::Value;
use super::template::text_of;
use super::{OnMalformed, ReadError, ReadReport, SourceFiles};
use crate::Document;

/// The longest document, line or file that is one: more is damage, and would take the memory there is.
pub(super) const MAX_DOCUMENT: usize = 1 << 28;

/// A step of a reading: go on, stop as asked, or an error.
pub(super) type Flow = Result<ControlFlow<()>, ReadError>;

/// How records become documents: as the set says, or by the layout of the file's first one.
enum Shape<'a> {
    Given(&'a super::Template),
    Unknown,
    Recognised(Box<Recognised>),
}

/// Turns records into documents.
pub(super) struct Records<'a> {
    path: &'a Path,
    files: &'a SourceFiles,
    shape: Shape<'a>,
    each: &'a mut dyn FnMut(Document) -> ControlFlow<()>,
    report: ReadReport,
    pub(super) notes: Notes,
}

impl<'a> Records<'a> {
    pub(super) fn new(
        files: &'a SourceFiles,
        path: &'a Path,
        each: &'a mut dyn FnMut(Document) -> ControlFlow<()>,
    ) -> Self {
        let shape = files.template.as_ref().map_or(Shape::Unknown, Shape::Given);
        Self { path, files, shape, each, report: ReadReport::default(), notes: Notes::default() }
    }

    pub(super) fn path(&self) -> &'a Path {
        self.path
    }

    /// What was met.
    pub(super) fn report(self) -> ReadReport {
        ReadReport { notes: self.notes.all(), ..self.report }
    }

    /// A document, as it is.
    pub(super) fn document(&mut self, line: u64, document: Document) -> Flow {
        if document.is_blank() {
            self.report.blank += 1;
            self.report.first_blank.get_or_insert_with(|| format!("{}:{line}", self.path.display()));
            return Ok(ControlFlow::Continue(()));
        }
        if document.len() > MAX_DOCUMENT {
            return self.malformed(line, format!("its text has {} bytes, more than {MAX_DOCUMENT}", document.len()));
        }
        self.report.documents += 1;
        Ok((self.each)(document))
    }

    /// A record, by its fields.
    pub(super) fn record(&mut self, line: u64, record: &Value) -> Flow {
        match self.apply(record) {
            Ok(Some(document)) => self.document(line, document),
            Ok(None) => {
                self.report.filtered += 1;
                Ok(ControlFlow::Continue(()))
            }
            Err(reason) => self.malformed(line, reason),
        }
    }

    /// A record that is not what it should be.
    pub(super) fn malformed(&mut self, line: u64, reason: String) -> Flow {
        let error = ReadError::Line { path: self.path.to_owned(), line, reason };
        if self.files.malformed == OnMalformed::Fail {
            return Err(error);
        }
        self.report.skipped += 1;
        self.report.first_skipped.get_or_insert_with(|| error.to_string());
        Ok(ControlFlow::Continue(()))
    }

    /// `None` for a record that the filters leave out.
    fn apply(&mut self, record: &Value) -> Result<Option<Document>, String> {
        for (field, values) in &self.files.only {
            if !values.contains(&text_of(field, record)?) {
                return Ok(None);
            }
        }
        for (field, values) in &self.files.except {
            if values.contains(&text_of(field, record)?) {
                return Ok(None);
            }
        }
        if matches!(self.shape, Shape::Unknown) {
            self.shape = Shape::Recognised(Box::new(layout::recognise(record)?));
        }
        match &self.shape {
            Shape::Given(template) => template.fill(record, &mut self.notes).map(Some),
            Shape::Recognised(layout) => layout.document(record, &mut self.notes).map(Some),
            Shape::Unknown => Err("has no known layout".to_owned()),
        }
    }
}
