//! What all pictures are drawn on: an SVG with the figure's title, text that fits, colours.

use std::sync::Once;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, FontTransform, register_font};

use super::Figure;

/// The font of all figures.
pub(super) const FONT: &str = "sans-serif";
/// Sizes of text, in pixels as plotters counts them.
pub(super) const SMALL: u32 = 14;
pub(super) const NORMAL: u32 = 16;
const TITLE: u32 = 20;
const MARGIN: u32 = 18;

pub(super) const INK: RGBColor = RGBColor(27, 27, 27);
pub(super) const GREY: RGBColor = RGBColor(95, 95, 95);
pub(super) const PALE: RGBColor = RGBColor(226, 226, 226);
/// Where nothing was measured.
pub(super) const NOTHING: RGBColor = RGBColor(225, 225, 225);

/// What tells groups apart, also for most colour-blind readers (Okabe and Ito 2008).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(90, 90, 90),
];

/// The colour of a group.
pub(super) fn colour(group: usize) -> RGBColor {
    COLOURS[group % COLOURS.len()]
}

/// What is legible on a colour.
pub(super) fn ink_on(fill: RGBColor) -> RGBColor {
    let brightness = 0.3 * f64::from(fill.0) + 0.6 * f64::from(fill.1) + 0.1 * f64::from(fill.2);
    if brightness > 125.0 { INK } else { WHITE }
}

pub(super) type Svg<'a> = SVGBackend<'a>;
pub(super) type Area<'a> = DrawingArea<Svg<'a>, Shift>;
/// What drawing says when it fails: with SVG in memory it does not.
pub(super) type Drawn = Result<(), Box<dyn std::error::Error>>;

/// A picture below the title.
pub(super) trait Draw {
    /// Width and height in pixels.
    fn size(&self) -> (u32, u32);

    /// Draws it on an area of that size, or wider.
    fn draw(&self, area: &Area<'_>) -> Drawn;
}

/// The figure: its title over its picture.
pub(super) fn svg(figure: &Figure) -> Result<String, String> {
    register();
    let picture = figure.picture.as_draw();
    let (width, height) = picture.size();
    // Titles are broken into lines; a narrow picture is given room for them.
    let width = width.max(560);
    let words = width - 2 * MARGIN;
    let title = wrapped(&figure.title, TITLE, words);
    let subtitle: Vec<String> = figure.subtitle.iter().flat_map(|line| wrapped(line, SMALL, words)).collect();
    let head = MARGIN + 26 * title.len() as u32 + 20 * subtitle.len() as u32 + 10;
    let mut out = String::new();
    let drawn = || -> Drawn {
        let area = SVGBackend::with_string(&mut out, (width, head + height)).into_drawing_area();
        area.fill(&WHITE)?;
        let mut y = (MARGIN + 8) as i32;
        for line in &title {
            text(&area, line, TITLE, &INK, LEFT, (MARGIN as i32, y))?;
            y += 26;
        }
        for line in &subtitle {
            text(&area, line, SMALL, &GREY, LEFT, (MARGIN as i32, y))?;
            y += 20;
        }
        let (_, body) = area.split_vertically(head);
        picture.draw(&body)?;
        area.present()?;
        Ok(())
    };
    let mut drawn = drawn;
    drawn().map_err(|e| e.to_string())?;
    Ok(named(&out, &figure.title))
}

/// With what readers of screens say of it.
fn named(svg: &str, title: &str) -> String {
    let title = printable(title).replace('&', "&amp;").replace('<', "&lt;");
    match svg.find('>') {
        Some(end) => format!("{} role=\"img\"><title>{title}</title>{}", &svg[..end], &svg[end + 1..]),
        None => svg.to_owned(),
    }
}

/// A font that travels with the program, so that figures look the same everywhere.
fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Refused only for data that is no font; then drawing text reports it.
        let _ = register_font(FONT, FontStyle::Normal, dejavu::sans::regular());
    });
}

pub(super) const LEFT: (HPos, VPos) = (HPos::Left, VPos::Center);
pub(super) const RIGHT: (HPos, VPos) = (HPos::Right, VPos::Center);
pub(super) const CENTRE: (HPos, VPos) = (HPos::Center, VPos::Center);

/// Text with its anchor at a place.
pub(super) fn text(
    area: &Area<'_>,
    words: &str,
    size: u32,
    colour: &RGBColor,
    (h, v): (HPos, VPos),
    at: (i32, i32),
) -> Drawn {
    Ok(area.draw_text(&printable(words), &(FONT, size).into_font().color(colour).pos(Pos::new(h, v)), at)?)
}

/// Text that is read from below.
pub(super) fn upright(area: &Area<'_>, words: &str, size: u32, (h, v): (HPos, VPos), at: (i32, i32)) -> Drawn {
    let font = (FONT, size).into_font().transform(FontTransform::Rotate270);
    Ok(area.draw_text(&printable(words), &font.color(&INK).pos(Pos::new(h, v)), at)?)
}

/// Without characters that XML does not have.
fn printable(words: &str) -> String {
    words.chars().map(|c| if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') { ' ' } else { c }).collect()
}

/// How wide a text is, in pixels.
pub(super) fn width(words: &str, size: u32) -> u32 {
    register();
    let measured = (FONT, size).into_font().layout_box(words);
    measured.map_or(size * words.chars().count() as u32 / 2, |((x0, _), (x1, _))| (x1 - x0).unsigned_abs())
}

/// As much of a text as fits, with an ellipsis where it is cut: whole names stand in tables.
pub(super) fn shortened(words: &str, size: u32, most: u32) -> String {
    if width(words, size) <= most {
        return words.to_owned();
    }
    let mut kept: Vec<char> = words.chars().collect();
    while !kept.is_empty() && width(&format!("{}…", kept.iter().collect::<String>()), size) > most {
        kept.pop();
    }
    kept.into_iter().chain(['…']).collect()
}

/// The widest of several.
pub(super) fn widest<'a>(words: impl IntoIterator<Item = &'a String>, size: u32) -> u32 {
    words.into_iter().map(|w| width(w, size)).max().unwrap_or(0)
}

/// In lines no wider than `most` pixels, as far as single words are not.
pub(super) fn wrapped(words: &str, size: u32, most: u32) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words.split_whitespace() {
        match lines.last_mut() {
            Some(line) if width(&format!("{line} {word}"), size) <= most => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The names of a plot's axes, broken into lines where they are longer than the plot.
pub(super) struct AxisNames {
    below: Vec<String>,
    beside: Vec<String>,
    size: u32,
}

/// Between the lines of an axis name.
const LINE: u32 = 18;

impl AxisNames {
    /// Of a plot so wide and high.
    pub(super) fn new((x, y): (&str, &str), size: u32, (wide, high): (u32, u32)) -> Self {
        Self { below: wrapped(x, size, wide), beside: wrapped(y, size, high), size }
    }

    /// The room below and beside the plot that they need more than names of one line.
    pub(super) fn more(&self) -> (u32, u32) {
        let more = |lines: &[String]| LINE * (lines.len().max(1) as u32 - 1);
        (more(&self.below), more(&self.beside))
    }

    /// Draws them in the middle of the plot, whose upper left and lower right corners are told; the first line beside it
    /// at a place, the first below it so far from it.
    pub(super) fn draw(
        &self,
        area: &Area<'_>,
        [(x0, y0), (x1, y1)]: [(i32, i32); 2],
        (beside, below): (i32, i32),
    ) -> Drawn {
        for (line, y) in self.below.iter().zip((y1 + below..).step_by(LINE as usize)) {
            text(area, line, self.size, &INK, CENTRE, ((x0 + x1) / 2, y))?;
        }
        for (line, x) in self.beside.iter().zip((beside..).step_by(LINE as usize)) {
            upright(area, line, self.size, CENTRE, (x, (y0 + y1) / 2))?;
        }
        Ok(())
    }
}

/// Places of names in a legend, each with 22 pixels of a line before it, in lines as the width allows; and the height.
pub(super) fn legend<'a>(names: impl IntoIterator<Item = &'a String>, most: u32) -> (Vec<(i32, i32)>, u32) {
    let (mut x, mut y, mut places) = (20, 14, Vec::new());
    for name in names {
        let wide = 60 + width(name, SMALL) as i32;
        if x + wide > most as i32 && x > 20 {
            (x, y) = (20, y + 22);
        }
        places.push((x, y));
        x += wide;
    }
    (places, (y + 18) as u32)
}

/// A number that has a place on a scale.
pub(super) fn drawable(value: f64) -> bool {
    value.abs() < 1e300
}

/// The least and the greatest of the numbers that have a place.
fn ends(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let ends = |(low, high): (f64, f64), v: f64| (low.min(v), high.max(v));
    values.filter(|v| drawable(*v)).map(|v| (v, v)).reduce(|a, (v, _)| ends(a, v))
}

/// From the least to the greatest of finite values and 0, with a margin.
pub(super) fn range(values: impl Iterator<Item = f64>, margin: f64) -> (f64, f64) {
    let (low, high) = ends(values.chain([0.0])).unwrap_or_default();
    // Without any difference there is no scale: any will do.
    if high - low < 1e-12 {
        return (-1.0, 1.0);
    }
    let margin = margin * (high - low);
    (low - margin, high + margin)
}

/// From the least to the greatest of finite values, with a margin.
pub(super) fn span(values: impl Iterator<Item = f64>, margin: f64) -> (f64, f64) {
    let (low, high) = ends(values).unwrap_or((-1.0, 1.0));
    let size = low.abs().max(high.abs());
    // A difference near rounding is none.
    if high - low <= 1e-9 * size {
        let some = if size > 0.0 { 0.1 * size } else { 1.0 };
        return (low - some, high + some);
    }
    let margin = margin * (high - low);
    (low - margin, high + margin)
}

/// A number beside an axis: as many decimals as the range needs.
pub(super) fn tick(value: f64, span: f64) -> String {
    if span >= 1e7 {
        return signed(format!("{value:.1e}"));
    }
    let decimals = if span > 0.0 { (1.0 - span.log10()).ceil().clamp(0.0, 6.0) as usize } else { 2 };
    number(value, decimals)
}

/// A number with decimals.
pub(super) fn number(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    // Adding 0 does not turn a printed −0.00 into 0.00.
    let zero = text.starts_with('-') && text.chars().all(|c| matches!(c, '-' | '0' | '.'));
    if zero { text[1..].to_owned() } else { signed(text) }
}

/// With a minus sign in the place of a hyphen.
fn signed(number: String) -> String {
    number.replace('-', "\u{2212}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_beside_an_axis_has_the_decimals_that_its_range_needs() {
        let shown = [(240.0, 240.0), (12.6, 12.6), (0.05, 0.2), (-0.0001, 0.5), (-3.0, 9.0), (2e10, 3e10)];
        assert_eq!(shown.map(|(v, s)| tick(v, s)), ["240", "13", "0.05", "0.00", "\u{2212}3.0", "2.0e10"]);
    }

    #[test]
    fn there_is_a_scale_for_any_numbers() {
        for odd in [vec![], vec![f64::NAN, f64::INFINITY], vec![3.0, 3.0], vec![0.0], vec![1e12, 1e12 + 1.0]] {
            for (low, high) in [range(odd.iter().copied(), 0.1), span(odd.iter().copied(), 0.1)] {
                assert!(low.is_finite() && high.is_finite() && low < high, "{odd:?}: {low} to {high}");
            }
        }
        assert_eq!(span([2.0, 4.0, f64::NAN].into_iter(), 0.5), (1.0, 5.0));
        assert_eq!(range([2.0, 4.0].into_iter(), 0.5), (-2.0, 6.0));
    }
}
