//! Points with intervals, told apart by colours and shapes.

use plotters::prelude::*;

use super::Estimate;
use super::canvas::{
    Area, Draw, Drawn, FONT, GREY, INK, LEFT, NORMAL, PALE, SMALL, colour, range, text, tick, widest, width,
};

/// A point.
#[derive(Debug, Clone, PartialEq)]
pub struct Dot {
    /// To the right.
    pub x: Estimate,
    /// Up.
    pub y: Estimate,
    /// Place in the legend of colours.
    pub colour: usize,
    /// Place in the legend of shapes.
    pub shape: usize,
}

/// Points, and what they show.
#[derive(Debug, Clone, PartialEq)]
pub struct Scatter {
    /// What is to the right.
    pub x_axis: String,
    /// What is up.
    pub y_axis: String,
    /// The points.
    pub dots: Vec<Dot>,
    /// What colours tell: a heading, and a name each.
    pub colours: (String, Vec<String>),
    /// What shapes tell: a heading, and a name each.
    pub shapes: (String, Vec<String>),
}

const PLOT: (u32, u32) = (780, 560);
const SHAPES: usize = 6;

impl Scatter {
    fn legend_width(&self) -> u32 {
        let names = widest(self.colours.1.iter().chain(&self.shapes.1), SMALL) + 40;
        let headings = width(&self.colours.0, NORMAL).max(width(&self.shapes.0, NORMAL));
        names.max(headings) + 30
    }
}

impl Draw for Scatter {
    fn size(&self) -> (u32, u32) {
        let entries = (self.colours.1.len() + self.shapes.1.len()) as u32;
        (PLOT.0 + self.legend_width(), PLOT.1.max(140 + 24 * entries))
    }

    fn draw(&self, area: &Area<'_>) -> Drawn {
        let (plot, legend) = area.split_horizontally(PLOT.0);
        self.draw_plot(&plot)?;
        self.draw_legend(&legend)
    }
}

impl Scatter {
    fn draw_plot(&self, area: &Area<'_>) -> Drawn {
        let (x0, x1) = range(self.dots.iter().flat_map(|d| d.x.ends()), 0.06);
        let (y0, y1) = range(self.dots.iter().flat_map(|d| d.y.ends()), 0.06);
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .x_label_area_size(50)
            .y_label_area_size(72)
            .build_cartesian_2d(x0..x1, y0..y1)?;
        chart
            .configure_mesh()
            .x_labels(7)
            .y_labels(7)
            .light_line_style(TRANSPARENT)
            .bold_line_style(PALE)
            .axis_style(GREY)
            .x_desc(&self.x_axis)
            .y_desc(&self.y_axis)
            .x_label_formatter(&|v| tick(*v, x1 - x0))
            .y_label_formatter(&|v| tick(*v, y1 - y0))
            .label_style((FONT, SMALL).into_font().color(&INK))
            .axis_desc_style((FONT, NORMAL).into_font().color(&INK))
            .draw()?;
        chart.draw_series([
            PathElement::new(vec![(0.0, y0), (0.0, y1)], GREY),
            PathElement::new(vec![(x0, 0.0), (x1, 0.0)], GREY),
        ])?;
        let (left, top) = area.get_base_pixel();
        for dot in self.dots.iter().filter(|d| d.x.value.is_finite() && d.y.value.is_finite()) {
            let (x, y, ink) = (dot.x.value, dot.y.value, colour(dot.colour));
            let thin = ink.mix(0.55).stroke_width(1);
            // A line without length is none.
            let long = |interval: Option<(f64, f64)>| interval.filter(|(low, high)| low < high);
            let across = long(dot.x.interval).map(|(low, high)| PathElement::new(vec![(low, y), (high, y)], thin));
            let along = long(dot.y.interval).map(|(low, high)| PathElement::new(vec![(x, low), (x, high)], thin));
            chart.draw_series(across.into_iter().chain(along))?;
            let (px, py) = chart.backend_coord(&(x, y));
            draw_shape(area, (px - left, py - top), dot.shape, ink)?;
        }
        Ok(())
    }

    fn draw_legend(&self, area: &Area<'_>) -> Drawn {
        let mut y = 30;
        text(area, &self.colours.0, NORMAL, &INK, LEFT, (8, y))?;
        for (i, name) in self.colours.1.iter().enumerate() {
            y += 24;
            area.draw(&Rectangle::new([(10, y - 7), (24, y + 7)], colour(i).filled()))?;
            text(area, name, SMALL, &INK, LEFT, (34, y))?;
        }
        y += 44;
        text(area, &self.shapes.0, NORMAL, &INK, LEFT, (8, y))?;
        for (i, name) in self.shapes.1.iter().enumerate() {
            y += 24;
            draw_shape(area, (17, y), i, GREY)?;
            text(area, name, SMALL, &INK, LEFT, (34, y))?;
        }
        Ok(())
    }
}

fn draw_shape(area: &Area<'_>, (x, y): (i32, i32), shape: usize, colour: RGBColor) -> Drawn {
    let (r, fill) = (6, colour.filled());
    match shape % SHAPES {
        0 => area.draw(&Circle::new((x, y), r, fill))?,
        1 => area.draw(&TriangleMarker::new((x, y), r + 2, fill))?,
        2 => area.draw(&Rectangle::new([(x - 5, y - 5), (x + 5, y + 5)], fill))?,
        3 => area.draw(&Polygon::new(vec![(x, y - 8), (x + 8, y), (x, y + 8), (x - 8, y)], fill))?,
        4 => area.draw(&Cross::new((x, y), r, colour.stroke_width(3)))?,
        _ => area.draw(&Circle::new((x, y), r, colour.stroke_width(3)))?,
    }
    Ok(())
}
