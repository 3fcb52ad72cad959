//! A table: columns of values with names for programs and headings for readers.

use crate::value::{Format, MISSING, Value};

/// A column: its values from the first row to the last, and what it is called.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// For programs: a name in the CSV file's header. An interval's is that of the two columns `NAME_low` and `NAME_high`.
    pub(crate) name: String,
    /// For readers.
    pub(crate) heading: String,
    pub(crate) kind: Kind,
    pub(crate) values: Vec<Value>,
    /// Whether each value is marked; empty where the column marks none.
    pub(crate) marked: Vec<bool>,
    pub(crate) audience: Audience,
    /// What readers see where there is no value.
    pub(crate) absent: String,
    pub(crate) meaning: Option<String>,
}

/// Who sees a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Audience {
    /// The CSV file alone.
    File,
    /// Documents too: HTML and Markdown.
    Documents,
    /// Also a terminal, which is narrow.
    Terminal,
}

/// What the values of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Number,
    Interval,
}

impl Column {
    fn new(name: &str, kind: Kind, values: impl Iterator<Item = Value>) -> Self {
        Self {
            name: name.to_owned(),
            heading: name.replace('_', " "),
            kind,
            values: values.collect(),
            marked: Vec::new(),
            audience: Audience::Terminal,
            absent: MISSING.to_owned(),
            meaning: None,
        }
    }

    /// Of words.
    pub fn text<T: Into<String>>(name: &str, values: impl IntoIterator<Item = T>) -> Self {
        Self::new(name, Kind::Text, values.into_iter().map(|v| Value::Text(v.into())))
    }

    /// Of whole numbers, where there are any.
    pub fn count<T: Into<Option<u64>>>(name: &str, values: impl IntoIterator<Item = T>) -> Self {
        let value = |v: T| v.into().map_or(Value::Missing, Value::Count);
        Self::new(name, Kind::Number, values.into_iter().map(value))
    }

    /// Of numbers, where there are any.
    pub fn number<T: Into<Option<f64>>>(name: &str, format: Format, values: impl IntoIterator<Item = T>) -> Self {
        let value = |v: T| match v.into() {
            Some(value) if !value.is_nan() => Value::Number { value, format },
            _ => Value::Missing,
        };
        Self::new(name, Kind::Number, values.into_iter().map(value))
    }

    /// Of intervals, lower end first, where there are any.
    pub fn interval(name: &str, format: Format, values: impl IntoIterator<Item = Option<(f64, f64)>>) -> Self {
        let value = |v: Option<(f64, f64)>| match v {
            Some((low, high)) if !(low.is_nan() || high.is_nan()) => Value::Interval { low, high, format },
            _ => Value::Missing,
        };
        Self::new(name, Kind::Interval, values.into_iter().map(value))
    }

    /// What readers see above it; the name with spaces otherwise.
    #[must_use]
    pub fn heading(mut self, heading: &str) -> Self {
        heading.clone_into(&mut self.heading);
        self
    }

    /// What the values mean, in a sentence: below the table.
    #[must_use]
    pub fn meaning(mut self, meaning: &str) -> Self {
        self.meaning = Some(meaning.to_owned());
        self
    }

    /// What readers see where there is no value, such as `failed`; a dash otherwise.
    #[must_use]
    pub fn absent(mut self, word: &str) -> Self {
        word.clone_into(&mut self.absent);
        self
    }

    /// Only in the CSV file: readers do not see it.
    #[must_use]
    pub fn file_only(mut self) -> Self {
        self.audience = Audience::File;
        self
    }

    /// Not on a terminal, which is narrow: only in documents and in the CSV file.
    #[must_use]
    pub fn documents_only(mut self) -> Self {
        self.audience = Audience::Documents;
        self
    }

    /// Marks values: bold, or with a star.
    ///
    /// # Panics
    /// Another number of marks than of values.
    #[must_use]
    pub fn marked(mut self, marks: impl IntoIterator<Item = bool>) -> Self {
        self.marked = marks.into_iter().collect();
        assert_eq!(self.marked.len(), self.values.len(), "a mark for each value of {}", self.name);
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its values.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// A value for readers.
    pub(crate) fn print(&self, row: usize) -> String {
        match &self.values[row] {
            Value::Missing => self.absent.clone(),
            value => value.print(),
        }
    }

    pub(crate) fn is_marked(&self, row: usize) -> bool {
        self.marked.get(row).copied().unwrap_or(false)
    }
}

/// A table, column by column, so that what a column is called and what stands in it are said in one place.
///
/// ```
/// use report::{Column, Format, Table};
///
/// let arms = [("C4", 3.021), ("Starcoder (20%)", 2.871)];
/// let best = arms.map(|(_, loss)| loss < 3.0);
/// let table = Table::new("table2", "Loss after fine-tuning on code, nats per token")
///     .with(Column::text("mix", arms.map(|(name, _)| name)))
///     .with(Column::number("sft_loss", Format::Fixed(2), arms.map(|(_, loss)| loss)).heading("SFT").marked(best));
/// assert_eq!(table.rows(), 2);
/// assert!(table.text(80).contains("Starcoder (20%)  2.87*"), "{}", table.text(80));
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) columns: Vec<Column>,
    pub(crate) notes: Vec<String>,
    pub(crate) grouped: bool,
}

impl Table {
    /// Without columns yet. The name is that of its files, such as `table2`.
    pub fn new(name: &str, title: &str) -> Self {
        Self { name: name.to_owned(), title: title.to_owned(), ..Self::default() }
    }

    /// With another column on the right.
    ///
    /// # Panics
    /// A column of another length than the others, or of a name that one has already.
    #[must_use]
    pub fn with(mut self, column: Column) -> Self {
        if let Some(first) = self.columns.first() {
            assert_eq!(column.values.len(), first.values.len(), "rows of {} in table {}", column.name, self.name);
        }
        assert!(
            self.columns.iter().all(|c| c.name != column.name),
            "two columns {} in table {}",
            column.name,
            self.name
        );
        self.columns.push(column);
        self
    }

    /// Rows with the same words in the first column that readers see stand together, apart from others.
    #[must_use]
    pub fn grouped(mut self) -> Self {
        self.grouped = true;
        self
    }

    /// With a note below.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// With notes below.
    #[must_use]
    pub fn notes(mut self, notes: impl IntoIterator<Item = String>) -> Self {
        self.notes.extend(notes);
        self
    }

    /// The name of its files.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it shows.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// Its columns, from left to right.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.columns.first().map_or(0, |c| c.values.len())
    }

    /// The columns that some readers see.
    pub(crate) fn shown(&self, to: Audience) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(move |c| c.audience >= to)
    }

    /// Whether a row begins a group.
    pub(crate) fn begins_group(&self, row: usize) -> bool {
        let same = |c: &Column| row > 0 && c.values[row] == c.values[row - 1];
        !self.grouped || !self.shown(Audience::Documents).next().is_some_and(same)
    }

    /// What is said below it: its notes, then what columns mean.
    pub(crate) fn remarks(&self, to: Audience) -> Vec<String> {
        let meaning = |c: &Column| c.meaning.as_ref().map(|m| format!("{}: {m}", c.heading));
        self.notes.iter().cloned().chain(self.shown(to).filter_map(meaning)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "rows of b in table t")]
    fn columns_are_of_one_length() {
        let _ = Table::new("t", "").with(Column::count("a", [1, 2])).with(Column::count("b", [1]));
    }

    #[test]
    fn groups_begin_where_the_first_column_changes() {
        let table = Table::new("t", "")
            .with(Column::text("file's", ["x", "y", "y"]).file_only())
            .with(Column::text("set", ["a", "a", "b"]))
            .grouped();
        assert_eq!([0, 1, 2].map(|row| table.begins_group(row)), [true, false, true]);
    }
}
