//! Strided views of matrices.

/// A strided view of a matrix.
#[derive(Debug, Clone, Copy)]
pub struct Mat<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) row_stride: usize,
    pub(crate) col_stride: usize,
}

impl<'a> Mat<'a> {
    /// A row-major matrix.
    ///
    /// # Panics
    /// Where `data` holds another number of values.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(Some(data.len()), rows.checked_mul(cols), "a {rows} x {cols} matrix needs as many values");
        Self { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The transposed view.
    #[must_use]
    pub fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }

    /// Rows `from..to`.
    ///
    /// # Panics
    /// Where they are not the view's.
    #[must_use]
    pub fn row_range(self, from: usize, to: usize) -> Self {
        assert!(from <= to && to <= self.rows, "a range of the view's rows");
        let skipped = from.saturating_mul(self.row_stride).min(self.data.len());
        Self { data: &self.data[skipped..], rows: to - from, ..self }
    }

    pub(crate) fn fits(&self) -> bool {
        let last = || {
            let row = (self.rows - 1).checked_mul(self.row_stride)?;
            row.checked_add((self.cols - 1).checked_mul(self.col_stride)?)
        };
        self.rows == 0 || self.cols == 0 || last().is_some_and(|last| last < self.data.len())
    }
}
