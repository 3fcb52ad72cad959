//! Heat maps with labelled axes, side by side on one colour scale.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::canvas::{Draw, Drawn, FONT, text};

/// One matrix.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Heatmap {
    pub(crate) title: String,
    /// What the rows are.
    pub(crate) row_axis: String,
    /// What the columns are.
    pub(crate) column_axis: String,
    pub(crate) rows: Vec<String>,
    pub(crate) columns: Vec<String>,
    /// Row by row; NaN where there is no value.
    pub(crate) values: Vec<Vec<f64>>,
}

/// Matrices on one scale.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Heatmaps {
    pub(crate) title: String,
    /// Below the title.
    pub(crate) subtitle: String,
    pub(crate) panels: Vec<Heatmap>,
    /// Panels beside each other.
    pub(crate) across: usize,
    /// Values of the ends of the colour scale.
    pub(crate) scale: (f64, f64),
    /// What the scale measures.
    pub(crate) measure: String,
}

const HEAD: i32 = 78;
const SCALE: i32 = 110;
/// Around a panel's cells: for its title, and for labels and the axis below.
const ABOVE: i32 = 34;
const RIGHT: i32 = 24;
const GLYPH: i32 = 8;

/// Dark blue over green to yellow: brightness rises with the value.
const STOPS: [(u8, u8, u8); 6] =
    [(68, 1, 84), (65, 68, 135), (42, 120, 142), (34, 168, 132), (122, 209, 81), (253, 231, 37)];

fn colour(share: f64) -> RGBColor {
    let at = share.clamp(0.0, 1.0) * (STOPS.len() - 1) as f64;
    let low = (at.floor() as usize).min(STOPS.len() - 2);
    let part = at - low as f64;
    let mix = |a: u8, b: u8| (f64::from(a) + part * (f64::from(b) - f64::from(a))).round() as u8;
    let (a, b) = (STOPS[low], STOPS[low + 1]);
    RGBColor(mix(a.0, b.0), mix(a.1, b.1), mix(a.2, b.2))
}

fn longest(labels: &[String]) -> i32 {
    labels.iter().map(|l| l.chars().count()).max().unwrap_or(0) as i32
}

impl Heatmaps {
    fn cell(&self) -> i32 {
        let most = self.panels.iter().map(|p| p.columns.len().max(p.rows.len())).max().unwrap_or(1);
        match most {
            0..=5 => 78,
            6..=8 => 62,
            9..=12 => 52,
            _ => (620 / most as i32).max(14),
        }
    }

    fn left(&self) -> i32 {
        36 + GLYPH * self.panels.iter().map(|p| longest(&p.rows)).max().unwrap_or(0)
    }

    /// Column labels that do not fit above their column stand on end.
    fn turned(&self) -> bool {
        GLYPH * self.panels.iter().map(|p| longest(&p.columns)).max().unwrap_or(0) > self.cell()
    }

    fn below(&self) -> i32 {
        let labels = self.panels.iter().map(|p| longest(&p.columns)).max().unwrap_or(0);
        40 + if self.turned() { GLYPH * labels } else { 16 }
    }

    /// Width and height of a panel with its labels.
    fn panel(&self) -> (i32, i32) {
        let count = |of: fn(&Heatmap) -> usize| self.panels.iter().map(of).max().unwrap_or(1) as i32;
        let (rows, columns) = (count(|p| p.rows.len()), count(|p| p.columns.len()));
        let title = GLYPH * self.panels.iter().map(|p| p.title.chars().count()).max().unwrap_or(0) as i32 + 30;
        ((self.left() + columns * self.cell() + RIGHT).max(title), ABOVE + rows * self.cell() + self.below())
    }
}

impl Draw for Heatmaps {
    fn size(&self) -> (u32, u32) {
        let across = self.across.clamp(1, self.panels.len().max(1)) as i32;
        let down = (self.panels.len() as i32 + across - 1) / across;
        let (width, height) = self.panel();
        let words = GLYPH * self.title.chars().count().max(self.subtitle.chars().count()) as i32 * 9 / 8 + 40;
        ((across * width + SCALE).max(words) as u32, (HEAD + down * height) as u32)
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn<B> {
        let start = (HPos::Left, VPos::Center);
        text(area, &self.title, 22, &BLACK, start, (20, 24))?;
        text(area, &self.subtitle, 15, &RGBColor(70, 70, 70), start, (20, 52))?;
        let across = self.across.clamp(1, self.panels.len().max(1)) as i32;
        let (width, height) = self.panel();
        for (i, panel) in self.panels.iter().enumerate() {
            let (column, row) = (i as i32 % across, i as i32 / across);
            self.draw_panel(panel, area, (column * width, HEAD + row * height))?;
        }
        self.draw_scale(area, (across * width + 18, HEAD + ABOVE), (height - ABOVE - self.below()).clamp(120, 420))
    }
}

impl Heatmaps {
    fn share(&self, value: f64) -> f64 {
        (value - self.scale.0) / (self.scale.1 - self.scale.0)
    }

    fn draw_panel<B: DrawingBackend>(&self, panel: &Heatmap, area: &DrawingArea<B, Shift>, at: (i32, i32)) -> Drawn<B> {
        let cell = self.cell();
        let (x0, y0) = (at.0 + self.left(), at.1 + ABOVE);
        let (across, down) = (panel.columns.len() as i32 * cell, panel.rows.len() as i32 * cell);
        text(area, &panel.title, 17, &BLACK, (HPos::Left, VPos::Center), (at.0 + 20, at.1 + 14))?;
        for (r, (label, values)) in panel.rows.iter().zip(&panel.values).enumerate() {
            let y = y0 + r as i32 * cell;
            text(area, label, 15, &BLACK, (HPos::Right, VPos::Center), (x0 - 8, y + cell / 2))?;
            for (c, value) in values.iter().enumerate() {
                let x = x0 + c as i32 * cell;
                let fill = if value.is_nan() { RGBColor(225, 225, 225) } else { colour(self.share(*value)) };
                area.draw(&Rectangle::new([(x, y), (x + cell - 1, y + cell - 1)], fill.filled()))?;
                let brightness = 0.3 * f64::from(fill.0) + 0.6 * f64::from(fill.1) + 0.1 * f64::from(fill.2);
                let ink = if brightness > 125.0 { BLACK } else { WHITE };
                // Too small a cell shows its colour alone; the numbers are in the CSV.
                if cell >= 30 {
                    let words = if value.is_nan() { "–".to_owned() } else { format!("{value:.2}") };
                    text(area, &words, 15, &ink, (HPos::Center, VPos::Center), (x + cell / 2, y + cell / 2))?;
                }
            }
        }
        for (c, label) in panel.columns.iter().enumerate() {
            let at = (x0 + c as i32 * cell + cell / 2, y0 + down + 8);
            if self.turned() {
                let font = (FONT, 15).into_font().transform(FontTransform::Rotate270);
                area.draw_text(label, &font.color(&BLACK).pos(Pos::new(HPos::Right, VPos::Center)), at)?;
            } else {
                text(area, label, 15, &BLACK, (HPos::Center, VPos::Top), at)?;
            }
        }
        let grey = RGBColor(70, 70, 70);
        let below = (x0 + across / 2, y0 + down + self.below() - 16);
        text(area, &panel.column_axis, 15, &grey, (HPos::Center, VPos::Center), below)?;
        let font = (FONT, 15).into_font().transform(FontTransform::Rotate270).color(&grey);
        area.draw_text(&panel.row_axis, &font.pos(Pos::new(HPos::Center, VPos::Center)), (at.0 + 16, y0 + down / 2))
    }

    fn draw_scale<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>, at: (i32, i32), height: i32) -> Drawn<B> {
        for y in 0..height {
            let fill = colour(1.0 - f64::from(y) / f64::from(height - 1));
            area.draw(&Rectangle::new([(at.0, at.1 + y), (at.0 + 18, at.1 + y + 1)], fill.filled()))?;
        }
        for i in 0..=4 {
            let value = self.scale.1 - f64::from(i) / 4.0 * (self.scale.1 - self.scale.0);
            let y = at.1 + i * height / 4;
            text(area, &format!("{value:.2}"), 14, &BLACK, (HPos::Left, VPos::Center), (at.0 + 24, y))?;
        }
        text(area, &self.measure, 14, &BLACK, (HPos::Left, VPos::Center), (at.0 - 6, at.1 - 16))
    }
}
