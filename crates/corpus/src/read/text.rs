//! Plain text: documents by line, by paragraph or by file.

use std::io::{BufRead, Read as _};
use std::ops::ControlFlow;

use super::records::{Flow, MAX_DOCUMENT, Records};
use super::stream::{damage, for_each_line};
use super::{ReadError, TextUnit};
use crate::Document;

pub(super) fn read_text(reader: Box<dyn BufRead>, unit: TextUnit, records: &mut Records<'_>) -> Flow {
    match unit {
        // A blank line is no record, only space between them.
        TextUnit::Line => for_each_line(reader, records, |records, number, line| match line.trim().is_empty() {
            true => Ok(ControlFlow::Continue(())),
            false => records.document(number, Document::plain(line)),
        }),
        TextUnit::Paragraph => {
            let (mut paragraph, mut first) = (String::new(), 1);
            let flow = for_each_line(reader, records, |records, number, line| {
                if line.trim().is_empty() {
                    return end_paragraph(&mut paragraph, first, records);
                }
                if paragraph.is_empty() {
                    first = number;
                } else {
                    paragraph.push('\n');
                }
                paragraph.push_str(line);
                if paragraph.len() > MAX_DOCUMENT {
                    let reason =
                        format!("a paragraph of more than {MAX_DOCUMENT} bytes: no line of the file is blank?");
                    return Err(ReadError::Line { path: records.path().to_owned(), line: first, reason });
                }
                Ok(ControlFlow::Continue(()))
            })?;
            if flow.is_break() { Ok(flow) } else { end_paragraph(&mut paragraph, first, records) }
        }
        TextUnit::File => {
            let mut bytes = Vec::new();
            let limit = MAX_DOCUMENT as u64;
            reader.take(limit + 1).read_to_end(&mut bytes).map_err(|e| damage(records.path(), 1, e))?;
            if bytes.len() as u64 > limit {
                let reason = format!("is longer than a document may be, {limit} bytes");
                return Err(ReadError::Line { path: records.path().to_owned(), line: 1, reason });
            }
            match String::from_utf8(bytes) {
                Ok(text) => records.document(1, Document::plain(text)),
                Err(e) => records.malformed(1, format!("is not UTF-8: {e}")),
            }
        }
    }
}

fn end_paragraph(paragraph: &mut String, line: u64, records: &mut Records<'_>) -> Flow {
    let text = std::mem::take(paragraph);
    if text.is_empty() { Ok(ControlFlow::Continue(())) } else { records.document(line, Document::plain(text)) }
}
