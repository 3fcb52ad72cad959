//! Curves over steps, panel by panel, on one scale or each on its own.

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::canvas::{
    Area, AxisNames, Draw, Drawn, FONT, GREY, INK, LEFT, NORMAL, PALE, RIGHT, SMALL, Svg, colour, drawable, legend,
    range, span, text, tick, wrapped,
};

/// Curves over the same steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Curves {
    /// What the panel shows.
    pub title: String,
    /// What is up, where it is not what the figure says.
    pub y_axis: Option<String>,
    /// Steps.
    pub x: Vec<f64>,
    /// One curve for each name of the figure; one that is not finite breaks the line.
    pub ys: Vec<Vec<f64>>,
    /// Lower and upper ends of intervals, for each curve that has them; nothing for none.
    pub bands: Vec<Option<Vec<(f64, f64)>>>,
    /// Whether each value has a mark.
    pub points: bool,
}

/// Panels of curves.
#[derive(Debug, Clone, PartialEq)]
pub struct Lines {
    /// What is to the right.
    pub x_axis: String,
    /// What is up.
    pub y_axis: String,
    /// What each curve is.
    pub names: Vec<String>,
    /// How many curves, from the first, the scale is made for. The others may leave a panel; then their last value is told.
    pub scaled_to: usize,
    /// Whether both scales hold 0; otherwise they hold what is shown.
    pub from_zero: bool,
    /// Whether each panel has its own scale.
    pub own_scales: bool,
    /// The panels.
    pub panels: Vec<Curves>,
    /// Panels beside each other.
    pub across: usize,
}

const PANEL: (u32, u32) = (400, 300);
/// A panel's plot, about.
const PLOT: (u32, u32) = (306, 200);

type Range = (f64, f64);
type Chart<'a, 'b> = ChartContext<'a, Svg<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

impl Curves {
    /// The numbers of the first curves and of their bands.
    fn numbers(&self, curves: usize) -> impl Iterator<Item = f64> {
        let bands = self.bands.iter().take(curves).flatten().flatten().filter(|b| whole(b));
        self.ys.iter().take(curves).flatten().copied().chain(bands.flat_map(|(low, high)| [*low, *high]))
    }

    /// A curve's points, also those that are holes.
    fn points_of(&self, ys: &[f64]) -> Vec<(f64, f64)> {
        self.x.iter().copied().zip(ys.iter().copied()).collect()
    }

    /// The outline of a curve's band, as far as it lies within the range.
    fn outline(&self, curve: usize, (low, high): Range) -> Vec<(f64, f64)> {
        let Some(band) = self.bands.get(curve).and_then(Option::as_ref) else { return Vec::new() };
        let known: Vec<(f64, Range)> =
            self.x.iter().copied().zip(band.iter().copied()).filter(|(x, b)| drawable(*x) && whole(b)).collect();
        let upper = known.iter().map(|(x, (_, y))| (*x, y.clamp(low, high)));
        let lower = known.iter().rev().map(|(x, (y, _))| (*x, y.clamp(low, high)));
        upper.chain(lower).collect()
    }
}

fn whole((low, high): &Range) -> bool {
    drawable(*low) && drawable(*high)
}

impl Lines {
    fn across(&self) -> usize {
        self.across.clamp(1, self.panels.len().max(1))
    }

    fn legend(&self) -> (Vec<(i32, i32)>, u32) {
        legend(&self.names, PANEL.0 * self.across() as u32)
    }

    fn x_range(&self, curves: &Curves) -> Range {
        let steps = curves.x.iter().copied();
        if !self.from_zero {
            return span(steps, 0.0);
        }
        let (low, high) = range(steps, 0.0);
        // Without any step.
        if high > 0.0 && low < 0.0 && !curves.x.iter().any(|x| *x < 0.0) { (0.0, 1.0) } else { (low, high) }
    }

    fn y_range(&self, curves: &Curves) -> Range {
        let panels = if self.own_scales { std::slice::from_ref(curves) } else { &self.panels };
        let numbers = panels.iter().flat_map(|p| p.numbers(self.scaled_to.max(1)));
        if self.from_zero { range(numbers, 0.08) } else { span(numbers, 0.08) }
    }

    fn names_of(&self, curves: &Curves) -> AxisNames {
        AxisNames::new((&self.x_axis, curves.y_axis.as_ref().unwrap_or(&self.y_axis)), SMALL, PLOT)
    }
}

impl Draw for Lines {
    fn size(&self) -> (u32, u32) {
        let down = self.panels.len().div_ceil(self.across()) as u32;
        (PANEL.0 * self.across() as u32, self.legend().1 + PANEL.1 * down)
    }

    fn draw(&self, area: &Area<'_>) -> Drawn {
        let (places, head) = self.legend();
        for (i, (name, (x, y))) in self.names.iter().zip(places).enumerate() {
            area.draw(&Rectangle::new([(x, y - 2), (x + 22, y + 2)], colour(i).filled()))?;
            text(area, name, SMALL, &INK, LEFT, (x + 30, y))?;
        }
        let (_, body) = area.split_vertically(head);
        let panels = body.split_evenly((self.panels.len().div_ceil(self.across()).max(1), self.across()));
        self.panels.iter().zip(&panels).try_for_each(|(curves, area)| self.draw_panel(curves, area))
    }
}

impl Lines {
    fn draw_panel(&self, curves: &Curves, area: &Area<'_>) -> Drawn {
        let ((first, last), (low, high)) = (self.x_range(curves), self.y_range(curves));
        for (i, line) in wrapped(&curves.title, NORMAL, PANEL.0 - 30).iter().take(2).enumerate() {
            text(area, line, NORMAL, &INK, LEFT, (20, 16 + 19 * i as i32))?;
        }
        let names = self.names_of(curves);
        let (below, beside) = names.more();
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .margin_top(48)
            .margin_right(22)
            .x_label_area_size(42 + below)
            .y_label_area_size(62 + beside)
            .build_cartesian_2d(first..last, low..high)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(PALE)
            .axis_style(GREY)
            .x_labels(5)
            .y_labels(6)
            .x_label_formatter(&|v| tick(*v, last - first))
            .y_label_formatter(&|v| tick(*v, high - low))
            .label_style((FONT, SMALL).into_font().color(&INK))
            .draw()?;
        let corners = [pixel(&chart, area, (first, high)), pixel(&chart, area, (last, low))];
        names.draw(area, corners, (16, 36))?;
        if self.from_zero {
            chart.draw_series([PathElement::new(vec![(first, 0.0), (last, 0.0)], GREY)])?;
        }
        for i in 0..curves.ys.len() {
            let outline = curves.outline(i, (low, high));
            if outline.len() > 2 {
                chart.draw_series([Polygon::new(outline, colour(i).mix(0.18).filled())])?;
            }
        }
        for (i, ys) in curves.ys.iter().enumerate() {
            let points = curves.points_of(ys);
            draw_curve(&mut chart, &points, (low, high), (colour(i), curves.points))?;
            draw_end(&chart, area, &points, ((last, low, high), colour(i)))?;
        }
        Ok(())
    }
}

/// Tells the last value of a curve that ends above or below the range, at the plot's right edge.
fn draw_end(
    chart: &Chart<'_, '_>,
    area: &Area<'_>,
    points: &[(f64, f64)],
    ((last, low, high), colour): ((f64, f64, f64), RGBColor),
) -> Drawn {
    let end = points.iter().rev().find(|p| whole(p)).map(|(_, y)| *y);
    let Some(end) = end.filter(|y| *y > high || *y < low) else { return Ok(()) };
    let (edge, down) = if end > high { (high, 10) } else { (low, -10) };
    let (x, y) = pixel(chart, area, (last, edge));
    text(area, &format!("ends at {}", tick(end, high - low)), SMALL, &colour, RIGHT, (x - 4, y + down))
}

/// Where a point of the chart lies on its area.
fn pixel(chart: &Chart<'_, '_>, area: &Area<'_>, at: (f64, f64)) -> (i32, i32) {
    let ((x, y), (left, top)) = (chart.backend_coord(&at), area.get_base_pixel());
    (x - left, y - top)
}

/// A curve between its holes, up to where it first leaves the range.
fn draw_curve(
    chart: &mut Chart<'_, '_>,
    points: &[(f64, f64)],
    (low, high): Range,
    (colour, marked): (RGBColor, bool),
) -> Drawn {
    for run in points.split(|p| !whole(p)).filter(|run| !run.is_empty()) {
        let inside = clipped(run, (low, high));
        // A point between holes is no line.
        let marks = run.iter().take_while(|(_, y)| (low..=high).contains(y)).filter(|_| marked || run.len() == 1);
        chart.draw_series(marks.map(|at| Circle::new(*at, 3, colour.filled())))?;
        if inside.len() > 1 {
            chart.draw_series(LineSeries::new(inside, colour.stroke_width(2)))?;
        }
        if run.iter().any(|(_, y)| !(low..=high).contains(y)) {
            break;
        }
    }
    Ok(())
}

/// The part of a curve before it first leaves the range, up to where it crosses the edge.
fn clipped(points: &[(f64, f64)], (low, high): (f64, f64)) -> Vec<(f64, f64)> {
    let mut out: Vec<(f64, f64)> = Vec::new();
    for &(x, y) in points {
        if (low..=high).contains(&y) {
            out.push((x, y));
            continue;
        }
        if let Some(&(x0, y0)) = out.last() {
            let edge = if y > high { high } else { low };
            out.push((x0 + (x - x0) * (edge - y0) / (y - y0), edge));
        }
        break;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Curves, Lines, clipped};

    fn lines(panels: Vec<Curves>) -> Lines {
        let words = String::new;
        let (x_axis, y_axis, names) = (words(), words(), vec![words()]);
        Lines { x_axis, y_axis, names, scaled_to: 1, from_zero: false, own_scales: false, panels, across: 2 }
    }

    fn curves(ys: &[f64], band: &[(f64, f64)]) -> Curves {
        let x = (0..ys.len()).map(|k| 200.0 + k as f64).collect();
        let bands = vec![Some(band.to_vec())];
        Curves { title: String::new(), y_axis: None, x, ys: vec![ys.to_vec()], bands, points: true }
    }

    #[test]
    fn scales_hold_what_is_shown_or_also_zero() {
        let nan = f64::NAN;
        let panels = vec![curves(&[3.0, nan, 3.5], &[(2.9, 3.1), (0.0, nan), (3.4, 4.0)]), curves(&[9.0], &[])];
        let mut lines = lines(panels);
        let about = |(low, high): (f64, f64)| ((low * 100.0).round() / 100.0, (high * 100.0).round() / 100.0);
        assert_eq!(about(lines.y_range(&lines.panels[0])), (2.41, 9.49));
        lines.own_scales = true;
        assert_eq!(about(lines.y_range(&lines.panels[0])), (2.81, 4.09));
        assert_eq!(lines.x_range(&lines.panels[0]), (200.0, 202.0));
        lines.from_zero = true;
        assert_eq!(about(lines.y_range(&lines.panels[0])), (-0.32, 4.32));
        assert_eq!(lines.x_range(&lines.panels[0]), (0.0, 202.0));
        assert_eq!(lines.x_range(&curves(&[], &[])), (0.0, 1.0));
    }

    #[test]
    fn a_band_leaves_out_what_it_does_not_know_and_keeps_to_the_range() {
        let curves = curves(&[1.0, 1.0, 1.0], &[(0.5, 1.5), (f64::NAN, 2.0), (-9.0, 9.0)]);
        let outline = curves.outline(0, (0.0, 2.0));
        assert_eq!(outline, [(200.0, 1.5), (202.0, 2.0), (202.0, 0.0), (200.0, 0.5)]);
        assert!(curves.outline(1, (0.0, 2.0)).is_empty());
    }

    #[test]
    fn a_curve_ends_at_the_edge_it_crosses() {
        let points = [(0.0, 0.0), (1.0, 1.0), (2.0, 5.0), (3.0, 0.5)];
        assert_eq!(clipped(&points, (-1.0, 3.0)), [(0.0, 0.0), (1.0, 1.0), (1.5, 3.0)]);
        assert_eq!(clipped(&points, (-1.0, 9.0)), points);
        assert!(clipped(&[(0.0, 4.0)], (0.0, 3.0)).is_empty());
    }
}
