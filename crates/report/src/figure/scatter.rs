//! Points with intervals, told apart by colours and shapes.

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::Estimate;
use super::canvas::{
    Area, AxisNames, Draw, Drawn, FONT, GREY, INK, LEFT, NORMAL, PALE, SMALL, Svg, colour, drawable, range, shortened,
    text, tick, widest, width,
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
    /// Drawn in grey, such as one near nothing.
    pub pale: bool,
}

/// Points of one panel.
#[derive(Debug, Clone, PartialEq)]
pub struct ScatterPanel {
    /// What it shows; nothing where the figure says it.
    pub title: String,
    /// What is to the right; panels of the same name have one scale.
    pub x_axis: String,
    /// The points.
    pub dots: Vec<Dot>,
}

/// Panels of points, and what they show.
#[derive(Debug, Clone, PartialEq)]
pub struct Scatter {
    /// The panels.
    pub panels: Vec<ScatterPanel>,
    /// Panels beside each other.
    pub across: usize,
    /// What is up, on one scale.
    pub y_axis: String,
    /// What colours tell: a heading, and a name each.
    pub colours: (String, Vec<String>),
    /// What shapes tell: a heading, and a name each.
    pub shapes: (String, Vec<String>),
}

/// A panel that is alone, and one of several.
const PLOT: (u32, u32) = (780, 560);
const SMALLER: (u32, u32) = (460, 380);
const TITLE: u32 = 26;
const SHAPES: usize = 6;
/// What is no group's colour.
const FAINT: RGBColor = RGBColor(172, 172, 172);

type Chart<'a, 'b> = ChartContext<'a, Svg<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

impl Scatter {
    fn legend_width(&self) -> u32 {
        let names = widest(self.colours.1.iter().chain(&self.shapes.1), SMALL) + 40;
        let headings = width(&self.colours.0, NORMAL).max(width(&self.shapes.0, NORMAL));
        names.max(headings) + 30
    }

    fn across(&self) -> usize {
        self.across.clamp(1, self.panels.len().max(1))
    }

    fn down(&self) -> usize {
        self.panels.len().div_ceil(self.across()).max(1)
    }

    /// Width and height of a panel, and what its title takes of it.
    fn panel(&self) -> ((u32, u32), u32) {
        let title = if self.panels.iter().all(|p| p.title.is_empty()) { 0 } else { TITLE };
        let (width, height) = if self.panels.len() > 1 { SMALLER } else { PLOT };
        ((width, height + title), title)
    }

    /// All panels' size.
    fn plots(&self) -> (u32, u32) {
        let ((width, height), _) = self.panel();
        (width * self.across() as u32, height * self.down() as u32)
    }

    fn x_range(&self, panel: &ScatterPanel) -> (f64, f64) {
        let alike = self.panels.iter().filter(|p| p.x_axis == panel.x_axis);
        range(alike.flat_map(|p| &p.dots).flat_map(|d| d.x.ends()), 0.06)
    }

    fn names_of(&self, panel: &ScatterPanel) -> AxisNames {
        let ((wide, high), title) = self.panel();
        AxisNames::new((&panel.x_axis, &self.y_axis), NORMAL, (wide - 96, high - title - 74))
    }

    fn y_range(&self) -> (f64, f64) {
        range(self.panels.iter().flat_map(|p| &p.dots).flat_map(|d| d.y.ends()), 0.06)
    }
}

impl Draw for Scatter {
    fn size(&self) -> (u32, u32) {
        let entries = (self.colours.1.len() + self.shapes.1.len()) as u32;
        let (width, height) = self.plots();
        (width + self.legend_width(), height.max(140 + 24 * entries))
    }

    fn draw(&self, area: &Area<'_>) -> Drawn {
        let (width, height) = self.plots();
        let (plots, legend) = area.split_horizontally(width);
        // A long legend leaves a panel that is alone more room.
        let plots = if self.panels.len() > 1 { plots.split_vertically(height).0 } else { plots };
        let areas = plots.split_evenly((self.down(), self.across()));
        self.panels.iter().zip(&areas).try_for_each(|(panel, area)| self.draw_panel(panel, area))?;
        self.draw_legend(&legend)
    }
}

impl Scatter {
    fn draw_panel(&self, panel: &ScatterPanel, area: &Area<'_>) -> Drawn {
        let ((x0, x1), (y0, y1)) = (self.x_range(panel), self.y_range());
        let ((wide, _), title) = self.panel();
        let names = self.names_of(panel);
        // As much room in each panel: what is as high lies at one place.
        let below = self.panels.iter().map(|p| self.names_of(p).more().0).max().unwrap_or(0);
        let beside = names.more().1;
        text(area, &shortened(&panel.title, NORMAL, wide - 100), NORMAL, &INK, LEFT, (84 + beside as i32, 20))?;
        let mut chart = ChartBuilder::on(area)
            .margin(12)
            .margin_top(12 + title)
            .x_label_area_size(50 + below)
            .y_label_area_size(72 + beside)
            .build_cartesian_2d(x0..x1, y0..y1)?;
        let labels = if self.panels.len() > 1 { 5 } else { 7 };
        chart
            .configure_mesh()
            .x_labels(labels)
            .y_labels(7)
            .light_line_style(TRANSPARENT)
            .bold_line_style(PALE)
            .axis_style(GREY)
            .x_label_formatter(&|v| tick(*v, x1 - x0))
            .y_label_formatter(&|v| tick(*v, y1 - y0))
            .label_style((FONT, SMALL).into_font().color(&INK))
            .draw()?;
        let (left, top) = area.get_base_pixel();
        let pixel = |at: (f64, f64)| {
            let (x, y) = chart.backend_coord(&at);
            (x - left, y - top)
        };
        names.draw(area, [pixel((x0, y1)), pixel((x1, y0))], (19, 43))?;
        chart.draw_series([
            PathElement::new(vec![(0.0, y0), (0.0, y1)], GREY),
            PathElement::new(vec![(x0, 0.0), (x1, 0.0)], GREY),
        ])?;
        // Those in grey lie behind the others.
        let dots = panel.dots.iter().filter(|d| drawable(d.x.value) && drawable(d.y.value));
        let (pale, others): (Vec<&Dot>, Vec<&Dot>) = dots.partition(|d| d.pale);
        for dot in pale.into_iter().chain(others) {
            draw_dot(&mut chart, area, dot)?;
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

/// A point over its intervals.
fn draw_dot(chart: &mut Chart<'_, '_>, area: &Area<'_>, dot: &Dot) -> Drawn {
    let ink = if dot.pale { FAINT } else { colour(dot.colour) };
    let (x, y) = (dot.x.value, dot.y.value);
    let thin = ink.mix(0.55).stroke_width(1);
    // A line without length is none.
    let long =
        |interval: Option<(f64, f64)>| interval.filter(|(low, high)| low < high && drawable(*low) && drawable(*high));
    let across = long(dot.x.interval).map(|(low, high)| PathElement::new(vec![(low, y), (high, y)], thin));
    let along = long(dot.y.interval).map(|(low, high)| PathElement::new(vec![(x, low), (x, high)], thin));
    chart.draw_series(across.into_iter().chain(along))?;
    let ((px, py), (left, top)) = (chart.backend_coord(&(x, y)), area.get_base_pixel());
    draw_shape(area, (px - left, py - top), dot.shape, ink)
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
