//! Curves over steps, panel by panel on one scale.

use plotters::prelude::*;

use super::canvas::{
    Area, Draw, Drawn, FONT, GREY, INK, LEFT, NORMAL, PALE, RIGHT, SMALL, colour, range, text, tick, width, wrapped,
};

/// Curves over the same steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Curves {
    /// What the panel shows.
    pub title: String,
    /// Steps.
    pub x: Vec<f64>,
    /// One curve for each name of the figure.
    pub ys: Vec<Vec<f64>>,
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
    /// The panels.
    pub panels: Vec<Curves>,
    /// Panels beside each other.
    pub across: usize,
}

const PANEL: (u32, u32) = (400, 300);

impl Lines {
    fn across(&self) -> usize {
        self.across.clamp(1, self.panels.len().max(1))
    }

    /// The legend, in lines as the panels' width allows: names and their places.
    fn legend(&self) -> (Vec<(usize, i32, i32)>, u32) {
        let most = (PANEL.0 * self.across() as u32) as i32;
        let (mut x, mut y, mut places) = (20, 14, Vec::new());
        for (i, name) in self.names.iter().enumerate() {
            let wide = 60 + width(name, SMALL) as i32;
            if x + wide > most && x > 20 {
                (x, y) = (20, y + 22);
            }
            places.push((i, x, y));
            x += wide;
        }
        (places, (y + 18) as u32)
    }

    fn range(&self) -> (f64, f64) {
        let shown = self.scaled_to.max(1);
        range(self.panels.iter().flat_map(|p| p.ys.iter().take(shown).flatten().copied()), 0.08)
    }
}

impl Draw for Lines {
    fn size(&self) -> (u32, u32) {
        let down = self.panels.len().div_ceil(self.across()) as u32;
        (PANEL.0 * self.across() as u32, self.legend().1 + PANEL.1 * down)
    }

    fn draw(&self, area: &Area<'_>) -> Drawn {
        let (places, head) = self.legend();
        for (i, x, y) in places {
            area.draw(&Rectangle::new([(x, y - 2), (x + 22, y + 2)], colour(i).filled()))?;
            text(area, &self.names[i], SMALL, &INK, LEFT, (x + 30, y))?;
        }
        let (_, body) = area.split_vertically(head);
        let panels = body.split_evenly((self.panels.len().div_ceil(self.across()).max(1), self.across()));
        self.panels.iter().zip(&panels).try_for_each(|(curves, area)| self.draw_panel(curves, area))
    }
}

impl Lines {
    fn draw_panel(&self, curves: &Curves, area: &Area<'_>) -> Drawn {
        let (low, high) = self.range();
        let last = curves.x.last().copied().unwrap_or(1.0).max(1.0);
        for (i, line) in wrapped(&curves.title, NORMAL, PANEL.0 - 30).iter().take(2).enumerate() {
            text(area, line, NORMAL, &INK, LEFT, (20, 16 + 19 * i as i32))?;
        }
        let mut chart = ChartBuilder::on(area)
            .margin(10)
            .margin_top(48)
            .x_label_area_size(42)
            .y_label_area_size(62)
            .build_cartesian_2d(0.0..last, low..high)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(PALE)
            .axis_style(GREY)
            .x_labels(5)
            .y_labels(6)
            .x_desc(&self.x_axis)
            .y_desc(&self.y_axis)
            .x_label_formatter(&|v| format!("{v:.0}"))
            .y_label_formatter(&|v| tick(*v, high - low))
            .label_style((FONT, SMALL).into_font().color(&INK))
            .axis_desc_style((FONT, SMALL).into_font().color(&INK))
            .draw()?;
        chart.draw_series([PathElement::new(vec![(0.0, 0.0), (last, 0.0)], GREY)])?;
        let (left, top) = area.get_base_pixel();
        for (i, ys) in curves.ys.iter().enumerate() {
            let points: Vec<(f64, f64)> =
                curves.x.iter().copied().zip(ys.iter().copied()).filter(|(_, y)| y.is_finite()).collect();
            let inside = clipped(&points, (low, high));
            chart.draw_series(LineSeries::new(inside, colour(i).stroke_width(2)))?;
            if let Some((_, end)) = points.last().filter(|(_, y)| *y > high || *y < low) {
                let edge = if *end > high { high } else { low };
                let (x, y) = chart.backend_coord(&(last, edge));
                let down = if *end > high { 10 } else { -10 };
                let words = format!("ends at {}", tick(*end, high - low));
                text(area, &words, SMALL, &colour(i), RIGHT, (x - left - 4, y - top + down))?;
            }
        }
        Ok(())
    }
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
    use super::clipped;

    #[test]
    fn a_curve_ends_at_the_edge_it_crosses() {
        let points = [(0.0, 0.0), (1.0, 1.0), (2.0, 5.0), (3.0, 0.5)];
        assert_eq!(clipped(&points, (-1.0, 3.0)), [(0.0, 0.0), (1.0, 1.0), (1.5, 3.0)]);
        assert_eq!(clipped(&points, (-1.0, 9.0)), points);
        assert!(clipped(&[(0.0, 4.0)], (0.0, 3.0)).is_empty());
    }
}
