//! The figure of Table 2: one panel a set; each arm's change in fine-tuned loss and in general loss.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::canvas::{Draw, Drawn, FONT};
use super::table2::{Cell, LossTable, Row};

const SFT: RGBColor = RGBColor(31, 97, 160);
const C4: RGBColor = RGBColor(222, 139, 32);

impl Draw for LossTable {
    fn size(&self) -> (u32, u32) {
        (1180, 720)
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> Drawn<B> {
        draw(self, area)
    }
}

fn draw<B: DrawingBackend>(table: &LossTable, area: &DrawingArea<B, Shift>) -> Drawn<B> {
    let title = format!("Change of loss against the C4 arm ({}); lower is better", table.model);
    let area = area.titled(&title, (FONT, 24).into_font().color(&BLACK))?;
    let (legend, area) = area.split_vertically(28);
    for (x, colour, text) in [(400, SFT, "loss on the fine-tuning set"), (640, C4, "loss on held-out C4")] {
        legend.draw(&Rectangle::new([(x, 8), (x + 16, 20)], colour.filled()))?;
        legend.draw_text(text, &(FONT, 16).into_font().color(&BLACK), (x + 22, 6))?;
    }
    let mut sets: Vec<&str> = Vec::new();
    for row in &table.rows {
        if !sets.contains(&row.set.as_str()) {
            sets.push(&row.set);
        }
    }
    let columns = sets.len().clamp(1, 2);
    let panels = area.split_evenly((sets.len().div_ceil(columns), columns));
    for (set, panel) in sets.iter().zip(&panels) {
        let rows: Vec<&Row> = table.rows.iter().filter(|r| r.set == *set && !r.control).collect();
        draw_panel(set, &rows, panel)?;
    }
    Ok(())
}

/// The difference to the control, where there is one.
fn delta(cell: &Option<Cell>) -> Option<f64> {
    cell.as_ref()?.delta.as_ref().map(|delta| delta.mean)
}

fn draw_panel<B: DrawingBackend>(set: &str, rows: &[&Row], area: &DrawingArea<B, Shift>) -> Drawn<B> {
    let values = rows.iter().flat_map(|r| [delta(&r.sft), delta(&r.c4)]).flatten();
    let (low, high) = values.fold((-1e-3f64, 1e-3f64), |(l, h), v| (l.min(v), h.max(v)));
    let margin = 0.12 * (high - low);
    let mut chart = ChartBuilder::on(area)
        .caption(set, (FONT, 20).into_font().color(&BLACK))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(150)
        .build_cartesian_2d(low - margin..high + margin, 0f64..rows.len().max(1) as f64)?;
    let name = |y: f64| {
        let from_top = rows.len() as f64 - y;
        let at = from_top.floor();
        if (from_top - at - 0.5).abs() < 0.01 { rows.get(at as usize).map(|r| r.arm.clone()) } else { None }
    };
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(0)
        .x_labels(6)
        .x_desc("nats per token")
        // Adding 0 turns −0 into 0.
        .x_label_formatter(&|v| format!("{:+.2}", (v * 100.0).round() / 100.0 + 0.0))
        .label_style((FONT, 15).into_font().color(&BLACK))
        .draw()?;
    chart.draw_series(std::iter::once(PathElement::new(vec![(0.0, 0.0), (0.0, rows.len() as f64)], BLACK)))?;
    let bars = |which: fn(&Row) -> Option<f64>, top: f64, colour: RGBColor| {
        let n = rows.len() as f64;
        rows.iter()
            .enumerate()
            .filter_map(move |(i, r)| {
                let y = n - i as f64 - top;
                Some(Rectangle::new([(0.0, y), (which(r)?, y - 0.3)], colour.filled()))
            })
            .collect::<Vec<_>>()
    };
    chart.draw_series(bars(|r| delta(&r.sft), 0.18, SFT))?;
    chart.draw_series(bars(|r| delta(&r.c4), 0.52, C4))?;
    // Arm names beside their bars.
    let (x0, _) = (low - margin, 0.0);
    for i in 0..rows.len() {
        let y = rows.len() as f64 - i as f64 - 0.5;
        if let Some(text) = name(y) {
            let (px, py) = chart.backend_coord(&(x0, y));
            let (ox, oy) = area.get_base_pixel();
            let style = (FONT, 15).into_font().color(&BLACK).pos(plotters::style::text_anchor::Pos::new(
                plotters::style::text_anchor::HPos::Right,
                plotters::style::text_anchor::VPos::Center,
            ));
            area.draw_text(&text, &style, (px - ox - 8, py - oy))?;
        }
    }
    Ok(())
}
