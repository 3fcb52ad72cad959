//! Curves over steps, panel by panel.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::canvas::{COLOURS, Draw, Drawn, FONT, text};

/// Curves over the same steps.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Curves {
    pub(crate) title: String,
    pub(crate) x: Vec<f64>,
    /// One curve for each name of the figure.
    pub(crate) ys: Vec<Vec<f64>>,
}

/// Panels of curves.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lines {
    pub(crate) title: String,
    pub(crate) x_axis: String,
    pub(crate) y_axis: String,
    pub(crate) names: Vec<String>,
    pub(crate) panels: Vec<Curves>,
    /// Panels beside each other.
    pub(crate) across: usize,
}

const PANEL: (u32, u32) = (390, 300);
const HEAD: u32 = 84;

impl Draw for Lines {
    fn size(&self) -> (u32, u32) {
        let across = self.across.max(1);
        let down = self.panels.len().div_ceil(across) as u32;
        (PANEL.0 * across as u32, HEAD + PANEL.1 * down)
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn<B> {
        let start = (HPos::Left, VPos::Center);
        text(area, &self.title, 22, &BLACK, start, (20, 24))?;
        let mut x = 22;
        for (i, name) in self.names.iter().enumerate() {
            area.draw(&Rectangle::new([(x, 54), (x + 22, 58)], COLOURS[i % COLOURS.len()].filled()))?;
            text(area, name, 15, &BLACK, start, (x + 30, 56))?;
            x += 56 + 8 * name.chars().count() as i32;
        }
        let (_, body) = area.split_vertically(HEAD);
        let across = self.across.max(1);
        let panels = body.split_evenly((self.panels.len().div_ceil(across).max(1), across));
        self.panels.iter().zip(&panels).try_for_each(|(curves, area)| self.draw_panel(curves, area))
    }
}

impl Lines {
    fn draw_panel<B: DrawingBackend>(&self, curves: &Curves, area: &DrawingArea<B, Shift>) -> Drawn<B> {
        let values = curves.ys.iter().flatten().copied().filter(|v| v.is_finite());
        let (low, high) = values.fold((0.0f64, 0.0f64), |(l, h), v| (l.min(v), h.max(v)));
        let margin = 0.06 * (high - low).max(1e-9);
        let last = curves.x.last().copied().unwrap_or(1.0).max(1.0);
        let mut chart = ChartBuilder::on(area)
            .caption(&curves.title, (FONT, 17).into_font().color(&BLACK))
            .margin(10)
            .x_label_area_size(42)
            .y_label_area_size(62)
            .build_cartesian_2d(0.0..last, low - margin..high + margin)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(RGBColor(228, 228, 228))
            .x_labels(5)
            .y_labels(6)
            .x_desc(&self.x_axis)
            .y_desc(&self.y_axis)
            .label_style((FONT, 13).into_font().color(&BLACK))
            .axis_desc_style((FONT, 14).into_font().color(&BLACK))
            .draw()?;
        chart.draw_series([PathElement::new(vec![(0.0, 0.0), (last, 0.0)], RGBColor(150, 150, 150))])?;
        for (i, ys) in curves.ys.iter().enumerate() {
            let points = curves.x.iter().copied().zip(ys.iter().copied()).filter(|(_, y)| y.is_finite());
            chart.draw_series(LineSeries::new(points, COLOURS[i % COLOURS.len()].stroke_width(2)))?;
        }
        Ok(())
    }
}
