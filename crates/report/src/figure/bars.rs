//! Horizontal bars with intervals, panel by panel on one scale.

use plotters::prelude::*;

use super::Estimate;
use super::canvas::{
    Area, Draw, Drawn, FONT, GREY, INK, LEFT, NORMAL, PALE, RIGHT, SMALL, colour, range, shortened, text, tick, widest,
    width,
};

/// Panels of bars, all on one scale.
#[derive(Debug, Clone, PartialEq)]
pub struct Bars {
    /// What the bars measure.
    pub axis: String,
    /// What each bar of a group is.
    pub series: Vec<String>,
    /// The panels, two beside each other.
    pub panels: Vec<BarPanel>,
}

/// Groups of bars.
#[derive(Debug, Clone, PartialEq)]
pub struct BarPanel {
    /// What it shows.
    pub title: String,
    /// Each group's name, and its bars in the order of the series.
    pub groups: Vec<(String, Vec<Option<Estimate>>)>,
}

const PANEL: u32 = 560;
/// Most room of a group's name.
const NAME: u32 = 200;
const BAR: u32 = 15;
const LEGEND: u32 = 34;

impl Bars {
    fn across(&self) -> u32 {
        self.panels.len().clamp(1, 2) as u32
    }

    fn group(&self) -> u32 {
        BAR * self.series.len().max(1) as u32 + 10
    }

    fn panel_height(&self) -> u32 {
        let groups = self.panels.iter().map(|p| p.groups.len()).max().unwrap_or(1).max(1) as u32;
        groups * self.group() + 90
    }

    fn range(&self) -> (f64, f64) {
        let bars = self.panels.iter().flat_map(|p| &p.groups).flat_map(|(_, bars)| bars.iter().flatten());
        range(bars.flat_map(|e| e.ends()), 0.08)
    }
}

impl Draw for Bars {
    fn size(&self) -> (u32, u32) {
        let down = (self.panels.len() as u32).div_ceil(self.across());
        (PANEL * self.across(), LEGEND + down * self.panel_height())
    }

    fn draw(&self, area: &Area<'_>) -> Drawn {
        let mut x = 20;
        for (i, name) in self.series.iter().enumerate() {
            area.draw(&Rectangle::new([(x, 9), (x + 16, 21)], colour(i).filled()))?;
            text(area, name, NORMAL, &INK, LEFT, (x + 24, 15))?;
            x += 56 + width(name, NORMAL) as i32;
        }
        let (_, body) = area.split_vertically(LEGEND);
        let across = self.across() as usize;
        let panels = body.split_evenly((self.panels.len().div_ceil(across).max(1), across));
        self.panels.iter().zip(&panels).try_for_each(|(panel, area)| self.draw_panel(panel, area))
    }
}

impl Bars {
    fn draw_panel(&self, panel: &BarPanel, area: &Area<'_>) -> Drawn {
        text(area, &panel.title, NORMAL + 2, &INK, LEFT, (20, 18))?;
        let (low, high) = self.range();
        let groups = panel.groups.len() as f64;
        let names = widest(self.panels.iter().flat_map(|p| p.groups.iter().map(|(name, _)| name)), SMALL).min(NAME);
        let mut chart = ChartBuilder::on(area)
            .margin_top(36)
            .margin_right(16)
            .margin_left(12)
            .x_label_area_size(46)
            .y_label_area_size(names + 14)
            .build_cartesian_2d(low..high, 0f64..groups.max(1.0))?;
        chart
            .configure_mesh()
            .disable_y_mesh()
            .y_labels(0)
            .x_labels(6)
            .light_line_style(TRANSPARENT)
            .bold_line_style(PALE)
            .axis_style(GREY)
            .x_desc(&self.axis)
            .x_label_formatter(&|v| tick(*v, high - low))
            .label_style((FONT, SMALL).into_font().color(&INK))
            .axis_desc_style((FONT, SMALL).into_font().color(&INK))
            .draw()?;
        chart.draw_series([PathElement::new(vec![(0.0, 0.0), (0.0, groups)], INK)])?;
        let height = f64::from(BAR) / f64::from(self.group());
        let (left, top) = area.get_base_pixel();
        for (place, (name, bars)) in panel.groups.iter().enumerate() {
            let above = groups - place as f64 - 5.0 / f64::from(self.group());
            let middle = chart.backend_coord(&(low, groups - place as f64 - 0.5));
            let name = shortened(name, SMALL, NAME);
            text(area, &name, SMALL, &INK, RIGHT, (middle.0 - left - 8, middle.1 - top))?;
            for (i, bar) in bars.iter().enumerate() {
                let Some(bar) = bar else { continue };
                let y = above - i as f64 * height;
                let fill = Rectangle::new([(0.0, y), (bar.value, y - 0.86 * height)], colour(i).mix(0.75).filled());
                // A bar of less than a dot is no rectangle.
                let dot = |x: f64| chart.backend_coord(&(x, 0.0)).0;
                if dot(bar.value) != dot(0.0) {
                    chart.draw_series([fill])?;
                }
                if let Some((from, to)) = bar.interval {
                    whisker(&mut chart, (from, to), y - 0.43 * height, 0.25 * height)?;
                }
            }
        }
        Ok(())
    }
}

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
use plotters::coord::types::RangedCoordf64;

/// A line with ends across.
fn whisker(chart: &mut Chart<'_, '_>, (from, to): (f64, f64), y: f64, half: f64) -> Drawn {
    let ends = [from, to].map(|x| vec![(x, y - half), (x, y + half)]);
    // Nor is a line of less than one a line.
    let wide = chart.backend_coord(&(from, y)).0 != chart.backend_coord(&(to, y)).0;
    let lines = wide.then(|| vec![(from, y), (to, y)]).into_iter().chain(ends);
    chart.draw_series(lines.map(|points| PathElement::new(points, INK.stroke_width(1))))?;
    Ok(())
}
