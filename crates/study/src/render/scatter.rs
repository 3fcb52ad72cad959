//! Points in colours and shapes, with their legends.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::canvas::{COLOURS, Draw, Drawn, FONT, text};

/// A point.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Dot {
    pub(crate) x: f64,
    pub(crate) y: f64,
    /// Place in the legend of colours.
    pub(crate) colour: usize,
    /// Place in the legend of shapes.
    pub(crate) shape: usize,
    /// Drawn grey: not to be told from 0.
    pub(crate) faint: bool,
}

/// Points, and what they show.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scatter {
    pub(crate) title: String,
    /// Below the title, line by line.
    pub(crate) subtitle: Vec<String>,
    pub(crate) x_axis: String,
    pub(crate) y_axis: String,
    pub(crate) dots: Vec<Dot>,
    pub(crate) colours: (String, Vec<String>),
    pub(crate) shapes: (String, Vec<String>),
}

const LEGEND: u32 = 230;
const SHAPES: usize = 6;

fn draw_shape<B: DrawingBackend>(
    area: &DrawingArea<B, Shift>,
    (x, y): (i32, i32),
    shape: usize,
    colour: RGBColor,
) -> Drawn<B> {
    let (r, fill) = (7, colour.filled());
    match shape % SHAPES {
        0 => area.draw(&Circle::new((x, y), r, fill)),
        1 => area.draw(&TriangleMarker::new((x, y), r + 2, fill)),
        2 => area.draw(&Rectangle::new([(x - 6, y - 6), (x + 6, y + 6)], fill)),
        3 => area.draw(&Polygon::new(vec![(x, y - 9), (x + 9, y), (x, y + 9), (x - 9, y)], fill)),
        4 => area.draw(&Cross::new((x, y), r, colour.stroke_width(3))),
        _ => area.draw(&Circle::new((x, y), r, colour.stroke_width(3))),
    }
}

impl Scatter {
    fn head(&self) -> u32 {
        48 + 22 * self.subtitle.len() as u32
    }
}

fn range(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let finite = values.filter(|v| v.is_finite());
    let (low, high) = finite.fold((0.0f64, 0.0f64), |(l, h), v| (l.min(v), h.max(v)));
    let margin = 0.08 * (high - low).max(1e-9);
    (low - margin, high + margin)
}

impl Draw for Scatter {
    fn size(&self) -> (u32, u32) {
        (1080, 640 + self.head())
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn<B> {
        let start = (HPos::Left, VPos::Center);
        text(area, &self.title, 22, &BLACK, start, (20, 24))?;
        for (i, line) in self.subtitle.iter().enumerate() {
            text(area, line, 15, &RGBColor(70, 70, 70), start, (20, 52 + 22 * i as i32))?;
        }
        let (_, body) = area.split_vertically(self.head());
        let (width, _) = self.size();
        let (plot, legend) = body.split_horizontally(width - LEGEND);
        let (x0, x1) = range(self.dots.iter().map(|d| d.x));
        let (y0, y1) = range(self.dots.iter().map(|d| d.y));
        let mut chart = ChartBuilder::on(&plot)
            .margin(12)
            .x_label_area_size(52)
            .y_label_area_size(76)
            .build_cartesian_2d(x0..x1, y0..y1)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(RGBColor(228, 228, 228))
            .x_desc(&self.x_axis)
            .y_desc(&self.y_axis)
            .label_style((FONT, 15).into_font().color(&BLACK))
            .axis_desc_style((FONT, 17).into_font().color(&BLACK))
            .draw()?;
        let axis = RGBColor(120, 120, 120);
        chart.draw_series([
            PathElement::new(vec![(0.0, y0), (0.0, y1)], axis),
            PathElement::new(vec![(x0, 0.0), (x1, 0.0)], axis),
        ])?;
        let (ox, oy) = plot.get_base_pixel();
        for dot in self.dots.iter().filter(|d| d.x.is_finite() && d.y.is_finite()) {
            let (px, py) = chart.backend_coord(&(dot.x, dot.y));
            let colour = if dot.faint { RGBColor(190, 190, 190) } else { COLOURS[dot.colour % COLOURS.len()] };
            draw_shape(&plot, (px - ox, py - oy), dot.shape, colour)?;
        }
        self.draw_legend(&legend)
    }
}

impl Scatter {
    fn draw_legend<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn<B> {
        let start = (HPos::Left, VPos::Center);
        let mut y = 30;
        text(area, &self.colours.0, 16, &BLACK, start, (8, y))?;
        for (i, name) in self.colours.1.iter().enumerate() {
            y += 26;
            let colour = COLOURS[i % COLOURS.len()];
            area.draw(&Rectangle::new([(10, y - 7), (24, y + 7)], colour.filled()))?;
            text(area, name, 15, &BLACK, start, (34, y))?;
        }
        y += 46;
        text(area, &self.shapes.0, 16, &BLACK, start, (8, y))?;
        for (i, name) in self.shapes.1.iter().enumerate() {
            y += 26;
            draw_shape(area, (17, y), i, RGBColor(60, 60, 60))?;
            text(area, name, 15, &BLACK, start, (34, y))?;
        }
        if self.dots.iter().any(|d| d.faint) {
            y += 46;
            draw_shape(area, (17, y), 0, RGBColor(190, 190, 190))?;
            text(area, "grey: within noise", 15, &BLACK, start, (34, y))?;
        }
        Ok(())
    }
}
