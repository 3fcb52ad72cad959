//! Quotes in comma-separated files that would change the text, found before the csv crate reads over them.

use std::fmt;
use std::io::{self, BufRead, Read};

use super::records::MAX_DOCUMENT;

/// What is wrong with a file's quotes: nothing after it can be trusted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct QuoteFault {
    /// The line, from 1.
    pub(super) line: u64,
    reason: String,
}

impl fmt::Display for QuoteFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for QuoteFault {}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a column's first byte.
    Begin,
    Plain,
    Quoted,
    /// After a quote in a quoted column: its end, or the first of two.
    Ended,
}

/// Passes bytes on while their quotes are as RFC 4180 has them; a quote inside a column that does not begin with one is text.
pub(super) struct Quotes<R> {
    inner: R,
    state: State,
    line: u64,
    /// Where the column that is quoted began.
    opened: u64,
    /// Bytes of the row.
    row: usize,
}

impl<R: BufRead> Quotes<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, state: State::Begin, line: 1, opened: 1, row: 0 }
    }

    fn fault(line: u64, reason: String) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, QuoteFault { line, reason })
    }

    fn check(&mut self, bytes: &[u8]) -> io::Result<()> {
        for byte in bytes {
            self.state = match (self.state, byte) {
                (State::Quoted, b'"') => State::Ended,
                (State::Quoted, _) => State::Quoted,
                (State::Ended, b'"') => State::Quoted,
                (State::Begin, b'"') => {
                    self.opened = self.line;
                    State::Quoted
                }
                (_, b',' | b'\n' | b'\r') => State::Begin,
                (State::Ended, _) => {
                    let reason =
                        "text follows the quote that ends a column: a quote in a quoted column is written twice";
                    return Err(Self::fault(self.line, reason.to_owned()));
                }
                _ => State::Plain,
            };
            self.row += 1;
            if *byte == b'\n' {
                self.line += 1;
                self.row = if self.state == State::Quoted { self.row } else { 0 };
            }
            if self.row > MAX_DOCUMENT {
                let reason =
                    format!("a row of more than {MAX_DOCUMENT} bytes; is a quote of line {} not closed?", self.opened);
                return Err(Self::fault(self.line, reason));
            }
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Quotes<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(out)?;
        if n == 0 && !out.is_empty() && self.state == State::Quoted {
            return Err(Self::fault(self.opened, "a quote that begins a column is never closed".to_owned()));
        }
        self.check(&out[..n])?;
        Ok(n)
    }
}
