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

/// From the least to the greatest of finite values and 0, with a margin.
pub(super) fn range(values: impl Iterator<Item = f64>, margin: f64) -> (f64, f64) {
    let finite = values.filter(|v| v.is_finite());
    let (low, high) = finite.fold((0.0f64, 0.0f64), |(l, h), v| (l.min(v), h.max(v)));
    // Without any difference there is no scale: any will do.
    if high - low < 1e-12 {
        return (-1.0, 1.0);
    }
    let margin = margin * (high - low);
    (low - margin, high + margin)
}

/// A number beside an axis: as many decimals as the range needs.
pub(super) fn tick(value: f64, span: f64) -> String {
    let decimals = if span > 0.0 { (1.0 - span.log10()).ceil().clamp(0.0, 6.0) as usize } else { 2 };
    let text = format!("{value:.decimals$}");
    // Adding 0 does not turn a printed −0.00 into 0.00.
    let zero = text.starts_with('-') && text.chars().all(|c| matches!(c, '-' | '0' | '.'));
    if zero { text[1..].to_owned() } else { text.replace('-', "\u{2212}") }
}
