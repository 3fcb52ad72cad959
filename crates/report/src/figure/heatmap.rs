//! Heat maps with labelled axes, side by side on one colour scale.

use plotters::prelude::*;
use plotters::style::colors::colormaps::{ColorMap, ViridisRGB};
use plotters::style::text_anchor::{HPos, VPos};

use super::canvas::{
    Area, CENTRE, Draw, Drawn, INK, LEFT, NORMAL, NOTHING, RIGHT, SMALL, ink_on, number, text, upright, widest, width,
};

/// One matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Heatmap {
    /// What it shows.
    pub title: String,
    /// What the rows are.
    pub row_axis: String,
    /// What the columns are.
    pub column_axis: String,
    /// Names of the rows.
    pub rows: Vec<String>,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Row by row, where there is a value.
    pub values: Vec<Vec<Option<f64>>>,
    /// Row and column of cells with a thick frame.
    pub marks: Vec<(usize, usize)>,
}

/// Matrices on one scale.
#[derive(Debug, Clone, PartialEq)]
pub struct Heatmaps {
    /// The matrices.
    pub panels: Vec<Heatmap>,
    /// Panels beside each other.
    pub across: usize,
    /// Values of the ends of the colour scale.
    pub scale: (f64, f64),
    /// What the scale measures.
    pub measure: String,
    /// Digits of the numbers after the point.
    pub decimals: usize,
    /// Whether low values are bright, as for losses.
    pub reversed: bool,
}

const SCALE: i32 = 110;
const TOP: i32 = 12;
/// Around a panel's cells: for its title, and for labels and the axis below.
const ABOVE: i32 = 34;
const MARGIN: i32 = 24;

impl Heatmaps {
    /// Height of a cell.
    fn cell(&self) -> i32 {
        let most = self.panels.iter().map(|p| p.columns.len().max(p.rows.len())).max().unwrap_or(1);
        match most {
            0..=5 => 78,
            6..=8 => 62,
            9..=12 => 52,
            _ => (620 / most as i32).max(14),
        }
    }

    /// Width of a cell: its number fits.
    fn wide(&self) -> i32 {
        if !self.numbered() {
            return self.cell();
        }
        let values = self.panels.iter().flat_map(|p| p.values.iter().flatten().copied());
        let numbers: Vec<String> = values.map(|v| self.words(v)).collect();
        self.cell().max(widest(&numbers, SMALL) as i32 + 12)
    }

    /// Too small a cell shows its colour alone; the numbers are in the CSV file.
    fn numbered(&self) -> bool {
        self.cell() >= 34
    }

    fn words(&self, value: Option<f64>) -> String {
        value.filter(|v| v.is_finite()).map_or("–".to_owned(), |v| number(v, self.decimals))
    }

    fn across(&self) -> i32 {
        self.across.clamp(1, self.panels.len().max(1)) as i32
    }

    fn left(&self) -> i32 {
        46 + widest(self.panels.iter().flat_map(|p| &p.rows), SMALL) as i32
    }

    fn labels(&self) -> i32 {
        widest(self.panels.iter().flat_map(|p| &p.columns), SMALL) as i32
    }

    /// Column labels that do not fit below their column stand on end.
    fn turned(&self) -> bool {
        self.labels() + 6 > self.wide()
    }

    fn below(&self) -> i32 {
        44 + if self.turned() { self.labels() } else { 18 }
    }

    /// Width and height of a panel with its labels.
    fn panel(&self) -> (i32, i32) {
        let count = |of: fn(&Heatmap) -> usize| self.panels.iter().map(of).max().unwrap_or(1) as i32;
        let (rows, columns) = (count(|p| p.rows.len()), count(|p| p.columns.len()));
        let title = widest(self.panels.iter().map(|p| &p.title), NORMAL) as i32 + 36;
        ((self.left() + columns * self.wide() + MARGIN).max(title), ABOVE + rows * self.cell() + self.below())
    }
}

impl Draw for Heatmaps {
    fn size(&self) -> (u32, u32) {
        let down = (self.panels.len() as i32 + self.across() - 1) / self.across();
        let (panel, height) = self.panel();
        let numbers = self.ticks().map(|(_, words)| width(&words, SMALL) as i32 + 46);
        let scale = numbers.into_iter().fold(SCALE.max(width(&self.measure, SMALL) as i32 + 30), i32::max);
        ((self.across() * panel + scale) as u32, (TOP + down * height) as u32)
    }

    fn draw(&self, area: &Area<'_>) -> Drawn {
        let (width, height) = self.panel();
        for (i, panel) in self.panels.iter().enumerate() {
            let (column, row) = (i as i32 % self.across(), i as i32 / self.across());
            self.draw_panel(panel, area, (column * width, TOP + row * height))?;
        }
        let place = (self.across() * width + 10, TOP + ABOVE);
        self.draw_scale(area, place, (height - ABOVE - self.below()).clamp(120, 420))
    }
}

impl Heatmaps {
    /// From dark blue over green to yellow: brightness rises with the value, or falls.
    fn colour(&self, value: f64) -> RGBColor {
        let (low, high) = self.scale;
        let place = if high > low { ((value - low) / (high - low)).clamp(0.0, 1.0) } else { 0.5 };
        ViridisRGB.get_color(if self.reversed { 1.0 - place } else { place })
    }

    /// The numbers beside the scale, from above.
    fn ticks(&self) -> [(i32, String); 5] {
        let (low, high) = self.scale;
        [0, 1, 2, 3, 4].map(|i| (i, number(high - f64::from(i) / 4.0 * (high - low), self.decimals)))
    }

    fn draw_panel(&self, panel: &Heatmap, area: &Area<'_>, at: (i32, i32)) -> Drawn {
        let (wide, cell) = (self.wide(), self.cell());
        let (x0, y0) = (at.0 + self.left(), at.1 + ABOVE);
        let (across, down) = (panel.columns.len() as i32 * wide, panel.rows.len() as i32 * cell);
        text(area, &panel.title, NORMAL, &INK, LEFT, (at.0 + 18, at.1 + 14))?;
        for (r, label) in panel.rows.iter().enumerate() {
            let y = y0 + r as i32 * cell;
            text(area, label, SMALL, &INK, RIGHT, (x0 - 8, y + cell / 2))?;
            for c in 0..panel.columns.len() {
                let value = panel.values.get(r).and_then(|row| row.get(c)).copied().flatten();
                self.draw_cell(area, value, (x0 + c as i32 * wide, y))?;
            }
        }
        for (c, label) in panel.columns.iter().enumerate() {
            let (x, y) = (x0 + c as i32 * wide + wide / 2, y0 + down + 8);
            if self.turned() {
                upright(area, label, SMALL, RIGHT, (x, y))?;
            } else {
                text(area, label, SMALL, &INK, (HPos::Center, VPos::Top), (x, y))?;
            }
        }
        for (r, c) in panel.marks.iter().filter(|(r, c)| *r < panel.rows.len() && *c < panel.columns.len()) {
            self.draw_frame(area, (x0 + *c as i32 * wide, y0 + *r as i32 * cell))?;
        }
        text(area, &panel.column_axis, SMALL, &INK, CENTRE, (x0 + across / 2, y0 + down + self.below() - 18))?;
        upright(area, &panel.row_axis, SMALL, CENTRE, (at.0 + 20, y0 + down / 2))
    }

    fn draw_cell(&self, area: &Area<'_>, value: Option<f64>, (x, y): (i32, i32)) -> Drawn {
        let (wide, cell) = (self.wide(), self.cell());
        let fill = value.filter(|v| v.is_finite()).map_or(NOTHING, |v| self.colour(v));
        area.draw(&Rectangle::new([(x, y), (x + wide - 1, y + cell - 1)], fill.filled()))?;
        if !self.numbered() {
            return Ok(());
        }
        text(area, &self.words(value), SMALL, &ink_on(fill), CENTRE, (x + wide / 2, y + cell / 2))
    }

    /// Dark, with a white line inside: it is seen on dark cells as well.
    fn draw_frame(&self, area: &Area<'_>, (x, y): (i32, i32)) -> Drawn {
        let frame = |inset: i32| {
            let (x0, y0) = (x + inset, y + inset);
            let (x1, y1) = (x + self.wide() - 1 - inset, y + self.cell() - 1 - inset);
            // One corner more, so that the last is square as well.
            vec![(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0), (x1, y0)]
        };
        area.draw(&PathElement::new(frame(3), WHITE.stroke_width(2)))?;
        area.draw(&PathElement::new(frame(1), INK.stroke_width(3)))?;
        Ok(())
    }

    fn draw_scale(&self, area: &Area<'_>, at: (i32, i32), height: i32) -> Drawn {
        let (low, high) = self.scale;
        for y in 0..height {
            let value = high - f64::from(y) / f64::from(height - 1) * (high - low);
            area.draw(&Rectangle::new([(at.0, at.1 + y), (at.0 + 18, at.1 + y + 1)], self.colour(value).filled()))?;
        }
        for (i, words) in self.ticks() {
            text(area, &words, SMALL, &INK, LEFT, (at.0 + 26, at.1 + i * height / 4))?;
        }
        text(area, &self.measure, SMALL, &INK, LEFT, (at.0, at.1 - 16))
    }
}
